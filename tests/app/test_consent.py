"""Beyond the cap a second person must consent: what waits meanwhile, who may, for what, and what a refusal means."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from app import approvals, lineage, runs
from app.db import transaction
from app.errors import Conflict, NotFound, SecondPerson
from app.tables import (
    Approval,
    ApprovalState,
    AuditEvent,
    Batch,
    BatchKind,
    BatchState,
    Instead,
    Model,
    ObligationState,
    TicketState,
    Version,
)
from tests.app import story

CAPPED = story.EAGER | {"window": {"days": 30, "max_share": 0.25}}


@pytest.fixture
def model_id(database: str) -> int:
    """A model of 20 samples, of which a quarter may go within a month."""
    story.dataset(samples=20)
    return story.trained(policy=CAPPED)


def held(model_id: int) -> str:
    assert story.close(model_id) is None
    found = story.model(model_id).held
    assert found is not None
    return found


def refuse(model_id: int, instead: Instead, by: str = "second") -> Approval:
    with transaction() as session:
        model = session.get_one(Model, model_id)
        return approvals.refuse(
            session, model, story.requested(model_id).id, instead=instead, why="one class would go", by=by
        )


def approve(model_id: int, request: Approval) -> None:
    with transaction() as session:
        model = session.get_one(Model, model_id)
        approvals.approve(session, model, request.id, samples=9, hours=1, why="genuine", by="second")


def events(kind: str) -> int:
    with transaction() as session:
        return session.scalar(select(func.count()).where(AuditEvent.kind == kind)) or 0


def fulfilled(*ticket_ids: UUID) -> bool:
    return all(story.ticket(each).state is TicketState.FULFILLED for each in ticket_ids)


def test_the_update_waits_and_the_data_are_removed_all_the_same(model_id: int) -> None:
    ticket_id = story.submit(*range(6))
    assert "30.0%" in held(model_id)
    assert "second person" in held(model_id)
    assert events("model.held") == events("approval.requested") == 1
    assert story.tombstoned(story.model(model_id).dataset_id) == list(range(6))
    assert story.ticket(ticket_id).data_removed_at is not None
    approved = story.approve(model_id)
    (version,) = story.work(model_id)
    assert version.forgotten == 6
    assert fulfilled(ticket_id)
    used = story.requested(model_id)
    assert (used.id, used.state, used.batch_id) == (approved.id, ApprovalState.USED, version.batch_id)
    assert story.model(model_id).held is None
    assert [events(f"approval.{kind}") for kind in ("granted", "used")] == [1, 1]


def test_within_the_cap_nobody_is_asked(model_id: int) -> None:
    assert fulfilled(story.submit(*range(5))) is False
    assert len(story.work(model_id)) == 1
    assert story.all_of(Approval) == []


def test_what_was_forgotten_before_the_window_does_not_count(model_id: int) -> None:
    story.submit(*range(5))
    story.work(model_id)
    story.submit(5)
    held(model_id)
    with transaction() as session:
        session.execute(update(Version).values(published_at=func.now() - timedelta(days=31)))
    assert story.close(model_id) is not None
    assert story.requested(model_id).state is ApprovalState.LAPSED
    assert story.model(model_id).held is None


def test_the_request_ends_with_its_tickets(model_id: int) -> None:
    ticket_id = story.submit(*range(6))
    held(model_id)
    story.cancel(ticket_id)
    assert story.close(model_id) is None
    assert story.model(model_id).held is None
    assert story.requested(model_id).state is ApprovalState.LAPSED


class TestWho:
    @pytest.mark.parametrize("client", ["tool", "other"])
    def test_no_submitter_may(self, model_id: int, client: str) -> None:
        story.submit(*range(4))
        story.submit(4, 5, client="other")
        held(model_id)
        with pytest.raises(SecondPerson):
            story.approve(model_id, by=client)
        with pytest.raises(SecondPerson):
            refuse(model_id, Instead.RETRAIN, by=client)
        held(model_id)
        story.approve(model_id)
        assert story.close(model_id) is not None

    def test_nor_who_raised_the_cap_within_the_window(self, model_id: int) -> None:
        story.replace(model_id, CAPPED | {"window": {"days": 30, "max_share": 0.26}})
        story.submit(*range(6))
        held(model_id)
        with pytest.raises(SecondPerson, match="raised the cap"):
            story.approve(model_id, by="operator")
        story.approve(model_id, by="another")
        assert story.close(model_id) is not None

    def test_who_lowered_it_may(self, model_id: int) -> None:
        story.replace(model_id, CAPPED | {"window": {"days": 60, "max_share": 0.2}})
        story.submit(*range(6))
        held(model_id)
        story.approve(model_id, by="operator")

    def test_another_models_request_is_none(self, model_id: int) -> None:
        other = story.trained("other", policy=CAPPED)
        story.submit(*range(6))
        story.submit(7, client="else"), held(model_id), held(other)
        request = story.requested(model_id)
        with pytest.raises(NotFound):
            approve(other, request)


class TestWhat:
    def test_more_than_the_approver_saw_is_not_approved(self, model_id: int) -> None:
        story.submit(*range(6))
        held(model_id)
        story.submit(6, 7)
        held(model_id)
        with pytest.raises(Conflict, match="8 samples"):
            story.approve(model_id, samples=6)
        story.approve(model_id, samples=8)
        (version,) = story.work(model_id)
        assert version.forgotten == 8

    def test_later_tickets_need_their_own(self, model_id: int) -> None:
        first = story.submit(*range(6))
        held(model_id)
        story.approve(model_id)
        late = story.submit(6, client="late")
        (version,) = story.work(model_id)
        assert version.forgotten == 6, "the batch took what was approved and no more"
        assert fulfilled(first)
        assert not fulfilled(late)
        assert "exceeds the cap" in held(model_id)
        with pytest.raises(SecondPerson):
            story.approve(model_id, by="late")
        story.approve(model_id, by="tool")
        story.work(model_id)
        assert fulfilled(late)

    def test_it_is_used_once(self, model_id: int) -> None:
        story.submit(*range(6))
        held(model_id)
        used = story.approve(model_id)
        story.work(model_id)
        story.submit(6)
        held(model_id)
        assert story.requested(model_id).id != used.id
        with pytest.raises(Conflict, match="used"):
            approve(model_id, used)

    def test_it_expires(self, model_id: int) -> None:
        story.submit(*range(6))
        held(model_id)
        given = story.approve(model_id)
        with transaction() as session:
            session.execute(update(Approval).values(expires_at=func.now()))
        held(model_id)
        assert [row.state for row in story.all_of(Approval)] == [ApprovalState.EXPIRED, ApprovalState.REQUESTED]
        assert story.requested(model_id).id != given.id
        assert events("approval.expired") == 1

    def test_a_failed_batch_keeps_its_approval(self, model_id: int) -> None:
        story.submit(*range(3)), story.submit(3, 4, 5)
        held(model_id)
        story.approve(model_id)
        assert story.close(model_id) is not None
        story.exhaust(model_id)
        assert len(story.work(model_id)) == 2, "both halves are published without another request"
        assert len(story.all_of(Approval)) == 1


class TestRetrain:
    def test_an_ordered_one_waits_too(self, model_id: int) -> None:
        ticket_id = story.submit(*range(6))
        batch_id = story.retrain(model_id)
        assert story.claim(model_id) is None
        batch = story.batch(batch_id)
        assert (batch.state, batch.attempt, batch.step) == (BatchState.READY, 0, "waits for approval")
        assert "exceeds the cap" in str(story.model(model_id).held)
        story.approve(model_id)
        (version,) = story.work(model_id)
        assert version.batch_id == batch_id
        assert fulfilled(ticket_id)
        assert story.requested(model_id).state is ApprovalState.USED
        assert story.model(model_id).held is None

    def test_tickets_that_come_after_its_claim_hold_it_before_it_reads_anything(self, model_id: int) -> None:
        story.retrain(model_id)
        lease = story.claimed(model_id)
        story.submit(*range(6))
        with transaction() as session:
            assert runs.absorb(session, lease) is False
        batch = story.batch(lease.batch_id)
        assert (batch.state, batch.attempt) == (BatchState.READY, 0)
        story.rested(model_id)
        assert story.claim(model_id) is None
        story.approve(model_id)
        assert len(story.work(model_id)) == 1

    def test_an_update_that_falls_back_on_one_does_not_carry_a_mass_deletion_along(self, model_id: int) -> None:
        small = story.submit(1)
        lease = story.closed(model_id)
        story.submit(*range(2, 9), client="flood")
        with transaction() as session:
            assert runs.absorb(session, lease) is False
        assert story.batch(lease.batch_id).kind is BatchKind.RETRAIN
        assert story.obligation(small, model_id).state is ObligationState.BATCHED
        story.approve(model_id)
        (version,) = story.work(model_id)
        assert version.forgotten == 8

    def test_the_first_training_asks_nobody(self, database: str) -> None:
        story.dataset(samples=20)
        model_id = story.register(policy=CAPPED)
        story.submit(*range(12))
        assert len(story.work(model_id)) == 1


class TestRefusal:
    def test_they_wait_are_told_why_and_may_be_approved_later(self, model_id: int) -> None:
        ticket_id = story.submit(*range(6))
        held(model_id)
        refuse(model_id, Instead.WAIT)
        assert "one class would go" in held(model_id)
        assert "second" not in held(model_id), "who refused is nothing for clients"
        assert story.ticket(ticket_id).state is TicketState.PENDING
        assert story.tombstoned(story.model(model_id).dataset_id) == list(range(6))
        story.approve(model_id)
        story.work(model_id)
        assert fulfilled(ticket_id)

    def test_or_a_retrain_answers_them(self, model_id: int) -> None:
        ticket_id = story.submit(*range(6))
        held(model_id)
        refuse(model_id, Instead.RETRAIN)
        (version,) = story.work(model_id)
        assert version.kind == "retrained"
        assert fulfilled(ticket_id)
        assert story.requested(model_id).state is ApprovalState.USED

    def test_consent_to_a_retrain_is_none_to_an_update(self, model_id: int) -> None:
        story.submit(*range(6))
        held(model_id)
        refuse(model_id, Instead.RETRAIN)
        with transaction() as session:
            session.execute(update(Batch).where(Batch.state == BatchState.READY).values(state=BatchState.CANCELLED))
        held(model_id)

    def test_a_decision_is_made_once(self, model_id: int) -> None:
        story.submit(*range(6))
        held(model_id)
        refuse(model_id, Instead.RETRAIN)
        with pytest.raises(Conflict):
            refuse(model_id, Instead.WAIT)


def test_a_deadline_that_nears_is_said_aloud_once(model_id: int) -> None:
    story.submit(*range(6), deadline=datetime.now(UTC) + timedelta(days=10))
    assert "deadline is near" not in held(model_id)
    assert events("approval.deadline_near") == 0
    story.submit(6, deadline=datetime.now(UTC) + timedelta(hours=2))
    assert "deadline is near" in held(model_id)
    held(model_id)
    assert events("approval.deadline_near") == 1


def test_the_log_names_who_asked_and_who_approved_and_no_sample(model_id: int) -> None:
    story.submit(*range(3)), story.submit(3, 4, 5, client="other")
    held(model_id)
    story.approve(model_id)
    with transaction() as session:
        body = session.scalars(select(AuditEvent.body).where(AuditEvent.kind == "approval.granted")).one()
        everything = " ".join(session.scalars(select(AuditEvent.body)))
    assert '"actor":"second"' in body
    assert '"asked_by":["other","tool"]' in body
    assert not [story.sample(i) for i in range(6) if story.sample(i) in everything]


@pytest.mark.parametrize("kept", ["tombstones", "obligations"])
def test_nothing_that_is_decided_gives_a_sample_back(model_id: int, kept: str) -> None:
    ticket_id = story.submit(*range(6))
    held(model_id)
    refuse(model_id, Instead.WAIT)
    dataset_id = story.model(model_id).dataset_id
    with transaction() as session:
        found: Any = {
            "tombstones": list(lineage.tombstoned(session, dataset_id)),
            "obligations": [str(story.obligation(ticket_id, model_id).state)],
        }
    assert found[kept] == {"tombstones": list(range(6)), "obligations": ["pending"]}[kept]
