"""Nothing hangs: a slow statement, a row that somebody holds, a body that does not come."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import anyio
import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app import config, schedules
from app.db import bound, engine, transaction
from app.errors import TooSlow
from app.main import STRANGERS, BodyLimit, app
from app.routes.datasets import Body, load_from
from app.tables import Dataset
from tests.app import story
from tests.app.routes.test_deletions import is_problem

Limit = Callable[..., None]


@pytest.fixture
def limited(database: str, monkeypatch: pytest.MonkeyPatch) -> Limit:
    def limit(**values: float) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"EXPUNGE_{name.upper()}", str(value))
        config.settings.cache_clear()

    return limit


def test_a_database_host_that_vanishes_is_given_up_on(database: str) -> None:
    """The kernel does it, so that what can be seen here is what it was told."""
    with engine().connect() as connection:
        driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        told = driver.info.get_parameters()
    assert int(told["tcp_user_timeout"]) == 20_000
    assert int(told["keepalives_idle"]) + int(told["keepalives_interval"]) * int(told["keepalives_count"]) == 20


@pytest.fixture
def client(database: str) -> Iterator[Callable[[], TestClient]]:
    """A client of an API that has just begun: its connections are made under the limits of the test."""
    key = story.key()
    begun: list[TestClient] = []

    def begin() -> TestClient:
        engine().dispose()
        http = TestClient(app, headers={"Authorization": f"Bearer {key}"})
        begun.append(http.__enter__())
        return http

    yield begin
    for http in begun:
        http.__exit__(None, None, None)


def test_a_slow_statement_is_503_and_the_connection_serves_on(
    limited: Limit, client: Callable[[], TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(statement_seconds=0.3)
    http = client()
    with monkeypatch.context() as patch:
        patch.setattr(schedules, "all_of", lambda session: session.execute(text("SELECT pg_sleep(600)")))
        answer = http.get("/schedules")
    said = is_problem(answer, 503, "unavailable")
    assert "took too long" in said["detail"]
    assert answer.headers["retry-after"] == "5"
    assert http.get("/schedules").status_code == 200


def test_a_row_that_somebody_holds_is_503(limited: Limit, client: Callable[[], TestClient], database: str) -> None:
    limited(lock_seconds=0.3)
    http = client()
    story.dataset()
    with psycopg.connect(database) as other:
        other.execute("SELECT 1 FROM audit_head FOR UPDATE")
        body = {"dataset": "people", "sample_ids": [story.sample(0)], "reason": "other"}
        is_problem(http.post("/deletions", json=body), 503, "unavailable")
        other.rollback()
    assert http.post("/deletions", json=body).status_code == 202


def test_a_transaction_that_idles_is_ended(
    limited: Limit, client: Callable[[], TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(idle_transaction_seconds=0.2)
    http = client()

    def idle(session: object) -> object:
        mine = session.execute(text("SELECT pg_backend_pid()")).scalar_one()  # type: ignore[attr-defined]  # a session
        while True:  # until Postgres has ended it, which another connection can see
            with transaction() as watching:
                alive = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
                if not watching.execute(alive, {"pid": mine}).scalar_one():
                    return session.execute(text("SELECT 1"))  # type: ignore[attr-defined]  # a session

    with monkeypatch.context() as patch:
        patch.setattr(schedules, "all_of", idle)
        is_problem(http.get("/schedules"), 503, "unavailable")
    assert http.get("/schedules").status_code == 200


def test_only_who_asks_for_bounds_has_them(database: str) -> None:
    def shown() -> list[str]:
        with engine().connect() as connection:
            names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
            return [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]

    assert shown() == ["0", "0", "0"]
    bound(engine(), 2, 0.5, 3)
    engine().dispose()
    assert shown() == ["2s", "500ms", "3s"]


class TestManifests:
    def test_one_that_is_too_large(self, limited: Limit, client: Callable[[], TestClient]) -> None:
        limited(max_manifest_bytes=2000)
        http = client()
        lines = (f"id-{i}\n".encode() for i in range(1000))
        answer = http.put("/datasets/d", content=b"id\n" + b"".join(lines), headers={"Content-Type": "text/csv"})
        is_problem(answer, 413, "too_large")
        assert http.get("/datasets").json() == []

    def test_it_may_take_longer_than_any_other_statement(
        self, limited: Limit, client: Callable[[], TestClient], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited(statement_seconds=0.2, manifest_seconds=600)
        http = client()
        monkeypatch.setattr("app.manifests.COUNT_SUBJECTS", "SELECT count(*) FROM {table}, pg_sleep(0.5)")
        answer = http.put("/datasets/d", content=b"id\na\n", headers={"Content-Type": "text/csv"})
        assert answer.status_code == 201

    def test_but_not_for_ever(
        self, limited: Limit, client: Callable[[], TestClient], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limited(manifest_seconds=0.3)
        http = client()
        monkeypatch.setattr("app.manifests.COUNT_SUBJECTS", "SELECT count(*) FROM {table}, pg_sleep(600)")
        answer = http.put("/datasets/d", content=b"id\na\n", headers={"Content-Type": "text/csv"})
        is_problem(answer, 503, "unavailable")
        assert http.get("/datasets").json() == []

    def test_one_that_stands_still(self, limited: Limit) -> None:
        limited(body_seconds=0.2)

        async def upload() -> Any:
            yield b"id\na\n"
            await anyio.sleep_forever()

        async def scenario() -> None:
            body = Body(upload())
            with anyio.fail_after(60), pytest.raises(TooSlow):
                await anyio.to_thread.run_sync(load_from, "d", body, "engineer")

        anyio.run(scenario)
        assert story.all_of(Dataset) == []


def test_a_body_that_does_not_come(limited: Limit) -> None:
    limited(body_seconds=0.2)
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not said:
            said.append({})
            return {"type": "http.request", "body": b"{", "more_body": True}
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    async def reached(*_: object) -> None:
        raise AssertionError("the route must not see half a body")

    async def scenario() -> None:
        with anyio.fail_after(60):
            await BodyLimit(reached)(
                {"type": "http", "method": "POST", "path": "/retrains", "headers": []}, receive, send
            )

    anyio.run(scenario)
    assert said[1]["status"] == 408


def post(key: str, sizes: list[int], declared: int | None) -> tuple[int, int]:
    """The status that a POST whose body comes in parts of these sizes is answered with, and how many bytes were taken."""
    parts, taken, said = iter(sizes), 0, []
    headers = [(b"authorization", f"Bearer {key}".encode())]
    headers += [(b"content-length", str(declared).encode())] if declared is not None else []

    async def receive() -> dict[str, Any]:
        nonlocal taken
        size = next(parts, 0)
        taken += size
        return {"type": "http.request", "body": b" " * size, "more_body": size > 0}

    async def send(message: Any) -> None:
        said.append(message)

    async def reached(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})

    scope = {"type": "http", "method": "POST", "path": "/deletions", "headers": headers, "client": ("127.0.0.1", 9)}
    anyio.run(BodyLimit(reached), scope, receive, send)
    return said[0]["status"], taken


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "in chunks"])
def test_a_stranger_s_large_body_is_not_read(database: str, declared: bool) -> None:
    chunks = [16 * 1024] * 64
    length = sum(chunks) if declared else None
    status, taken = post("exp_nobody_nothing", chunks, length)
    assert status == 401
    assert taken <= (0 if declared else STRANGERS + chunks[0])
    assert post(story.key(), chunks, length) == (299, sum(chunks))
    assert post("exp_nobody_nothing", [1000], 1000 if declared else None) == (299, 1000), "the route refuses it"


def test_where_no_operation_has_a_body_none_is_read(client: Callable[[], TestClient], limited: Limit) -> None:
    limited(max_body_bytes=1024)
    assert client().request("GET", "/livez", content=b"x" * 5000).status_code == 200
