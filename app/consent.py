"""Mass deletion is also an attack on the model: beyond the policy's cap, a second person must consent to it.

The tickets' 202 and their tombstones stand whatever is decided: no training reads the samples. What waits is the update or
the retrain without them, and with it the publication. Here is what keeps it waiting; approvals.py decides.
"""

from dataclasses import dataclass
from datetime import UTC, timedelta

from sqlalchemy import ColumnElement, Update, func, or_, select, true, update
from sqlalchemy.orm import Session

from app import audit, due, policy
from app.policy import PolicyBody
from app.tables import (
    Approval,
    ApprovalState,
    Batch,
    BatchKind,
    Instead,
    Model,
    Obligation,
    ObligationState,
    Version,
)

UNDECIDED = or_(
    Approval.state == ApprovalState.REQUESTED,
    (Approval.state == ApprovalState.REFUSED) & (Approval.instead == Instead.WAIT),
)
"""A request that nobody has decided, or that was refused and may yet be approved."""
OWED = (ObligationState.PENDING, ObligationState.BATCHED, ObligationState.QUARANTINED)


@dataclass(frozen=True)
class Passing:
    """Those of a model's pending obligations that may be worked off, summed up; and why the others may not."""

    meant: ColumnElement[bool]
    waiting: due.Waiting
    held: str | None


def passing(
    session: Session, model: Model, drift: due.Drift, pending: due.Waiting, body: PolicyBody, kind: BatchKind
) -> Passing:
    """All that is pending, where it stays within the cap; where it does not, what was approved. The rest is asked for."""
    share = share_in_window(session, model, drift, pending, body)
    if share <= body.window.max_share:
        lapse(session, model)
        return Passing(true(), pending, None)
    of_model = (Obligation.model_id == model.id) & (Obligation.state == ObligationState.PENDING)
    consented = consented_to(kind)
    lacking = due.summed(session, of_model & ~consented)
    if lacking.oldest is None:
        return Passing(consented, pending, None)
    held = ask(session, model, of_model & ~consented, share, body)
    return Passing(consented, due.summed(session, of_model & consented), held)


def barred(session: Session, model: Model) -> str | None:
    """Why no retrain of the model may begin, or None. It would leave out all that is tombstoned, also what an update must
    not make it forget: whoever asks for a retrain, or schedules them, does not consent to that."""
    if model.current_version_id is None:
        return None
    body, drift = policy.stored(policy.current(session, model.id).body), due.Drift.now(session, model)
    owed = (Obligation.model_id == model.id) & Obligation.state.in_(OWED)
    share = share_in_window(session, model, drift, due.summed(session, owed), body)
    if share <= body.window.max_share:
        return None
    lacking = owed & ~consented_to(BatchKind.RETRAIN)
    if due.summed(session, lacking).oldest is None:
        return None
    return ask(session, model, lacking, share, body)


def share_in_window(session: Session, model: Model, drift: due.Drift, waiting: due.Waiting, body: PolicyBody) -> float:
    """The share of the training set that is forgotten within the policy's window, what is waiting included."""
    since = waiting.now - timedelta(days=body.window.days)
    recent = select(func.coalesce(func.sum(Version.forgotten), 0))
    recent = recent.where(Version.model_id == model.id, Version.published_at >= since)
    return (int(session.scalar(recent) or 0) + waiting.samples) / max(drift.live, 1)


def consented_to(kind: BatchKind) -> ColumnElement[bool]:
    """An obligation that a second person has let pass, for a batch of this kind. One who wants a retrain instead of an
    update has consented to that alone."""
    given = or_(
        Approval.state == ApprovalState.USED,
        (Approval.state == ApprovalState.APPROVED) & (Approval.expires_at > func.now()),
        (Approval.state == ApprovalState.REFUSED) & (Approval.instead == Instead.RETRAIN),
    )
    fits = Approval.instead.is_(None) if kind is BatchKind.UNLEARN else true()
    return select(Approval.id).where(Approval.id == Obligation.approval_id, given, fits).exists()


def wants_retrain(session: Session, model_id: int) -> bool:
    """Whether an approver refused an update and wants a retrain instead, of which tickets are still owed."""
    owed = (Obligation.model_id == model_id) & Obligation.state.in_(OWED)
    asked = (Approval.state == ApprovalState.REFUSED) & (Approval.instead == Instead.RETRAIN)
    query = select(Approval.id).join(Obligation, Obligation.approval_id == Approval.id).where(owed, asked)
    return session.scalar(query.limit(1)) is not None


def ask(session: Session, model: Model, lacking: ColumnElement[bool], share: float, body: PolicyBody) -> str:
    """Put what lacks an approval into the model's open request, or a new one; returns the sentence for whoever waits."""
    expire(session, model)
    request = session.scalar(select(Approval).where(Approval.model_id == model.id, UNDECIDED))
    if request is None:
        request = Approval(
            model_id=model.id, state=ApprovalState.REQUESTED, samples=0, share=share, cap=body.window.max_share
        )
        session.add(request)
        session.flush()
    session.execute(update(Obligation).where(lacking).values(approval_id=request.id))
    named = due.summed(session, (Obligation.approval_id == request.id) & Obligation.state.in_(OWED))
    grew = named.samples > request.samples
    request.share, request.cap, request.samples = share, body.window.max_share, named.samples
    request.deadline_at = named.deadline
    if grew:
        tell(session, "approval.requested", "expunge", request, share=round(share, 4), cap=request.cap)
    pressing = due.near(named, body)
    if pressing and request.warned_at is None:
        request.warned_at = named.now
        assert named.deadline is not None
        tell(session, "approval.deadline_near", "expunge", request, deadline=named.deadline.isoformat())
    return says(request, body, pressing=pressing)


def says(request: Approval, body: PolicyBody, *, pressing: bool) -> str:
    """Why the tickets wait. Their clients read it, so it names nobody."""
    text = f"{request.share:.1%} of the training set within {body.window.days:g} days exceeds the cap of {request.cap:.1%}: "
    if request.state is ApprovalState.REFUSED:
        text += (
            f"an approver refused the update: {request.why}. The samples stay out of every training, deadlines count on"
        )
    else:
        text += f"waits for a second person's approval (request {request.id})"
    if pressing and request.deadline_at is not None:
        text += f". A deadline is near or past: {request.deadline_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return text


def use(session: Session, batch: Batch) -> None:
    """The batch has taken what some approvals name: they are good for nothing else."""
    taken = select(Obligation.approval_id).where(Obligation.batch_id == batch.id, Obligation.approval_id.is_not(None))
    given = or_(
        Approval.state == ApprovalState.APPROVED,
        (Approval.state == ApprovalState.REFUSED) & (Approval.instead == Instead.RETRAIN),
    )
    used = update(Approval).where(Approval.id.in_(taken), given).values(state=ApprovalState.USED, batch_id=batch.id)
    for approval in told(session, used):
        tell(session, "approval.used", "expunge", approval, by_batch=str(batch.id))


def expire(session: Session, model: Model) -> None:
    """An approval that nothing used in time is void. What it names is asked for again, if it still must be."""
    late = (Approval.state == ApprovalState.APPROVED) & (Approval.expires_at <= func.now())
    ended = update(Approval).where(Approval.model_id == model.id, late).values(state=ApprovalState.EXPIRED)
    for approval in told(session, ended):
        tell(session, "approval.expired", "expunge", approval)


def lapse(session: Session, model: Model) -> None:
    """Nothing waits for an approval any more: tickets were taken back, or the window has moved on."""
    expire(session, model)
    ended = update(Approval).where(Approval.model_id == model.id, UNDECIDED).values(state=ApprovalState.LAPSED)
    for approval in told(session, ended):
        tell(session, "approval.lapsed", "expunge", approval)


def told(session: Session, changing: Update) -> list[Approval]:
    """Execute the change; the rows that it met, as they are after it."""
    changed = changing.returning(Approval).execution_options(populate_existing=True)
    return list(session.scalars(changed))


def tell(session: Session, kind: str, by: str, approval: Approval, **data: object) -> None:
    audit.append(session, kind, by, model_id=approval.model_id, approval=approval.id, samples=approval.samples, **data)
