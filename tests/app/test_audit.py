"""The log: what it refuses, and that every kind of tampering shows."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import audit, batches, schedules
from app.db import engine, transaction
from tests.app import story


def verify() -> audit.Verification:
    with transaction() as session:
        return audit.verify(session)


@pytest.fixture
def told(database: str) -> int:
    """A full story; returns the number of its events."""
    story.dataset()
    model_id = story.trained()
    story.cancel(story.submit(9))
    story.submit(1, 2)
    lease = story.closed(model_id)
    story.fail(lease)
    story.rested(model_id)
    story.publish(story.claimed(model_id))
    story.submit(3), story.submit(4)
    story.close(model_id)
    story.exhaust(model_id)
    story.retrain(model_id)
    story.work(model_id)
    story.submit(1)
    story.key("someone")
    with transaction() as session:
        schedule = schedules.create(session, "m", "0 3 * * *", "operator")
        schedules.remove(session, schedule.id, "operator")
        batches.flush(session, session.get_one(story.Model, model_id), "operator")
    return verify().events


@contextmanager
def tampering() -> Iterator[None]:
    """What somebody with the database's own password can do."""
    with transaction() as session:
        session.execute(text("ALTER TABLE audit_event DISABLE TRIGGER USER"))
    yield
    with transaction() as session:
        session.execute(text("ALTER TABLE audit_event ENABLE TRIGGER USER"))


def execute(statement: str) -> None:
    with transaction() as session:
        session.execute(text(statement))


def test_a_full_story_is_clean(told: int) -> None:
    assert told > 25
    assert verify().fault is None


def test_the_chain_is_what_the_docstring_says(told: int) -> None:
    running = bytes(32)
    with engine().connect() as connection:
        for seq, body, stored in connection.execute(text("SELECT seq, body, hash FROM audit_event ORDER BY seq")):
            running = hashlib.sha256(running + seq.to_bytes(8, "big") + body.encode()).digest()
            assert stored == running
            assert body == audit.canonical(json.loads(body))
    assert verify().head == running.hex()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE audit_event SET body = replace(body, 'tool', 'fool') WHERE kind = 'ticket.cancelled'", "was changed"),
        ("UPDATE audit_event SET kind = 'x' WHERE seq = 5", "event 5 was changed: its columns"),
        ("UPDATE audit_event SET ticket_id = gen_random_uuid() WHERE seq = 5", "event 5 was changed: its columns"),
        ("UPDATE audit_event SET batch_id = NULL WHERE kind = 'batch.closed'", "was changed: its columns"),
        ("UPDATE audit_event SET model_id = 77 WHERE seq = 5", "event 5 was changed: its columns"),
        ("UPDATE audit_event SET hash = sha256('x') WHERE seq = 5", "event 5 was changed: its hash"),
        ("DELETE FROM audit_event WHERE seq = 1", "event 1 is missing"),
        ("DELETE FROM audit_event WHERE seq = 5", "event 5 is missing"),
        ("DELETE FROM audit_event WHERE seq > (SELECT seq FROM audit_head) - 3", "its head says"),
        ("DELETE FROM audit_event", "the log ends at event 0"),
        ("UPDATE audit_head SET seq = seq + 1", "its head says"),
        ("UPDATE audit_head SET seq = seq - 1", "its head says"),
        ("UPDATE audit_head SET hash = sha256('x')", "its head says"),
        (
            "UPDATE audit_head SET seq = 5, hash = (SELECT hash FROM audit_event WHERE seq = 5)",
            "its head says 5",
        ),
        (
            "UPDATE audit_event SET body = body || ' ', hash = sha256((SELECT hash FROM audit_event WHERE seq = 5)"
            " || int8send(6) || convert_to(body || ' ', 'UTF8')) WHERE seq = 6",
            "event 7 was changed",
        ),
        (
            "INSERT INTO ticket (id, client, dataset_id, reason, risk_tier, state, accepted, unknown, already_forgotten,"
            " pending_elsewhere) SELECT gen_random_uuid(), client, dataset_id, reason, risk_tier, state, 0, 0, 0, 0"
            " FROM ticket LIMIT 1",
            "1 row(s) of ticket have no ticket.accepted event",
        ),
        (
            "INSERT INTO batch (id, model_id, kind, trigger, state, policy_id, policy, why, requested_by, attempt,"
            " lease_epoch, progress) SELECT gen_random_uuid(), model_id, kind, trigger, state, policy_id, policy, why,"
            " requested_by, 0, 0, 0 FROM batch WHERE state = 'published' LIMIT 1",
            "1 row(s) of batch have no batch.closed event",
        ),
        ("DELETE FROM version WHERE number = (SELECT max(number) FROM version)", "versions stand against"),
    ],
)
def test_tampering_shows(told: int, statement: str, words: str) -> None:
    with tampering():
        if statement.startswith("DELETE FROM version"):
            execute("UPDATE model SET current_version_id = NULL")
            execute("UPDATE verdict SET truth_version_id = NULL")
            execute("ALTER TABLE obligation DROP CONSTRAINT fk_obligation_version_id")
        execute(statement)
    fault = verify().fault
    assert fault is not None
    assert words in fault


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_event SET kind = 'x'", "DELETE FROM audit_event", "TRUNCATE audit_event"]
)
def test_the_log_is_append_only(told: int, statement: str) -> None:
    with pytest.raises(DBAPIError, match="append-only"):
        execute(statement)
    assert verify() == audit.Verification(told, verify().head, None)


def test_concurrent_appends_leave_no_gap(database: str) -> None:
    barrier = threading.Barrier(8)

    def append(number: int) -> None:
        barrier.wait()
        for index in range(10):
            with transaction() as session:
                audit.append(session, "test", "someone", number=number, index=index)

    threads = [threading.Thread(target=append, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = verify()
    assert (found.events, found.fault) == (80, None)


def test_many_events_at_once_are_chained_like_single_ones(told: int) -> None:
    with transaction() as session:
        audit.append_each(session, "ticket.told", "expunge", [uuid4() for _ in range(30)], note="ö")
        audit.append(session, "test", "someone")
        audit.append_each(session, "ticket.told", "expunge", [])
    assert (verify().events, verify().fault) == (told + 31, None)


def test_appends_of_one_and_of_many_take_turns(database: str) -> None:
    barrier = threading.Barrier(4)

    def append(number: int) -> None:
        barrier.wait()
        for _ in range(10):
            with transaction() as session:
                if number % 2:
                    audit.append(session, "test", "someone")
                else:
                    audit.append_each(session, "test", "someone", [uuid4(), uuid4()])

    threads = [threading.Thread(target=append, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (verify().events, verify().fault) == (60, None)


def test_what_is_rolled_back_was_never_logged(database: str) -> None:
    with transaction() as session:
        audit.append(session, "test", "someone")
        session.rollback()
    assert verify().events == 0


def test_events_appended_while_the_log_is_read_are_no_fault(told: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = audit.rows

    def late(session: Session, last: int) -> object:
        story.submit(11)
        return real(session, last)

    monkeypatch.setattr(audit, "rows", late)
    found = verify()
    assert (found.events, found.fault) == (told, None)
    monkeypatch.undo()
    assert verify().events > told


@pytest.mark.parametrize("value", [float("nan"), float("inf"), timedelta(1), {1, 2}])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        audit.canonical({"x": value})


def test_no_sample_or_subject_is_named(told: int) -> None:
    with engine().connect() as connection:
        bodies = "".join(connection.scalars(text("SELECT body FROM audit_event")))
    assert "s-00" not in bodies
    assert "p-" not in bodies
