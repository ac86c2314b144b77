"""A worker that is told to stop in the midst of its work gives it back; the next one needs no lease to run out."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from sqlalchemy import select

from app import audit
from app.config import settings
from app.db import transaction
from app.tables import AuditEvent, Bank, BatchState, Reference, ReferenceState, Run, TicketState
from embedded.processes import wait_for
from tests.workers.conftest import Line
from tests.workers.test_references import order
from unlearning.problem import Indices
from workers import pulse, references, stopping


@pytest.fixture(autouse=True)
def told_again() -> Iterator[None]:
    """Let this process work on afterwards."""
    yield
    stopping.here.clear()
    stopping.told[0] = 0


def at_first_read(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """Do something as soon as training samples are read: the run is in its middle then."""
    watched = import_module("test_problems").Watched
    read, done = watched.batch, []

    def batch(self: Any, indices: Indices) -> Any:
        if not done:
            done.append(True)
            do()
        return read(self, indices)

    monkeypatch.setattr(watched, "batch", batch)


def kinds(line: Line) -> list[str]:
    with transaction() as session:
        query = select(AuditEvent.kind).where(AuditEvent.batch_id == line.batch().id).order_by(AuditEvent.seq)
        return list(session.scalars(query))


def outcomes(line: Line) -> list[str | None]:
    with transaction() as session:
        query = select(Run.outcome).where(Run.batch_id == line.batch().id).order_by(Run.epoch)
        return list(session.scalars(query))


def restart() -> None:
    """As the next worker process: nobody told it to stop."""
    stopping.here.clear()
    stopping.told[0] = 0


@pytest.mark.parametrize("tell", [stopping.tell, stopping.here.set])
def test_a_run_gives_its_batch_back_at_its_next_step(
    lenient: Line, monkeypatch: pytest.MonkeyPatch, tell: Callable[[], None]
) -> None:
    ticket = lenient.submit(range(40))
    at_first_read(monkeypatch, tell)
    lenient.work()
    batch = lenient.batch()
    assert (batch.state, batch.attempt, batch.lease_until, batch.failure) == (BatchState.READY, 0, None, None)
    assert kinds(lenient)[-1] == "run.given_back"
    assert len(lenient.versions()) == 1
    lenient.work()
    assert lenient.batch().state is BatchState.READY, "a worker that is to stop begins nothing"
    restart()
    lenient.work()
    assert (lenient.batch().state, lenient.batch().attempt) == (BatchState.PUBLISHED, 1)
    assert outcomes(lenient) == ["given back", "published"]
    assert lenient.ticket(ticket).state is TicketState.FULFILLED
    with transaction() as session:
        assert audit.verify(session).fault is None


@pytest.mark.service
@pytest.mark.both
def test_however_often_it_is_stopped_no_attempt_is_spent(lenient: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    lenient.submit(range(40))
    for _ in range(settings().max_attempts + 1):
        with monkeypatch.context() as patch:
            at_first_read(patch, stopping.tell)
            lenient.work()
        restart()
    lenient.work()
    assert len(lenient.versions()) == 2
    assert outcomes(lenient) == ["given back"] * (settings().max_attempts + 1) + ["published"]


def test_a_run_that_comes_to_no_step_loses_its_batch_and_writes_nothing(
    lenient: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPUNGE_STOP_SECONDS", "0")
    settings.cache_clear()
    lenient.submit(range(40))

    def stuck() -> None:
        stopping.tell()
        assert wait_for(lambda: lenient.batch().state is BatchState.READY, 30)

    at_first_read(monkeypatch, stuck)
    lenient.work()
    assert len(lenient.versions()) == 1
    assert kinds(lenient)[-1] == "run.given_back"
    restart()
    lenient.work()
    assert [version.number for version in lenient.versions()] == [1, 2]
    assert outcomes(lenient) == ["given back", "published"]


def test_a_run_at_its_end_goes_on(lenient: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    step = pulse.Pulse.step

    def stop_at_the_end(self: pulse.Pulse, fraction: float, text: str) -> None:
        if text == "validating":
            stopping.tell()
        step(self, fraction, text)

    monkeypatch.setattr(pulse.Pulse, "step", stop_at_the_end)
    lenient.submit(range(40))
    lenient.work()
    assert outcomes(lenient) == ["published"]


@pytest.mark.service
@pytest.mark.both
def test_a_retrain_given_back_keeps_what_it_took_over(lenient: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = lenient.submit(range(40))
    at_first_read(monkeypatch, stopping.tell)
    lenient.retrain()
    assert lenient.batch().state is BatchState.READY
    assert lenient.ticket(ticket).state in (TicketState.PENDING, TicketState.WORKING)
    restart()
    lenient.work()
    assert lenient.ticket(ticket).state is TicketState.FULFILLED


@pytest.mark.service
@pytest.mark.both
def test_a_reference_is_given_back(lenient: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    order(lenient)
    with monkeypatch.context() as patch:
        at_first_read(patch, stopping.tell)
        references.work()
        references.work()
    with transaction() as session:
        rows = session.scalars(select(Reference).order_by(Reference.number)).all()
        assert [(row.state, row.attempt, row.lease_until) for row in rows] == [(ReferenceState.PENDING, 0, None)] * 4
        told = session.scalars(select(AuditEvent.kind).order_by(AuditEvent.seq.desc()).limit(1)).one()
        assert told == "reference.given_back"
    restart()
    references.work()
    with transaction() as session:
        first = session.get_one(Reference, (session.scalars(select(Bank.id)).one(), 0))
        assert (first.state, first.attempt) == (ReferenceState.DONE, 1)


@pytest.mark.service
def test_a_child_that_is_signalled_itself_ends_when_it_is_idle_and_not_before() -> None:
    """systemd signals every process of a unit, the children too."""
    script = (
        "import os, signal\n"
        "from workers import stopping\n"
        "stopping.forked.set()\n"
        "with stopping.listening():\n"
        "    with stopping.listening():\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print(stopping.asked(), flush=True)\n"
        "print(stopping.asked(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=False)
    assert (done.stdout, done.returncode) == ("True\nFalse\n", -signal.SIGTERM)


@pytest.mark.service
@pytest.mark.both
def test_a_run_that_gave_up_alone_leaves_its_model_to_others(lenient: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    lenient.submit(range(40))
    stopping.forked.set()
    try:
        at_first_read(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGTERM))
        lenient.work()
    finally:
        stopping.forked.clear()
    assert lenient.batch().state is BatchState.READY
    assert not stopping.asked()
