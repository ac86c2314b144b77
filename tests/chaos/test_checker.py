"""The checker on a sound history, and on the same history with one promise broken: it names that promise."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from app.tables import Reason, Version
from tests.app import story
from tests.chaos.checker import CHECKS, Violation, first_violation
from tests.chaos.facts import gather

ROOT = Path(__file__).parent


class World:
    """A model's small history on a real database, with its artifacts and the clients' notes."""

    def __init__(self, database: str, folder: Path) -> None:
        self.database, self.artifacts = database, folder / "artifacts"
        self.notes, self.trainings = folder / "notes.jsonl", folder / "trainings.jsonl"
        story.dataset()
        self.model = story.trained()
        self.first = self.submit(1, 2)
        story.work(self.model)
        self.note(kind="submit", **self.told(self.first, [1, 2]))  # sent again, answered with the same ticket
        self.cancelled = self.submit(3)
        story.cancel(self.cancelled)
        self.note(kind="cancel", ticket=str(self.cancelled), status=200, lost=0)
        self.unlawful = self.submit(2, 4, reason=Reason.UNLAWFUL_TRAINING)
        story.work(self.model)
        for version in story.all_of(Version):
            self.store(f"{version.batch_id}/1".encode())
        self.train(read=[5, 6, 7])

    def store(self, data: bytes) -> None:
        name = hashlib.sha256(data).hexdigest()
        path = self.artifacts / "sha256" / name[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def submit(self, *ordinals: int, **rest: Any) -> UUID:
        made = story.submit(*ordinals, **rest)
        self.note(kind="submit", **self.told(made, list(ordinals), str(rest.get("reason", "other"))))
        return made

    def told(self, ticket: UUID, ordinals: list[int], reason: str = "other") -> dict[str, Any]:
        common = {"dataset": "people", "status": 202, "code": None, "lost": 0, "reason": reason}
        return common | {"key": f"key of {ticket}", "ticket": str(ticket), "ordinals": ordinals}

    def note(self, **what: Any) -> None:
        with self.notes.open("a") as file:
            file.write(json.dumps({"at": time.time()} | what) + "\n")

    def train(self, read: list[int]) -> None:
        """Evidence of a training that began just now."""
        (dataset,) = self.sql("SELECT id FROM dataset")[0]
        with self.trainings.open("a") as file:
            file.write(
                json.dumps({"training": "1-1", "dataset": dataset, "looked": time.time(), "ordinals": read}) + "\n"
            )

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Whatever the constraints and triggers say."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            done = connection.execute(statement.encode(), values)
            return done.fetchall() if done.description else []

    def check(self) -> Violation | None:
        return first_violation(gather(self.database, self.artifacts, self.notes, self.trainings))


@pytest.fixture
def world(database: str, tmp_path: Path) -> World:
    return World(database, tmp_path)


def lose(world: World) -> None:
    for table, column in (("tombstone", "ticket_id"), ("obligation", "ticket_id"), ("ticket", "id")):
        world.sql(f"DELETE FROM {table} WHERE {column} = %s", world.first)


def make_twice(world: World) -> None:
    second = world.submit(9)
    world.note(kind="submit", **world.told(second, [9]) | {"key": f"key of {world.first}"})


def share_a_parent(world: World) -> None:
    world.sql("ALTER TABLE version DROP CONSTRAINT uq_version_model_id_parent_id")
    world.sql("UPDATE version SET parent_id = (SELECT parent_id FROM version WHERE number = 2) WHERE number = 3")


def write_over(world: World) -> None:
    (digest,) = world.sql("SELECT weights_digest FROM version WHERE number = 1")[0]
    (world.artifacts / "sha256" / digest[:2] / digest).write_bytes(b"another's")


def record_unheard(world: World) -> None:
    columns = "batch_id, epoch, rung, weights_digest, decision, reasons, method, statistics, thresholds, seconds"
    world.sql(f"INSERT INTO verdict ({columns}) SELECT {columns} FROM verdict WHERE id = (SELECT min(id) FROM verdict)")


BROKEN: dict[str, Callable[[World], Any]] = {
    "a ticket answered 202 is never lost": lose,
    "a repeated request gives one ticket": make_twice,
    "a cancellation is what was answered": lambda world: world.note(
        kind="cancel", ticket=str(world.first), status=200, lost=0
    ),
    "a tombstone stands for each sample": lambda world: world.sql(
        "DELETE FROM tombstone WHERE ticket_id = %s AND ordinal = 1", world.first
    ),
    "a tombstoned sample is read by no later training": lambda world: world.train(read=[1, 8]),
    "two versions never share a parent": share_a_parent,
    "nothing is published without a verdict on exactly those bytes": lambda world: world.sql(
        "UPDATE verdict SET decision = 'inconclusive' WHERE id = (SELECT verdict_id FROM version WHERE number = 2)"
    ),
    "an artifact has the bytes that its name says": write_over,
    "the pointer never moves to a version that holds a fulfilled ticket's samples": lambda world: world.sql(
        "UPDATE model SET current_version_id = (SELECT id FROM version WHERE number = 1)"
    ),
    "every obligation is fulfilled by a version without its samples": lambda world: world.sql(
        "UPDATE version SET excluded_digest = %s WHERE number = 3", hashlib.sha256().hexdigest()
    ),
    "the log is unbroken": lambda world: world.sql("UPDATE audit_event SET body = body || ' ' WHERE seq = 4"),
    "every state of a ticket and its event commit together": lambda world: world.sql(
        "UPDATE ticket SET state = 'pending' WHERE id = %s", world.first
    ),
    "every state of a batch and its event commit together": lambda world: world.sql(
        "UPDATE batch SET state = 'cancelled' WHERE id = (SELECT batch_id FROM version WHERE number = 2)"
    ),
    "every version and its event commit together": record_unheard,
    "a run that lost its lease changes nothing": lambda world: world.sql(
        "UPDATE verdict SET epoch = 7 WHERE id = (SELECT verdict_id FROM version WHERE number = 2)"
    ),
    "every ticket ends": lambda world: world.submit(10),
}


def test_a_sound_history_breaks_no_promise(world: World) -> None:
    assert [version.number for version in story.all_of(Version)] == [1, 2, 3]
    assert world.check() is None


@pytest.mark.service
@pytest.mark.parametrize("promise", CHECKS)
def test_a_broken_promise_is_named(world: World, promise: str) -> None:
    BROKEN[promise](world)
    found = world.check()
    assert found is not None
    assert found.promise == promise, found


def test_nobody_s_ticket_is_found_too(world: World) -> None:
    """One that a retry has made twice, although the client knows of one."""
    story.submit(11)
    found = world.check()
    assert found is not None
    assert "nobody was answered so" in found.says


def test_a_ticket_cancelled_after_a_training_began_may_be_left_out_of_it(world: World) -> None:
    """Its tombstones are gone by the time of the check; the client's notes tell of them."""
    ticket = world.submit(12)
    second = story.register("second")
    lease = story.claimed(second)
    version = story.publish(lease)
    story.cancel(ticket)
    world.note(kind="cancel", ticket=str(ticket), status=200, lost=0)
    world.store(f"{version.batch_id}/1".encode())
    assert world.check() is None


def test_the_checker_knows_nothing_of_the_service() -> None:
    for name in ("checker", "history", "facts"):
        source = (ROOT / f"{name}.py").read_text()
        imported = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
        assert not [line for line in imported if line.split()[1].partition(".")[0] in ("app", "workers", "unlearning")]
        assert all("tests" not in line or "tests.chaos" in line for line in imported)
        ours = [line for line in imported if "tests.chaos" in line]
        assert all(any(each in line for each in ("facts", "history")) for line in ours), ours


def test_lists_of_promises_agree() -> None:
    assert BROKEN.keys() == CHECKS.keys()
