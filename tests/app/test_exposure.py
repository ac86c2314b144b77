"""Outlying samples: who sees them and what of them, a person's yes, and that nothing is deleted without it."""

import json
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from sqlalchemy import func, select, text, update

from app import audit, policy
from app.auth import Scope
from app.db import transaction
from app.policy import PolicyBody
from app.tables import AuditEvent, Reason, Restoration, Ticket, TicketState, Version
from tests.app import story
from tests.app.conftest import Caller
from tests.app.routes.test_deletions import is_problem

ASKS = story.PATIENT | {"outliers": {"look": True}}
PATH = "/models/m/exposure"
WHY = "labels that nobody can read"


def found(*outliers: tuple[int, float], more: int = 0, **rest: Any) -> dict[str, Any]:
    """What a worker keeps: positions with their z, most outlying first."""
    return {
        "n": 20, "of": 20, "seed": None, "zeros": 0, "median": 0.5, "spread": 1.2, "unjudged": None, "z": 6.0, "most": 50,
        "edges": [1.0], "counts": [15, 5], "found": len(outliers) + more,
        "outliers": [{"position": position, "norm": 10.0 * z, "z": z} for position, z in outliers],
    } | rest  # fmt: skip


def look(kept: dict[str, Any] | None) -> None:
    with transaction() as session:
        session.execute(update(Version).where(Version.superseded_at.is_(None)).values(exposure=kept))


@pytest.fixture
def model_id(database: str) -> int:
    """A version of which samples 3, 7 and 11 are outlying."""
    story.dataset()
    made = story.trained(policy=ASKS)
    look(found((7, 12.0), (3, 9.0), (11, 7.5)))
    return made


def shown(http: TestClient) -> list[str]:
    return [each["sample_id"] for each in http.get(PATH).json()["look"]["outliers"]]


def yes(*ordinals: int, why: str = WHY) -> dict[str, Any]:
    return {"sample_ids": [story.sample(ordinal) for ordinal in ordinals], "why": why}


def events(kind: str) -> list[dict[str, Any]]:
    with transaction() as session:
        bodies = session.scalars(select(AuditEvent.body).where(AuditEvent.kind == kind).order_by(AuditEvent.seq))
        return [json.loads(body) for body in bodies]


class TestLook:
    def test_it_names_them_most_outlying_first(self, model_id: int, http: TestClient) -> None:
        answer = http.get(PATH)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        told = answer.json()
        assert (told["model"], told["version"], told["asked"], told["why"]) == ("m", "m-v1", True, None)
        assert told["look"]["outliers"] == [
            {"sample_id": "s-0007", "norm": 120.0, "z": 12.0},
            {"sample_id": "s-0003", "norm": 90.0, "z": 9.0},
            {"sample_id": "s-0011", "norm": 75.0, "z": 7.5},
        ]
        assert (told["look"]["counts"], told["look"]["seed"], told["look"]["tombstoned"]) == ([15, 5], None, 0)

    def test_nothing_is_deleted_by_it(self, model_id: int, http: TestClient) -> None:
        http.get(PATH)
        story.work(model_id)
        assert story.all_of(Ticket) == []
        assert len(story.all_of(Version)) == 1

    def test_what_a_ticket_names_since_is_not_shown(self, model_id: int, http: TestClient) -> None:
        ticket = story.submit(7)
        assert shown(http) == ["s-0003", "s-0011"]
        assert http.get(PATH).json()["look"]["tombstoned"] == 1
        story.cancel(ticket)
        assert shown(http) == ["s-0007", "s-0003", "s-0011"]

    def test_it_goes_with_its_version(self, model_id: int, http: TestClient) -> None:
        story.submit(7)
        http.post("/models/m/flush", json={})
        story.work(model_id)
        told = http.get(PATH).json()
        assert (told["version"], told["look"]) == ("m-v2", None)
        assert "not looked at yet" in told["why"]
        with transaction() as session:
            assert session.scalars(select(Version.exposure)).all() == [None, None]

    def test_why_there_is_nothing(self, database: str, http: TestClient) -> None:
        story.dataset()
        is_problem(http.get(PATH), 404, "not_found")
        model_id = story.register()
        is_problem(http.get(PATH), 404, "not_found")
        story.work(model_id)
        told = http.get(PATH).json()
        assert (told["asked"], told["look"]) == (False, None)
        assert "outliers.look" in told["why"]
        look({"why": "0 is LSTM"})
        assert http.get(PATH).json()["why"] == "0 is LSTM"
        look(found(median=None, spread=None, unjudged="half are zero"))
        assert http.get(PATH).json()["look"]["unjudged"] == "half are zero"
        is_problem(http.get("/models/m-v1/exposure"), 404, "not_found")

    def test_not_on_a_database_that_was_restored(self, model_id: int, http: TestClient) -> None:
        with transaction() as session:
            session.add(Restoration(backup="b", taken_at=func.now(), schema="0014", seq=1, hash=b"h"))
        is_problem(http.get(PATH), 409, "conflict")
        is_problem(http.post(f"{PATH}/deletions", json=yes(7)), 409, "conflict")
        assert story.all_of(Ticket) == []

    @pytest.mark.parametrize("scope", [scope for scope in Scope if scope is not Scope.ADMIN])
    def test_it_is_for_admins(self, model_id: int, caller: Caller, scope: Scope) -> None:
        clerk = caller("clerk", scope)
        for refused in (clerk.get(PATH), clerk.post(f"{PATH}/deletions", json=yes(7))):
            is_problem(refused, 403, "forbidden")
            assert "s-0007" not in refused.text


class TestYes:
    def test_it_makes_an_ordinary_ticket(self, model_id: int, http: TestClient) -> None:
        made = http.post(f"{PATH}/deletions", json=yes(7, 3))
        assert (made.status_code, made.json()["state"], made.json()["models"]) == (202, "pending", 1)
        assert made.json()["counts"]["accepted"] == 2
        (ticket,) = story.all_of(Ticket)
        assert (ticket.reason, ticket.client, ticket.state) == (Reason.OUTLIER, "admin", TicketState.PENDING)
        assert made.headers["location"] == f"/deletions/{ticket.id}"
        assert story.tombstoned(ticket.dataset_id) == [3, 7]
        assert shown(http) == ["s-0011"]
        http.post("/models/m/flush", json={})
        (version,) = story.work(model_id)
        assert version.forgotten == 2
        assert story.ticket(ticket.id).state is TicketState.FULFILLED

    def test_an_admin_s_key_is_enough_and_needs_no_other_scope(self, model_id: int, caller: Caller) -> None:
        assert caller("ada", Scope.ADMIN).post(f"{PATH}/deletions", json=yes(7)).status_code == 202

    def test_the_log_says_who_and_why_and_no_id(self, model_id: int, caller: Caller, http: TestClient) -> None:
        made = caller("ada", Scope.ADMIN).post(f"{PATH}/deletions", json=yes(7, 3)).json()
        (event,) = events("exposure.confirmed")
        assert (event["actor"], event["ticket"], event["model"]) == ("ada", made["id"], model_id)
        assert event["data"] == {"version": "m-v1", "samples": 2, "z": 6.0, "listed": 3, "why": WHY}
        assert events("ticket.accepted")[-1]["data"]["reason"] == "outlier"
        with transaction() as session:
            assert "s-00" not in "".join(session.scalars(select(AuditEvent.body)))
            assert audit.verify(session).fault is None
        (told,) = [each for each in http.get(f"/deletions/{made['id']}").json()["timeline"] if "why" in each["data"]]
        assert told["kind"] == "exposure.confirmed"

    @pytest.mark.parametrize(("ordinals", "stale"), [([1], "1 of 1"), ([7, 1], "1 of 2"), ([7, 3, 11, 1, 2], "2 of 5")])
    def test_what_is_not_shown_is_refused_whole(
        self, model_id: int, http: TestClient, ordinals: list[int], stale: str
    ) -> None:
        refused = http.post(f"{PATH}/deletions", json=yes(*ordinals))
        is_problem(refused, 409, "conflict")
        assert f"{stale} samples are not among the 3" in refused.json()["detail"]
        assert "s-0" not in refused.text
        assert (story.all_of(Ticket), events("exposure.confirmed")) == ([], [])
        stranger = http.post(f"{PATH}/deletions", json={"sample_ids": ["nobody-knows"], "why": WHY})
        is_problem(stranger, 409, "conflict")

    def test_a_list_that_is_stale(self, model_id: int, http: TestClient) -> None:
        """What was seen a moment ago was deleted, or its version superseded."""
        story.submit(7)
        is_problem(http.post(f"{PATH}/deletions", json=yes(7)), 409, "conflict")
        http.post("/models/m/flush", json={})
        story.work(model_id)
        refused = http.post(f"{PATH}/deletions", json=yes(3))
        is_problem(refused, 409, "conflict")
        assert "among the 0 that are outlying in m-v2" in refused.json()["detail"]
        look(found((3, 9.0)))
        assert http.post(f"{PATH}/deletions", json=yes(3)).status_code == 202

    def test_a_request_that_comes_again_is_the_same_ticket(self, model_id: int, http: TestClient) -> None:
        keyed = {"Idempotency-Key": "look-1"}
        first, second = (http.post(f"{PATH}/deletions", json=yes(7), headers=keyed) for _ in range(2))
        assert (second.status_code, second.json()["id"]) == (202, first.json()["id"])
        assert (second.headers["idempotency-replayed"], len(events("exposure.confirmed"))) == ("true", 1)
        is_problem(http.post(f"{PATH}/deletions", json=yes(3), headers=keyed), 422, "idempotency_key_reused")
        is_problem(http.post(f"{PATH}/deletions", json=yes(7), headers={"Idempotency-Key": "other"}), 409, "conflict")
        story.trained("n")
        is_problem(http.post("/models/n/exposure/deletions", json=yes(7), headers=keyed), 422, "idempotency_key_reused")
        is_problem(
            http.post(f"{PATH}/deletions", json=yes(3), headers={"Idempotency-Key": "a\tb"}), 422, "unprocessable"
        )
        assert len(story.all_of(Ticket)) == 1

    @pytest.mark.parametrize("why", ["s-0007 is mislabelled", "like s-0003, which stays"])
    def test_a_reason_that_names_a_sample_is_not_kept(self, model_id: int, http: TestClient, why: str) -> None:
        refused = http.post(f"{PATH}/deletions", json=yes(7, why=why))
        is_problem(refused, 422, "unprocessable")
        assert "s-00" not in refused.text
        assert story.all_of(Ticket) == []

    @pytest.mark.parametrize(
        "asked",
        [
            {}, {"sample_ids": [], "why": WHY}, {"sample_ids": ["s-0007"]}, {"sample_ids": ["s-0007"], "why": ""},
            {"sample_ids": ["s-0007", "s-0007"], "why": WHY}, {"sample_ids": ["s-0007"], "why": WHY, "reason": "other"},
        ],
    )  # fmt: skip
    def test_a_body_that_is_none(self, model_id: int, http: TestClient, asked: dict[str, Any]) -> None:
        refused = http.post(f"{PATH}/deletions", json=asked)
        is_problem(refused, 422, "invalid")
        assert "s-0007" not in refused.text

    def test_ids_of_the_day_count(self, model_id: int, caller: Caller) -> None:
        http = caller("ada", Scope.ADMIN)
        with transaction() as session:
            session.execute(text("UPDATE api_key SET ids_per_day = 1 WHERE client = 'ada'"))
        is_problem(http.post(f"{PATH}/deletions", json=yes(7, 3)), 429, "too_many")
        assert (story.all_of(Ticket), events("exposure.confirmed")) == ([], [])
        assert http.post(f"{PATH}/deletions", json=yes(7)).status_code == 202

    def test_every_model_that_learnt_from_them_owes_it(self, model_id: int, http: TestClient) -> None:
        other = story.trained("n", policy=story.PATIENT)
        made = UUID(http.post(f"{PATH}/deletions", json=yes(7)).json()["id"])
        assert {owed.model_id for owed in story.ticket(made).obligations} == {model_id, other}


@pytest.mark.parametrize("part", [{"z": 2.9}, {"z": 101}, {"z": "NaN"}, {"most": 0}, {"most": 1001}, {"delete": True}])
def test_a_policy_asks_within_bounds_and_for_nothing_by_default(part: dict[str, Any]) -> None:
    assert PolicyBody().outliers.model_dump() == {"look": False, "z": 6.0, "most": 50}
    with pytest.raises(ValidationError, match="outliers"):
        PolicyBody.model_validate({"outliers": part})
    old = PolicyBody().model_dump()
    del old["outliers"]
    assert policy.stored(old) == PolicyBody(), "a policy of an earlier release asks for none"
