"""Scheduled retrains: rows with cron expressions, each due time exactly once.

An occurrence is a row whose primary key is (schedule, due time): however many sweeps run, on however many machines, one
of them inserts it and opens the batch, in one transaction. Due times that passed while nothing ran are made up for by
one retrain, not one each.
"""

from datetime import UTC, datetime

from croniter import CroniterBadDateError, croniter
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload

from app import audit, batches, versions
from app.errors import BadCron, NotFound
from app.tables import Occurrence, Schedule, Trigger


def create(session: Session, model: str, cron: str, by: str) -> Schedule:
    """A schedule in UTC. Raises `BadCron` unless the expression has five fields that parse and come due some day."""
    found = versions.find_model(session, model)
    schedule = Schedule(model_id=found.id, cron=cron, author=by, next_at=following(cron, clock(session)))
    session.add(schedule)
    session.flush()
    audit.append(session, "schedule.created", by, model_id=found.id, schedule=schedule.id, cron=cron)
    return schedule


def remove(session: Session, schedule_id: int, by: str, why: str | None = None) -> None:
    """Stop a schedule; its past occurrences stay."""
    schedule = session.get(Schedule, schedule_id)
    if schedule is None or not schedule.enabled:
        raise NotFound("No schedule of that number.")
    schedule.enabled = False
    told = batches.reason(why)
    audit.append(session, "schedule.removed", by, model_id=schedule.model_id, schedule=schedule.id, **told)


def following(cron: str, after: datetime) -> datetime:
    """The first due time behind `after`, or `BadCron`."""
    hint = "Five fields are needed, such as `0 3 * * 0` for Sundays at 03:00 UTC."
    fields = cron.split()
    if len(fields) != 5 or any(field[0] in "RrHh" for field in fields):  # R and H stand for a time drawn at random
        raise BadCron(hint)
    try:
        due: datetime = croniter(cron, after.astimezone(UTC)).get_next(datetime)
    except CroniterBadDateError:
        raise BadCron("No day fits the expression, so it would never come due.") from None
    except (ValueError, KeyError):
        raise BadCron(hint) from None
    return due


def upcoming(schedule: Schedule, count: int) -> list[datetime]:
    """The schedule's next due times; none of one that was removed."""
    found = [schedule.next_at] if schedule.enabled else []
    while found and len(found) < count:
        found.append(following(schedule.cron, found[-1]))
    return found


def clock(session: Session) -> datetime:
    """The database's time: the one clock that all machines share."""
    return session.scalars(select(func.now())).one()


def run_due(session: Session) -> list[int]:
    """Open a retrain for each schedule that is due; returns the models to nudge."""
    due = select(Schedule).where(Schedule.enabled, Schedule.next_at <= func.now()).options(joinedload(Schedule.model))
    models = []
    for schedule in session.scalars(due.with_for_update(skip_locked=True, of=Schedule)).all():
        scheduled_for = schedule.next_at
        schedule.next_at = following(schedule.cron, clock(session))
        once = insert(Occurrence).values(schedule_id=schedule.id, scheduled_for=scheduled_for, note="opened a retrain")
        if session.scalar(once.on_conflict_do_nothing().returning(Occurrence.schedule_id)) is None:
            continue
        why = f"schedule {schedule.id} ({schedule.cron}) was due at {scheduled_for:%Y-%m-%d %H:%M} UTC"
        batch = batches.request_retrain(session, schedule.model, Trigger.SCHEDULE, why, f"schedule {schedule.id}")
        occurrence = session.get_one(Occurrence, (schedule.id, scheduled_for))
        occurrence.batch_id = batch.id
        models.append(schedule.model_id)
    return models


def all_of(session: Session) -> list[Schedule]:
    query = select(Schedule).where(Schedule.enabled).order_by(Schedule.id).options(joinedload(Schedule.model))
    return list(session.scalars(query))


def occurrences(session: Session, schedule_id: int, limit: int) -> list[Occurrence]:
    """Past occurrences, newest first; also those of a schedule that was removed."""
    if session.get(Schedule, schedule_id) is None:
        raise NotFound("No schedule of that number.")
    query = select(Occurrence).where(Occurrence.schedule_id == schedule_id)
    return list(session.scalars(query.order_by(Occurrence.scheduled_for.desc()).limit(limit)))
