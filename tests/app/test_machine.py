"""Tickets, batches and runs driven by random steps; after each step the rows must show the promises kept.

The promises, as far as rows can show them: a ticket is never lost; a trained version leaves out what was dead when it
read; two versions never share a parent; a version's verdict is about its bytes; a fulfilled ticket's samples are not in
the current version; one over unlawful training gets no approximate answer; nobody waits for longer than the policy says;
every state has its event.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select, update

from app import audit, batches, deferral, due, lineage, runs
from app.db import engine, transaction
from app.errors import Conflict, NothingKnown, StaleEpoch
from app.policy import Settle
from app.tables import (
    AuditEvent,
    Batch,
    BatchKind,
    BatchState,
    Model,
    Obligation,
    ObligationState,
    Reason,
    RiskTier,
    Ticket,
    TicketState,
    Tombstone,
    Verdict,
    Version,
    VersionKind,
)
from tests.app import story
from tests.databases import EMPTY

SAMPLES = 24
MODELS = 2
which_model = st.integers(0, MODELS - 1)
WAIT = 3600.0
BUSY = story.EAGER | {"drift": {"max_share": 1, "max_updates": 4}, "inconclusive": {"wait_seconds": WAIT}}
OUTCOMES = ["publish"] * 5 + ["later", "later", "climb", "fail", "give up", "lose", "defer", "defer"]
MOSTLY_STANDARD = [RiskTier.STANDARD] * 6 + [RiskTier.HIGH]
MOSTLY_ORDINARY = [Reason.ERASURE_REQUEST] * 6 + [Reason.UNLAWFUL_TRAINING]


class Service(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.leases: list[runs.Lease] = []
        self.lost: list[runs.Lease] = []
        self.held: dict[int, set[int]] = {}
        """What each version's weights hold, by the version's number in the database: what a worker really read."""
        self.read: dict[UUID, set[int]] = {}

    @initialize()
    def begin(self) -> None:
        clean()
        self.dataset_id = story.dataset(samples=SAMPLES, per_subject=3)
        self.models = [story.register(f"m{i}", policy=BUSY) for i in range(MODELS)]
        for model in range(MODELS - 1):  # the last one is still to be trained
            self.advance(model, "publish")

    @rule(
        ordinals=st.lists(st.integers(0, SAMPLES), min_size=1, max_size=3, unique=True),
        subjects=st.lists(st.sampled_from(["p-0", "nobody"]), max_size=1),
        tier=st.sampled_from(MOSTLY_STANDARD),
        reason=st.sampled_from(MOSTLY_ORDINARY),
    )
    def submit(self, ordinals: list[int], subjects: list[str], tier: RiskTier, reason: Reason) -> None:
        try:
            story.submit(*ordinals, subjects=subjects, tier=tier, reason=reason)
        except NothingKnown:
            assert not [o for o in ordinals if o < SAMPLES]

    @precondition(lambda self: story.all_of(Ticket))
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        ticket = data.draw(st.sampled_from(sorted(story.all_of(Ticket), key=lambda t: t.created_at)), label="ticket")
        try:
            story.cancel(ticket.id)
        except Conflict:
            return
        assert ticket.state is TicketState.PENDING

    @rule(model=which_model, outcome=st.sampled_from(OUTCOMES))
    def advance(self, model: int, outcome: str) -> None:
        """Close what is due and claim it, if nothing is claimed, and bring the run to an end or leave it for later."""
        mine = [lease for lease in self.leases if lease.model_id == self.models[model]]
        if not mine:
            story.close(self.models[model])
            self.claim(model)
            mine = [lease for lease in self.leases if lease.model_id == self.models[model]]
        if not mine or outcome == "later":
            return
        lease = mine[0]
        self.leases.remove(lease)
        if outcome == "publish":
            self.finish(lease)
        elif outcome == "climb":  # the update does not pass, and the last rung of the ladder is tried
            self.finish(lease, retrain=True)
        elif outcome == "defer":  # or it is put off until there are more samples, where that is allowed
            if not self.defer(lease):
                self.finish(lease, retrain=lease.kind is BatchKind.UNLEARN)
        elif outcome == "lose":  # the worker sleeps past its lease and another takes the batch over
            story.expire(lease)
            self.lost.append(lease)
            self.claim(model)
        else:
            story.fail(lease, again=outcome == "fail")

    @rule(model=which_model, sure=st.integers(0, 3))
    def order_a_retrain(self, model: int, sure: int) -> None:
        if sure == 0:
            story.retrain(self.models[model])

    def claim(self, model: int) -> None:
        story.rested(self.models[model])
        lease = story.claim(self.models[model])
        if lease is not None:
            self.leases.append(lease)
            if lease.kind is not BatchKind.UNLEARN:
                self.absorb(lease)

    def defer(self, lease: runs.Lease) -> bool:
        if lease.kind is not BatchKind.UNLEARN or not self.forget(lease):
            return False
        with transaction() as session:
            wanted = due.held_by(session, lease.batch_id).samples + 1
            return deferral.defer(session, lease, Settle("larger_batch", "one more", samples=wanted))

    @rule(model=which_model)
    def let_the_wait_be_over(self, model: int) -> None:
        with transaction() as session:
            row = session.get_one(Model, self.models[model])
            if row.deferral is not None:
                early = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
                row.deferral = row.deferral | {"until": early}

    @staticmethod
    def forget(lease: runs.Lease) -> set[int]:
        return set(story.forget_set(lease))

    def absorb(self, lease: runs.Lease) -> None:
        with transaction() as session:
            runs.absorb(session, lease)
            dead = set(lineage.tombstoned(session, self.dataset_id))
        self.read[lease.batch_id] = set(range(SAMPLES)) - dead

    def finish(self, lease: runs.Lease, *, retrain: bool = False) -> None:
        weights = f"{lease.batch_id}/{lease.epoch}".encode()
        if lease.kind is not BatchKind.UNLEARN:
            kind = None
        elif not (forget := self.forget(lease)):
            with transaction() as session:
                runs.nothing_left(session, lease)
            return
        elif retrain:
            story.record(lease, b"rejected", story.ESCALATE)
            self.absorb(lease)
            kind = VersionKind.RETRAINED
        else:
            assert lease.parent is not None
            self.read[lease.batch_id] = self.held[lease.parent.id] - forget
            kind = None
        rung = "iau" if lease.kind is BatchKind.UNLEARN and kind is None else "retrain"
        offered = story.candidate(lease, weights, story.record(lease, weights, rung=rung), kind)
        with transaction() as session:
            version = runs.publish(session, lease, offered)
            if rung == "retrain" and lease.parent:
                runs.backfill(session, lease, {}, version)
        self.held[version.id] = self.read[lease.batch_id]

    @precondition(lambda self: self.lost)
    @rule()
    def wake(self) -> None:
        lease = self.lost.pop()
        with pytest.raises(StaleEpoch):
            story.record(lease, b"late")
        with pytest.raises(StaleEpoch):
            story.fail(lease)

    @rule()
    def retry(self) -> None:
        for batch in story.all_of(Batch):
            if batch.state is BatchState.QUARANTINED:
                with transaction() as session:
                    batches.retry(session, batch.id, "operator")
                return

    @invariant()
    def no_ticket_is_lost(self) -> None:
        """An open ticket has an open obligation, and whatever is open is within somebody's reach."""
        owed, reach = story.all_of(Obligation), {batch.id: batch.state for batch in story.all_of(Batch)}
        for ticket in story.all_of(Ticket):
            states = [o.state for o in owed if o.ticket_id == ticket.id]
            open_states = {ObligationState.PENDING, ObligationState.BATCHED, ObligationState.QUARANTINED}
            if ticket.state is TicketState.FULFILLED:
                assert not open_states & set(states)
            elif ticket.state is TicketState.CANCELLED:
                assert set(states) == {ObligationState.CANCELLED}
            else:
                assert open_states & set(states)
        for obligation in owed:
            if obligation.state is ObligationState.BATCHED:
                assert obligation.batch_id is not None
                assert reach[obligation.batch_id] in batches.OPEN
            if obligation.state is ObligationState.QUARANTINED:
                assert obligation.batch_id is not None
                assert reach[obligation.batch_id] in (BatchState.QUARANTINED, BatchState.READY, BatchState.RUNNING)

    @invariant()
    def the_current_version_holds_nothing_of_a_fulfilled_ticket(self) -> None:
        dead = {t.id: set[int]() for t in story.all_of(Ticket)}
        for tombstone in story.all_of(Tombstone):
            dead[tombstone.ticket_id].add(tombstone.ordinal)
        for model in story.all_of(Model):
            held = self.held.get(model.current_version_id or -1, set())
            for ticket in story.all_of(Ticket):
                if ticket.state is TicketState.FULFILLED:
                    assert not held & dead[ticket.id]
            for obligation in story.all_of(Obligation):
                if obligation.model_id == model.id and obligation.state is ObligationState.FULFILLED:
                    assert not held & dead[obligation.ticket_id]

    @invariant()
    def unlawful_training_gets_no_approximate_answer(self) -> None:
        """The last training of every model was without the samples of a fulfilled ticket of that reason."""
        versions = {version.id: version for version in story.all_of(Version)}
        for ticket in story.all_of(Ticket):
            if ticket.reason is not Reason.UNLAWFUL_TRAINING or ticket.state is not TicketState.FULFILLED:
                continue
            dead = {stone.ordinal for stone in story.all_of(Tombstone) if stone.ticket_id == ticket.id}
            for obligation in story.all_of(Obligation):
                if obligation.ticket_id == ticket.id:
                    assert versions[obligation.version_id or -1].kind is not VersionKind.UNLEARNED
            for model_id in self.models:
                exact = [v for v in versions.values() if v.model_id == model_id and v.kind is not VersionKind.UNLEARNED]
                if exact:
                    assert not self.held[max(exact, key=lambda version: version.number).id] & dead

    @invariant()
    def nobody_waits_longer_than_the_policy_says(self) -> None:
        for model in story.all_of(Model):
            waits = due.Deferral.of(model)
            pending = [o for o in story.all_of(Obligation) if o.model_id == model.id and o.state == "pending"]
            if waits is not None and pending:
                assert waits.until <= min(o.created_at for o in pending) + timedelta(seconds=WAIT)
                assert model.held is not None

    @invariant()
    def versions_form_a_line(self) -> None:
        verdicts = {verdict.id: verdict for verdict in story.all_of(Verdict)}
        for model in story.all_of(Model):
            with transaction() as session:
                query = select(Version).where(Version.model_id == model.id).order_by(Version.number)
                line = list(session.scalars(query))
            assert [v.number for v in line] == list(range(1, len(line) + 1))
            assert [v.parent_id for v in line] == [None, *(v.id for v in line)][: len(line)]
            assert model.current_version_id == (line[-1].id if line else None)
            assert all(verdicts[v.verdict_id].weights_digest == v.weights_digest for v in line)
        running = [b.model_id for b in story.all_of(Batch) if b.state is BatchState.RUNNING]
        assert len(running) == len(set(running))

    @invariant()
    def the_log_explains_the_rows(self) -> None:
        with transaction() as session:
            assert audit.verify(session).fault is None
            fulfilled = session.scalar(select(func.count()).where(AuditEvent.kind == "ticket.fulfilled"))
            cancelled = session.scalar(select(func.count()).where(AuditEvent.kind == "ticket.cancelled"))
        states = [ticket.state for ticket in story.all_of(Ticket)]
        assert states.count(TicketState.FULFILLED) == fulfilled
        assert states.count(TicketState.CANCELLED) == cancelled

    def teardown(self) -> None:
        """Whatever happened, an operator who retries and retrains brings every ticket to its end."""
        if not hasattr(self, "models"):
            return
        for lease in self.leases:
            story.fail(lease)
        with transaction() as session:
            session.execute(update(Batch).values(lease_until=func.now() - timedelta(seconds=1)))
        for model_id in self.models:
            for _ in range(3):
                story.retrain(model_id)
                story.rested(model_id)
                story.work(model_id)
        open_tickets = [
            t for t in story.all_of(Ticket) if t.state not in (TicketState.FULFILLED, TicketState.CANCELLED)
        ]
        assert not open_tickets
        assert all(t.data_releasable_at for t in story.all_of(Ticket) if t.state is TicketState.FULFILLED)


def clean() -> None:
    """Empty the tables between the examples of one test."""
    with engine().connect() as connection:
        driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        driver.execute(EMPTY)
        driver.execute("SET session_replication_role = origin")
        driver.commit()


@pytest.mark.parametrize(
    ("examples", "steps"), [(6, 20), pytest.param(10, 30, marks=pytest.mark.service)], ids=["few", "many"]
)
def test_random_steps_keep_every_promise(database: str, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Service,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
