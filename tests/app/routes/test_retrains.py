"""The operator's second seat over HTTP: retrains, batches, schedules."""

import pytest
from fastapi.testclient import TestClient

from app.auth import Scope
from tests.app import story
from tests.app.conftest import Caller
from tests.app.routes.test_deletions import is_problem


@pytest.fixture
def line(database: str) -> int:
    story.dataset()
    return story.trained()


def test_a_retrain_that_waits_is_not_ordered_twice(line: int, http: TestClient) -> None:
    asked = {"model": "m", "why": "quarterly"}
    first, second = http.post("/retrains", json=asked), http.post("/retrains", json=asked)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.headers["location"] == second.headers["location"] == f"/batches/{first.json()['id']}"
    shown = http.get(first.headers["location"]).json()
    assert (shown["kind"], shown["state"], shown["why"]) == ("retrain", "ready", "quarterly")
    is_problem(http.post("/retrains", json={"model": "nobody", "why": "x"}), 404, "not_found")
    is_problem(http.post("/retrains", json={"model": "m", "why": ""}), 422, "invalid")


def test_a_batch_names_tickets_to_an_admin_alone(line: int, http: TestClient, caller: Caller) -> None:
    """A batch holds tickets of several clients, and none of these may learn of another's."""
    ticket = str(story.submit(1, client="one"))
    story.work(line)
    batch = http.get("/batches", params={"kind": "unlearn"}).json()["items"][0]["id"]
    assert ticket in http.get(f"/batches/{batch}").text
    other = caller("two", Scope.DELETIONS_READ).get(f"/batches/{batch}")
    assert ticket not in other.text
    kinds = [event["kind"] for event in other.json()["timeline"]]
    assert kinds == ["batch.closed", "run.claimed", "verdict.recorded", "version.published"]


def test_batches_come_in_pages_and_by_filter(line: int, http: TestClient) -> None:
    for ordinal in range(3):
        story.submit(ordinal)
        story.work(line)
    page = http.get("/batches", params={"model": "m", "kind": "unlearn", "limit": 2}).json()
    following = {"model": "m", "kind": "unlearn", "limit": 2, "cursor": page["next"]}
    rest = http.get("/batches", params=following).json()
    assert [row["version"] for row in page["items"] + rest["items"]] == ["m-v4", "m-v3", "m-v2"]
    assert rest["next"] is None
    is_problem(http.get("/batches", params={"cursor": page["next"]}), 422)
    assert http.get("/batches", params={"state": "quarantined"}).json()["items"] == []


def test_a_quarantined_batch_gets_another_chance(line: int, http: TestClient) -> None:
    story.submit(1)
    lease = story.closed(line)
    is_problem(http.post(f"/batches/{lease.batch_id}/retry"), 409, "conflict")
    story.fail(lease, "disk full", again=False)
    again = http.post(f"/batches/{lease.batch_id}/retry")
    assert (again.status_code, again.json()["state"], again.json()["failure"]) == (202, "ready", None)
    assert [version.number for version in story.work(line)] == [2]


def test_schedules_come_and_go(line: int, http: TestClient, caller: Caller) -> None:
    asked = {"model": "m", "cron": "0 3 * * 0"}
    is_problem(caller("tool", Scope.DELETIONS_READ).post("/schedules", json=asked), 403, "forbidden")
    made = http.post("/schedules", json=asked)
    assert (made.status_code, http.get("/schedules").json()) == (201, [made.json()])
    assert http.get(made.headers["location"]).json() == []
    is_problem(http.post("/schedules", json=asked | {"cron": "every now and then"}), 422, "bad_cron")
    is_problem(http.post("/schedules", json=asked | {"model": "nobody"}), 404, "not_found")
    gone = f"/schedules/{made.json()['id']}"
    assert http.delete(gone).status_code == 204
    is_problem(http.delete(gone), 404, "not_found")
    assert http.get("/schedules").json() == []
    assert http.get(f"{gone}/occurrences").json() == []
    is_problem(http.get("/schedules/77/occurrences"), 404, "not_found")
