"""Bring back what came after a restored back-up: tickets and their tombstones, from the journal. Then the lock is lifted."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from obstore.store import ObjectStore
from psycopg import Cursor
from sqlalchemy import func, insert, select
from sqlalchemy.dialects.postgresql import insert as insert_or_skip
from sqlalchemy.orm import Session

from app import audit, lineage, tickets
from app.db import cursor
from app.errors import Conflict, Corrupt
from app.recovery import again, journal
from app.recovery.archive import Head, check_digest
from app.tables import Dataset, Idempotency, Obligation, ObligationState, Reason, Restoration, Ticket, TicketState

BURY = "INSERT INTO tombstone (dataset_id, ordinal, ticket_id) SELECT %s, unnest(%s::bigint[]), %s"


@dataclass
class Newer:
    """What the journal holds after the back-up."""

    tickets: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    accepted: dict[UUID, int] = field(default_factory=dict)
    """Of each ticket that was accepted the count of its samples, as the log has it."""
    cancelled: set[UUID] = field(default_factory=set)
    others: list[dict[str, Any]] = field(default_factory=list)
    """Events that may be done again, in order."""
    by_hand: Counter[str] = field(default_factory=Counter)
    """What an operator has to do again, by kind."""
    models: set[int] = field(default_factory=set)
    """Numbers of models that were registered after the back-up."""
    ends: Head = journal.START
    written_at: str = ""
    sha256: str = ""
    """Of the newest segment."""


@dataclass(frozen=True)
class Replayed:
    """What a replay did. With `waiting` datasets the lock stands: their tickets could not be brought back yet."""

    tickets: int
    samples: int
    known: int
    cancelled: int
    reopened: int
    """Tickets that were fulfilled by versions that are lost."""
    again: int
    """Keys revoked, policies changed and the like."""
    waiting: dict[str, int]
    newer: Newer


def read(archive: ObjectStore, restored: Restoration, sha256: str | None = None) -> Newer:
    """All that the journal holds after the back-up's head.

    Raises:
        Conflict: the journal never passed through that head: it ends before it, or is another log's.
        Corrupt: the journal does not hold, or its newest segment has not this SHA-256.
    """
    newer, back_up = Newer(), Head(restored.seq, restored.hash.hex())
    passed = later = back_up == journal.START
    for what, body in journal.walk(archive):
        if what == "segment":
            newer.ends, newer.written_at, newer.sha256 = body.ends, body.written_at, body.sha256
        elif what == "event":
            later = passed
            passed = passed or (body["seq"], body["hash"]) == (back_up.seq, back_up.hash)
            if later:
                note(newer, json.loads(body["body"]))
        elif later:  # the event before it is
            newer.tickets[UUID(body["id"])] = body
    if not passed:
        raise Conflict(
            f"The journal does not reach the back-up: it ends at event {newer.ends.seq}, and the back-up was taken at event "
            f"{back_up.seq}. If it is this installation's, nothing in it is newer, and whether anything else is, it cannot say: "
            "declare it with --nothing-newer."
        )
    check_digest("The newest segment of the journal", newer.sha256, sha256)
    check_counts(newer)
    return newer


def check_counts(newer: Newer) -> None:
    """Raise `Corrupt` unless each ticket that the log accepted, and of which it does not say that it was taken back, is there
    with as many samples as it says. The lines about tickets are no part of the chain; the counts are."""
    if newer.tickets.keys() - newer.accepted.keys():
        raise Corrupt("The journal has a ticket that its log did not accept. Nothing was replayed.")
    for ticket_id, samples in newer.accepted.items():
        if ticket_id in newer.cancelled:
            continue
        told = newer.tickets.get(ticket_id)
        if told is None or len(set(told["ordinals"])) != samples:
            raise Corrupt(
                f"The samples of ticket {ticket_id} in the journal are not as many as its log says. Nothing was replayed."
            )


def note(newer: Newer, event: dict[str, Any]) -> None:
    """Sort one event by what is to be done about it."""
    if event["kind"] == "ticket.accepted":
        newer.accepted[UUID(event["ticket"])] = event["data"]["samples"]
    elif event["kind"] == "ticket.cancelled":
        newer.cancelled.add(UUID(event["ticket"]))
    elif event["kind"] in again.DONE:
        newer.others.append(event)
    elif again.by_hand(event):
        newer.by_hand[event["kind"]] += 1
        if event["kind"] == "model.registered":
            newer.models.add(event["model"])


def replay(session: Session, archive: ObjectStore, by: str, sha256: str | None = None) -> Replayed:
    """Bring back every ticket of the journal that the back-up did not know, and lift the lock if that was all.

    May be run again: what is there already stays as it is. Raises `Conflict` when nothing was restored, and as `read` does.
    """
    restored = locked(session)
    newer = read(archive, restored, sha256)
    datasets = {(row.name, row.manifest_digest): row.id for row in session.scalars(select(Dataset))}
    known = set(session.scalars(select(Ticket.id).where(Ticket.id.in_(newer.tickets)))) if newer.tickets else set()
    waiting: Counter[str] = Counter()
    done, samples, reopened = 0, 0, 0
    for ticket_id, told in newer.tickets.items():
        if ticket_id in known or ticket_id in newer.cancelled:
            continue
        dataset_id = datasets.get((told["dataset"], told["manifest"]))
        if dataset_id is None:
            waiting[told["dataset"]] += 1
            continue
        readmit(session, ticket_id, dataset_id, told)
        done, samples = done + 1, samples + len(told["ordinals"])
        reopened += told["state"] == TicketState.FULFILLED
    cancelled = cancel(session, newer.cancelled)
    repeated = sum(again.do(session, event, newer.models) for event in newer.others)
    if not waiting:
        restored.journal_seq, restored.journal_hash = newer.ends.seq, bytes.fromhex(newer.ends.hash)
        resolve(session, restored, by, None, tickets=done, samples=samples, cancelled=cancelled, reopened=reopened)
    return Replayed(done, samples, len(known), cancelled, reopened, repeated, dict(waiting), newer)


def locked(session: Session) -> Restoration:
    """The restoration to resolve, locked. Raises `Conflict` when there is none."""
    query = select(Restoration).where(Restoration.resolved_at.is_(None)).order_by(Restoration.id.desc()).limit(1)
    restored = session.scalar(query.with_for_update())
    if restored is None:
        raise Conflict("This database was not restored from a back-up, or what came after it is replayed already.")
    return restored


def readmit(session: Session, ticket_id: UUID, dataset_id: int, told: dict[str, Any]) -> None:
    """One ticket with all that it had when it was answered. Whatever had fulfilled it is lost, so every model that holds
    some of its samples owes it again."""
    made = {
        "id": ticket_id,
        "dataset_id": dataset_id,
        "external_id": free(session, told["client"], told["external_id"]),
        "state": TicketState.PENDING,
        "deadline_at": moment(told["deadline_at"]),
        "created_at": moment(told["created_at"]),
        "data_removed_at": moment(told["created_at"]),
        "salt": bytes.fromhex(told["salt"]) if told.get("salt") else None,  # journals of earlier releases have none
    }
    copied = ("client", "reason", "risk_tier", "accepted", "unknown", "already_forgotten", "pending_elsewhere")
    session.execute(insert(Ticket).values(made | {name: told[name] for name in copied}))
    with cursor(session) as opened:
        bury(opened, dataset_id, told["ordinals"], ticket_id)
    if told["key"] is not None:
        remember(session, told["client"], ticket_id, told["key"])
    exact = told["reason"] == Reason.UNLAWFUL_TRAINING
    counted = (lineage.trained_on_by_model if exact else lineage.held_by_model)(session, dataset_id, ticket_id)
    held = {model_id: count for model_id, count in counted.items() if count}
    common = {"ticket_id": ticket_id, "state": ObligationState.PENDING, "deadline_at": made["deadline_at"]}
    rows = [common | {"model_id": m, "samples": n, "created_at": made["created_at"]} for m, n in held.items()]
    if rows:
        session.execute(insert(Obligation), rows)
    audit.append(
        session,
        "ticket.accepted",
        told["client"],
        ticket_id=ticket_id,
        models=list(held),
        dataset=told["dataset"],
        reason=told["reason"],
        risk_tier=told["risk_tier"],
        samples=len(told["ordinals"]),
        commitment=told.get("commitment"),
        replayed={"at": told["created_at"], "was": told["state"]},
    )
    if not held:
        tickets.settle(session, [ticket_id])


def bury(opened: Cursor[Any], dataset_id: int, ordinals: list[int], ticket_id: UUID) -> None:
    opened.execute(BURY, (dataset_id, ordinals, ticket_id))


def free(session: Session, client: str, external_id: str | None) -> str | None:
    """The ticket's external id, unless its client has sent it again since."""
    if external_id is None:
        return None
    taken = select(Ticket.id).where(Ticket.client == client, Ticket.external_id == external_id)
    return None if session.scalar(taken) is not None else external_id


def remember(session: Session, client: str, ticket_id: UUID, key: dict[str, Any]) -> None:
    """Its Idempotency-Key, unless that has made another ticket since."""
    values = {
        "client": client,
        "key": key["key"],
        "request_digest": bytes.fromhex(key["digest"]),
        "ticket_id": ticket_id,
        "created_at": moment(key["at"]),
    }
    session.execute(insert_or_skip(Idempotency).values(values).on_conflict_do_nothing())


def moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def cancel(session: Session, ticket_ids: Iterable[UUID]) -> int:
    """Take back those that were taken back after the back-up, as far as their state allows; returns how many."""
    done = 0
    for ticket_id in sorted(ticket_ids):
        ticket = session.get(Ticket, ticket_id)
        if ticket is None or ticket.state is not TicketState.PENDING:
            continue
        try:
            tickets.cancel(session, None, ticket_id, "expunge")
        except Conflict:
            continue  # a batch had taken it by the time of the back-up: its samples are forgotten, which harms nobody
        done += 1
    return done


def resolve(session: Session, restored: Restoration, by: str, why: str | None, **facts: Any) -> None:
    """Lift the lock, and say in the log what was done."""
    restored.resolved_at, restored.resolved_by, restored.why = func.now(), by, why
    told = {"backup": restored.backup, "head": {"seq": restored.seq, "hash": restored.hash.hex()}} | facts
    if restored.journal_hash is not None:
        told["exported"] = {"seq": restored.journal_seq, "hash": restored.journal_hash.hex()}
    if why is not None:
        told["why"] = why
    audit.append(session, "installation.declared" if why is not None else "installation.replayed", by, **told)


def declare(session: Session, by: str, why: str) -> Restoration:
    """Lift the lock because somebody says, by name, that nothing newer came. Raises `Conflict` when nothing was restored."""
    restored = locked(session)
    resolve(session, restored, by, why)
    return restored
