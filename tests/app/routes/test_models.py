"""The reviewer's seat over HTTP: versions by name and time, verified weights, the audit as JSON and as a page."""

import base64
import hashlib
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, update

from app import store
from app.auth import Scope
from app.config import settings
from app.db import transaction
from app.tables import Model, Version
from tests.app import story
from tests.app.conftest import Caller
from tests.app.routes.test_deletions import is_problem

WEIGHTS = b"weights of the second version" * 100


@pytest.fixture
def line(database: str) -> int:
    """v1 trained, v2 an update whose bytes are really stored."""
    story.dataset()
    model_id = story.trained()
    story.submit(1, 2)
    story.publish(story.closed(model_id), WEIGHTS)
    store.put(WEIGHTS)
    return model_id


def test_a_model_is_registered_and_its_training_ordered(database: str, http: TestClient) -> None:
    story.dataset()
    asked = {"name": "m", "dataset": "people", "problem": "digits"}
    made = http.post("/models", json=asked)
    assert (made.status_code, made.json()["current_version"]) == (201, None)
    shown = http.get(made.headers["location"]).json()
    assert (shown["versions"], shown["running"]["kind"], shown["running"]["state"]) == ([], "train", "ready")
    is_problem(http.post("/models", json=asked), 409, "conflict")
    is_problem(http.post("/models", json=asked | {"name": "a-v2"}), 422, "unprocessable")
    is_problem(http.post("/models", json=asked | {"name": "b", "dataset": "nowhere"}), 404, "not_found")
    is_problem(http.get("/models/m@current"), 404, "not_found")
    assert [row["name"] for row in http.get("/models").json()] == ["m"]


def test_versions_by_number_pointer_and_time(line: int, http: TestClient) -> None:
    first, second = http.get("/models/m-v1").json(), http.get("/models/m@current").json()
    assert (first["version"], first["current"], second["version"], second["current"]) == ("m-v1", False, "m-v2", True)
    before = datetime.fromisoformat(second["published_at"]) - timedelta(microseconds=1)
    assert http.get(f"/models/m@{before.isoformat()}").json()["version"] == "m-v1"
    assert http.get(f"/models/m@{second['published_at']}").json()["version"] == "m-v2"
    is_problem(http.get("/models/m@2001-01-01T00:00:00Z"), 404, "not_found")
    is_problem(http.get("/models/m@2001-01-01T00:00:00"), 422, "unprocessable")
    is_problem(http.get("/models/m-v9"), 404, "not_found")


class TestWeights:
    def test_they_come_with_their_digest(self, line: int, http: TestClient) -> None:
        got = http.get("/models/m-v2/weights")
        digest = hashlib.sha256(WEIGHTS)
        assert got.content == WEIGHTS
        assert got.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
        assert got.headers["etag"] == f'"{digest.hexdigest()}"'

    def test_bytes_that_do_not_match_are_not_served(self, line: int, http: TestClient) -> None:
        file = settings().home / "artifacts" / store.path(hashlib.sha256(WEIGHTS).hexdigest())
        file.write_bytes(b"x" + WEIGHTS[1:])
        is_problem(http.get("/models/m-v2/weights"), 500, "corrupt_artifact")

    def test_purged_ones_are_gone_and_their_audit_is_not(self, line: int, http: TestClient) -> None:
        with transaction() as session:
            session.execute(update(Version).values(weights_purged_at=func.now()))
        is_problem(http.get("/models/m-v2/weights"), 410, "gone")
        assert http.get("/models/m-v2/audit").json()["version"]["weights_purged_at"] is not None

    def test_they_need_the_scope(self, line: int, caller: Caller) -> None:
        is_problem(caller("tool", Scope.DELETIONS_READ).get("/models/m-v2/weights"), 403, "forbidden")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("application/json", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("text/html;q=0.5, application/json", "application/json"),
    ],
)
def test_the_audit_comes_as_the_client_prefers(line: int, http: TestClient, accept: str | None, kind: str) -> None:
    got = http.get("/models/m@current/audit", headers={"Accept": accept} if accept else {})
    assert (got.status_code, got.headers["content-type"], got.headers["vary"]) == (200, kind, "Accept")
    assert "approximate update for 2 samples" in got.text


def test_a_flush_cannot_speak_of_the_cap(line: int, caller: Caller) -> None:
    operator = caller("ops", Scope.RETRAINS_WRITE)
    is_problem(operator.post("/models/m/flush", json={"approve_cap": True}), 422, "invalid")
    assert operator.post("/models/m/flush", json={}).status_code == 202
    (row,) = story.all_of(Model)
    assert row.flush_requested_at is not None


def test_resuming_needs_a_scope_and_a_reason_and_a_stop(line: int, caller: Caller) -> None:
    boss = caller("boss", Scope.POLICIES_APPROVE, Scope.DELETIONS_READ)
    is_problem(boss.post("/models/m/resume", json={"why": "mended"}), 409, "conflict")
    story.stop(line, "the intervals missed the truth")
    (shown,) = boss.get("/models").json()
    assert shown["stopped"] == "the intervals missed the truth"
    is_problem(caller("ops", Scope.POLICIES_WRITE).post("/models/m/resume", json={"why": "mended"}), 403, "forbidden")
    for asked in ({}, {"why": ""}, {"why": "mended", "extra": 1}):
        is_problem(boss.post("/models/m/resume", json=asked), 422, "invalid")
    is_problem(boss.post("/models/nobody/resume", json={"why": "mended"}), 404, "not_found")
    answer = boss.post("/models/m/resume", json={"why": "mended"})
    assert (answer.status_code, answer.json()["stopped"]) == (200, None)


@pytest.mark.parametrize("asked", [{"name": "m"}, {"name": "", "dataset": "d", "problem": "p"}, [], {"extra": 1}])
def test_what_is_no_registration(database: str, http: TestClient, asked: Any) -> None:
    is_problem(http.post("/models", json=asked), 422, "invalid")


@pytest.mark.parametrize("path", ["/models/m@current/audit", "/models/m-v2/compare?with=m-v1"])
def test_a_form_that_is_asked_for_outright(line: int, http: TestClient, path: str) -> None:
    """A link in a page cannot say what it accepts."""
    joined = "&" if "?" in path else "?"
    for form, accept, kind in (("json", "text/html", "application/json"), ("html", "application/json", "text/html")):
        got = http.get(f"{path}{joined}format={form}", headers={"Accept": accept})
        assert got.headers["content-type"].split(";")[0] == kind
        assert (got.headers["vary"], got.headers["cache-control"]) == ("Accept", "no-store")
    assert http.get(f"{path}{joined}format=xml").status_code == 422


def test_two_versions_side_by_side(line: int, http: TestClient) -> None:
    found = http.get("/models/m-v2/compare", params={"with": "m-v1"}).json()
    assert (found["earlier"]["version"]["version"], found["later"]["version"]["version"]) == ("m-v1", "m-v2")
    assert found["lineage"]["forgotten"] == 2
    page = http.get("/models/m-v1/compare", params={"with": "m@current"}, headers={"Accept": "text/html"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "m-v2 descends from the weights of m-v1" in page.text
    is_problem(http.get("/models/m-v1/compare", params={"with": "m-v9"}), 404, "not_found")
    is_problem(http.get("/models/m-v1/compare", params={"with": "m-v1"}), 422, "unprocessable")
    assert http.get("/models/m-v1/compare").status_code == 422


@pytest.mark.parametrize("name", ["expunge.css", "figures.css"])
def test_the_pages_styles_are_served(http: TestClient, name: str) -> None:
    got = http.get(f"/static/{name}")
    assert (got.status_code, got.headers["content-type"]) == (200, "text/css; charset=utf-8")
