"""The approver's seat over HTTP, what a client sees of it, and the same by command; policies that loosen what guards a model."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel

from app.auth import Scope
from app.policy import PolicyBody
from app.proposals import FALLING, FREE, RISING, WAITING, loosened, value
from app.tables import Policy
from tests.app import story
from tests.app.conftest import Caller
from tests.app.routes.test_deletions import is_problem
from tests.app.test_batches import events
from tests.app.test_cli import Run, run

__all__ = ["run"]  # a fixture
CAPPED = story.EAGER | {"window": {"days": 30, "max_share": 0.25}}
WHY = {"why": "looked into"}


@pytest.fixture
def ticket_id(database: str) -> str:
    """A mass deletion that is held."""
    story.dataset()
    model_id = story.trained(policy=CAPPED)
    ticket_id = story.submit(*range(6), client="tool")
    assert story.close(model_id) is None
    return str(ticket_id)


def test_a_request_is_listed_approved_and_shown_to_its_client(ticket_id: str, caller: Caller) -> None:
    tool, boss = caller("tool"), caller("boss", Scope.POLICIES_APPROVE)
    (owed,) = tool.get(f"/deletions/{ticket_id}").json()["obligations"]
    assert owed["approval"] == "requested"
    assert "second person" in owed["doing"]
    (request,) = boss.get("/models/m/approvals").json()
    shown = {name: request[name] for name in ("state", "samples", "tickets", "clients", "share", "cap", "decided_by")}
    assert shown == {
        "state": "requested", "samples": 6, "tickets": 1, "clients": ["tool"], "share": 0.3, "cap": 0.25, "decided_by": None,
    }  # fmt: skip
    path = f"/models/m/approvals/{request['id']}"
    is_problem(tool.post(f"{path}/approve", json={"samples": 6, "why": "mine"}), 403, "second_person")
    is_problem(boss.post(f"{path}/approve", json={"samples": 5, "why": "fewer"}), 409, "conflict")
    is_problem(boss.post("/models/m/approvals/999/approve", json={"samples": 6, "why": "?"}), 404, "not_found")
    good: dict[str, Any] = {"samples": 6, "why": "genuine"}
    for asked in ({}, {"samples": 6}, good | {"why": ""}, good | {"samples": 0}, good | {"hours": 0}):
        is_problem(boss.post(f"{path}/approve", json=asked), 422, "invalid")
    done = boss.post(f"{path}/approve", json=good).json()
    assert (done["state"], done["decided_by"], done["why"]) == ("approved", "boss", "genuine")
    is_problem(boss.post(f"{path}/refuse", json=WHY), 409, "conflict")
    (owed,) = tool.get(f"/deletions/{ticket_id}").json()["obligations"]
    assert owed["approval"] == "approved"


def test_an_approval_may_be_of_the_very_tickets_that_were_seen(ticket_id: str, caller: Caller) -> None:
    """As many samples of other tickets may have come in their place."""
    boss = caller("boss", Scope.POLICIES_APPROVE)
    (seen,) = boss.get("/models/m/approvals").json()
    assert seen["tickets_sha256"] == sha256(f"{ticket_id}\n".encode()).hexdigest()
    assert caller("tool").post(f"/deletions/{ticket_id}/cancel").status_code == 200
    story.submit(*range(6, 12), client="another")
    (model,) = story.all_of(story.Model)
    assert story.close(model.id) is None
    now = boss.get("/models/m/approvals").json()[0]
    assert (now["id"], now["samples"]) == (seen["id"], 6)
    path = f"/models/m/approvals/{now['id']}/approve"
    asked = WHY | {"samples": 6}
    is_problem(boss.post(path, json=asked | {"tickets_sha256": seen["tickets_sha256"]}), 409, "conflict")
    assert boss.post(path, json=asked | {"tickets_sha256": now["tickets_sha256"]}).json()["state"] == "approved"


def test_a_refusal_tells_the_client_why(ticket_id: str, caller: Caller) -> None:
    boss = caller("boss", Scope.POLICIES_APPROVE)
    (request,) = boss.get("/models/m/approvals").json()
    refused = boss.post(
        f"/models/m/approvals/{request['id']}/refuse", json={"why": "most of one class would go"}
    ).json()
    assert (refused["state"], refused["instead"]) == ("refused", "wait")
    (model,) = story.all_of(story.Model)
    assert story.close(model.id) is None
    (owed,) = caller("tool").get(f"/deletions/{ticket_id}").json()["obligations"]
    assert owed["approval"] == "refused"
    assert "most of one class would go" in owed["doing"]
    assert "boss" not in owed["doing"]


def test_by_command(run: Run, http: TestClient) -> None:
    run("policy", "set", "m", "window.max_share=0.25")
    (model,) = story.all_of(story.Model)
    story.submit(*range(6))
    assert story.close(model.id) is None
    (number,) = [str(row["id"]) for row in http.get("/models/m/approvals").json()]
    listed = run("models", "approvals", "m").output
    assert "requested" in listed
    digest = listed.split()[-1]
    assert "tickets wait" in run("models", "refuse", "m", number, "--why", "not yet").output
    seen = ("--samples", "6", "--tickets", digest)
    said = run("models", "approve", "m", number, *seen, "--why", "genuine").output
    assert "6 samples may be forgotten until" in said


class TestPolicies:
    @pytest.fixture
    def author(self, database: str, caller: Caller) -> TestClient:
        story.dataset()
        story.trained(policy=CAPPED)
        return caller("author", Scope.POLICIES_WRITE, Scope.POLICIES_APPROVE, Scope.DELETIONS_READ)

    @staticmethod
    def put(http: TestClient, **parts: Any) -> Any:
        etag = http.get("/policies/m").headers["etag"]
        return http.put("/policies/m", json=CAPPED | parts, headers={"If-Match": etag})

    def test_what_loosens_waits_for_somebody_else(self, author: TestClient, caller: Caller) -> None:
        answer = self.put(author, window={"days": 30, "max_share": 0.9})
        assert answer.status_code == 202
        assert "etag" not in answer.headers
        assert answer.json()["loosens"] == ["window.max_share: 0.25 -> 0.9"]
        assert author.get("/policies/m").json()["number"] == 1
        (proposal,) = author.get(answer.headers["location"]).json()
        path = f"/policies/m/proposals/{proposal['id']}"
        is_problem(author.post(f"{path}/approve", json=WHY), 403, "second_person")
        is_problem(caller("reader", Scope.POLICIES_WRITE).post(f"{path}/approve", json=WHY), 403, "forbidden")
        boss = caller("boss", Scope.POLICIES_APPROVE, Scope.DELETIONS_READ)
        made = boss.post(f"{path}/approve", json=WHY)
        assert (made.json()["number"], made.json()["author"], made.json()["approved_by"]) == (2, "author", "boss")
        assert made.headers["etag"] == boss.get("/policies/m").headers["etag"]
        assert boss.get("/policies/m").json()["policy"]["window"]["max_share"] == 0.9
        is_problem(boss.post(f"{path}/approve", json=WHY), 409, "conflict")

    def test_what_does_not_is_in_force_at_once_and_overtakes(self, author: TestClient, caller: Caller) -> None:
        number = self.put(author, thresholds={"ue": 0.9}).json()["id"]
        assert self.put(author, thresholds={"ue": 0.1}).status_code == 200
        answer = caller("boss").post(f"/policies/m/proposals/{number}/approve", json=WHY)
        assert "overtaken" in is_problem(answer, 409, "conflict")["detail"]
        assert [row.number for row in story.all_of(Policy)] == [1, 2]

    def test_what_is_sent_twice_is_proposed_once(self, author: TestClient, caller: Caller) -> None:
        """A client whose connection broke off sends a PUT again; another body, author or base is another proposal."""
        first, again = (self.put(author, thresholds={"ue": 0.9}) for _ in range(2))
        assert (again.status_code, again.headers["location"]) == (202, first.headers["location"])
        assert again.json() == first.json()
        assert events("policy.proposed") == 1
        boss = caller("boss")
        others = [self.put(author, thresholds={"ue": 0.8}), self.put(boss, thresholds={"ue": 0.9})]
        numbers = {first.json()["id"], *(other.json()["id"] for other in others)}
        assert len(numbers) == 3
        assert boss.post(f"/policies/m/proposals/{first.json()['id']}/refuse", json=WHY).status_code == 200
        anew = self.put(author, thresholds={"ue": 0.9}).json()
        assert (anew["id"] in numbers, anew["state"]) == (False, "proposed")
        assert events("policy.proposed") == len(author.get("/policies/m/proposals").json()) == 4

    def test_a_proposal_is_refused_or_taken_back(self, author: TestClient) -> None:
        number = self.put(author, thresholds={"mu": 0.9}).json()["id"]
        refused = author.post(f"/policies/m/proposals/{number}/refuse", json=WHY).json()
        assert (refused["state"], refused["decided_by"], refused["why"]) == ("refused", "author", WHY["why"])
        is_problem(author.post(f"/policies/m/proposals/{number}/refuse", json=WHY), 409, "conflict")
        is_problem(author.post("/policies/m/proposals/999/refuse", json=WHY), 404, "not_found")

    def test_by_command(self, run: Run, caller: Caller) -> None:
        assert "in force" in run("policy", "set", "m", "thresholds.ue=0.1").output
        assert "somebody else's approval" in run("policy", "set", "m", "thresholds.ue=0.2").output
        assert "proposed" in run("policy", "proposals", "m").output
        assert "refused" in run("policy", "refuse", "m", "1", "--why", "too wide").output


def changed(path: str, value: Any) -> PolicyBody:
    body: dict[str, Any] = PolicyBody().model_dump()
    *parents, last = path.split(".")
    inner = body
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return PolicyBody.model_validate(body)


@pytest.mark.parametrize("path", [*RISING, *FALLING])
def test_each_guard_has_a_direction(path: str) -> None:
    values = (
        (False, True)
        if path == "accept_undetectable"
        else (2, 3)
        if path in ("drift.max_updates", "lone.min_batch")
        else (0.01, 0.02)
    )
    low, high = (changed(path, value) for value in values)
    assert bool(loosened(low, high)) == (path in RISING)
    assert bool(loosened(high, low)) == (path in FALLING)
    assert loosened(low, low) == []


def fields(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """The path of each value of a policy."""
    for name, field in model.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield from fields(part, f"{above}{name}.")
        else:
            yield above + name


def test_each_value_of_a_policy_guards_something_or_is_said_to_guard_nothing() -> None:
    ordered = {*RISING, *FALLING, *WAITING, "lone.rule", "retrain_tiers"}
    known = set(fields(PolicyBody))
    free = {path for path in known if any(path == name or path.startswith(f"{name}.") for name in FREE)}
    assert ordered | free == known
    assert not ordered & free


@pytest.mark.parametrize("path", WAITING)
def test_a_lone_subject_waits_for_others_as_long_as_two_people_say(path: str) -> None:
    body = changed("lone.rule", "merge").model_dump()
    group, name = path.split(".")
    low, high = (PolicyBody.model_validate(body | {group: body[group] | {name: value}}) for value in (10, 20))
    sooner, later = (low, high) if path == "lone.max_wait_seconds" else (high, low)
    assert loosened(later, sooner) == [f"{path}: {value(later, path)} -> {value(sooner, path)}"]
    assert loosened(sooner, later) == []
    assert loosened(changed(path, 10), changed(path, 20)) == loosened(changed(path, 20), changed(path, 10)) == []


def test_rules_for_lone_subjects_are_ranked() -> None:
    allow, withdraw, merge = (changed("lone.rule", rule) for rule in ("allow", "withdraw", "merge"))
    assert loosened(merge, withdraw) == ["lone.rule: merge -> withdraw"]
    assert loosened(withdraw, allow) == ["lone.rule: withdraw -> allow"]
    assert loosened(allow, withdraw) == loosened(withdraw, merge) == []


def test_a_tier_that_is_no_longer_retrained_is_a_loss() -> None:
    assert loosened(PolicyBody(), changed("retrain_tiers", [])) == ["retrain_tiers: without high"]
    assert loosened(changed("retrain_tiers", []), PolicyBody()) == []
