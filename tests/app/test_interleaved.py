"""The steps of test_machine.py while other transactions are open: each is held at its audit event, over steps of others,
and then goes on or is rolled back. Whoever waits for a lock gives up soon and counts as refused.

Held at that point a transaction has done all it does but for the log: its rows are written and locked, and nobody sees
them. So a ticket comes while a version is being published, a batch closes while a ticket is taken back, a worker claims
while another's publication is not committed yet. One thread moves at a time, so that a failing sequence can be run again.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy.exc import DBAPIError

from app import audit, runs, tickets
from app.db import bound, engine, transaction
from app.errors import Conflict, NothingKnown, StaleEpoch
from app.tables import Batch, BatchKind, BatchState, Ticket, TicketState
from tests.app import story
from tests.app.test_machine import MODELS, SAMPLES, Service, which_model

pytestmark = pytest.mark.service

LOCK_SECONDS = 0.25
LONG = 120.0
AT_ONCE = 2
here = threading.local()


class RolledBack(Exception):
    """A held transaction was told to end without a commit."""


class Held:
    """A step that runs in a thread of its own, up to its first audit event, and waits there with its transaction open."""

    def __init__(self, what: str, step: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self.what, self.step, self.then = what, step, then
        self.stands, self.go_on = threading.Event(), threading.Event()
        self.commit = True
        self.paused = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self.run, name=what, daemon=True)
        self.thread.start()
        assert self.stands.wait(LONG)

    def run(self) -> None:
        here.held = self
        try:
            self.result = self.step()
        except BaseException as error:  # noqa: BLE001 - told to whoever ends it
            self.error = error
        self.stands.set()

    def pause(self) -> None:
        if not self.paused:
            self.paused = True
            self.stands.set()
            assert self.go_on.wait(LONG)
            if not self.commit:
                raise RolledBack

    def end(self, *, commit: bool) -> None:
        """Let it go on, and do what follows from its commit; or have it rolled back."""
        self.commit = commit
        self.go_on.set()
        self.thread.join(LONG)
        assert not self.thread.is_alive(), f"{self.what} hangs"
        if self.error is None:
            self.then(self.result)
        elif not isinstance(self.error, RolledBack | StaleEpoch | Conflict | NothingKnown) and not refused(self.error):
            raise self.error


def refused(error: BaseException) -> bool:
    """Whether a lock was not to be had in time. A deadlock is no refusal but a fault."""
    return isinstance(error, DBAPIError) and isinstance(error.orig, psycopg.errors.LockNotAvailable)


def pausing(function: Callable[..., Any]) -> Callable[..., Any]:
    def paused(*arguments: Any, **named: Any) -> Any:
        held: Held | None = getattr(here, "held", None)
        if held is not None:
            held.pause()
        return function(*arguments, **named)

    return paused


class Interleaved(Service):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[Held] = []
        self.told: set[UUID] = set()
        """Tickets whose acceptance was committed: a client was told 202."""
        self.claims: list[runs.Lease] = []

    @contextmanager
    def may_be_refused(self) -> Iterator[None]:
        """A step of the ordinary machine, which gives up where a held transaction is in its way."""
        try:
            yield
        except DBAPIError as error:
            if not refused(error):
                raise
        except StaleEpoch:
            assert self.open, "nobody else works on anything"
        self.take_stock()

    def take_stock(self) -> None:
        """A step may have been refused in its middle. Which leases hold is what the rows say."""
        known = {(lease.batch_id, lease.epoch): lease for lease in [*self.leases, *self.lost, *self.claims]}
        mine = {(b.id, b.lease_epoch) for b in story.all_of(Batch) if b.state is BatchState.RUNNING}
        self.lost = [lease for lease in self.lost if (lease.batch_id, lease.epoch) not in mine]
        self.leases = [lease for key, lease in known.items() if key in mine and not self.publishing(lease)]

    def publishing(self, lease: runs.Lease) -> bool:
        return any(held.what == f"publish {lease.batch_id}" for held in self.open)

    def hold(self, what: str, step: Callable[[], Any], then: Callable[[Any], None] = lambda _: None) -> None:
        held = Held(what, step, then)
        if held.paused:
            self.open.append(held)
        else:  # it came to no event: refused, or nothing to do
            held.end(commit=True)

    room = precondition(lambda self: len(self.open) < AT_ONCE)

    @room
    @rule(ordinals=st.lists(st.integers(0, SAMPLES - 1), min_size=1, max_size=3, unique=True))
    def hold_a_ticket(self, ordinals: list[int]) -> None:
        self.hold("ticket", lambda: story.submit(*ordinals), self.told.add)

    @room
    @rule(data=st.data())
    def hold_a_cancellation(self, data: Any) -> None:
        waiting = sorted(ticket.id for ticket in story.all_of(Ticket) if ticket.state is TicketState.PENDING)
        if waiting:
            ticket_id = data.draw(st.integers(0, len(waiting) - 1).map(waiting.__getitem__), label="ticket")
            self.hold("cancellation", lambda: story.cancel(ticket_id))

    @room
    @rule(model=which_model)
    def hold_a_closing(self, model: int) -> None:
        self.hold("closing", lambda: story.close(self.models[model]))

    @room
    @rule(model=which_model)
    def hold_a_claim(self, model: int) -> None:
        with self.may_be_refused():
            story.rested(self.models[model])
        self.hold("claim", lambda: story.claim(self.models[model]), self.claimed)

    def claimed(self, lease: runs.Lease | None) -> None:
        if lease is not None:
            self.claims.append(lease)

    @room
    @precondition(lambda self: self.leases)
    @rule()
    def hold_a_publication(self) -> None:
        lease = self.leases[0]
        with self.may_be_refused():
            self.hold_published(lease)

    def hold_published(self, lease: runs.Lease) -> None:
        if lease.kind is not BatchKind.UNLEARN:
            self.absorb(lease)
            read, rung = self.read[lease.batch_id], "retrain"
        else:
            forget = self.forget(lease)
            if not forget or lease.parent is None or lease.batch_id in self.read:
                return
            read, rung = self.held[lease.parent.id] - forget, "iau"
        weights = f"{lease.batch_id}/{lease.epoch}/held".encode()
        offered = story.candidate(lease, weights, story.record(lease, weights, rung=rung))

        def publish() -> Any:
            with transaction() as session:
                version = runs.publish(session, lease, offered)
                if rung == "retrain" and lease.parent:
                    runs.backfill(session, lease, {}, version)
                return version

        def then(version: Any) -> None:
            self.held[version.id] = read

        self.hold(f"publish {lease.batch_id}", publish, then)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, AT_ONCE - 1), commit=st.sampled_from([True, True, True, False]))
    def go_on(self, which: int, commit: bool) -> None:
        held = self.open.pop(which % len(self.open))
        held.end(commit=commit)
        self.take_stock()

    @rule(ordinals=st.lists(st.integers(0, SAMPLES - 1), min_size=1, max_size=3, unique=True))
    def submit(self, ordinals: list[int]) -> None:
        with self.may_be_refused():
            self.told.add(story.submit(*ordinals))

    @precondition(lambda self: story.all_of(Ticket))
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        with self.may_be_refused():
            super().cancel(data)

    @rule(model=which_model, outcome=st.sampled_from(["publish", "publish", "later", "climb", "fail", "lose"]))
    def advance(self, model: int, outcome: str) -> None:
        with self.may_be_refused():
            super().advance(model, outcome)

    def finish(self, lease: runs.Lease, *, retrain: bool = False) -> None:
        if lease.kind is not BatchKind.UNLEARN and lease.batch_id not in self.read:
            self.absorb(lease)  # it was refused when the batch was claimed
        super().finish(lease, retrain=retrain)

    @rule(model=which_model, sure=st.integers(0, 3))
    def order_a_retrain(self, model: int, sure: int) -> None:
        with self.may_be_refused():
            super().order_a_retrain(model, sure)

    @rule(model=which_model)
    def let_the_wait_be_over(self, model: int) -> None:
        with self.may_be_refused():
            super().let_the_wait_be_over(model)

    @precondition(lambda self: self.lost)
    @rule()
    def wake(self) -> None:
        with self.may_be_refused():
            super().wake()

    @rule()
    def retry(self) -> None:
        with self.may_be_refused():
            super().retry()

    @invariant()
    def what_was_accepted_is_there(self) -> None:
        assert self.told <= {ticket.id for ticket in story.all_of(Ticket)}

    def teardown(self) -> None:
        while self.open:
            self.open.pop().end(commit=True)
        if hasattr(self, "models"):
            self.take_stock()
        super().teardown()


def test_interleaved_steps_keep_every_promise(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bound(engine(), 0, LOCK_SECONDS, 0)
    monkeypatch.setattr(audit, "append", pausing(audit.append))
    monkeypatch.setattr(tickets, "owe", pausing(tickets.owe))
    assert MODELS == 2
    run_state_machine_as_test(
        Interleaved,
        settings=settings(
            max_examples=12,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
