"""Which version of a model was served at a time, and which deleted samples it still held then."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import or_, select
from sqlalchemy.orm import Session, aliased, joinedload

from app import versions
from app.db import among
from app.tables import Obligation, ObligationState, Sample, Ticket, Tombstone, Version

MOST_IDS = 10_000


class Held(BaseModel):
    """Samples of one ticket that the version held although they were to be forgotten."""

    ticket: UUID
    samples: int
    received_at: datetime
    forgotten_by: str | None = Field(description="The version that no longer holds them; null while there is none")
    forgotten_at: datetime | None


class Serving(BaseModel):
    """What was served at a time."""

    model: str
    at: datetime
    version: str
    weights_sha256: str
    served_from: datetime
    served_until: datetime | None = Field(description="Null while it is served")
    held: list[Held] = Field(description="Tickets received by then whose samples it still held, oldest first")
    samples: int = Field(description="Of all these tickets together; one that two tickets name counts twice")
    sample_ids: list[str] | None = Field(description=f"Where asked for, {MOST_IDS} at most, each once")
    more_ids: bool = Field(description="Whether there are more than these")


def serving(session: Session, version: Version, at: datetime, *, with_ids: bool) -> Serving:
    """What `version`, which was served at that time, still held of what tickets received by then had named."""
    later = aliased(Version)
    query = (
        select(Obligation, Ticket.created_at)
        .join(Ticket, Ticket.id == Obligation.ticket_id)
        .outerjoin(later, later.id == Obligation.version_id)
        .where(Obligation.model_id == version.model_id, Ticket.created_at <= at)
        .where(Obligation.state != ObligationState.CANCELLED)
        .where(or_(later.id.is_(None), later.number > version.number))
        .order_by(Ticket.created_at, Ticket.id)
        .options(joinedload(Obligation.version).joinedload(Version.model))
    )
    held = [line(owed, received) for owed, received in session.execute(query)]
    named = ids(session, version, [each.ticket for each in held]) if with_ids else None
    return Serving(
        model=version.model.name,
        at=at,
        version=versions.name_of(version),
        weights_sha256=version.weights_digest,
        served_from=version.published_at,
        served_until=version.superseded_at,
        held=held,
        samples=sum(each.samples for each in held),
        sample_ids=None if named is None else named[:MOST_IDS],
        more_ids=named is not None and len(named) > MOST_IDS,
    )


def line(owed: Obligation, received: datetime) -> Held:
    by = owed.version
    return Held(
        ticket=owed.ticket_id,
        samples=owed.samples,
        received_at=received,
        forgotten_by=versions.name_of(by) if by is not None else None,
        forgotten_at=by.published_at if by is not None else None,
    )


def ids(session: Session, version: Version, tickets: list[UUID]) -> list[str]:
    """The ids that the manifest has for what these tickets named and the version held: a ticket may name samples that were
    forgotten before, for an earlier one."""
    earlier = (
        select(Obligation.ticket_id)
        .join(Version, Version.id == Obligation.version_id)
        .where(Obligation.model_id == version.model_id, Version.number <= version.number)
    )
    other = aliased(Tombstone)
    gone = select(other.ordinal).where(
        other.dataset_id == Tombstone.dataset_id, other.ordinal == Tombstone.ordinal, other.ticket_id.in_(earlier)
    )
    query = (
        select(Sample.sample_id)
        .join(Tombstone, (Tombstone.dataset_id == Sample.dataset_id) & (Tombstone.ordinal == Sample.ordinal))
        .where(among(Tombstone.ticket_id, tickets), ~gone.exists())
        .distinct()
        .order_by(Sample.sample_id)
    )
    return list(session.scalars(query.limit(MOST_IDS + 1)))
