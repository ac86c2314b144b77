"""A second person decides whether a model may forget more than its policy's cap: approve, or refuse with a reason.

To refuse is not to deny the erasure, which is nobody's right here: the tombstones stand, and deadlines count on. It means
a retrain instead of an update, or that the tickets wait and their clients are told why.
"""

from datetime import timedelta
from hashlib import sha256
from itertools import pairwise
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import batches, consent, policy
from app.errors import Conflict, NotFound, SecondPerson
from app.tables import (
    Approval,
    ApprovalState,
    Batch,
    BatchKind,
    BatchState,
    Instead,
    Model,
    Obligation,
    Policy,
    Ticket,
    Trigger,
)


def of_model(session: Session, model: Model, limit: int) -> list[Approval]:
    """The model's requests and what became of them, newest first."""
    query = select(Approval).where(Approval.model_id == model.id).order_by(Approval.id.desc())
    return list(session.scalars(query.limit(limit)))


def submitters(session: Session, approval: Approval) -> list[str]:
    """The clients whose tickets the approval names."""
    query = select(Ticket.client).join(Obligation, Obligation.ticket_id == Ticket.id)
    return list(session.scalars(query.where(Obligation.approval_id == approval.id).distinct().order_by(Ticket.client)))


def named(session: Session, approval: Approval) -> list[UUID]:
    """The tickets that the approval names, in ascending order."""
    query = select(Obligation.ticket_id).where(Obligation.approval_id == approval.id)
    return list(session.scalars(query.order_by(Obligation.ticket_id)))


def digest(tickets: list[UUID]) -> str:
    """What tells one set of tickets from another of as many samples."""
    return sha256("".join(f"{ticket}\n" for ticket in tickets).encode()).hexdigest()


def approve(
    session: Session,
    model: Model,
    approval_id: int,
    *,
    samples: int,
    hours: float,
    why: str,
    by: str,
    tickets: str | None = None,
) -> Approval:
    """Let what the request names be forgotten, once, until then. `samples` is how many the approver saw, `tickets` the
    `digest` of theirs.

    Raises `NotFound`, `Conflict` (decided already, more by now, or others), `SecondPerson`.
    """
    approval = undecided(session, model, approval_id, by)
    if tickets is not None and tickets != digest(named(session, approval)):
        raise Conflict("By now other tickets wait for it than those you saw. Look again before you approve.")
    if approval.samples > samples:
        raise Conflict(f"By now {approval.samples} samples wait for it, not {samples}. Look again before you approve.")
    approval.state, approval.instead = ApprovalState.APPROVED, None
    approval.expires_at = func.now() + timedelta(hours=hours)
    decided(session, approval, why, by)
    session.flush()
    session.refresh(approval)
    assert approval.expires_at is not None
    consent.tell(
        session,
        "approval.granted",
        by,
        approval,
        asked_by=submitters(session, approval),
        until=approval.expires_at.isoformat(),
        why=why,
    )
    return approval


def refuse(session: Session, model: Model, approval_id: int, *, instead: Instead, why: str, by: str) -> Approval:
    """Refuse an update of what the request names. Raises as `approve` does."""
    approval = undecided(session, model, approval_id, by)
    approval.state, approval.instead = ApprovalState.REFUSED, instead
    decided(session, approval, why, by)
    asked_by = submitters(session, approval)
    consent.tell(session, "approval.refused", by, approval, asked_by=asked_by, instead=instead, why=why)
    if instead is Instead.RETRAIN:
        said = f"an approver wants a retrain instead of an update (request {approval.id}): {why}"
        batches.request_retrain(session, model, Trigger.OPERATOR, said, by)
    session.flush()
    session.refresh(approval)
    return approval


def undecided(session: Session, model: Model, approval_id: int, by: str) -> Approval:
    """The request, locked after its model, provided that it is open and `by` may decide it."""
    session.execute(select(Model.id).where(Model.id == model.id).with_for_update(key_share=True))
    query = select(Approval).where(Approval.id == approval_id, Approval.model_id == model.id)
    approval = session.scalar(query.execution_options(populate_existing=True))
    if approval is None:
        raise NotFound("No request for approval of that number. `GET /models/{name}/approvals` lists them.")
    if approval.state is not ApprovalState.REQUESTED and approval.instead is not Instead.WAIT:
        raise Conflict(f"The request is {approval.state} already.")
    if by in submitters(session, approval):
        raise SecondPerson(
            "Tickets of your own are among those that wait. Somebody who submitted none of them must decide."
        )
    if by in raisers(session, model):
        raise SecondPerson("You raised the cap within its window. Somebody who did not must decide.")
    return approval


def raisers(session: Session, model: Model) -> set[str]:
    """Who put a policy in force, within the present window, that let more be forgotten than the one before it."""
    rows = session.scalars(select(Policy).where(Policy.model_id == model.id).order_by(Policy.number)).all()
    window = policy.stored(rows[-1].body).window
    since = session.scalars(select(func.now())).one() - timedelta(days=window.days)
    found = set()
    for before, after in pairwise(rows):
        old, new = policy.stored(before.body).window, policy.stored(after.body).window
        if after.created_at >= since and (new.max_share > old.max_share or new.days < old.days):
            found.add(after.author)
    return found


def decided(session: Session, approval: Approval, why: str, by: str) -> None:
    """Who, when and why; a retrain that waits for it is looked at at once."""
    approval.why, approval.decided_by, approval.decided_at = why, by, func.now()
    waits = (
        (Batch.model_id == approval.model_id) & (Batch.state == BatchState.READY) & (Batch.kind == BatchKind.RETRAIN)
    )
    session.execute(update(Batch).where(waits).values(not_before=func.now()))
