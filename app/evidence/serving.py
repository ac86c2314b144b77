"""Which version of a model was served at a time, and which deleted samples it still held then."""

from datetime import UTC, datetime
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session, aliased, joinedload

from app import lockdown, versions
from app.db import among
from app.tables import Obligation, ObligationState, Restoration, Sample, Ticket, Tombstone, Version

MOST_IDS = 10_000


class Held(BaseModel):
    """Samples of one ticket that the version held although they were to be forgotten."""

    ticket: UUID
    samples: int = Field(description="Without those that the version had forgotten before, or was never trained on")
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
    unsure: str | None = Field(description="Why it may have been otherwise, after a restore; null where it is known")


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
    found = session.execute(query).all()
    many = counts(session, version, [owed.ticket_id for owed, _ in found])
    held = [line(owed, many[owed.ticket_id], received) for owed, received in found if owed.ticket_id in many]
    named = ids(session, version, list(many)) if with_ids else None
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
        unsure=unsure(session, at),
    )


def line(owed: Obligation, samples: int, received: datetime) -> Held:
    by = owed.version
    return Held(
        ticket=owed.ticket_id,
        samples=samples,
        received_at=received,
        forgotten_by=versions.name_of(by) if by is not None else None,
        forgotten_at=by.published_at if by is not None else None,
    )


def still(version: Version) -> ColumnElement[bool]:
    """That the version held a tombstone's sample: it was published without those of the tickets that a version up to it
    answers, and was never trained on those of tickets older than the model."""
    other, owed, earlier = aliased(Tombstone), aliased(Obligation), aliased(Version)
    gone = (
        select(other.ordinal)
        .join(Ticket, Ticket.id == other.ticket_id)
        .outerjoin(owed, (owed.ticket_id == other.ticket_id) & (owed.model_id == version.model_id))
        .outerjoin(earlier, earlier.id == owed.version_id)
        .where(other.dataset_id == Tombstone.dataset_id, other.ordinal == Tombstone.ordinal)
        .where(
            or_(
                earlier.number <= version.number,
                owed.ticket_id.is_(None) & (Ticket.created_at < version.model.created_at),
            )
        )
    )
    return (Tombstone.dataset_id == version.model.dataset_id) & ~gone.correlate(Tombstone).exists()


def counts(session: Session, version: Version, tickets: list[UUID]) -> dict[UUID, int]:
    """How many samples of each of these tickets the version held; tickets of which it held none are left out."""
    query = select(Tombstone.ticket_id, func.count().label("samples"))
    query = query.where(among(Tombstone.ticket_id, tickets), still(version))
    return {row.ticket_id: row.samples for row in session.execute(query.group_by(Tombstone.ticket_id))}


def ids(session: Session, version: Version, tickets: list[UUID]) -> list[str]:
    """The ids that the manifest has for them."""
    query = (
        select(Sample.sample_id)
        .join(Tombstone, (Tombstone.dataset_id == Sample.dataset_id) & (Tombstone.ordinal == Sample.ordinal))
        .where(among(Tombstone.ticket_id, tickets), still(version))
        .distinct()
        .order_by(Sample.sample_id)
    )
    return list(session.scalars(query.limit(MOST_IDS + 1)))


def unsure(session: Session, at: datetime) -> str | None:
    """What this database cannot know, because it came out of a back-up."""
    if lockdown.unresolved(session) is not None:
        return "The installation was restored, and is locked until it is known what came after its back-up."
    lost = select(Restoration).where(Restoration.taken_at <= at, Restoration.restored_at > at)
    found = session.scalar(lost.order_by(Restoration.id.desc()).limit(1))
    if found is None:
        return None
    taken, restored = (f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC" for when in (found.taken_at, found.restored_at))
    return (
        f"The installation was restored at {restored} from a back-up of {taken}: what was published in between is lost."
    )
