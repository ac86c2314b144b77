"""The operator's pages, first half: all open work by model, batches, and what may be done about them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import audit, batches, consent, overview, runs, versions, views
from app.db import transaction
from app.errors import Conflict, ServiceError
from app.queue import nudge
from app.routes import retrains
from app.routes.pages.shell import Ask, MayApprove, MayFollow, MayRetrain, Visit, confirm, parsed, word
from app.schemas import BatchDetail, DecisionRequest, ResumeRequest, RetrainRequest
from app.tables import Batch, BatchKind, BatchState, Model, Obligation, Trigger

router = APIRouter(include_in_schema=False)
PAGE = 50


@router.get("/ui/queue")
def queue(visit: MayFollow) -> Response:
    """All open work by model: what waits, what runs, what is held and why."""
    with transaction() as session:
        lines = overview.queue(session)
    return visit.show("queue/queue.html", lines=lines)


@router.get("/ui/batches")
def past(
    visit: MayFollow, model: str = "", kind: str = "", state: str = "", cursor: Annotated[str | None, Query()] = None
) -> Response:
    """Batches, newest first."""
    found = retrains.page(
        visit.who,
        model or None,
        word(BatchKind, kind),
        word(BatchState, state),
        PAGE,
        cursor,
    )
    with transaction() as session:
        names = overview.model_names(session)
    chosen = {"model": model, "kind": kind, "state": state}
    context = {"found": found, "chosen": chosen, "models": names, "kinds": list(BatchKind), "states": list(BatchState)}
    return visit.show("queue/batches.html", **context)


@router.get("/ui/batches/{batch_id}")
def show(batch_id: UUID, visit: MayFollow, seen: str = "") -> Response:
    """One batch: what it does just now, its verdicts, its timeline. The page asks again by itself while the batch is open; once
    more has happened than the running step shows, it is loaded anew."""
    with transaction() as session:
        row = batches.get(session, batch_id)
        detail = BatchDetail(
            **views.batch(session, row).model_dump(),
            policy=row.policy,
            verdicts=views.verdicts(session, batch_id),
            timeline=audit.timeline(session, batch_id=batch_id, tickets=visit.who.sees is None),
        )
        held, may_cancel = holds(session, row), cancellable(session, row)
    stamp = f"{detail.state}-{detail.attempt}-{len(detail.timeline)}"
    if seen and seen != stamp and "hx-request" in visit.request.headers:
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    return visit.show("queue/batch.html", batch=detail, stamp=stamp, held=held, may_cancel=may_cancel)


def holds(session: Session, row: Batch) -> int:
    """How many samples the batch's tickets name."""
    named = select(func.coalesce(func.sum(Obligation.samples), 0)).where(Obligation.batch_id == row.id)
    return int(session.scalar(named) or 0)


def cancellable(session: Session, row: Batch) -> bool:
    ordered = row.state is BatchState.READY and row.kind is BatchKind.RETRAIN
    return ordered and not holds(session, row) and not consent.wants_retrain(session, row.model_id)


def retry_ask(batch_id: UUID) -> Ask:
    says = [
        "The batch gets all its attempts back and a worker takes it as soon as one is free.",
        "Look at its last failure first: what failed three times fails a fourth time, unless something was mended.",
    ]
    return Ask("Try the batch again", says, "Try again", f"/ui/batches/{batch_id}")


@router.get("/ui/batches/{batch_id}/retry")
def ask_retry(batch_id: UUID, visit: MayRetrain) -> Response:
    with transaction() as session:
        batches.get(session, batch_id)
    return confirm(visit, retry_ask(batch_id))


@router.post("/ui/batches/{batch_id}/retry")
def retry(batch_id: UUID, visit: MayRetrain, bell: BackgroundTasks) -> Response:
    try:
        asked = parsed(DecisionRequest, {"why": visit.text("why")})
        with transaction() as session:
            model_id = batches.retry(session, batch_id, visit.who.client, asked.why).model_id
            answer = visit.go(session, f"/ui/batches/{batch_id}", "The batch has its attempts back.")
    except ServiceError as error:
        return confirm(visit, retry_ask(batch_id), error)
    bell.add_task(nudge, model_id)
    return answer


def cancel_ask(batch_id: UUID) -> Ask:
    says = [
        "The retrain that was ordered is taken back. No worker has it, and it holds no ticket.",
        "Tickets that wait are worked off as the policy says, without it.",
    ]
    return Ask("Cancel the batch", says, "Cancel the batch", f"/ui/batches/{batch_id}", danger=True)


@router.get("/ui/batches/{batch_id}/cancel")
def ask_cancel(batch_id: UUID, visit: MayRetrain) -> Response:
    with transaction() as session:
        batches.get(session, batch_id)
    return confirm(visit, cancel_ask(batch_id))


@router.post("/ui/batches/{batch_id}/cancel")
def cancel(batch_id: UUID, visit: MayRetrain) -> Response:
    try:
        asked = parsed(DecisionRequest, {"why": visit.text("why")})
        with transaction() as session:
            batches.cancel(session, batch_id, asked.why, visit.who.client)
            return visit.go(session, f"/ui/batches/{batch_id}", "The batch is cancelled.")
    except ServiceError as error:
        return confirm(visit, cancel_ask(batch_id), error)


def model_of(visit: Visit, name: str) -> Model:
    with transaction() as session:
        return versions.find_model(session, name)


def flush_ask(name: str) -> Ask:
    says = [
        f"All that {name} owes is worked off at once, however little it is and however short it has waited.",
        "Tickets beyond the policy's cap wait for a second person's approval all the same.",
    ]
    return Ask(f"Flush {name}", says, "Flush", "/ui/queue")


@router.get("/ui/models/{name}/flush")
def ask_flush(name: str, visit: MayRetrain) -> Response:
    return confirm(visit, flush_ask(model_of(visit, name).name))


@router.post("/ui/models/{name}/flush")
def flush(name: str, visit: MayRetrain, bell: BackgroundTasks) -> Response:
    try:
        asked = parsed(DecisionRequest, {"why": visit.text("why")})
        with transaction() as session:
            model = versions.find_model(session, name)
            batches.flush(session, model, visit.who.client, asked.why)
            answer = visit.go(session, "/ui/queue", f"The next batch of {name} closes at once.")
    except ServiceError as error:
        return confirm(visit, flush_ask(name), error)
    bell.add_task(nudge, model.id)
    return answer


def retrain_ask(name: str) -> Ask:
    says = [
        f"{name} is trained anew without any tombstoned sample, and all that it owes by then is answered by that version.",
        "A retrain takes as long as a training. One that waits already is not ordered twice.",
    ]
    return Ask(f"Retrain {name}", says, "Order the retrain", "/ui/queue")


@router.get("/ui/models/{name}/retrain")
def ask_retrain(name: str, visit: MayRetrain) -> Response:
    return confirm(visit, retrain_ask(model_of(visit, name).name))


@router.post("/ui/models/{name}/retrain")
def retrain(name: str, visit: MayRetrain, bell: BackgroundTasks) -> Response:
    try:
        asked = parsed(RetrainRequest, {"model": name, "why": visit.text("why")})
        with transaction() as session:
            model = versions.find_model(session, name)
            made = batches.request_retrain(session, model, Trigger.OPERATOR, asked.why, visit.who.client)
            answer = visit.go(session, f"/ui/batches/{made.id}", "The retrain waits for a worker.")
    except ServiceError as error:
        return confirm(visit, retrain_ask(name), error)
    bell.add_task(nudge, model.id)
    return answer


def resume_ask(model: Model) -> Ask:
    says = [
        "Approximate updates are published again from now on, by their verdicts.",
        "They were stopped because truth and estimate were too far apart. Say what has changed.",
    ]
    facts = {"stopped because": model.stopped} if model.stopped else {}
    return Ask(f"Resume updates of {model.name}", says, "Resume", f"/ui/models/{model.name}", facts=facts)


@router.get("/ui/models/{name}/resume")
def ask_resume(name: str, visit: MayApprove) -> Response:
    model = model_of(visit, name)
    if model.stopped is None:
        raise Conflict("Approximate updates of the model are not stopped.")
    return confirm(visit, resume_ask(model))


@router.post("/ui/models/{name}/resume")
def resume(name: str, visit: MayApprove) -> Response:
    model = model_of(visit, name)
    try:
        asked = parsed(ResumeRequest, {"why": visit.text("why")})
        with transaction() as session:
            runs.resume_publishing(session, model, asked.why, visit.who.client)
            return visit.go(session, f"/ui/models/{name}", f"Updates of {name} are published again.")
    except ServiceError as error:
        return confirm(visit, resume_ask(model), error)
