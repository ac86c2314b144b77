"""Receipts and statements: what they say, that they are signed, that the log has them, and what they never claim."""

import json
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app import sweep, tickets
from app.auth import Scope
from app.config import settings
from app.db import transaction
from app.tables import AuditEvent, Ticket, TicketState
from expunge.evidence import dsse, merkle, notes
from expunge.evidence.commitment import SAMPLE, SUBJECT, commitment, disclose, discloses
from expunge.evidence.keys import SigningKeys
from tests.app import story
from tests.app.conftest import Caller, TestClient
from tests.app.signing import signing

__all__ = ["signing"]
RECEIPT, STATEMENT = "application/vnd.expunge.receipt+json", "application/vnd.expunge.statement+json"


@pytest.fixture
def model_id(database: str, signing: SigningKeys) -> int:
    story.dataset()
    return story.trained(policy=story.EAGER)


def paper(http: TestClient, ticket: object, what: str, pair: SigningKeys) -> Any:
    kind = RECEIPT if what == "receipt" else STATEMENT
    return dsse.opened(http.get(f"/deletions/{ticket}/{what}").json(), kind, pair.public.verify)


def proven(entry: dict[str, Any], pair: SigningKeys) -> dict[str, Any]:
    """The event, once its path leads to the signed head."""
    note = entry["checkpoint"]
    head = notes.read(notes.opened(note, note.partition("\n")[0], pair.public.raw, pair.public.verify))
    leaf, path = merkle.leaf_hash(entry["body"].encode()), [bytes.fromhex(step) for step in entry["path"]]
    assert merkle.included(leaf, entry["seq"] - 1, head.size, path, head.root)
    return json.loads(entry["body"])


def test_a_receipt_says_what_was_asked_and_when(model_id: int, http: TestClient, signing: SigningKeys) -> None:
    ticket = story.submit(1, 2, external_id="case-7")
    found = paper(http, ticket, "receipt", signing)
    assert (found["ticket"], found["external_id"], found["models"]) == (str(ticket), "case-7", ["m"])
    assert found["counts"] == {"accepted": 2, "unknown": 0, "already_forgotten": 0, "pending_elsewhere": 0}
    assert found["says"][0].startswith("The request to forget 2 samples of people was accepted at ")
    event = proven(found["log"][0], signing)
    assert (event["kind"], event["ticket"]) == ("ticket.accepted", str(ticket))
    assert event["data"]["commitment"] == found["commitment"]["root"]


def test_its_owner_shows_which_ids_it_named(model_id: int, http: TestClient, signing: SigningKeys) -> None:
    ticket = story.submit(4, 1, subjects=["p-5"])
    found = paper(http, ticket, "receipt", signing)["commitment"]
    salt = bytes.fromhex(found["salt"])
    assert commitment(salt, ["s-0001", "s-0004"], ["p-5"]) == found["root"]
    assert commitment(salt, ["s-0001", "s-0005"], ["p-5"]) != found["root"]
    assert commitment(salt, ["s-0001", "s-0004", "p-5"], []) != found["root"], "kinds are told apart"
    assert commitment(bytes(32), ["s-0001", "s-0004"], ["p-5"]) != found["root"]


def test_two_tickets_of_one_id_commit_to_different_roots(model_id: int, http: TestClient, signing: SigningKeys) -> None:
    roots = {paper(http, story.submit(1), "receipt", signing)["commitment"]["root"] for _ in range(2)}
    assert len(roots) == 2


def test_the_log_holds_when_a_salt_is_destroyed(
    model_id: int, http: TestClient, signing: SigningKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, waiting = story.submit(1), None
    story.work(model_id)
    waiting = story.submit(2)
    before = paper(http, ended, "receipt", signing)
    monkeypatch.setenv("EXPUNGE_SALT_DAYS", "730")
    settings.cache_clear()
    with transaction() as session:
        session.execute(
            update(Ticket).where(Ticket.id == ended).values(closed_at=func.now() - func.make_interval(0, 0, 0, 731))
        )
    sweep.purge()
    after = paper(http, ended, "receipt", signing)
    assert after["commitment"] == before["commitment"] | {"salt": None}
    assert paper(http, waiting, "receipt", signing)["commitment"]["salt"] is not None
    proven(after["log"][0], signing)
    with transaction() as session:
        told = session.scalars(select(AuditEvent.ticket_id).where(AuditEvent.kind == "ticket.salt_destroyed")).all()
        assert tickets.destroy_salts(session, 730) == 0
    assert told == [ended]


def test_salts_stay_where_no_days_are_set(model_id: int) -> None:
    ticket = story.submit(1)
    story.work(model_id)
    with transaction() as session:
        session.execute(update(Ticket).values(closed_at=func.now() - func.make_interval(20)))
    sweep.purge()
    assert story.ticket(ticket).salt is not None


def test_a_statement_says_what_was_done(model_id: int, http: TestClient, signing: SigningKeys) -> None:
    ticket = story.submit(1, 2)
    story.work(model_id)
    found = paper(http, ticket, "statement", signing)
    (line,) = found["models"]
    assert (line["version"], line["exact"], line["samples"]) == ("m-v2", False, 2)
    assert line["measured"]["mu"] == {"estimate": -0.01, "low": -0.02, "high": 0.0}
    assert [proven(entry, signing)["kind"] for entry in found["log"]] == ["ticket.accepted", "ticket.fulfilled"]
    assert "m: m-v2 was published at" in found["says"][1]
    assert "an approximate update that passed its policy's tests" in found["says"][1]
    assert any("The update is approximate" in sentence for sentence in found["not_claimed"])


def test_a_statement_claims_no_more_than_a_retrain_shows(model_id: int, http: TestClient, signing: SigningKeys) -> None:
    from app.tables import Reason

    ticket = story.submit(1, reason=Reason.UNLAWFUL_TRAINING)
    story.work(model_id)
    found = paper(http, ticket, "statement", signing)
    assert found["models"][0]["exact"] is True
    assert not any("The update is approximate" in sentence for sentence in found["not_claimed"])


def test_a_receipt_that_is_read_late_says_how_it_stands(model_id: int, http: TestClient, signing: SigningKeys) -> None:
    ticket = story.submit(1)
    story.cancel(ticket)
    found = paper(http, ticket, "receipt", signing)
    assert found["state"] == TicketState.CANCELLED
    assert found["says"][-1].endswith("its samples may be trained on again.")
    assert found["issued_at"] > found["received_at"]


def test_one_id_is_shown_without_the_others(model_id: int, http: TestClient, signing: SigningKeys) -> None:
    ticket = story.submit(4, 1, subjects=["p-5"])
    found = paper(http, ticket, "receipt", signing)["commitment"]
    salt = bytes.fromhex(found["salt"])
    shown = disclose(salt, ["s-0001", "s-0004"], ["p-5"], SUBJECT, "p-5")
    assert discloses(found["root"], SUBJECT, "p-5", shown)
    assert not discloses(found["root"], SUBJECT, "p-6", shown)
    assert not discloses(found["root"], SAMPLE, "p-5", shown)
    assert salt not in (shown.nonce, *shown.path)
    with pytest.raises(ValueError, match="not in list"):
        disclose(salt, ["s-0001", "s-0004"], ["p-5"], SAMPLE, "s-0002")


def test_there_is_none_before_the_end(model_id: int, http: TestClient) -> None:
    ticket = story.submit(1)
    found = http.get(f"/deletions/{ticket}/statement")
    assert (found.status_code, found.json()["detail"]) == (
        409,
        "The ticket is pending: m waits for its batch. Its statement can be had when it has ended.",
    )


def test_one_that_was_taken_back(model_id: int, http: TestClient, signing: SigningKeys) -> None:
    ticket = story.submit(1)
    story.cancel(ticket)
    found = paper(http, ticket, "statement", signing)
    assert found["state"] == TicketState.CANCELLED
    assert found["says"][0].endswith("nothing was unlearned for it.")
    assert found["not_claimed"] == ["That anything was forgotten."]


def test_one_of_samples_that_no_model_holds(database: str, http: TestClient, signing: SigningKeys) -> None:
    story.dataset()
    found = paper(http, story.submit(1), "statement", signing)
    assert found["models"] == []
    assert "No model of this service held the samples when the ticket came." in found["says"]


@pytest.mark.parametrize("what", ["receipt", "statement"])
def test_in_print(model_id: int, http: TestClient, what: str) -> None:
    ticket = story.submit(1)
    story.work(model_id)
    for asked in ({"params": {"format": "pdf"}}, {"headers": {"Accept": "application/pdf"}}):
        found = http.get(f"/deletions/{ticket}/{what}", **asked)
        assert found.headers["content-type"] == "application/pdf"
        assert found.content.startswith(b"%PDF-")


def test_nobody_else_gets_them(model_id: int, caller: Caller) -> None:
    ticket = story.submit(1, client="tool")
    stranger, owner = caller("stranger", Scope.DELETIONS_READ), caller("tool", Scope.DELETIONS_READ)
    for what in ("receipt", "statement"):
        assert stranger.get(f"/deletions/{ticket}/{what}").status_code == 404
    assert owner.get(f"/deletions/{ticket}/receipt").status_code == 200


def test_no_paper_names_a_sample(model_id: int, http: TestClient, signing: SigningKeys) -> None:
    ticket = story.submit(1, subjects=["p-5"])
    story.work(model_id)
    text = json.dumps([paper(http, ticket, what, signing) for what in ("receipt", "statement")])
    assert "s-0001" not in text
    assert "p-5" not in text
