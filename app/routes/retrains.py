"""The operator's seat, second half: retrains, schedules, and the batches that do the work."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query, Response
from sqlalchemy import select, tuple_
from sqlalchemy.orm import joinedload

from app import audit, batches, cursors, schedules, versions, views
from app.auth import MayFollow, MayRetrain
from app.db import transaction
from app.errors import Conflict, NotFound, may_answer
from app.queue import nudge
from app.schemas import (
    BatchDetail,
    BatchPage,
    BatchView,
    DecisionRequest,
    OccurrenceView,
    RetrainRequest,
    ScheduleRequest,
    ScheduleView,
)
from app.tables import Batch, BatchKind, BatchState, Trigger

router = APIRouter(tags=["retrains"])


@router.post("/retrains", status_code=202, responses=may_answer(Conflict, NotFound))
def retrain(asked: RetrainRequest, response: Response, bell: BackgroundTasks, who: MayRetrain) -> BatchView:
    """Retrain a model without its tombstoned samples. One that waits already is returned instead of a second."""
    with transaction() as session:
        model = versions.find_model(session, asked.model)
        batch = batches.request_retrain(session, model, Trigger.OPERATOR, asked.why, who.client)
        answer, model_id = views.batch(session, batch), model.id
    bell.add_task(nudge, model_id)
    response.headers["Location"] = f"/batches/{answer.id}"
    return answer


@router.get("/batches", responses=may_answer(NotFound))
def page(
    who: MayFollow,
    model: str | None = None,
    kind: BatchKind | None = None,
    state: BatchState | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> BatchPage:
    """Batches, newest first."""
    name = f"batches|{model}|{kind}|{state}"
    query = select(Batch).order_by(Batch.created_at.desc(), Batch.id.desc()).limit(limit + 1)
    query = query.options(joinedload(Batch.model), joinedload(Batch.parent_version))
    if kind is not None:
        query = query.where(Batch.kind == kind)
    if state is not None:
        query = query.where(Batch.state == state)
    if cursor is not None:
        query = query.where(tuple_(Batch.created_at, Batch.id) < cursors.decode(cursor, name))
    with transaction() as session:
        if model is not None:
            query = query.where(Batch.model_id == versions.find_model(session, model).id)
        found = list(session.scalars(query))
        items = [views.batch(session, row) for row in found[:limit]]
    more = len(found) > limit
    return BatchPage(
        items=items, next=cursors.encode((found[limit - 1].created_at, found[limit - 1].id), name) if more else None
    )


@router.get("/batches/{batch_id}")
def show(batch_id: UUID, who: MayFollow) -> BatchDetail:
    """One batch with every verdict, the policy that judged it, and its timeline; the tickets in it are for an admin."""
    with transaction() as session:
        batch = batches.get(session, batch_id)
        return BatchDetail(
            **views.batch(session, batch).model_dump(),
            policy=batch.policy,
            verdicts=views.verdicts(session, batch_id),
            timeline=audit.timeline(session, batch_id=batch_id, tickets=who.sees is None),
        )


@router.post("/batches/{batch_id}/retry", status_code=202, responses=may_answer(Conflict))
def retry(batch_id: UUID, bell: BackgroundTasks, who: MayRetrain) -> BatchView:
    """Give a quarantined batch its attempts back."""
    with transaction() as session:
        batch = batches.retry(session, batch_id, who.client)
        answer, model_id = views.batch(session, batch), batch.model_id
    bell.add_task(nudge, model_id)
    return answer


@router.post("/batches/{batch_id}/cancel", responses=may_answer(Conflict))
def cancel(batch_id: UUID, asked: DecisionRequest, who: MayRetrain) -> BatchView:
    """Take back a retrain that was ordered, while no worker has it and it holds no ticket."""
    with transaction() as session:
        return views.batch(session, batches.cancel(session, batch_id, asked.why, who.client))


@router.get("/schedules")
def scheduled(who: MayFollow) -> list[ScheduleView]:
    """Schedules in force."""
    with transaction() as session:
        return [views.schedule(row) for row in schedules.all_of(session)]


@router.post("/schedules", status_code=201, responses=may_answer(NotFound))
def schedule(asked: ScheduleRequest, response: Response, who: MayRetrain) -> ScheduleView:
    """Retrain a model on a cron schedule, read in UTC; each due time happens once."""
    with transaction() as session:
        made = views.schedule(schedules.create(session, asked.model, asked.cron, who.client))
    response.headers["Location"] = f"/schedules/{made.id}/occurrences"
    return made


@router.delete("/schedules/{schedule_id}", status_code=204)
def unschedule(schedule_id: int, who: MayRetrain) -> None:
    """Stop a schedule; its past occurrences stay."""
    with transaction() as session:
        schedules.remove(session, schedule_id, who.client)


@router.get("/schedules/{schedule_id}/occurrences")
def occurrences(
    schedule_id: int, who: MayFollow, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> list[OccurrenceView]:
    """Past due times, newest first, with the batch each opened."""
    with transaction() as session:
        return [
            OccurrenceView(scheduled_for=row.scheduled_for, batch=row.batch_id, note=row.note)
            for row in schedules.occurrences(session, schedule_id, limit)
        ]
