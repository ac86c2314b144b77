"""What a restored installation may not do before it knows of every tombstone.

A back-up knows nothing of the tickets that came after it. Until they are replayed from the exported journal, or somebody
declares by name that there were none, no batch and no reference is claimed, no version is published, and nobody is given weights:
they may have been withdrawn since; nor are samples named that may have been deleted since. Tickets are accepted meanwhile.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import Conflict, StaleEpoch
from app.tables import Restoration

SAYS = (
    "Restored from a back-up: nothing is trained, unlearned or published before the tickets that came after it are replayed. "
    "Run `expunge replay JOURNAL`."
)


class Locked(StaleEpoch):
    """Something was about to be published on a restored installation."""


def unresolved(session: Session) -> Restoration | None:
    """The restoration that still holds everything up, or None."""
    query = select(Restoration).where(Restoration.resolved_at.is_(None)).order_by(Restoration.id.desc()).limit(1)
    return session.scalar(query)


def refuse(session: Session) -> None:
    """Raise `Locked` while a restoration is unresolved."""
    if unresolved(session) is not None:
        raise Locked(SAYS)


def refuse_weights(session: Session) -> None:
    """Raise `Conflict` while a restoration is unresolved: what is to be given away may have been withdrawn since."""
    if unresolved(session) is not None:
        raise Conflict(
            "Restored from a back-up: nobody is given weights before it is known which were withdrawn after it. "
            "Run `expunge replay JOURNAL`."
        )


def refuse_samples(session: Session) -> None:
    """Raise `Conflict` while a restoration is unresolved: what is to be named may have been deleted since."""
    if unresolved(session) is not None:
        raise Conflict(
            "Restored from a back-up: no sample is named before it is known which were deleted after it. "
            "Run `expunge replay JOURNAL`."
        )
