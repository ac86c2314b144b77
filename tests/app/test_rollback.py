"""An earlier training is served again, and never one that holds what was forgotten since."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app import audit, due, evidence, policy, proposals, rollback, runs, store, versions
from app.db import transaction
from app.errors import Conflict, Corrupt, Gone, StaleEpoch
from app.evidence import parcel
from app.policy import PolicyBody
from app.tables import Bank, BankState, BatchState, Model, Restoration, Trigger, Version, VersionKind
from expunge.evidence.keys import SigningKeys
from expunge.evidence.verify import verify
from tests.app import story
from tests.app.conftest import TestClient
from tests.app.signing import signing

__all__ = ["signing"]
OLD, NEW = b"weights of the first training", b"weights of the second"


def trained_twice() -> int:
    """v1, and v2 retrained on the same samples."""
    story.dataset()
    model_id = story.register()
    story.publish(story.claimed(model_id), OLD)
    story.retrain(model_id)
    story.publish(story.claimed(model_id), NEW)
    for weights in (OLD, NEW):
        store.put(weights)
    return model_id


def roll_back(to: str, why: str = "two points of accuracy") -> str:
    with transaction() as session:
        model = versions.find_model(session, "m")
        return versions.name_of(rollback.roll_back(session, model, versions.resolve(session, to), why, "ada"))


def test_the_old_weights_become_a_new_version(database: str) -> None:
    model_id = trained_twice()
    assert roll_back("m-v1") == "m-v3"
    with transaction() as session:
        now, before = versions.resolve(session, "m@current"), versions.resolve(session, "m-v2")
        first = versions.resolve(session, "m-v1")
        assert (now.number, now.weights_digest, now.kind) == (3, first.weights_digest, VersionKind.RETRAINED)
        assert (now.parent_id, before.superseded_at is not None, now.forgotten) == (before.id, True, 0)
        assert now.batch.why == "rolled back to m-v1: two points of accuracy"
        found = evidence.report(session, now)
        assert audit.verify(session).fault is None
    assert (
        found.summary == "m-v3 serves the weights of m-v1 again, which were trained on all 20 samples of its manifest."
    )
    assert found.verdict.reasons == ["the weights of m-v1, which lack the same samples: two points of accuracy"]
    assert story.model(model_id).current_version_id == now.id


def test_what_comes_after_it_goes_on_from_it(database: str) -> None:
    model_id = trained_twice()
    roll_back("m-v1")
    story.submit(1, 2)
    (update_,) = story.work(model_id)
    assert (update_.number, update_.forgotten, update_.excluded_count) == (4, 2, 2)


def test_its_evidence_holds(database: str, signing: SigningKeys) -> None:
    trained_twice()
    roll_back("m-v1")
    with transaction() as session:
        data = parcel.build(parcel.gather(session, versions.resolve(session, "m-v3")))
    assert len(list(verify(data))) == 8


def test_one_that_holds_forgotten_samples_is_never_served_again(database: str) -> None:
    model_id = trained_twice()
    story.submit(1, 2)
    story.work(model_id)
    for reference in ("m-v1", "m-v2"):
        with pytest.raises(Conflict, match=f"{reference} was trained on other samples than m-v3 is without"):
            roll_back(reference)
    story.retrain(model_id)
    story.work(model_id)
    for reference in ("m-v1", "m-v2"):
        with pytest.raises(Conflict, match="it may hold what was forgotten since, and is not served again"):
            roll_back(reference)
    with pytest.raises(Conflict, match="m-v3 is an update of an earlier training"):
        roll_back("m-v3")
    assert story.model(model_id).current_version_id == story.all_of(Version)[-1].id


def test_the_current_one_is_there_already(database: str) -> None:
    trained_twice()
    with pytest.raises(Conflict, match="m-v2 is the current version"):
        roll_back("m-v2")


@pytest.mark.parametrize(
    "column", [Version.weights_purged_at, Version.weights_withdrawn_at], ids=["purged", "withdrawn"]
)
def test_weights_that_are_given_out_no_more(database: str, column: object) -> None:
    trained_twice()
    with transaction() as session:
        session.execute(update(Version).where(Version.number == 1).values({column: func.now()}))
    with pytest.raises(Gone):
        roll_back("m-v1")


def test_weights_that_were_altered(database: str, http: TestClient) -> None:
    trained_twice()
    with transaction() as session:
        digest = versions.resolve(session, "m-v1").weights_digest
    store.store().put(store.path(digest), b"something else")
    refused = http.post("/models/m/rollback", json={"to": "m-v1", "why": "worse"})
    assert (refused.status_code, "was altered on disk" in refused.json()["detail"]) == (Corrupt.status, True)
    assert http.get("/models/m@current").json()["version"] == "m-v2"


def test_a_run_that_began_before_it_is_told_and_has_lost_no_attempt(database: str) -> None:
    model_id = trained_twice()
    story.submit(1)
    lease = story.closed(model_id)
    roll_back("m-v1")
    with transaction() as session:
        assert not runs.heartbeat(session, lease, rung=None, step="update", progress=0.5)
    with pytest.raises(StaleEpoch):
        story.publish(lease)
    batch = story.batch(lease.batch_id)
    assert (batch.state, batch.attempt, batch.step) == (BatchState.READY, 0, "waiting for another worker")
    (made,) = story.work(model_id)
    assert (made.number, made.batch_id, made.forgotten) == (4, lease.batch_id, 1)
    with transaction() as session:
        told = audit.timeline(session, batch_id=lease.batch_id)
        assert audit.verify(session).fault is None
    assert [event["data"]["why"] for event in told if event["kind"] == "run.given_back"] == [
        "the model was rolled back to m-v1"
    ]


def test_rolling_back_again_and_again_quarantines_nothing(database: str) -> None:
    model_id = trained_twice()
    story.submit(1)
    lease = story.closed(model_id)
    for reference in ("m-v1", "m-v2", "m-v1", "m-v2"):
        roll_back(reference)
        lease = story.claimed(model_id)
    assert (story.batch(lease.batch_id).state, lease.attempt) == (BatchState.RUNNING, 1)


def test_of_two_at_once_the_one_that_came_last_is_served(database: str) -> None:
    """By the times alone: the one that waited for the model began its transaction first."""
    trained_twice()
    with transaction() as waiting:
        waiting.execute(select(func.now()))  # its transaction has a time from here on
        assert roll_back("m-v1") == "m-v3"
        model = versions.find_model(waiting, "m")
        made = rollback.roll_back(waiting, model, versions.resolve(waiting, "m-v2"), "worse", "ada")
        assert made.number == 4
    third, fourth = story.all_of(Version)[-2:]
    assert third.published_at <= fourth.published_at == third.superseded_at
    with transaction() as session:
        now = session.scalars(select(func.clock_timestamp())).one()
        assert versions.resolve(session, f"m@{now.isoformat()}").number == 4


def test_the_training_is_no_younger_for_it(database: str) -> None:
    model_id = trained_twice()
    with transaction() as session:
        session.execute(update(Version).values(published_at=func.now() - timedelta(days=100)))
    roll_back("m-v1")
    roll_back("m-v2")
    with transaction() as session:
        drift = due.Drift.now(session, session.get_one(Model, model_id))
    assert 99.9 < drift.days < 100.1


def test_guard_and_bank_follow_the_policy_in_force(database: str) -> None:
    model_id = trained_twice()
    story.replace(model_id, story.EAGER | {"lone": {"rule": "withdraw"}, "bank": {"build": "training"}})
    roll_back("m-v1")
    now = story.all_of(Version)[-1]
    assert now.disclosure is None or now.disclosure["rule"] == "withdraw"
    assert [(bank.version_id, bank.state) for bank in story.all_of(Bank)] == [(now.id, BankState.BUILDING)]


def test_tickets_that_waited_for_the_version_before_wait_no_longer(database: str) -> None:
    model_id = trained_twice()
    with transaction() as session:
        model = session.get_one(Model, model_id)
        model.deferral, model.held = {"kind": "references", "says": "waits"}, "waits for 8 references"
    roll_back("m-v1")
    assert (story.model(model_id).deferral, story.model(model_id).held) == (None, None)


def test_what_waits_for_something_else_goes_on_waiting(database: str) -> None:
    model_id = trained_twice()
    with transaction() as session:
        session.get_one(Model, model_id).held = "waits for approval"
    roll_back("m-v1")
    assert story.model(model_id).held == "waits for approval"


def test_records_that_end_with_the_version_are_told_of(database: str) -> None:
    trained_twice()
    with transaction() as session:
        session.execute(
            update(Version).where(Version.number == 2).values(records_digest="ab" * 32, records={"bytes": 1})
        )
    roll_back("m-v1")
    with transaction() as session:
        told = audit.timeline(session, batch_id=story.all_of(Version)[-1].batch_id)
    (data,) = (event["data"] for event in told if event["kind"] == "records.purged")
    assert (data["version"], data["records"], data["into"]) == ("m-v2", "ab" * 32, None)


def test_one_that_was_trained_on_less_is_not_called_what_it_is_not(database: str) -> None:
    """A ticket older than the model was taken back before the retrain: v1 holds nothing that v2 has forgotten."""
    story.dataset()
    story.trained("older", policy=story.PATIENT)
    ticket_id = story.submit(1)
    model_id = story.trained()
    story.cancel(ticket_id)
    story.retrain(model_id)
    story.work(model_id)
    with pytest.raises(Conflict, match="m-v1 was trained on other samples than m-v2"):
        roll_back("m-v1")


def test_not_on_a_database_that_was_restored(database: str) -> None:
    trained_twice()
    with transaction() as session:
        session.add(Restoration(backup="b", taken_at=func.now(), schema="0012", seq=1, hash=b"h"))
    with pytest.raises(StaleEpoch, match="Restored from a back-up"):
        roll_back("m-v1")


class TestOverHttp:
    def test_it_answers_with_the_new_version(self, database: str, http: TestClient) -> None:
        trained_twice()
        made = http.post("/models/m/rollback", json={"to": "m-v1", "why": "worse"})
        assert (made.status_code, made.json()["version"], made.json()["current"]) == (201, "m-v3", True)
        assert made.headers["location"] == "/models/m-v3/audit"

    def test_another_model_s_version_is_none_of_this(self, database: str, http: TestClient) -> None:
        trained_twice()
        story.trained("other")
        refused = http.post("/models/m/rollback", json={"to": "other-v1", "why": "worse"})
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")

    @pytest.mark.parametrize("body", [{"to": "m-v1"}, {"to": "m-v1", "why": ""}, {"why": "x"}])
    def test_it_needs_a_version_and_a_reason(self, database: str, http: TestClient, body: dict[str, str]) -> None:
        trained_twice()
        assert http.post("/models/m/rollback", json=body).status_code == 422


def test_a_schedule_and_a_retrain_go_on_as_before(database: str) -> None:
    model_id = trained_twice()
    roll_back("m-v1")
    story.retrain(model_id)
    (made,) = story.work(model_id)
    assert (made.number, made.kind) == (4, VersionKind.RETRAINED)
    with transaction() as session:
        assert session.get_one(Model, model_id).current_version_id == made.id
        assert versions.resolve(session, "m-v3").batch.trigger is Trigger.OPERATOR


def test_it_is_attested_by_the_policy_that_judged_it(database: str) -> None:
    trained_twice()
    with transaction() as session:
        judged = versions.resolve(session, "m-v1").batch.policy
        model = versions.find_model(session, "m")
        proposals.put(session, model, PolicyBody(), policy.etag(policy.current(session, model.id)), "ada")
    roll_back("m-v1")
    with transaction() as session:
        assert versions.resolve(session, "m-v3").batch.policy == judged
