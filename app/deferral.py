"""An inconclusive batch that waits for what may settle its verdict, instead of a retrain at once: `due.Deferral`.

The batch ends without a version and its obligations are pending again, as old as they were, so that however often they
are put off, they wait no longer in all than the policy says. What ends the wait: `due.over`.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session, aliased

from app import audit, banks, batches, consent, due, policy, runs, tickets
from app.db import among
from app.due import Deferral, Waiting
from app.errors import Conflict, Unprocessable
from app.policy import PolicyBody, Settle
from app.tables import Batch, BatchState, Model, Obligation, ObligationState, Ticket, TicketState


def defer(session: Session, lease: runs.Lease, settle: Settle) -> bool:
    """End the lease's batch without a version, to wait for what `settle` names; False, with nothing written, where that
    is not allowed, cannot come in time, or would not keep the batch from a retrain.

    Locks the batch, the model, the obligations, their tickets and the bank, in this order, and then appends to the log.
    Nobody else who holds a model's tickets waits for its bank without having the model.

    Raises `StaleEpoch` when the lease is gone.
    """
    batch = runs.fenced(session, lease)
    locked = select(Model).where(Model.id == lease.model_id).with_for_update(key_share=True)
    model = session.scalars(locked.execution_options(populate_existing=True)).one()
    body = policy.stored(policy.current(session, model.id).body)
    mine = (Obligation.batch_id == batch.id) & (Obligation.state == ObligationState.BATCHED)
    of_model = Obligation.model_id == model.id
    pending = due.summed(session, of_model & or_(mine, Obligation.state == ObligationState.PENDING))
    until = latest(pending, body)
    if until is None or not promising(session, model, pending, body, settle, due.held_by(session, batch.id).samples):
        return False
    owed = session.scalars(select(Obligation.ticket_id).where(mine).order_by(Obligation.ticket_id).with_for_update())
    ticket_ids = list(owed)
    tickets.lock(session, ticket_ids)
    if settle.kind == "references" and not ordered(session, model, batch, settle):
        return False
    put_back(session, batch, ticket_ids)
    samples, references = (settle.samples, None) if settle.kind == "larger_batch" else (None, settle.references)
    told = Deferral(until, batch.id, settle.says, samples, references)
    model.deferral = told.as_json()
    runs.finish(session, batch, lease, BatchState.CANCELLED, "ended", f"deferred: {told.says}")
    batch.failure = f"deferred: {told.says}"
    audit.append(
        session,
        "batch.deferred",
        "expunge",
        batch_id=batch.id,
        model_id=model.id,
        why=told.why,
        until=told.until.isoformat(),
        samples=told.samples,
        references=told.references,
        tickets=[str(ticket_id) for ticket_id in ticket_ids],
    )
    batches.say_held(session, model, told.says)
    return True


def latest(pending: Waiting, body: PolicyBody) -> datetime | None:
    """Until when the obligations may wait; None when that is over. Counted from the oldest of them."""
    assert pending.oldest is not None, "a batch that was judged has obligations"
    until = pending.oldest + timedelta(seconds=body.inconclusive.wait_seconds)
    if pending.deadline is not None:
        until = min(until, pending.deadline - timedelta(seconds=body.batching.deadline_margin_seconds))
    return until if until > pending.now else None


def promising(session: Session, model: Model, pending: Waiting, body: PolicyBody, settle: Settle, judged: int) -> bool:
    """Whether what is waited for is more than what the verdict had, and a batch that has it may be published as an update.
    `judged` are the samples that the verdict was on."""
    samples = pending.samples
    if settle.kind == "larger_batch":
        if settle.samples is None or settle.samples <= judged:
            return False
        samples = max(samples, settle.samples)
    elif settle.kind == "references":
        if settle.references is None or settle.references <= due.references(session, model.id):
            return False
    else:
        return False
    wanted, drift = replace(pending, samples=samples), due.Drift.now(session, model)
    if due.must_retrain(wanted, drift, body, model.stopped) is not None:
        return False
    return consent.share_in_window(session, model, drift, wanted, body) <= body.window.max_share


def ordered(session: Session, model: Model, batch: Batch, settle: Settle) -> bool:
    """Order the references that are wanted; False when the policy allows no bank, or none so large."""
    assert settle.references is not None
    why = f"batch {batch.id} is inconclusive: {settle.says}"
    try:
        banks.order(session, model, banks.anchor(session, model.id), settle.references, why, "expunge")
    except (Conflict, Unprocessable):
        return False
    return True


def put_back(session: Session, batch: Batch, ticket_ids: list[UUID]) -> None:
    """The batch's obligations are pending again, and so are those of their tickets that nobody else works on. They keep
    the batch's name until the next one takes them, so that their timeline tells of it. The tickets are locked."""
    mine = (Obligation.batch_id == batch.id) & (Obligation.state == ObligationState.BATCHED)
    session.execute(update(Obligation).where(mine).values(state=ObligationState.PENDING))
    other = aliased(Obligation)
    busy = select(other.ticket_id).where(other.ticket_id == Ticket.id, other.state != ObligationState.PENDING)
    waits = update(Ticket).where(among(Ticket.id, ticket_ids), Ticket.state == TicketState.WORKING, ~busy.exists())
    session.execute(waits.values(state=TicketState.PENDING))
