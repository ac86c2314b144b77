"""The trainings of a bank: claimed one by one by whichever worker is free, held by heartbeat, finished or failed.

As with batches (runs.py), every write checks the lease epoch: a worker that slept past its lease changes nothing.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from app import audit, banks, lineage, lockdown
from app.banks import Changed
from app.config import settings
from app.db import changed
from app.errors import StaleEpoch
from app.tables import Bank, Reference, ReferenceState


@dataclass(frozen=True)
class ReferenceLease:
    """A worker's hold on one reference: plain values."""

    bank_id: int
    number: int
    epoch: int
    attempt: int
    model_id: int
    model: str
    problem: str
    dataset_id: int
    manifest_digest: str


def claimable() -> ColumnElement[bool]:
    """A reference that a worker may take: pending and rested, or running with a lease that ran out. None of a retired bank
    is either."""
    return or_(
        (Reference.state == ReferenceState.PENDING) & (Reference.not_before <= func.now()),
        (Reference.state == ReferenceState.RUNNING) & (Reference.lease_until < func.now()),
    )


def whole(session: Session) -> list[int]:
    """Models of whose bank a whole group is finished and not in the table: a worker died before it had assembled it."""
    done = select(Bank.model_id).join(Reference, Reference.bank_id == Bank.id)
    done = done.where(Reference.state == ReferenceState.DONE, Reference.digest.is_not(None))
    groups = done.group_by(Bank.model_id, Bank.id, Reference.number // banks.GROUP)
    return sorted(set(session.scalars(groups.having(func.count() == banks.GROUP))))


def due(session: Session) -> int:
    """How many workers have something to do for banks."""
    waiting = session.scalar(select(func.count()).select_from(Reference).where(claimable()))
    return (waiting or 0) + len(whole(session))


def claim(session: Session, worker: str) -> ReferenceLease | None:
    """Take the oldest claimable reference of any bank, or None. One whose attempts are spent is not taken but failed. None is
    claimed on a database that was just restored."""
    if lockdown.unresolved(session) is not None:
        return None
    query = select(Reference).where(claimable()).order_by(Reference.bank_id, Reference.number).limit(1)
    while (row := session.scalar(query.with_for_update(skip_locked=True))) is not None:
        if row.attempt < settings().max_attempts:
            break
        give_up(session, row, row.failure or "its worker was lost in each attempt")
    if row is None:
        return None
    row.state, row.attempt, row.lease_epoch = ReferenceState.RUNNING, row.attempt + 1, row.lease_epoch + 1
    row.lease_until = func.now() + timedelta(seconds=settings().lease_seconds)
    row.worker, row.progress, row.started_at = worker, 0.0, func.now()
    session.flush()
    model = session.get_one(Bank, row.bank_id).model
    return ReferenceLease(
        bank_id=row.bank_id,
        number=row.number,
        epoch=row.lease_epoch,
        attempt=row.attempt,
        model_id=model.id,
        model=model.name,
        problem=model.problem,
        dataset_id=model.dataset_id,
        manifest_digest=model.dataset.manifest_digest,
    )


def mine(lease: ReferenceLease) -> ColumnElement[bool]:
    return and_(
        Reference.bank_id == lease.bank_id,
        Reference.number == lease.number,
        Reference.lease_epoch == lease.epoch,
        Reference.state == ReferenceState.RUNNING,
    )


def heartbeat(session: Session, lease: ReferenceLease, progress: float) -> bool:
    """Renew the lease and say how far it is; False when the reference is no longer ours."""
    until = func.now() + timedelta(seconds=settings().lease_seconds)
    return changed(session, update(Reference).where(mine(lease)).values(lease_until=until, progress=progress)) == 1


def fenced(session: Session, lease: ReferenceLease) -> Reference:
    """The reference, locked, if this lease still holds it; `StaleEpoch` otherwise, and nothing is written."""
    row = session.scalar(select(Reference).where(mine(lease)).with_for_update(key_share=True))
    if row is None:
        raise StaleEpoch("Another worker has taken this reference over, or its bank was retired.")
    return row


def complete(
    session: Session, lease: ReferenceLease, *, digest: str, seconds: float, told: dict[str, Any], forgotten: array[int]
) -> None:
    """Keep a reference's scores, which are stored already and hold no row of `forgotten`.

    The bank is locked first. So either a publication comes after this and finds the scores, or it was before and what it
    forgot is seen here: no row of a forgotten sample slips in between.

    Raises:
        Changed: more was forgotten meanwhile; store the scores without that.
    """
    session.execute(select(Bank.id).where(Bank.id == lease.bank_id).with_for_update(key_share=True))
    row = fenced(session, lease)
    if forgotten != lineage.forgotten(session, lease.model_id):
        raise Changed
    row.state, row.digest, row.seconds, row.progress = ReferenceState.DONE, digest, seconds, 1.0
    row.lease_until, row.failure, row.finished_at = None, None, func.now()
    tell(session, row, "reference.finished", scores=digest, seconds=round(seconds, 3), **told)


def give_back(session: Session, lease: ReferenceLease) -> None:
    """End an attempt whose worker is to stop: the reference is free at once, and the attempt does not count."""
    row = fenced(session, lease)
    row.state, row.attempt, row.lease_until, row.not_before = ReferenceState.PENDING, row.attempt - 1, None, func.now()
    tell(session, row, "reference.given_back", epoch=lease.epoch)


def fail(session: Session, lease: ReferenceLease, detail: str, *, again: bool) -> None:
    """End an attempt that raised. `again` says that another may help; without it the reference has failed at once."""
    row = fenced(session, lease)
    if again and row.attempt < settings().max_attempts:
        row.state, row.lease_until, row.failure = ReferenceState.PENDING, None, detail
        row.not_before = func.now() + timedelta(seconds=settings().retry_seconds * 2 ** (row.attempt - 1))
        tell(session, row, "reference.failed", attempt=row.attempt, why=detail, again=True)
    else:
        give_up(session, row, detail)


def give_up(session: Session, row: Reference, why: str) -> None:
    """Attempts are spent, and with them its whole group: until somebody orders the bank again, its table stays as it is."""
    row.state, row.lease_until, row.failure, row.finished_at = ReferenceState.FAILED, None, why, func.now()
    tell(session, row, "reference.failed", attempt=row.attempt, why=why, again=False)


def lose(session: Session, model_id: int, number: int, digest: str, why: str) -> None:
    """A finished reference's scores cannot be read: it is to be trained again. Nothing happens where they are others now."""
    bank = banks.lock(session, model_id)
    row = session.get(Reference, (bank.id, number)) if bank is not None else None
    if row is None or row.digest != digest:
        return
    banks.train_again(row)
    tell(session, row, "reference.lost", scores=digest, why=why)


def tell(session: Session, row: Reference, kind: str, **facts: Any) -> None:
    bank = session.get_one(Bank, row.bank_id)
    audit.append(
        session, kind, row.worker or "expunge", model_id=bank.model_id, bank=bank.id, number=row.number, **facts
    )
