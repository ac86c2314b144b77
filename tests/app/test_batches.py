"""When a batch closes, what kind it is, and what keeps it open."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app import audit, batches, policy, runs, tickets
from app.db import transaction
from app.errors import Conflict, NotFound
from app.policy import PolicyBody
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
    TicketState,
    Trigger,
    Verdict,
    Version,
    VersionKind,
)
from tests.app import story


def flush(model_id: int) -> None:
    with transaction() as session:
        batches.flush(session, session.get_one(Model, model_id), "operator")


def events(kind: str) -> int:
    with transaction() as session:
        return session.scalar(select(func.count()).where(AuditEvent.kind == kind)) or 0


def rules(**parts: Any) -> dict[str, Any]:
    return story.PATIENT | parts


class TestDue:
    def test_nothing_is_due_without_tickets(self, database: str) -> None:
        story.dataset()
        assert story.close(story.trained()) is None

    def test_size(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=rules(batching={"max_wait_seconds": 1e6, "max_samples": 3}))
        story.submit(1, 2)
        assert story.close(model_id) is None
        story.submit(3)
        batch = story.close(model_id)
        assert batch is not None
        assert (batch.trigger, batch.kind, batch.state) == (Trigger.SIZE, BatchKind.UNLEARN, BatchState.READY)

    def test_age_of_the_oldest(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=rules(batching={"max_wait_seconds": 600}))
        old = story.submit(1)
        story.submit(2)
        assert story.close(model_id) is None
        with transaction() as session:
            aged = update(Obligation).where(Obligation.ticket_id == old)
            session.execute(aged.values(created_at=func.now() - timedelta(seconds=601)))
        batch = story.close(model_id)
        assert batch is not None
        assert batch.trigger is Trigger.AGE
        assert len([o for o in story.all_of(Obligation) if o.batch_id == batch.id]) == 2

    @pytest.mark.parametrize(("hours", "closes"), [(25, False), (23, True), (-1, True)])
    def test_deadline(self, database: str, hours: int, closes: bool) -> None:
        story.dataset()
        model_id = story.trained(policy=story.PATIENT)
        story.submit(1, deadline=datetime.now(UTC) + timedelta(hours=hours))
        batch = story.close(model_id)
        assert (batch is not None) is closes
        assert batch is None or batch.trigger is Trigger.DEADLINE

    def test_flush(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=story.PATIENT)
        story.submit(1)
        flush(model_id)
        batch = story.close(model_id)
        assert batch is not None
        assert batch.trigger is Trigger.FLUSH
        assert story.model(model_id).flush_requested_at is None
        story.publish(story.claimed(model_id))
        story.submit(2)
        assert story.close(model_id) is None

    def test_what_was_flushed_in_vain_does_not_wait_for_later_tickets(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=story.PATIENT)
        flush(model_id)
        assert story.close(model_id) is None
        story.submit(1)
        assert story.close(model_id) is None

    def test_no_batch_before_the_first_training(self, database: str) -> None:
        story.dataset()
        model_id = story.register()
        story.submit(1)
        assert story.close(model_id) is None

    def test_one_open_batch_and_a_late_ticket_goes_to_the_next(self, database: str) -> None:
        story.dataset()
        model_id = story.trained()
        first = story.submit(1)
        lease = story.closed(model_id)
        late = story.submit(2)
        assert story.close(model_id) is None
        story.publish(lease)
        assert story.ticket(first).state is TicketState.FULFILLED
        assert story.ticket(late).state is TicketState.PENDING
        following = story.close(model_id)
        assert following is not None
        assert story.obligation(late, model_id).batch_id == following.id


class TestKind:
    @staticmethod
    def why(model_id: int, *ordinals: int, **ticket: Any) -> tuple[BatchKind, str]:
        story.submit(*ordinals, **ticket)
        batch = story.close(model_id)
        assert batch is not None
        return batch.kind, batch.why

    def test_an_ordinary_ticket_is_unlearned(self, database: str) -> None:
        story.dataset()
        assert self.why(story.trained(), 1) == (BatchKind.UNLEARN, "closed by age")

    def test_unlawful_training(self, database: str) -> None:
        story.dataset()
        kind, why = self.why(story.trained(), 1, reason=Reason.UNLAWFUL_TRAINING, tier=RiskTier.LOW)
        assert kind is BatchKind.RETRAIN
        assert "unlawful_training" in why

    def test_one_high_tier_among_many(self, database: str) -> None:
        story.dataset()
        model_id = story.trained()
        story.submit(1)
        kind, why = self.why(model_id, 2, tier=RiskTier.HIGH)
        assert kind is BatchKind.RETRAIN
        assert "risk tier high" in why

    def test_tiers_are_the_policys(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=story.EAGER | {"retrain_tiers": []})
        assert self.why(model_id, 1, tier=RiskTier.HIGH)[0] is BatchKind.UNLEARN

    def test_a_ladder_without_iau(self, database: str) -> None:
        story.dataset()
        kind, why = self.why(story.trained(policy=story.EAGER | {"ladder": ["retrain"]}), 1)
        assert kind is BatchKind.RETRAIN
        assert "no rung but retrain" in why

    def test_the_share_forgotten_since_the_last_training(self, database: str) -> None:
        story.dataset(samples=20)
        model_id = story.trained(policy=story.EAGER | {"drift": {"max_share": 0.25}})
        story.submit(0, 1, 2)
        story.work(model_id)
        assert self.why(model_id, 3, 4)[0] is BatchKind.UNLEARN  # 5 of 20 is just within
        story.publish(story.claimed(model_id))
        kind, why = self.why(model_id, 5)
        assert kind is BatchKind.RETRAIN
        assert "30.0% forgotten" in why
        story.publish(story.claimed(model_id))
        assert self.why(model_id, 6, 7, 8)[0] is BatchKind.UNLEARN  # 3 of the 14 that it was trained on

    def test_the_number_of_updates(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=story.EAGER | {"drift": {"max_share": 1, "max_updates": 1}})
        story.submit(1)
        story.work(model_id)
        kind, why = self.why(model_id, 2)
        assert kind is BatchKind.RETRAIN
        assert "1 updates" in why

    def test_the_days_since_the_last_training(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=story.EAGER | {"drift": {"max_share": 1, "max_days": 10}})
        with transaction() as session:
            session.execute(update(Version).values(published_at=func.now() - timedelta(days=11)))
        kind, why = self.why(model_id, 1)
        assert kind is BatchKind.RETRAIN
        assert "11 days old" in why


class TestError:
    """Each published update may be false with the chance that its policy says; the sum is bounded."""

    @staticmethod
    def kind(model_id: int, ordinal: int) -> Batch:
        story.submit(ordinal)
        batch = story.close(model_id)
        assert batch is not None
        return batch

    def test_the_expected_false_publications_send_the_next_batch_to_a_retrain(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=rules_of(error=0.1, false_publishes=0.3))
        for ordinal in range(3):
            assert self.kind(model_id, ordinal).kind is BatchKind.UNLEARN
            story.publish(story.claimed(model_id))
        batch = self.kind(model_id, 3)
        assert batch.kind is BatchKind.RETRAIN
        assert "with this update 0.4 of the publications" in batch.why
        assert "the limit is 0.3" in batch.why
        story.publish(story.claimed(model_id))
        assert self.kind(model_id, 4).kind is BatchKind.UNLEARN, "a training starts anew"

    def test_what_was_not_published_does_not_count(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=rules_of(error=0.1, false_publishes=0.1))
        story.submit(0)
        lease = story.closed(model_id)
        story.record(lease, b"rejected", story.ESCALATE)
        story.publish(lease, kind=VersionKind.RETRAINED)
        assert self.kind(model_id, 1).kind is BatchKind.UNLEARN

    def test_an_update_of_an_earlier_release_counts_with_the_default(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=rules_of(error=0.05, false_publishes=0.1))
        story.submit(0)
        story.work(model_id)
        with transaction() as session:
            for verdict in session.scalars(select(Verdict)):
                verdict.thresholds = {name: v for name, v in verdict.thresholds.items() if name != "error"}
        assert self.kind(model_id, 1).kind is BatchKind.UNLEARN
        story.publish(story.claimed(model_id))
        assert self.kind(model_id, 2).kind is BatchKind.RETRAIN


def rules_of(error: float, false_publishes: float) -> dict[str, Any]:
    drift = {"max_share": 1, "false_publishes": false_publishes}
    return story.EAGER | {"thresholds": {"error": error}, "drift": drift}


class TestStop:
    def test_every_batch_retrains_until_somebody_resumes(self, database: str) -> None:
        story.dataset()
        model_id = story.trained()
        story.stop(model_id, "the intervals missed the truth")
        story.stop(model_id, "another reason")
        assert events("model.stopped") == 1
        story.submit(1)
        batch = story.close(model_id)
        assert batch is not None
        assert (batch.kind, batch.why) == (
            BatchKind.RETRAIN,
            "approximate updates are stopped: the intervals missed the truth",
        )
        story.publish(story.claimed(model_id))
        with transaction() as session:
            runs.resume_publishing(session, session.get_one(Model, model_id), "mended", "operator")
        story.submit(2)
        batch = story.close(model_id)
        assert batch is not None
        assert batch.kind is BatchKind.UNLEARN
        with transaction() as session, pytest.raises(Conflict):
            runs.resume_publishing(session, session.get_one(Model, model_id), "again", "operator")
        assert events("model.resumed") == 1


class TestUnlawful:
    """A ticket over unlawful training gets no approximate answer, whichever way it comes into a batch."""

    @pytest.fixture
    def model_id(self, database: str) -> int:
        story.dataset()
        return story.trained()

    @staticmethod
    def submit(*ordinals: int) -> Any:
        return story.submit(*ordinals, reason=Reason.UNLAWFUL_TRAINING, tier=RiskTier.LOW)

    @staticmethod
    def exact(model_id: int, ticket_id: Any) -> bool:
        """Whether the ticket is fulfilled, by a version that was trained without its samples."""
        with transaction() as session:
            version = session.get_one(Version, story.obligation(ticket_id, model_id).version_id)
        return story.ticket(ticket_id).state is TicketState.FULFILLED and version.kind is VersionKind.RETRAINED

    def test_among_many(self, model_id: int) -> None:
        story.submit(1, 2, 3)
        ticket_id = self.submit(4)
        story.submit(5)
        (version,) = story.work(model_id)
        assert self.exact(model_id, ticket_id)
        assert version.excluded_count == 5

    def test_samples_that_an_update_has_forgotten(self, model_id: int) -> None:
        first = story.submit(1, 2)
        story.work(model_id)
        ticket_id = self.submit(1, 2, 3)
        assert story.obligation(ticket_id, model_id).samples == 3
        story.work(model_id)
        assert self.exact(model_id, ticket_id)
        assert not self.exact(model_id, first)
        late = self.submit(1, 2)
        assert story.ticket(late).state is TicketState.FULFILLED, "the last training was without them already"
        assert story.ticket(late).obligations == []

    def test_samples_that_a_retrain_left_out_after_an_update_had_forgotten_them(self, model_id: int) -> None:
        story.submit(1)
        story.work(model_id)
        story.retrain(model_id)
        story.work(model_id)
        assert story.ticket(self.submit(1)).obligations == []

    def test_samples_that_a_running_batch_forgets(self, model_id: int) -> None:
        story.submit(1)
        lease = story.closed(model_id)
        ticket_id = self.submit(1)
        story.publish(lease)
        story.work(model_id)
        assert self.exact(model_id, ticket_id)

    def test_samples_that_were_dead_before_the_model_was_registered(self, model_id: int) -> None:
        story.submit(1)
        later = story.trained("later")
        ticket_id = self.submit(1)
        assert [owed.model_id for owed in story.ticket(ticket_id).obligations] == [model_id]
        story.work(model_id), story.work(later)
        assert self.exact(model_id, ticket_id)

    @pytest.mark.parametrize("lost", [False, True])
    def test_an_update_that_took_it_over_at_its_last_rung_and_failed(self, model_id: int, lost: bool) -> None:
        story.submit(1)
        lease = story.closed(model_id)
        story.record(lease, b"rejected", story.ESCALATE)
        ticket_id = self.submit(2)
        with transaction() as session:
            runs.absorb(session, lease)
        if lost:
            story.expire(lease)
        else:
            story.fail(lease)
            story.rested(model_id)
        again = story.claimed(model_id)
        assert (again.batch_id, again.kind) == (lease.batch_id, BatchKind.RETRAIN)
        assert "unlawful_training" in story.batch(lease.batch_id).why
        story.publish(again)
        assert self.exact(model_id, ticket_id)

    def test_the_half_of_a_batch_that_was_split(self, model_id: int) -> None:
        ordinary = story.submit(1)
        lease = story.closed(model_id)
        ticket_id = self.submit(2)
        with transaction() as session:
            runs.absorb(session, lease)
            batch = session.get_one(Batch, lease.batch_id)
            batch.attempt = 3
        story.fail(lease)
        kinds = {half.kind for half in story.all_of(Batch) if half.split_from_id == lease.batch_id}
        assert kinds == {BatchKind.UNLEARN}, "the test needs halves that would climb"
        story.work(model_id)
        assert self.exact(model_id, ticket_id)
        assert story.ticket(ordinary).state is TicketState.FULFILLED

    @pytest.mark.parametrize("waits", ["quarantined retrain", "quarantined update"])
    def test_an_operator_who_tries_again(self, model_id: int, waits: str) -> None:
        if waits == "quarantined retrain":
            ticket_id = self.submit(1)
            lease = story.closed(model_id)
        else:
            story.submit(1)
            lease = story.closed(model_id)
            ticket_id = self.submit(2)
            with transaction() as session:
                runs.absorb(session, lease)
        story.fail(lease, again=False)
        assert story.ticket(ticket_id).state is TicketState.QUARANTINED
        with transaction() as session:
            batches.retry(session, lease.batch_id, "operator")
        again = story.claimed(model_id)
        assert again.kind is BatchKind.RETRAIN
        story.publish(again)
        assert self.exact(model_id, ticket_id)


def test_a_batch_keeps_the_policy_that_it_closed_under(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    story.submit(1)
    batch = story.close(model_id)
    assert batch is not None
    with transaction() as session:
        model = session.get_one(Model, model_id)
        new = PolicyBody.model_validate(story.EAGER | {"thresholds": {"mu": 0.001}})
        policy.replace(session, model, new, policy.etag(policy.current(session, model_id)), "operator")
    lease = story.claimed(model_id)
    assert lease.policy.thresholds.mu == 0.03
    assert story.batch(batch.id).policy["thresholds"]["mu"] == 0.03


class TestRequestedRetrain:
    def test_one_that_waits_is_returned_instead_of_a_second(self, database: str) -> None:
        story.dataset()
        model_id = story.trained()
        assert story.retrain(model_id) == story.retrain(model_id)
        assert len(story.all_of(Batch)) == 2

    def test_the_first_training_is_not_doubled(self, database: str) -> None:
        story.dataset()
        model_id = story.register()
        story.retrain(model_id)
        assert [b.kind for b in story.all_of(Batch)] == [BatchKind.TRAIN]

    def test_one_asked_for_during_the_first_training_becomes_a_retrain(self, database: str) -> None:
        story.dataset()
        model_id = story.register()
        lease = story.claimed(model_id)
        story.retrain(model_id)
        story.publish(lease)
        assert story.claimed(model_id).kind is BatchKind.RETRAIN


class TestRetry:
    def test_only_a_quarantined_batch_has_another_try(self, database: str) -> None:
        story.dataset()
        batch_id = story.retrain(story.register())
        with transaction() as session, pytest.raises(Conflict):
            batches.retry(session, batch_id, "operator")

    def test_an_unknown_batch(self, database: str) -> None:
        story.dataset()
        with transaction() as session, pytest.raises(NotFound):
            batches.retry(session, tickets.uuid4(), "operator")

    def test_a_quarantined_batch_goes_on_with_its_tickets(self, database: str) -> None:
        story.dataset()
        model_id = story.trained()
        ticket_id = story.submit(1)
        lease = story.closed(model_id)
        story.fail(lease, again=False)
        assert story.ticket(ticket_id).state is TicketState.QUARANTINED
        assert story.claim(model_id) is None
        with transaction() as session:
            batches.retry(session, lease.batch_id, "operator")
        again = story.claimed(model_id)
        assert (again.batch_id, again.attempt, again.epoch) == (lease.batch_id, 1, 2)
        story.publish(again)
        assert story.ticket(ticket_id).state is TicketState.FULFILLED

    def test_what_a_retrain_took_over_meanwhile_stays_done(self, database: str) -> None:
        story.dataset()
        model_id = story.trained()
        ticket_id = story.submit(1)
        lease = story.closed(model_id)
        story.fail(lease, again=False)
        story.retrain(model_id)
        story.work(model_id)
        assert story.ticket(ticket_id).state is TicketState.FULFILLED
        with transaction() as session:
            batches.retry(session, lease.batch_id, "operator")
        assert story.work(model_id) == []
        assert story.batch(lease.batch_id).state is BatchState.CANCELLED


def test_the_event_of_a_closed_batch_names_its_tickets(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    named = {story.submit(1), story.submit(2)}
    batch = story.close(model_id)
    assert batch is not None
    with transaction() as session:
        (event,) = audit.timeline(session, batch_id=batch.id)
    assert set(event["data"]["tickets"]) == {str(t) for t in named}
    assert all(o.state is ObligationState.BATCHED for o in story.all_of(Obligation))


def test_a_move_that_does_not_exist_is_a_defect() -> None:
    with pytest.raises(AssertionError):
        batches.move(Batch(state=BatchState.PUBLISHED), BatchState.READY)
