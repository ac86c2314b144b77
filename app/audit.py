"""The append-only log: every state change, in the same transaction, each row chained to all before it.

hash(n) = SHA-256(hash(n-1) || n as 8 bytes, big-endian || body), hash(0) = 32 zero bytes. The database computes it in the
one statement that also takes the number, so numbers have no gaps and nobody can append between two others. The row
lock on `audit_head` is held until commit: append last, so that it is held for the commit alone.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Result, func, select
from sqlalchemy.orm import Session

from app.db import cursor
from app.tables import AuditEvent, AuditHead, Batch, Restoration, Ticket, Version
from app.tree import Watch

# Takes the next number, chains the hash and writes the event, for a statement that has its text in `event`.
CHAIN = """
    head AS (
        UPDATE audit_head
        SET seq = seq + 1, hash = sha256(hash || int8send(seq + 1) || convert_to(event.body, 'UTF8'))
        FROM event RETURNING seq, hash
    ), logged AS (
        INSERT INTO audit_event (seq, kind, ticket_id, batch_id, model_id, body, hash)
        SELECT seq, %(kind)s, %(ticket_id)s, %(batch_id)s, %(model_id)s, body, hash FROM head, event
    )
"""
APPEND = "WITH event AS (SELECT %(body)s::text AS body), " + CHAIN + "SELECT seq FROM head"  # noqa: S608 - joined from constants


def append(session: Session, kind: str, actor: str, **told: Any) -> None:
    """Append one event; see `event` for what it may hold."""
    session.flush()  # the change first, then its event: the lock on the head is taken as late as can be
    with cursor(session) as opened:
        opened.execute(APPEND, event(kind, actor, **told), prepare=True)


def append_each(session: Session, kind: str, actor: str, ticket_ids: Sequence[UUID], **told: Any) -> None:
    """Append one event of the kind for each ticket: a batch may close ten thousand of them, and while the head is locked
    no ticket is accepted anywhere. So the hashes are computed here and the rows go in one COPY."""
    if not ticket_ids:
        return
    session.flush()
    events = [event(kind, actor, ticket_id=ticket_id, **told) for ticket_id in ticket_ids]
    with cursor(session) as opened:
        (head,) = opened.execute("SELECT seq, hash FROM audit_head FOR UPDATE", prepare=True)
        seq, running = int(head[0]), bytes(head[1])
        with opened.copy(f"COPY audit_event ({', '.join(COLUMNS)}) FROM STDIN") as rows:
            for each in events:
                seq += 1
                running = hashlib.sha256(running + seq.to_bytes(8, "big") + each["body"].encode()).digest()
                rows.write_row([{**each, "seq": seq, "hash": running}[column] for column in COLUMNS])
        opened.execute("UPDATE audit_head SET seq = %s, hash = %s", (seq, running))


OF_ITSELF = ("audit.exported", "audit.checkpointed")
"""What the log tells of its own publications: no news to them, or each would be the reason for the next."""
COLUMNS = ("seq", "kind", "ticket_id", "batch_id", "model_id", "body", "hash")


def event(
    kind: str,
    actor: str,
    *,
    ticket_id: UUID | None = None,
    batch_id: UUID | None = None,
    model_id: int | None = None,
    **data: Any,
) -> dict[str, Any]:
    """One event as `APPEND` takes it. `data` must be JSON and must not hold sample or subject ids: the log outlives them."""
    body = {
        "at": datetime.now(UTC).isoformat(),
        "kind": kind,
        "actor": actor,
        "ticket": str(ticket_id) if ticket_id else None,
        "batch": str(batch_id) if batch_id else None,
        "model": model_id,
        "data": data,
    }
    return {"kind": kind, "ticket_id": ticket_id, "batch_id": batch_id, "model_id": model_id, "body": canonical(body)}


def canonical(value: Any) -> str:
    """JSON with sorted keys, no spaces, no NaN: one text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def timeline(
    session: Session, *, ticket_id: UUID | None = None, batch_id: UUID | None = None, tickets: bool = True
) -> list[dict[str, Any]]:
    """Events of one ticket or one batch, oldest first; without `tickets` nothing that names a ticket, for whoever may
    see some clients' only."""
    query = select(AuditEvent.seq, AuditEvent.body).order_by(AuditEvent.seq)
    if ticket_id is not None:
        query = query.where(AuditEvent.ticket_id == ticket_id)
    if batch_id is not None:
        query = query.where(AuditEvent.batch_id == batch_id)
    events = [{"seq": seq} | json.loads(body) for seq, body in session.execute(query)]
    if tickets:
        return events
    for each in events:
        each["data"].pop("tickets", None)
    return [each for each in events if each["ticket"] is None]


@dataclass(frozen=True)
class Verification:
    """What `expunge audit verify` found: how far it read, the first thing that does not hold, and where the log goes on
    from a back-up instead of from what came after it."""

    events: int
    head: str
    fault: str | None
    restored: tuple[str, ...] = ()


def verify(session: Session) -> Verification:
    """Recompute chain and tree row by row, hold them against the head, the checkpoints and the state they should explain.

    The head is read first and the chain up to it, so that events appended meanwhile are no fault.
    """
    head = session.execute(select(AuditHead.seq, AuditHead.hash)).one()
    watch = Watch(session)
    with rows(session, head.seq) as found:
        seq, running, fault = follow(watch.pass_on(found))
    fault = fault or watch.fault or (watch.beyond() if seq == head.seq else None)
    if fault is None and (head.seq, head.hash) != (seq, running):
        fault = f"the log ends at event {seq}, its head says {head.seq}"
    fault = fault or beyond_head(session) or unexplained(session) or unmarked(session)
    return Verification(seq, running.hex(), fault, tuple(restorations(session)))


def unmarked(session: Session) -> str | None:
    """A restoration that the log does not tell of where it happened, right after the back-up's last event."""
    event = select(AuditEvent.seq).where(AuditEvent.kind == "installation.restored")
    told = session.scalar(select(func.count()).select_from(event.subquery())) or 0
    kept = session.scalar(select(func.count()).select_from(Restoration)) or 0
    if told != kept:
        return f"{kept} restorations stand against {told} installation.restored events"
    for row in session.scalars(select(Restoration).order_by(Restoration.id)):
        found = session.scalar(select(AuditEvent.hash).where(AuditEvent.seq == row.seq))
        if row.seq and found != row.hash:
            return f"the log was restored at event {row.seq}, whose hash is not the back-up's"
    return None


def restorations(session: Session) -> list[str]:
    """Where the log goes on from a back-up, in sentences."""
    said = []
    for row in session.scalars(select(Restoration).order_by(Restoration.id)):
        sentence = (
            f"Restored from back-up {row.backup}: after event {row.seq} ({row.hash.hex()}) this log goes on anew."
        )
        if row.resolved_at is None:
            sentence += " What came after it is not replayed, and nothing is trained or published."
        elif row.journal_hash is not None:
            sentence += (
                f" The lost log had gone on to event {row.journal_seq} ({row.journal_hash.hex()}), as far as it was "
                f"exported; {row.resolved_by} replayed it."
            )
        else:
            sentence += f" {row.resolved_by} declared that nothing newer came: {row.why}"
        said.append(sentence)
    return said


def rows(session: Session, last: int) -> Result[Any]:
    """The log's rows up to number `last`, in order, a thousand at a time; to be closed when not read to the end."""
    columns = (AuditEvent.kind, AuditEvent.ticket_id, AuditEvent.batch_id, AuditEvent.model_id)
    query = select(AuditEvent.seq, *columns, AuditEvent.body, AuditEvent.hash)
    query = query.where(AuditEvent.seq <= last).order_by(AuditEvent.seq)
    return session.execute(query.execution_options(yield_per=1000))


def follow(found: Iterable[Any]) -> tuple[int, bytes, str | None]:
    """Walk along the chain: how far it holds, its hash there, and what is wrong with the event after that, if any is."""
    seq, running = 0, bytes(32)
    for row in found:
        following = seq + 1
        if row.seq != following:
            return seq, running, f"event {following} is missing: the next one found is {row.seq}"
        expected = hashlib.sha256(running + following.to_bytes(8, "big") + row.body.encode()).digest()
        if expected != row.hash:
            return seq, running, f"event {following} was changed: its hash does not follow"
        body = json.loads(row.body)
        columns = (row.kind, str(row.ticket_id or "") or None, str(row.batch_id or "") or None, row.model_id)
        if columns != (body["kind"], body["ticket"], body["batch"], body["model"]):
            return seq, running, f"event {following} was changed: its columns differ from its body"
        seq, running = following, expected
    return seq, running, None


def beyond_head(session: Session) -> str | None:
    """Events that the head does not know of: it was set back. One statement, so that an append cannot come between."""
    last = select(func.coalesce(func.max(AuditEvent.seq), 0)).scalar_subquery()
    head, found = session.execute(select(AuditHead.seq, last)).one()
    return None if head == found else f"the log ends at event {found}, its head says {head}"


def unexplained(session: Session) -> str | None:
    """A ticket, batch or version that the log does not know of, said in one sentence, or None."""
    for table, kind, column in (
        (Ticket, "ticket.accepted", AuditEvent.ticket_id),
        (Batch, "batch.closed", AuditEvent.batch_id),
    ):
        known = select(AuditEvent.seq).where(AuditEvent.kind == kind, column == table.id).exists()
        missing = session.scalar(select(func.count()).select_from(table).where(~known))
        if missing:
            return f"{missing} row(s) of {table.__tablename__} have no {kind} event"
    events = select(func.count()).where(AuditEvent.kind == "version.published").scalar_subquery()
    published, versions = session.execute(select(events, func.count()).select_from(Version)).one()
    if published != versions:
        return f"{versions} versions stand against {published} version.published events"
    return None
