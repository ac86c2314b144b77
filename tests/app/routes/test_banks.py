"""The reference bank over HTTP: a quote before anything is spent, the order, and how it comes along."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app import queue
from app.auth import Scope
from app.db import transaction
from app.tables import Verdict
from tests.app import story, test_banks
from tests.app.conftest import Caller
from tests.app.routes.test_deletions import is_problem


@pytest.fixture
def line(database: str) -> int:
    story.dataset()
    model_id = story.trained()
    with transaction() as session:
        session.execute(update(Verdict).values(seconds={"train": 100.0}))
    return model_id


def test_without_a_bank_there_is_a_quote(line: int, http: TestClient) -> None:
    shown = http.get("/models/m/bank").json()
    assert (shown["state"], shown["wanted"], shown["done"], shown["facts"]) == (None, 0, 0, None)
    assert shown["cost"] == {"references": 8, "trainings": 8, "seconds": 600.0, "bytes": 20 * 18}
    larger = http.get("/models/m/bank", params={"references": 16}).json()
    assert (larger["cost"]["references"], larger["cost"]["seconds"]) == (16, 1200.0)
    is_problem(http.get("/models/m/bank", params={"references": 6}), 422, "invalid")
    is_problem(http.get("/models/nobody/bank"), 404, "not_found")


def test_a_bank_is_ordered_and_followed(line: int, http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[str] = []
    monkeypatch.setattr(queue, "send", lambda task, *_: rung.append(task))
    ordered = http.post("/models/m/bank", json={"references": 4})
    assert (ordered.status_code, ordered.headers["location"]) == (202, "/models/m/bank")
    assert rung == [queue.REFERENCE] * 4
    assert (ordered.json()["state"], ordered.json()["version"], ordered.json()["requested_by"]) == (
        "building",
        "m-v1",
        "admin",
    )
    test_banks.complete(test_banks.claimed())
    test_banks.claimed()
    test_banks.fail(test_banks.claimed(), again=False)
    shown = http.get("/models/m/bank").json()
    assert (shown["wanted"], shown["done"]) == (4, 1)
    assert shown["running"] == [{"number": 1, "progress": 0.0, "failure": None}]
    assert shown["failed"] == [{"number": 2, "progress": 0.0, "failure": "it broke"}]
    assert shown["cost"]["trainings"] == 3
    assert http.get("/models/m/versions").json()["bank"] == "building"


def test_a_table_shows_its_facts(line: int, http: TestClient) -> None:
    assert http.get("/models/m/versions").json()["bank"] is None
    test_banks.ready(line)
    shown = http.get("/models/m/bank").json()
    assert (shown["state"], shown["table_sha256"]) == ("ready", "ab" * 32)
    assert shown["facts"]["references"] == 4
    assert shown["cost"]["trainings"] == 0


def test_what_is_refused(line: int, http: TestClient, caller: Caller) -> None:
    is_problem(http.post("/models/m/bank", json={"references": 6}), 422, "unprocessable")
    is_problem(http.post("/models/m/bank", json={"references": 32}), 422, "unprocessable")
    is_problem(http.post("/models/m/bank", json={"references": 128}), 422, "invalid")
    is_problem(http.post("/models/m/bank", json={"reference": 4}), 422, "invalid")
    is_problem(http.post("/models/nobody/bank", json={}), 404, "not_found")
    reader = caller("tool", Scope.DELETIONS_READ)
    is_problem(reader.post("/models/m/bank", json={}), 403, "forbidden")
    assert reader.get("/models/m/bank").status_code == 200
    story.register("new")
    is_problem(http.post("/models/new/bank", json={}), 409, "conflict")
    assert story.all_of(test_banks.Bank) == []
