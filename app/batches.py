"""Which obligations are worked off together, when, and by which way: closing a batch.

A batch closes when it is large enough, its oldest obligation has waited long enough, a deadline is near, or an operator
flushes. It takes every pending obligation of its model at that moment; later tickets go to the next one.
"""

from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, true, update
from sqlalchemy.orm import Session

from app import audit, consent, disclosure, due, policy, tickets
from app.db import among
from app.errors import Conflict, NotFound
from app.tables import (
    Batch,
    BatchKind,
    BatchState,
    Model,
    Obligation,
    ObligationState,
    Policy,
    Ticket,
    TicketState,
    Trigger,
)

OPEN = (BatchState.READY, BatchState.RUNNING)

# From -> to. A state that is missing here is final.
TRANSITIONS: dict[BatchState, frozenset[BatchState]] = {
    BatchState.READY: frozenset(
        # the last two when its attempts are spent before a worker has it again: their limit may be lowered meanwhile
        {BatchState.RUNNING, BatchState.CANCELLED, BatchState.SPLIT, BatchState.QUARANTINED}
    ),
    BatchState.RUNNING: frozenset(
        {
            BatchState.RUNNING,  # another worker takes an expired lease over
            BatchState.READY,
            BatchState.PUBLISHED,
            BatchState.SPLIT,
            BatchState.QUARANTINED,
            BatchState.CANCELLED,
        }
    ),
    BatchState.QUARANTINED: frozenset({BatchState.READY}),
}


def close_due(session: Session, model_id: int) -> Batch | None:
    """Close the model's batch if it is due and no other is open; None otherwise.

    The model's row is locked (NO KEY UPDATE, so that tickets, which refer to it, go on): two sweeps cannot both close.
    """
    model = session.scalars(select(Model).where(Model.id == model_id).with_for_update(key_share=True)).one()
    still_open = select(Batch.id).where(Batch.model_id == model_id, Batch.state.in_(OPEN)).limit(1)
    if model.current_version_id is None or session.scalar(still_open) is not None:
        return None
    pending, rules = due.waiting(session, model_id), policy.current(session, model_id)
    if pending.samples == 0:
        # What was asked for is for the tickets of that time, and so is what was waited for.
        model.flush_requested_at = model.deferral = None
        consent.lapse(session, model)
        say_held(session, model, None)
        return None
    body, drift = policy.stored(rules.body), due.Drift.now(session, model)
    closing = due.closing(session, model, pending, drift, body)
    if closing is None:
        deferral = due.Deferral.of(model)
        if deferral is not None:
            say_held(session, model, deferral.says)
        return None
    company = disclosure.waits(session, model, pending, body, closing)
    if company is not None:
        say_held(session, model, company)
        return None
    passing = consent.passing(session, model, drift, pending, body, closing.kind)
    say_held(session, model, passing.held)
    if passing.waiting.oldest is None:
        return None
    if passing.held is not None:  # of all that is due a part was approved, and goes by itself
        closing = due.closing(session, model, passing.waiting, drift, body, closing.trigger) or closing
    else:
        model.flush_requested_at = model.deferral = None
    batch = open_batch(session, model, rules, closing.kind, closing.trigger, closing.why, "expunge")
    take(session, batch, [ObligationState.PENDING], passing.meant)
    consent.use(session, batch)
    closed(session, batch)
    return batch


def say_held(session: Session, model: Model, reason: str | None) -> None:
    """Show why the model's tickets wait, or that they no longer do; an event only when that changes."""
    if model.held != reason:
        model.held = reason
        audit.append(session, "model.held" if reason else "model.released", "expunge", model_id=model.id, why=reason)


def open_batch(
    session: Session, model: Model, rules: Policy, kind: BatchKind, trigger: Trigger, why: str, by: str
) -> Batch:
    """A new batch, ready, with its own copy of the policy that will judge it."""
    batch = Batch(
        model_id=model.id,
        kind=kind,
        trigger=trigger,
        state=BatchState.READY,
        policy_id=rules.id,
        policy=rules.body,
        parent_version_id=model.current_version_id,
        why=why,
        requested_by=by,
    )
    session.add(batch)
    session.flush()
    return batch


def take(
    session: Session, batch: Batch, states: list[ObligationState], meant: ColumnElement[bool] | None = None
) -> int:
    """Move the model's obligations in `states`, or those of them that are meant, into the batch; their tickets are being
    worked on from here."""
    taken = session.scalars(
        update(Obligation)
        .where(Obligation.model_id == batch.model_id, Obligation.state.in_(states))
        .where(true() if meant is None else meant)
        .values(state=ObligationState.BATCHED, batch_id=batch.id)
        .returning(Obligation.ticket_id)
    ).all()
    tickets.lock(session, taken)
    session.execute(
        update(Ticket)
        .where(among(Ticket.id, taken), Ticket.state.in_([TicketState.PENDING, TicketState.QUARANTINED]))
        .values(state=TicketState.WORKING)
    )
    return len(taken)


def closed(session: Session, batch: Batch) -> None:
    """Append the event that every batch begins with."""
    taken = session.scalars(
        select(Obligation.ticket_id).where(Obligation.batch_id == batch.id).order_by(Obligation.ticket_id)
    )
    audit.append(
        session,
        "batch.closed",
        batch.requested_by,
        batch_id=batch.id,
        model_id=batch.model_id,
        batch_kind=batch.kind,
        trigger=batch.trigger,
        why=batch.why,
        policy=batch.policy_id,
        tickets=[str(ticket) for ticket in taken],
    )


def request_retrain(session: Session, model: Model, trigger: Trigger, why: str, by: str) -> Batch:
    """A retrain as soon as a worker is free; one that waits already is returned instead of a second."""
    session.execute(select(Model.id).where(Model.id == model.id).with_for_update(key_share=True))
    waits = select(Batch).where(
        Batch.model_id == model.id,
        Batch.state == BatchState.READY,
        Batch.kind.in_([BatchKind.RETRAIN, BatchKind.TRAIN]),
    )
    batch = session.scalar(waits)
    if batch is not None:
        return batch
    kind = BatchKind.RETRAIN if model.current_version_id else BatchKind.TRAIN
    batch = open_batch(session, model, policy.current(session, model.id), kind, trigger, why, by)
    closed(session, batch)
    return batch


def flush(session: Session, model: Model, by: str, why: str | None = None) -> None:
    """Let the model's next batch close at once. The cap on the share forgotten holds all the same."""
    model.flush_requested_at = func.now()
    audit.append(session, "batch.flush", by, model_id=model.id, **reason(why))


def reason(why: str | None) -> dict[str, str]:
    """For an event that has a reason where somebody gave one."""
    return {} if why is None else {"why": why}


def move(batch: Batch, to: BatchState) -> None:
    """One transition of a batch whose row the caller has locked."""
    if to not in TRANSITIONS.get(batch.state, frozenset()):
        raise AssertionError(f"no batch goes from {batch.state} to {to}")
    batch.state = to


def claimable() -> ColumnElement[bool]:
    """A batch that a worker may take: ready and rested, or running with a lease that ran out."""
    return or_(
        (Batch.state == BatchState.READY) & (Batch.not_before <= func.now()),
        (Batch.state == BatchState.RUNNING) & (Batch.lease_until < func.now()),
    )


def get(session: Session, batch_id: UUID) -> Batch:
    batch = session.get(Batch, batch_id)
    if batch is None:
        raise NotFound("No batch of that id.")
    return batch


def locked(session: Session, batch_id: UUID) -> Batch:
    """The batch, until the transaction ends nobody else's."""
    batch = session.scalar(select(Batch).where(Batch.id == batch_id).with_for_update())
    if batch is None:
        raise NotFound("No batch of that id.")
    return batch


def cancel(session: Session, batch_id: UUID, why: str, by: str) -> Batch:
    """Take back a retrain that was ordered and that no worker has. Raises `NotFound`, or `Conflict` for any other; for one that
    holds tickets, which are owed an answer; and for one that an approver wants in place of an update."""
    seen = get(session, batch_id)
    session.execute(select(Model.id).where(Model.id == seen.model_id).with_for_update(key_share=True))
    # Not waited for: a worker that has begun with the batch locks it before the model.
    ready = select(Batch).where(Batch.id == batch_id, Batch.state == BatchState.READY).with_for_update(skip_locked=True)
    batch = session.scalar(ready.execution_options(populate_existing=True))
    if batch is None:
        session.refresh(seen)
        raise Conflict(f"The batch is {seen.state}; only one that waits for a worker can be cancelled.")
    if batch.kind is BatchKind.TRAIN:
        raise Conflict("It is the model's first training, and its tickets could only wait without one. Let it run.")
    if session.scalar(select(Obligation.ticket_id).where(Obligation.batch_id == batch_id).limit(1)) is not None:
        raise Conflict("The batch holds tickets, which are owed an answer. Let it run.")
    if consent.wants_retrain(session, batch.model_id):
        raise Conflict("An approver refused an update of tickets that wait and wants a retrain instead. Let it run.")
    move(batch, BatchState.CANCELLED)
    batch.finished_at, batch.step, batch.failure = func.now(), None, f"cancelled by {by}: {why}"
    audit.append(session, "batch.withdrawn", by, batch_id=batch_id, model_id=batch.model_id, why=why)
    session.flush()
    session.refresh(batch)
    return batch


def retry(session: Session, batch_id: UUID, by: str, why: str | None = None) -> Batch:
    """Give a quarantined batch its attempts back, with the obligations it still has."""
    batch = locked(session, batch_id)
    if batch.state is not BatchState.QUARANTINED:
        raise Conflict(f"The batch is {batch.state}; only a quarantined one can be tried again.")
    move(batch, BatchState.READY)
    batch.attempt, batch.not_before, batch.failure, batch.finished_at = 0, func.now(), None, None
    mine = (Obligation.batch_id == batch_id) & (Obligation.state == ObligationState.QUARANTINED)
    ticket_ids = session.scalars(
        update(Obligation).where(mine).values(state=ObligationState.BATCHED).returning(Obligation.ticket_id)
    ).all()
    session.execute(
        update(Ticket)
        .where(among(Ticket.id, ticket_ids), Ticket.state == TicketState.QUARANTINED)
        .values(state=TicketState.WORKING)
    )
    audit.append(session, "batch.retried", by, batch_id=batch_id, model_id=batch.model_id, **reason(why))
    return batch
