"""What beat wakes: nothing that is due is forgotten, and one broken model holds no other up."""

from datetime import timedelta

import pytest
import structlog
from sqlalchemy import func, update

from app import batches, schedules, sweep
from app.db import transaction
from app.tables import Batch, Schedule, TicketState
from tests.app import story


def test_nothing_is_due(database: str) -> None:
    story.dataset()
    story.trained()
    assert sweep.due() == []


def test_a_lost_doorbell_costs_one_tick(database: str) -> None:
    story.dataset()
    untrained = story.register("one")
    assert sweep.due() == [untrained]
    story.work(untrained)
    ticket_id = story.submit(1)
    assert sweep.due() == [untrained]
    story.publish(story.claimed(untrained))
    assert story.ticket(ticket_id).state is TicketState.FULFILLED
    assert sweep.due() == []


def test_a_lost_worker_is_noticed(database: str) -> None:
    story.dataset()
    model_id = story.register()
    lease = story.claimed(model_id)
    assert sweep.due() == []
    story.expire(lease)
    assert sweep.due() == [model_id]


def test_a_failed_run_rests_first(database: str) -> None:
    story.dataset()
    model_id = story.register()
    story.fail(story.claimed(model_id))
    assert sweep.due() == []
    story.rested(model_id)
    assert sweep.due() == [model_id]


def test_a_schedule_comes_due(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    with transaction() as session:
        schedules.create(session, "m", "0 3 * * *", "operator")
        session.execute(update(Schedule).values(next_at=func.now() - timedelta(hours=1)))
    assert sweep.due() == [model_id]


def test_one_broken_model_holds_no_other_up(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    story.dataset()
    broken, sound = story.trained("broken"), story.trained("sound")
    story.submit(1)
    real = batches.close_due

    def close_due(session: batches.Session, model_id: int) -> Batch | None:
        if model_id == broken:
            raise ValueError("secret-4711")
        return real(session, model_id)

    monkeypatch.setattr(batches, "close_due", close_due)
    with structlog.testing.capture_logs() as lines:
        assert sweep.due() == [sound]
    assert lines[0]["model"] == broken
    assert "secret-4711" not in str(lines)


def test_a_hold_whose_tickets_are_gone_is_lifted(database: str) -> None:
    story.dataset()
    model_id = story.trained(policy=story.EAGER | {"window": {"max_share": 0.1}})
    ticket_id = story.submit(*range(10))
    sweep.due()
    assert story.model(model_id).held
    story.cancel(ticket_id)
    sweep.due()
    assert story.model(model_id).held is None
