"""What beat wakes every few seconds: find everything that is due, so that no lost message costs more than one tick."""

import structlog
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app import batches, lockdown, references, schedules, sessions, store, tickets, versions
from app.config import settings
from app.db import transaction
from app.tables import Bank, Batch, Model, Obligation, ObligationState, Reference, Verdict, Version
from app.webhooks import deliveries

log = structlog.get_logger()


def due() -> list[int]:
    """Open what schedules ask for, close batches that are due; returns the models a worker should look at.

    Each model in a transaction of its own: one that fails holds no other up.
    """
    with transaction() as session:
        if lockdown.unresolved(session) is not None:
            log.warning("locked", why=lockdown.SAYS)
            return []
        schedules.run_due(session)
        owes = select(Obligation.model_id).where(Obligation.state == ObligationState.PENDING)
        marked = or_(Model.held.is_not(None), Model.flush_requested_at.is_not(None))
        waiting = list(session.scalars(select(Model.id).where(or_(Model.id.in_(owes), marked)).order_by(Model.id)))
    for model_id in waiting:
        try:
            with transaction() as session:
                batches.close_due(session, model_id)
        except Exception as error:  # noqa: BLE001 - whatever one model's rows do, the others' tickets go on
            log.warning("sweep.model_failed", model=model_id, error=type(error).__name__)
    with transaction() as session:
        return list(session.scalars(select(Batch.model_id).where(batches.claimable()).distinct()))


def references_due() -> int:
    """How many workers have something to do for reference banks: a bell for each that was lost."""
    with transaction() as session:
        return references.due(session)


def purge() -> int:
    """Drop weights whose days are over, idempotency keys and webhook deliveries past their term, sessions that have ended,
    and artifacts that no row names.

    The rows change first, in a commit of their own; a crash before the files go leaves them to the next purge.
    """
    with transaction() as session:
        tickets.forget_old_keys(session, settings().idempotency_days)
        tickets.forget_old_counts(session)
        sessions.purge(session)
        versions.expire_weights(session)
    destroy_salts()
    deliveries.purge()
    return store.collect(referenced)


def destroy_salts() -> None:
    """In commits of their own, a thousand tickets each: the log's head is locked for no longer, and no row is taken after it."""
    days = settings().salt_days
    while days is not None:
        with transaction() as session:
            if not tickets.destroy_salts(session, days):
                return


def referenced() -> set[str]:
    """Digests of all artifacts that a row still names."""
    with transaction() as session:
        return named(session)


def named(session: Session) -> set[str]:
    """As `referenced`, by one look at the database where the session has one."""
    kept = set(session.scalars(select(Version.weights_digest).where(Version.weights_purged_at.is_(None))))
    kept |= set(session.scalars(select(Version.gradients_digest).where(Version.gradients_digest.is_not(None))))
    kept |= set(session.scalars(select(Version.records_digest).where(Version.records_digest.is_not(None))))
    kept |= set(session.scalars(select(Bank.digest).where(Bank.digest.is_not(None))))
    kept |= set(session.scalars(select(Reference.digest).where(Reference.digest.is_not(None))))
    forgotten = select(Verdict.method["forget_sha256"].as_string()).where(Verdict.method.has_key("forget_sha256"))
    return kept | set(session.scalars(forgotten))
