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
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import audit, runs, tickets
from app.db import bound, engine, transaction
from app.errors import Conflict, NothingKnown, StaleEpoch
from app.tables import Batch, BatchKind, BatchState, Ticket, TicketState
from tests.app import story
from tests.app.test_machine import SAMPLES, Service, which_model

pytestmark = pytest.mark.service

LOCK_SECONDS = 0.25
LONG = 120.0
AT_ONCE = 2
TICKETS = 8
"""Of three samples at most: more would pass the cap on the share forgotten, and wait for a second person."""
KINDS = ("ticket", "cancellation", "closing", "claim", "publication", "publication")
some_ordinals = st.lists(st.integers(0, SAMPLES - 1), min_size=1, max_size=3, unique=True)
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
        self.tickets = 0

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

    @precondition(lambda self: len(self.open) < AT_ONCE)
    @rule(kind=st.sampled_from(KINDS), model=which_model, ordinals=some_ordinals)
    def begin_and_hold(self, kind: str, model: int, ordinals: list[int]) -> None:
        if kind == "ticket" and self.tickets < TICKETS:
            self.tickets += 1
            self.hold(kind, lambda: story.submit(*ordinals), self.told.add)
        elif kind == "cancellation":
            waiting = [t.id for t in story.all_of(Ticket) if t.state is TicketState.PENDING]
            if waiting:
                self.hold(kind, lambda: story.cancel(waiting[ordinals[0] % len(waiting)]))
        elif kind == "closing":
            self.hold(kind, lambda: story.close(self.models[model]))
        elif kind == "claim":
            with self.may_be_refused():
                story.close(self.models[model])
                story.rested(self.models[model])
            self.hold(kind, lambda: story.claim(self.models[model]), self.claimed)
        elif kind == "publication":
            with self.may_be_refused():
                self.hold_a_publication(model)

    def claimed(self, lease: runs.Lease | None) -> None:
        if lease is not None:
            self.claims.append(lease)

    def hold_a_publication(self, model: int) -> None:
        """Of the batch that the model's worker has, or of the next one that is due."""
        if not [lease for lease in self.leases if lease.model_id == self.models[model]]:
            story.close(self.models[model])
            self.claim(model)
        for lease in self.leases:
            if lease.model_id == self.models[model]:
                self.hold_published(lease)
                return

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

    @precondition(lambda self: self.tickets < TICKETS)
    @rule(ordinals=some_ordinals)
    def submit(self, ordinals: list[int]) -> None:
        self.tickets += 1
        with self.may_be_refused():
            self.told.add(story.submit(*ordinals))

    @rule(model=which_model, outcome=st.sampled_from(["publish", "publish", "later", "climb", "fail", "lose"]))
    def advance(self, model: int, outcome: str) -> None:
        with self.may_be_refused():
            super().advance(model, outcome)

    @rule(what=st.sampled_from(["cancel", "retrain", "retry", "wait", "wake"]), model=which_model, data=st.data())
    def other(self, what: str, model: int, data: Any) -> None:
        with self.may_be_refused():
            if what == "cancel" and story.all_of(Ticket):
                super().cancel(data)
            elif what == "retrain":
                super().order_a_retrain(model, 0)
            elif what == "retry":
                super().retry()
            elif what == "wait":
                super().let_the_wait_be_over(model)
            elif what == "wake":
                super().advance(model, "lose")
                self.take_stock()
                if self.lost:
                    super().wake()

    # One rule is enough for the rare ones: drawn each by itself they would leave few steps to the others.
    cancel = order_a_retrain = retry = let_the_wait_be_over = wake = None

    def finish(self, lease: runs.Lease, *, retrain: bool = False) -> None:
        if lease.kind is not BatchKind.UNLEARN and lease.batch_id not in self.read:
            self.absorb(lease)  # it was refused when the batch was claimed
        super().finish(lease, retrain=retrain)

    @invariant()
    def what_was_accepted_is_there(self) -> None:
        assert self.told <= {ticket.id for ticket in story.all_of(Ticket)}

    def teardown(self) -> None:
        while self.open:
            self.open.pop().end(commit=True)
        if hasattr(self, "models"):
            self.take_stock()
        super().teardown()


def drive(monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    bound(engine(), 0, LOCK_SECONDS, 0)
    monkeypatch.setattr(audit, "append", pausing(audit.append))
    monkeypatch.setattr(tickets, "owe", pausing(tickets.owe))
    chosen = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    run_state_machine_as_test(Interleaved, settings=chosen)


def test_interleaved_steps_keep_every_promise(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drive(monkeypatch, 12)


def test_with_fencing_off_it_finds_a_run_that_lost_its_batch_and_writes(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unfenced(session: Session, lease: runs.Lease) -> Batch:
        return session.get_one(Batch, lease.batch_id)

    monkeypatch.setattr(runs, "fenced", unfenced)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        drive(monkeypatch, 12)


def test_with_tickets_not_locked_it_finds_one_that_two_models_leave_to_each_other(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "lock", lambda *_: None)
    with pytest.raises(AssertionError):
        drive(monkeypatch, 25)
