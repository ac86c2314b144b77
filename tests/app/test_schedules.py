"""Scheduled retrains: each due time once, however many sweeps look."""

import json
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import func, update

from app import audit, schedules
from app.db import transaction
from app.errors import BadCron, NotFound
from app.tables import Batch, BatchKind, Occurrence, Schedule, Trigger
from tests.app import story

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "due"),
    [
        ("0 3 * * 0", datetime(2026, 3, 8, 3, 0, tzinfo=UTC)),
        ("*/15 * * * *", datetime(2026, 3, 1, 12, 15, tzinfo=UTC)),
        ("0 12 * * *", datetime(2026, 3, 2, 12, 0, tzinfo=UTC)),
        ("0 0 29 2 *", datetime(2028, 2, 29, tzinfo=UTC)),
        ("0 0 * * mon", datetime(2026, 3, 2, tzinfo=UTC)),
    ],
)
def test_the_next_due_time_lies_behind_now_and_is_in_utc(cron: str, due: datetime) -> None:
    assert schedules.following(cron, NOON) == due
    assert schedules.following(cron, NOON.astimezone()) == due


@pytest.mark.parametrize(
    "cron",
    [
        "", "x", "@daily", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "a b c d e",
        "*/0 * * * *", "0 0 30 2 *", "5-1-2 * * * *", "0 3 * * 0 # note", "\0 * * * *", "1, * * * *", "R * * * *",
        "H * * * *", "-1 * * * *", "1e1 * * * *",
    ],
)  # fmt: skip
def test_what_is_no_cron(cron: str) -> None:
    with pytest.raises(BadCron):
        schedules.following(cron, NOON)


def create(cron: str = "0 3 * * *") -> int:
    with transaction() as session:
        return schedules.create(session, "m", cron, "operator").id


def make_due(schedule_id: int, *, hours: int = 1) -> None:
    with transaction() as session:
        late = update(Schedule).where(Schedule.id == schedule_id)
        session.execute(late.values(next_at=func.now() - timedelta(hours=hours)))


def run_due() -> list[int]:
    with transaction() as session:
        return schedules.run_due(session)


@pytest.fixture
def model_id(database: str) -> int:
    story.dataset()
    return story.trained()


def test_an_unknown_model(database: str) -> None:
    with pytest.raises(NotFound):
        create()


def test_what_is_not_due_stays_quiet(model_id: int) -> None:
    create()
    assert run_due() == []
    assert story.all_of(Occurrence) == []


def test_a_due_time_opens_a_retrain_and_the_next_one_is_set(model_id: int) -> None:
    schedule_id = create()
    make_due(schedule_id)
    assert run_due() == [model_id]
    (occurrence,) = story.all_of(Occurrence)
    assert occurrence.batch_id is not None
    batch = story.batch(occurrence.batch_id)
    assert (batch.kind, batch.trigger) == (BatchKind.RETRAIN, Trigger.SCHEDULE)
    (schedule,) = story.all_of(Schedule)
    assert schedule.next_at > datetime.now(UTC)
    assert run_due() == []


def test_times_that_were_missed_are_made_up_for_by_one(model_id: int) -> None:
    schedule_id = create("* * * * *")
    make_due(schedule_id, hours=50)
    assert run_due() == [model_id]
    assert run_due() == []
    assert len([b for b in story.all_of(Batch) if b.kind is BatchKind.RETRAIN]) == 1


def test_two_schedules_of_one_model_share_the_retrain_that_waits(model_id: int) -> None:
    for schedule_id in (create(), create("0 4 * * *")):
        make_due(schedule_id)
    assert run_due() == [model_id, model_id]
    assert len({o.batch_id for o in story.all_of(Occurrence)}) == 1


@pytest.mark.parametrize("set_back", [False, True])
def test_a_due_time_happens_once_however_many_look(model_id: int, set_back: bool) -> None:
    """Also when a schedule's row was put back to a time that was done already."""
    schedule_id = create()
    make_due(schedule_id)
    (due,) = story.all_of(Schedule)
    barrier, opened = threading.Barrier(8), []

    def sweep() -> None:
        barrier.wait()
        opened.extend(run_due())

    threads = [threading.Thread(target=sweep) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if set_back:
        with transaction() as session:
            session.execute(update(Schedule).values(next_at=due.next_at))
        opened.extend(run_due())
    assert opened == [model_id]
    assert len(story.all_of(Occurrence)) == 1


def test_a_removed_schedule_stays_quiet(model_id: int) -> None:
    schedule_id = create()
    make_due(schedule_id)
    with transaction() as session:
        schedules.remove(session, schedule_id, "operator")
    assert run_due() == []
    with transaction() as session:
        assert schedules.all_of(session) == []
        with pytest.raises(NotFound):
            schedules.remove(session, schedule_id, "operator")


def test_a_schedule_that_never_was_has_no_occurrences_to_list(model_id: int) -> None:
    with transaction() as session, pytest.raises(NotFound):
        schedules.occurrences(session, 77, 10)


def test_an_expression_that_no_day_fits_is_told_so() -> None:
    with pytest.raises(BadCron, match="No day fits"):
        schedules.following("0 0 30 2 *", NOON)


def test_occurrences_are_listed_newest_first(model_id: int) -> None:
    schedule_id = create()
    for hours in (5, 1, 3):
        make_due(schedule_id, hours=hours)
        run_due()
    with transaction() as session:
        times = [o.scheduled_for for o in schedules.occurrences(session, schedule_id, 2)]
    assert times == sorted((o.scheduled_for for o in story.all_of(Occurrence)), reverse=True)[:2]


def test_what_comes_next(database: str) -> None:
    story.dataset()
    story.trained()
    with transaction() as session:
        made = schedules.create(session, "m", "0 3 * * 0", "operator")
        session.flush()
        ahead = schedules.upcoming(made, 3)
        assert ahead[0] == made.next_at
        assert [(later - earlier).days for earlier, later in pairwise(ahead)] == [7, 7]
        schedules.remove(session, made.id, "operator", "no longer needed")
        assert schedules.upcoming(made, 3) == []
        last = audit.rows(session, 10**9)
        assert [json.loads(row.body)["data"]["why"] for row in last if row.kind == "schedule.removed"] == [
            "no longer needed"
        ]
