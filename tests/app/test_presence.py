"""Who is there, and in which condition."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, update
from typer.testing import CliRunner

from app import presence
from app.auth import Scope
from app.cli import app as command_line
from app.db import transaction
from app.presence import Condition
from app.tables import Role, Worker
from tests.app import story
from tests.app.conftest import Caller
from tests.databases import forget_settings


def be(name: str, role: Role = Role.WORKER, *, seen: float = 0, heard: float = 0, task: str | None = None) -> None:
    """A process by that name, seen and heard so many seconds ago."""
    host, _, pid = name.partition(":")
    with transaction() as session:
        row = Worker(
            name=name, role=role, host=host, pid=int(pid), task=task,
            seen_at=func.now() - timedelta(seconds=seen), heard_at=func.now() - timedelta(seconds=heard),
        )  # fmt: skip
        session.add(row)


def conditions() -> dict[str, Condition]:
    with transaction() as session:
        return {each.name: each.condition for each in presence.everyone(session)}


def test_the_conditions(database: str) -> None:
    be("a:1")
    be("a:2", task="expunge.work", heard=90_000)
    be("a:3", heard=1000)
    be("a:4", seen=31, heard=31)
    be("a:5", Role.BEAT, heard=61)
    be("a:6", Role.BEAT, heard=59)
    assert conditions() == {
        "a:1": "idle",
        "a:2": "busy",
        "a:3": "stalled",
        "a:4": "lost",
        "a:5": "stalled",
        "a:6": "idle",
    }


def test_of_many_workers_each_hears_the_less_often(database: str) -> None:
    be("a:1", heard=100)
    assert conditions() == {"a:1": "stalled"}
    be("a:2"), be("a:3")
    assert conditions()["a:1"] == "idle", "three workers share the sweep of every five seconds"


def test_the_sweep_tells_of_itself(database: str) -> None:
    with transaction() as session:
        presence.swept(session)
        presence.swept(session)
    assert conditions() == {"sweep": "idle"}
    for seconds, condition in ((50, "idle"), (61, "lost")):
        with transaction() as session:
            session.execute(update(Worker).values(seen_at=func.now() - timedelta(seconds=seconds)))
        assert conditions() == {"sweep": condition}


def test_workers_of_one_queue_share_its_ticks(database: str) -> None:
    be("a:1", heard=100), be("a:2", Role.LIGHT), be("a:3", Role.LIGHT, heard=100)
    assert conditions() == {"a:1": "stalled", "a:2": "idle", "a:3": "idle"}


def test_what_a_worker_holds(database: str) -> None:
    story.dataset()
    model_id = story.register("m")
    be("a:1", task="expunge.work"), be("a:2")
    lease = story.claimed(model_id, "a:1")
    with transaction() as session:
        held = {each.name: (each.batch, each.model) for each in presence.everyone(session)}
    assert held == {"a:1": (str(lease.batch_id), "m"), "a:2": (None, None)}
    story.expire(lease)
    with transaction() as session:
        assert [each.batch for each in presence.everyone(session)] == [None, None], "its lease is over"


def test_rows_expire_and_are_replaced(database: str) -> None:
    be("gone:1", seen=901, heard=901), be("lately:1", seen=800, heard=800)
    with transaction() as session:
        presence.begin(session, Role.WORKER)
    assert set(conditions()) == {presence.name(), "lately:1"}
    with transaction() as session:
        session.execute(update(Worker).values(started_at=func.now() - timedelta(days=1)))
        presence.write(session, Role.WORKER, "expunge.work", timedelta(seconds=70))
    with transaction() as session:
        (mine,) = [each for each in presence.everyone(session) if each.name == presence.name()]
        assert (mine.seen_at - mine.started_at).days == 1
        assert (mine.seen_at - mine.heard_at) == timedelta(seconds=70)
        assert (mine.task, mine.condition) == ("expunge.work", "busy")
        presence.begin(session, Role.WORKER)  # another process by the same name, in a container that was started again
        (mine,) = [each for each in presence.everyone(session) if each.name == presence.name()]
        assert mine.started_at == mine.seen_at
        presence.end(session)
    assert set(conditions()) == {"lately:1"}


def test_the_route(caller: Caller) -> None:
    be("a:1", task="expunge.work")
    (row,) = caller("watch", Scope.METRICS_READ).get("/workers").json()
    assert (row["name"], row["role"], row["condition"], row["task"]) == ("a:1", "worker", "busy", "expunge.work")


def health(*arguments: str) -> Any:
    return CliRunner().invoke(command_line, ["health", *arguments])


def test_a_containers_check(database: str) -> None:
    for role in ("worker", "beat"):
        assert health(role).exit_code == 1, "nobody has told that it is there"
    be("here:1"), be("here:2", Role.BEAT, heard=100), be("there:1", seen=60, heard=60)
    assert health("worker", "--host", "here").exit_code == 0
    assert "stalled" in str(health("beat", "--host", "here").exception)
    assert "lost" in str(health("worker", "--host", "there").exception)


def test_a_containers_check_while_postgres_is_away(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart would mend nothing."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    forget_settings()
    assert health("worker").exit_code == 0
