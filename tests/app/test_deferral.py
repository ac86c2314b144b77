"""An inconclusive batch that waits: what it may wait for, how the wait ends, and that nobody waits too long."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from app import audit, batches, deferral, runs, tickets, views
from app.db import transaction
from app.due import Deferral
from app.errors import Conflict, StaleEpoch
from app.policy import Settle
from app.tables import (
    AuditEvent,
    Bank,
    BankState,
    Batch,
    BatchKind,
    BatchState,
    Model,
    Obligation,
    ObligationState,
    Reason,
    Reference,
    RiskTier,
    TicketState,
    Trigger,
)
from tests.app import story

HOUR = 3600.0
WAITING = story.EAGER | {"inconclusive": {"wait_seconds": HOUR}}
LARGER = Settle("larger_batch", "with 5 samples the interval would be narrow enough", samples=5)
MORE = Settle("references", "with 8 references the interval would be narrow enough", references=8)


@pytest.fixture
def model_id(database: str) -> int:
    story.dataset()
    return story.trained(policy=WAITING)


def defer(lease: runs.Lease, settle: Settle = LARGER) -> bool:
    with transaction() as session:
        return deferral.defer(session, lease, settle)


def deferred(model_id: int, settle: Settle = LARGER, **ticket: Any) -> UUID:
    """A ticket over samples 1 and 2 whose batch was inconclusive and waits; returns the ticket."""
    ticket_id = story.submit(1, 2, **ticket)
    assert defer(story.closed(model_id), settle)
    return ticket_id


def kept(model_id: int) -> Deferral | None:
    return Deferral.of(story.model(model_id))


def aged(model_id: int, seconds: float) -> None:
    """Let all that the model owes, and what it waits for, be older."""
    with transaction() as session:
        model = session.get_one(Model, model_id)
        waits = Deferral.of(model)
        if waits is not None:
            earlier = (waits.until - timedelta(seconds=seconds)).isoformat()
            model.deferral = waits.as_json() | {"until": earlier}
        older = Obligation.created_at - timedelta(seconds=seconds)
        session.execute(update(Obligation).where(Obligation.model_id == model_id).values(created_at=older))


def counted(kind: str) -> int:
    with transaction() as session:
        return session.scalar(select(func.count()).where(AuditEvent.kind == kind)) or 0


def ready(model_id: int, references: int) -> None:
    """Let the model's bank have a table of so many references."""
    with transaction() as session:
        has = {"state": BankState.READY, "digest": "ab" * 32, "facts": {"references": references}}
        session.execute(update(Bank).where(Bank.model_id == model_id).values(**has))


class TestDefer:
    def test_the_batch_ends_and_its_tickets_are_pending_again(self, model_id: int) -> None:
        ticket_id = story.submit(1, 2)
        lease = story.closed(model_id)
        created = story.obligation(ticket_id, model_id).created_at
        assert defer(lease)
        batch, owed = story.batch(lease.batch_id), story.obligation(ticket_id, model_id)
        assert (batch.state, batch.lease_until) == (BatchState.CANCELLED, None)
        assert str(batch.failure).startswith("deferred: waits for 5 samples, until ")
        assert (owed.state, owed.created_at) == (ObligationState.PENDING, created)
        assert story.ticket(ticket_id).state is TicketState.PENDING
        waits = kept(model_id)
        assert waits is not None
        assert waits == Deferral(created + timedelta(seconds=HOUR), batch.id, LARGER.says, 5, None)
        assert counted("batch.deferred") == 1
        assert len(story.all_of(Batch)) == 2

    def test_whoever_waits_is_told(self, model_id: int) -> None:
        ticket_id = deferred(model_id)
        with transaction() as session:
            shown = views.model(session, session.get_one(Model, model_id))
            (owed,) = views.ticket(tickets.get(session, None, ticket_id)).obligations
            events = [event["kind"] for event in tickets.timeline(session, tickets.get(session, None, ticket_id))]
            assert audit.verify(session).fault is None
        assert shown.held is not None
        assert shown.held == owed.doing
        assert "waits for 5 samples" in shown.held
        assert LARGER.says in shown.held
        assert "batch.deferred" in events

    def test_of_a_ticket_that_another_model_works_on_too_only_the_obligation_is_pending(self, model_id: int) -> None:
        other = story.trained("other")
        ticket_id = story.submit(1, 2)
        lease, busy = story.closed(model_id), story.closed(other)
        assert defer(lease)
        assert story.ticket(ticket_id).state is TicketState.WORKING
        assert story.obligation(ticket_id, other).state is ObligationState.BATCHED
        story.publish(busy)
        aged(model_id, HOUR)
        story.work(model_id)
        assert story.ticket(ticket_id).state is TicketState.FULFILLED

    def test_a_ticket_that_waits_may_be_taken_back(self, model_id: int) -> None:
        story.cancel(deferred(model_id))
        assert story.close(model_id) is None
        model = story.model(model_id)
        assert (model.deferral, model.held) == (None, None)

    def test_a_run_that_lost_its_lease_defers_nothing(self, model_id: int) -> None:
        story.submit(1)
        lost = story.closed(model_id)
        story.expire(lost)
        story.claimed(model_id, "w2")
        with pytest.raises(StaleEpoch):
            defer(lost)
        assert kept(model_id) is None

    @pytest.mark.parametrize(
        "settle",
        [
            Settle("next_rung", "the next rung"),
            Settle("retrain", "nothing but a retrain"),
            Settle("larger_batch", "no more than it has", samples=2),
            Settle("larger_batch", "how many is not known"),
            Settle("references", "how many is not known"),
            Settle("references", "more than the policy allows", references=20),
            Settle("references", "not by groups", references=6),
        ],
        ids=lambda settle: settle.says,
    )
    def test_what_settles_nothing_is_not_waited_for(self, model_id: int, settle: Settle) -> None:
        ticket_id = story.submit(1, 2)
        lease = story.closed(model_id)
        assert not defer(lease, settle)
        assert (kept(model_id), story.model(model_id).held, story.all_of(Bank)) == (None, None, [])
        assert story.batch(lease.batch_id).state is BatchState.RUNNING
        assert story.obligation(ticket_id, model_id).state is ObligationState.BATCHED
        story.publish(lease, kind=story.VersionKind.RETRAINED)

    @pytest.mark.parametrize(
        "policy",
        [
            {"inconclusive": {"wait_seconds": 0}},
            {"drift": {"max_share": 0.2}},
            {"drift": {"max_share": 1, "false_publishes": 0.04}},
            {"window": {"max_share": 0.2}},
        ],
        ids=["no waiting", "share spent", "error spent", "cap"],
    )
    def test_a_wait_that_would_end_in_a_retrain_or_at_the_cap_is_none(
        self, database: str, policy: dict[str, Any]
    ) -> None:
        """Of 20 samples 5 would be forgotten."""
        story.dataset()
        model_id = story.trained(policy=WAITING)
        story.submit(1, 2)
        lease = story.closed(model_id)
        story.replace(model_id, WAITING | policy)
        assert not defer(lease)

    def test_the_policy_may_forbid_a_bank(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=WAITING | {"bank": {"build": "never"}})
        story.submit(1)
        assert not defer(story.closed(model_id), MORE)

    @pytest.mark.parametrize(("hours", "waits"), [(24.5, True), (24, False), (2, False)])
    def test_a_deadline_less_its_margin_bounds_the_wait(self, model_id: int, hours: float, waits: bool) -> None:
        story.submit(1, 2)
        lease = story.closed(model_id)
        deadline = datetime.now(UTC) + timedelta(hours=hours)
        story.submit(3, deadline=deadline)  # not in the batch, but it would close the next one
        assert defer(lease) is waits
        found = kept(model_id)
        assert (found.until if found else None) == (deadline - timedelta(hours=24) if waits else None)

    @pytest.mark.parametrize(
        ("reason", "tier"), [(Reason.UNLAWFUL_TRAINING, RiskTier.LOW), (Reason.OTHER, RiskTier.HIGH)]
    )
    def test_nobody_waits_once_a_retrain_is_due(self, model_id: int, reason: Reason, tier: RiskTier) -> None:
        story.submit(1, 2)
        lease = story.closed(model_id)
        story.submit(3, reason=reason, tier=tier)
        assert not defer(lease)

    def test_nor_while_updates_are_stopped(self, model_id: int) -> None:
        story.submit(1, 2)
        lease = story.closed(model_id)
        story.stop(model_id)
        assert not defer(lease)

    def test_waiting_twice_is_no_longer_than_once(self, model_id: int) -> None:
        """Six minutes before its hour is over the batch has its samples, and is inconclusive again."""
        deferred(model_id)
        first = kept(model_id)
        aged(model_id, 0.9 * HOUR)
        story.submit(3, 4, 5)
        lease = story.closed(model_id)
        assert lease.kind is BatchKind.UNLEARN
        assert defer(lease, Settle("larger_batch", "with 9 samples", samples=9))
        second = kept(model_id)
        assert first is not None
        assert second is not None
        assert second.until == first.until - timedelta(seconds=0.9 * HOUR)
        aged(model_id, 0.2 * HOUR)
        assert not defer_next(model_id), "its time is over"


def defer_next(model_id: int) -> bool:
    lease = story.closed(model_id)
    assert lease.kind is BatchKind.RETRAIN
    return defer(lease, Settle("larger_batch", "more", samples=19))


class TestReferences:
    def test_they_are_ordered_with_the_reason(self, model_id: int) -> None:
        deferred(model_id, MORE)
        (bank,) = story.all_of(Bank)
        assert (bank.wanted, bank.requested_by, len(story.all_of(Reference))) == (8, "expunge", 8)
        assert MORE.says in bank.why
        waits = kept(model_id)
        assert waits is not None
        assert (waits.samples, waits.references) == (None, 8)

    def test_the_batch_is_due_once_the_table_holds_them(self, model_id: int) -> None:
        ticket_id = deferred(model_id, MORE)
        assert story.close(model_id) is None
        ready(model_id, 4)
        assert story.close(model_id) is None
        ready(model_id, 8)
        batch = story.close(model_id)
        assert batch is not None
        assert batch.kind is BatchKind.UNLEARN
        assert "has 8 references of 8 wanted" in batch.why
        assert story.obligation(ticket_id, model_id).batch_id == batch.id
        assert (kept(model_id), story.model(model_id).held) == (None, None)

    def test_those_that_it_was_judged_with_are_not_waited_for(self, model_id: int) -> None:
        with transaction() as session:
            deferral.banks.order(
                session, session.get_one(Model, model_id), deferral.banks.anchor(session, model_id), 8, "asked", "ops"
            )
        ready(model_id, 8)
        story.submit(1)
        assert not defer(story.closed(model_id), MORE)


class TestEnd:
    def test_enough_samples(self, model_id: int) -> None:
        first = deferred(model_id)
        story.submit(3, 4)
        assert story.close(model_id) is None, "neither age nor size closes it"
        story.submit(5)
        batch = story.close(model_id)
        assert batch is not None
        assert (batch.trigger, batch.kind) == (Trigger.SIZE, BatchKind.UNLEARN)
        assert "has 5 samples of 5 wanted" in batch.why
        assert (kept(model_id), story.model(model_id).held) == (None, None)
        story.publish(story.claimed(model_id))
        assert story.ticket(first).state is TicketState.FULFILLED

    def test_the_time_is_over(self, model_id: int) -> None:
        ticket_id = deferred(model_id)
        aged(model_id, HOUR - 60)
        assert story.close(model_id) is None
        aged(model_id, 60)
        batch = story.close(model_id)
        assert batch is not None
        assert (batch.trigger, batch.kind) == (Trigger.AGE, BatchKind.RETRAIN)
        assert "in vain for 5 samples" in batch.why
        assert "the time is over" in batch.why
        story.publish(story.claimed(model_id))
        assert story.ticket(ticket_id).state is TicketState.FULFILLED

    def test_a_deadline_comes_near(self, model_id: int) -> None:
        deferred(model_id)
        story.submit(3, deadline=datetime.now(UTC) + timedelta(hours=23))
        batch = story.close(model_id)
        assert batch is not None
        assert (batch.trigger, batch.kind) == (Trigger.DEADLINE, BatchKind.RETRAIN)

    def test_an_operator_flushes(self, model_id: int) -> None:
        deferred(model_id)
        with transaction() as session:
            batches.flush(session, session.get_one(Model, model_id), "operator")
        batch = story.close(model_id)
        assert batch is not None
        assert (batch.trigger, batch.kind) == (Trigger.FLUSH, BatchKind.RETRAIN)
        assert "an operator flushed" in batch.why

    @pytest.mark.parametrize(
        ("ticket", "words"),
        [
            ({"reason": Reason.UNLAWFUL_TRAINING, "tier": RiskTier.LOW}, "unlawful_training"),
            ({"tier": RiskTier.HIGH}, "risk tier high"),
        ],
    )
    def test_a_ticket_that_needs_a_retrain_ends_it_at_once(
        self, model_id: int, ticket: dict[str, Any], words: str
    ) -> None:
        first = deferred(model_id)
        second = story.submit(3, 4, 5, 6, **ticket)
        batch = story.close(model_id)
        assert batch is not None
        assert batch.kind is BatchKind.RETRAIN
        assert words in batch.why
        story.publish(story.claimed(model_id))
        assert {story.ticket(t).state for t in (first, second)} == {TicketState.FULFILLED}

    def test_a_stop_ends_it(self, model_id: int) -> None:
        deferred(model_id)
        story.stop(model_id, "the estimates missed the truth")
        batch = story.close(model_id)
        assert batch is not None
        assert (batch.kind, batch.why) == (
            BatchKind.RETRAIN,
            "approximate updates are stopped: the estimates missed the truth",
        )

    def test_a_retrain_takes_what_waits(self, model_id: int) -> None:
        ticket_id = deferred(model_id)
        story.retrain(model_id)
        assert story.close(model_id) is None
        (version,) = story.work(model_id)
        assert story.obligation(ticket_id, model_id).version_id == version.id
        model = story.model(model_id)
        assert (model.deferral, model.held) == (None, None)

    def test_the_cap_holds_what_was_waited_for_like_any_batch(self, model_id: int) -> None:
        deferred(model_id)
        story.replace(model_id, WAITING | {"window": {"max_share": 0.3}})
        story.submit(*range(3, 9))
        assert story.close(model_id) is None
        assert "exceeds the cap" in str(story.model(model_id).held)
        story.approve(model_id)
        batch = story.close(model_id)
        assert batch is not None
        assert batch.kind is BatchKind.UNLEARN, "it has its samples; only the cap was in the way"


def test_a_taken_ticket_is_not_cancelled_while_its_batch_is_deferred(model_id: int) -> None:
    """Deferral and cancel lock obligations before tickets: whoever is second sees what the first did."""
    ticket_id = story.submit(1, 2)
    lease = story.closed(model_id)
    with pytest.raises(Conflict):
        story.cancel(ticket_id)
    assert defer(lease)
    story.cancel(ticket_id)
    assert story.ticket(ticket_id).state is TicketState.CANCELLED
