"""A ticket's whole life: accepted, worked off, fulfilled; or cancelled before a batch took it.

A ticket is accepted in one transaction with its tombstones, its obligations, its idempotency key and its audit event:
an answer 202 means that all of them are on disk, and any other answer that none is.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg import Cursor
from sqlalchemy import Date, Select, delete, false, func, insert, select, text, tuple_, update
from sqlalchemy.orm import Session, selectinload

from app import audit, intake, lineage, manifests
from app.db import among, changed, cursor
from app.errors import Conflict, InFlight, KeyReused, NotFound, NothingKnown
from app.intake import Counts
from app.tables import (
    DailyIds,
    Idempotency,
    Obligation,
    ObligationState,
    Reason,
    RiskTier,
    Ticket,
    TicketState,
    Tombstone,
)
from expunge.evidence.commitment import SALT_BYTES, commitment

# From -> to. A state that is missing here is final.
TRANSITIONS: dict[TicketState, frozenset[TicketState]] = {
    TicketState.PENDING: frozenset({TicketState.WORKING, TicketState.CANCELLED, TicketState.FULFILLED}),
    TicketState.WORKING: frozenset({TicketState.PENDING, TicketState.FULFILLED, TicketState.QUARANTINED}),
    TicketState.QUARANTINED: frozenset({TicketState.WORKING, TicketState.PENDING, TicketState.FULFILLED}),
}


@dataclass(frozen=True)
class Submission:
    """A ticket as asked for. The id lists hold each id once."""

    dataset: str
    sample_ids: list[str]
    subject_ids: list[str]
    reason: Reason
    risk_tier: RiskTier
    external_id: str | None
    deadline_at: datetime | None


@dataclass(frozen=True)
class Accepted:
    """A ticket as the answer to its request shows it: just made, or as it stands by now for a key that came again."""

    ticket_id: UUID
    replayed: bool
    state: TicketState
    counts: Counts
    models: int
    """How many models owe something, or did."""
    model_ids: list[int]
    """Models that owe something since just now: nudge these after the commit."""


def submit(
    session: Session,
    client: str,
    asked: Submission,
    key: str | None = None,
    body: bytes = b"",
    ids_per_day: int | None = None,
) -> Accepted:
    """Accept a ticket, or say which ticket this `Idempotency-Key` already made.

    Raises `InFlight`, `KeyReused`, `Conflict` (external id taken), `NotFound` (dataset), `NothingKnown`, `TooMany`. Two tickets
    that race for one sample may both count it as accepted; both then carry an obligation, so neither can be lost.
    """
    ticket_id, digest, salt = uuid4(), hashlib.sha256(body).digest(), secrets.token_bytes(SALT_BYTES)
    with cursor(session) as opened:
        values = vars(asked) | {"ticket_id": ticket_id, "client": client, "key": key, "digest": digest, "salt": salt}
        met = intake.accept(opened, values)
        if met.earlier_ticket is not None:
            return replay(session, met, digest)
        dataset_id = dataset_of(session, client, asked, key, met)
        if ids_per_day is not None:
            intake.count_ids(opened, client, len(asked.sample_ids) + len(asked.subject_ids), ids_per_day)
        committed = commitment(salt, asked.sample_ids, asked.subject_ids)
        owing = owe(session, opened, client, asked, ticket_id, dataset_id, met.counts, committed)
    if not owing:  # every model has forgotten the samples already, or none was ever trained on them
        settle(session, [ticket_id])
    state = TicketState.PENDING if owing else TicketState.FULFILLED
    return Accepted(ticket_id, False, state, met.counts, len(owing), owing)


def replay(session: Session, met: intake.Met, digest: bytes) -> Accepted:
    """The ticket that this key made before, as it stands now."""
    if met.earlier_digest != digest:
        raise KeyReused("This Idempotency-Key made another ticket. Use a new key for a new request.")
    made = session.get_one(Ticket, met.earlier_ticket)
    known = made.accepted + made.already_forgotten + made.pending_elsewhere
    counts = Counts(known, made.unknown, made.already_forgotten, made.pending_elsewhere)
    owed = session.scalar(select(func.count()).select_from(Obligation).where(Obligation.ticket_id == made.id))
    return Accepted(made.id, True, made.state, counts, owed or 0, [])


def key_used(session: Session, client: str, key: str | None) -> bool:
    """Whether this `Idempotency-Key` of the client's has made a ticket."""
    made = select(Idempotency.ticket_id).where(Idempotency.client == client, Idempotency.key == key)
    return key is not None and session.scalar(made) is not None


def forget_old_counts(session: Session) -> int:
    """Drop what clients named on days that are over; returns how many counts went."""
    over = func.timezone("UTC", func.now()).cast(Date) - 1
    return changed(session, delete(DailyIds).where(DailyIds.day < over))


def dataset_of(session: Session, client: str, asked: Submission, key: str | None, met: intake.Met) -> int:
    """The dataset of the ticket just made. Raises what kept it from being made, if anything did."""
    if not met.key_free or (key is not None and met.ticket_made and not met.key_kept):
        raise InFlight("Wait for the first request's answer, then repeat this one with the same key.")
    if met.dataset_id is None:
        raise manifests.no_such_dataset()
    if met.counts.samples == 0:
        raise NothingKnown(
            "None of the ids stands in the manifest of this dataset. Check that they are the ids it was loaded with."
        )
    if not met.ticket_made:
        query = select(Ticket.id).where(Ticket.client == client, Ticket.external_id == asked.external_id)
        taken = session.scalar(query)
        raise Conflict("This external_id has a ticket already.", headers={"Location": f"/deletions/{taken}"})
    return met.dataset_id


def owe(
    session: Session,
    opened: Cursor[Any],
    client: str,
    asked: Submission,
    ticket_id: UUID,
    dataset_id: int,
    counts: Counts,
    committed: str,
) -> list[int]:
    """Fan out: an obligation for each model that still holds some of the samples, and the event that says so, with the
    commitment to the ids. Returns those models' ids. Where training was unlawful, a model that was made to forget them
    approximately owes a retrain."""
    told = {"dataset": asked.dataset, "reason": asked.reason, "risk_tier": asked.risk_tier} | vars(counts)
    told["commitment"] = committed
    common = {"ticket_id": ticket_id, "deadline_at": asked.deadline_at}
    if not counts.already_forgotten and not counts.pending_elsewhere:  # nobody named any of them before: all hold all
        values = common | {"dataset_id": dataset_id, "samples": counts.samples}
        event = audit.event("ticket.accepted", client, ticket_id=ticket_id, models=[], **told)
        return intake.owe_all(opened, values, event)
    exact = asked.reason is Reason.UNLAWFUL_TRAINING
    counted = (lineage.trained_on_by_model if exact else lineage.held_by_model)(session, dataset_id, ticket_id)
    held = {m: n for m, n in counted.items() if n}
    rows = [common | {"model_id": m, "samples": n, "state": ObligationState.PENDING} for m, n in held.items()]
    if rows:
        session.execute(insert(Obligation), rows)
    audit.append(session, "ticket.accepted", client, ticket_id=ticket_id, models=list(held), **told)
    return list(held)


def destroy_salts(session: Session, days: int) -> int:
    """Destroy the salts of tickets that ended so long ago, a thousand at a time: from then on nothing leads from the log to
    an id that such a ticket named. Returns how many went; the log says so of each."""
    over = func.now() - timedelta(days=days)
    due = select(Ticket.id).where(Ticket.salt.is_not(None), Ticket.closed_at < over).order_by(Ticket.id).limit(1000)
    gone = session.scalars(due.with_for_update(skip_locked=True)).all()
    session.execute(update(Ticket).where(among(Ticket.id, gone)).values(salt=None))
    audit.append_each(session, "ticket.salt_destroyed", "expunge", gone)
    return len(gone)


def before(to: TicketState) -> list[TicketState]:
    """The states from which a ticket may come to `to`."""
    return [frm for frm, onward in TRANSITIONS.items() if to in onward]


def move(session: Session, ticket_id: UUID, frm: TicketState, to: TicketState) -> bool:
    """One transition, guarded by the state it starts from; False when somebody else was faster."""
    if to not in TRANSITIONS.get(frm, frozenset()):
        raise AssertionError(f"no ticket goes from {frm} to {to}")
    moved = update(Ticket).where(Ticket.id == ticket_id, Ticket.state == frm).values(state=to)
    return changed(session, moved) == 1


def settle(session: Session, ticket_ids: list[UUID], batch_id: UUID | None = None) -> None:
    """Bring tickets up to date with their obligations: fulfilled when none is open, releasable when none needs the data.

    The tickets are locked first, in one order. Of two models that close their last obligations at the same time the
    second therefore sees what the first did; without the lock each would leave the ticket to the other, for ever.
    """
    lock(session, ticket_ids)
    open_states = [ObligationState.PENDING, ObligationState.BATCHED, ObligationState.QUARANTINED]
    # An aggregate, not EXISTS, which might become a join: see RELEASE.
    is_open = select(func.bool_or(Obligation.state.in_(open_states))).where(Obligation.ticket_id == Ticket.id)
    fulfilled = session.scalars(
        update(Ticket)
        .where(among(Ticket.id, ticket_ids), Ticket.state.in_(before(TicketState.FULFILLED)))
        .where(func.coalesce(is_open.scalar_subquery(), false()).is_(False))
        .values(state=TicketState.FULFILLED, closed_at=func.now())
        .returning(Ticket.id)
    ).all()
    audit.append_each(session, "ticket.fulfilled", "expunge", fulfilled, batch_id=batch_id)
    release(session, ticket_ids)


def lock(session: Session, ticket_ids: Sequence[UUID]) -> None:
    """Lock tickets in one order, whoever asks, so that two models working on the same ones cannot block each other."""
    locked = select(Ticket.id).where(among(Ticket.id, ticket_ids)).order_by(Ticket.id)
    session.execute(locked.with_for_update(key_share=True))


# Whether a sample is still needed is asked by aggregates, one inside the other, since the planner must not make a join of
# them: it would begin with all obligations that are not released, of which it knows a few, while this very transaction
# has just made thousands, and the time would grow with the square of the batch.
RELEASE = text(
    """
    WITH sharing AS MATERIALIZED (
        SELECT DISTINCT named.ticket_id FROM tombstone AS same
        JOIN tombstone AS named ON named.dataset_id = same.dataset_id AND named.ordinal = same.ordinal
        WHERE same.ticket_id = ANY (CAST(:tickets AS uuid[]))
    )
    UPDATE ticket SET data_releasable_at = now() FROM sharing
    WHERE ticket.id = sharing.ticket_id AND ticket.state = 'fulfilled' AND ticket.data_releasable_at IS NULL
      AND NOT coalesce((
        SELECT bool_or((
            SELECT bool_or((
                SELECT bool_or(obligation.state = 'fulfilled' AND obligation.released_at IS NULL)
                FROM obligation WHERE obligation.ticket_id = same.ticket_id
            )) FROM tombstone AS same WHERE same.dataset_id = named.dataset_id AND same.ordinal = named.ordinal
        )) FROM tombstone AS named WHERE named.ticket_id = ticket.id
      ), false)
    RETURNING ticket.id
    """
)


def release(session: Session, ticket_ids: list[UUID]) -> None:
    """Mark as releasable the fulfilled tickets none of whose samples is still needed; also tickets that share samples.

    A sample that two tickets name is needed until the obligation that made a model forget it is released, whichever of
    the two that was: the later ticket may owe nothing and must wait all the same.
    """
    released = session.scalars(RELEASE, {"tickets": ticket_ids}).all()
    audit.append_each(session, "ticket.data_releasable", "expunge", released)


def cancel(session: Session, client: str | None, ticket_id: UUID, by: str, why: str | None = None) -> Ticket:
    """Take a ticket back while no batch has taken any of its obligations. Its samples may be trained on again,
    unless another ticket names them.

    The obligations are locked first: a batch that closes at the same time either takes them before, and the cancel is
    refused, or finds them cancelled.
    """
    ticket = get(session, client, ticket_id)
    held = select(Obligation.state).where(Obligation.ticket_id == ticket_id).with_for_update()
    states = set(session.scalars(held))
    if ticket.state is not TicketState.PENDING or states - {ObligationState.PENDING}:
        raise Conflict(f"The ticket is {ticket.state}: a batch has taken it, or it has ended.")
    moved = move(session, ticket_id, TicketState.PENDING, TicketState.CANCELLED)
    if not moved:
        raise Conflict("The ticket has just been taken by a batch.")
    session.execute(update(Obligation).where(Obligation.ticket_id == ticket_id).values(state=ObligationState.CANCELLED))
    session.execute(delete(Tombstone).where(Tombstone.ticket_id == ticket_id))
    session.execute(update(Ticket).where(Ticket.id == ticket_id).values(closed_at=func.now(), data_removed_at=None))
    audit.append(session, "ticket.cancelled", by, ticket_id=ticket_id, **({} if why is None else {"why": why}))
    session.refresh(ticket)
    return ticket


def visible(client: str | None) -> Select[Ticket]:
    """Tickets this client may see: its own, or all for None (an admin). The filter is in the query, never after it."""
    query = select(Ticket).options(
        selectinload(Ticket.dataset),
        selectinload(Ticket.obligations).selectinload(Obligation.model),
        selectinload(Ticket.obligations).selectinload(Obligation.version),
        selectinload(Ticket.obligations).selectinload(Obligation.batch),
        selectinload(Ticket.obligations).selectinload(Obligation.approval),
    )
    return query if client is None else query.where(Ticket.client == client)


def get(session: Session, client: str | None, ticket_id: UUID) -> Ticket:
    """The ticket, or `NotFound`, also for one that belongs to somebody else."""
    ticket = session.scalar(visible(client).where(Ticket.id == ticket_id))
    if ticket is None:
        raise NotFound("No ticket of that id among yours.")
    return ticket


@dataclass(frozen=True)
class Filter:
    state: TicketState | None = None
    dataset: str | None = None
    external_id: str | None = None
    overdue: bool = False


def page(
    session: Session, client: str | None, wanted: Filter, limit: int, after: tuple[datetime, UUID] | None
) -> list[Ticket]:
    """Tickets, newest first, at most `limit`, behind the keyset position `after`."""
    query = visible(client).order_by(Ticket.created_at.desc(), Ticket.id.desc()).limit(limit)
    if wanted.state is not None:
        query = query.where(Ticket.state == wanted.state)
    if wanted.dataset is not None:
        query = query.where(Ticket.dataset.has(name=wanted.dataset))
    if wanted.external_id is not None:
        query = query.where(Ticket.external_id == wanted.external_id)
    if wanted.overdue:
        query = query.where(Ticket.deadline_at < func.now(), Ticket.closed_at.is_(None))
    if after is not None:
        query = query.where(tuple_(Ticket.created_at, Ticket.id) < after)
    return list(session.scalars(query))


def timeline(session: Session, ticket: Ticket) -> list[dict[str, Any]]:
    """What happened to the ticket and to the batches that took it, oldest first.

    Of a batch's events only when and what is told: the rest may name other clients' tickets.
    """
    events = audit.timeline(session, ticket_id=ticket.id)
    for batch_id in {owed.batch_id for owed in ticket.obligations if owed.batch_id}:
        of_batch = [event for event in audit.timeline(session, batch_id=batch_id) if event["ticket"] is None]
        events += [{name: event[name] for name in ("seq", "at", "kind", "batch")} for event in of_batch]
    return sorted(events, key=lambda event: int(event["seq"]))


def forget_old_keys(session: Session, days: int) -> None:
    """Prune idempotency keys past their term; the ticket's external_id stays a guard for ever."""
    session.execute(delete(Idempotency).where(Idempotency.created_at < func.now() - timedelta(days=days)))
