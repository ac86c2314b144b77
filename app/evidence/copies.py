"""What still holds the forgotten samples, or what was learnt from them, and until when as far as that is known.

As it stands when the report is read: weights are purged and banks end after a version was published.
"""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import policy, versions
from app.tables import Bank, Obligation, Ticket, Version, VersionKind


class Copy(BaseModel):
    """One place where the forgotten samples, or their traces, are, were or may be."""

    what: str
    state: Literal["there", "gone", "unknown"] = Field(description="'unknown': outside this service's knowledge")
    at: datetime | None = Field(description="When it went or is due to go, if that is known")
    says: str


def copies(session: Session, version: Version) -> list[Copy]:
    """Every such place of one version, those in this service first; none where the version left no sample out."""
    if version.excluded_count == 0:
        return []
    return [
        *weights(session, version),
        *prepared(version),
        *records(version),
        *reference_bank(session, version),
        Copy(
            what="the database",
            state="there",
            at=None,
            says="The manifest and the tombstones keep the samples' ids, so that no training reads them again; an artifact"
            " keeps their numbers in the manifest, so that a later retrain can measure the truth. Neither holds the data. The"
            " figures of a verdict are counts and curves of the set as a whole.",
        ),
        raw_data(session, version),
        Copy(
            what="back-ups of this service",
            state="unknown",
            at=None,
            says="Outside this service's knowledge: back-ups of earlier weights, banks and records go when whoever made them"
            " lets them expire.",
        ),
        Copy(
            what="copies elsewhere",
            state="unknown",
            at=None,
            says="Outside this service's knowledge: weights that were downloaded, models derived from them, logs and caches of"
            " other systems.",
        ),
    ]


def weights(session: Session, version: Version) -> list[Copy]:
    """Earlier versions that learnt from samples which this one leaves out, newest first."""
    days = policy.stored(policy.current(session, version.model_id).body).keep_weights_days
    found = []
    for earlier in versions.chain(session, version)[1:]:
        if earlier.excluded_count >= version.excluded_count:
            continue
        what = f"weights of {versions.name_of(earlier)}"
        if earlier.weights_purged_at is not None:
            found.append(Copy(what=what, state="gone", at=earlier.weights_purged_at, says="They were purged."))
            continue
        due = None if earlier.superseded_at is None else earlier.superseded_at + timedelta(days=days)
        if earlier.weights_withdrawn_at is not None:
            says = (
                "Nobody is given them since they were withdrawn. Where updates descend from them, the service keeps the bytes to"
                " hold the sum of these updates against."
            )
            found.append(Copy(what=what, state="there", at=due, says=says))
            continue
        says = f"They learnt from the samples. The policy in force purges superseded weights after {days:g} days."
        found.append(Copy(what=what, state="there", at=due, says=says))
    return found


def prepared(version: Version) -> list[Copy]:
    """The gradient sum and scores that were prepared for updates of the parent."""
    parent = version.parent
    if parent is None:
        return []
    gone = parent.gradients_digest is None
    says = (
        "Gradient sums and scores over its training set. No row names them since this version was published, and bytes that"
        " no row names are deleted."
        if gone
        else "Gradient sums and scores over its training set are still named by its row."
    )
    what = f"what was prepared for updates of {versions.name_of(parent)}"
    return [Copy(what=what, state="gone" if gone else "there", at=version.published_at if gone else None, says=says)]


def records(version: Version) -> list[Copy]:
    """Records of the training, of the parent and of this version."""
    parent = version.parent
    found = []
    if parent is not None and parent.records is not None:
        found.append(
            Copy(
                what=f"training records of {versions.name_of(parent)}",
                state="gone",
                at=version.published_at,
                says="No row names them since this version was published, and bytes that no row names are deleted.",
            )
        )
    if version.kind is VersionKind.UNLEARNED and version.records_digest is not None:
        found.append(
            Copy(
                what=f"training records of {versions.name_of(version)}",
                state="there",
                at=None,
                says="Those of its parent, less what they held of the forgotten samples themselves. The steps of the training"
                " that are left were taken by a model that was learning from them.",
            )
        )
    return found


def reference_bank(session: Session, version: Version) -> list[Copy]:
    """The bank of the training that this version descends from, and for a retrain the one that ended with it."""
    number = version.number if version.kind is VersionKind.UNLEARNED else version.number - 1
    if number < 1:
        return []
    of = versions.anchor(session, version.model_id, number)
    bank = session.scalar(select(Bank).where(Bank.version_id == of.id).order_by(Bank.id.desc()).limit(1))
    if bank is None:
        return []
    what = f"reference bank of {versions.name_of(of)}"
    if bank.retired_at is not None:
        return [Copy(what=what, state="gone", at=bank.retired_at, says="It was retired, and its table deleted.")]
    says = (
        "It has no row of the forgotten samples: rows leave in the commit that publishes an update. The references' weights"
        " are never stored. Its scores of other samples are by models that may have learnt from the forgotten ones; the next"
        " training ends it."
    )
    return [Copy(what=what, state="there", at=None, says=says)]


def raw_data(session: Session, version: Version) -> Copy:
    """The samples themselves, which this service reads and never keeps."""
    query = select(Ticket.data_releasable_at).join(Obligation, Obligation.ticket_id == Ticket.id)
    moments = list(session.scalars(query.where(Obligation.version_id == version.id)))
    released = [moment for moment in moments if moment is not None]
    what, kept = "the samples themselves", "They are their owner's; this service reads them and keeps no copy."
    if not moments:
        return Copy(what=what, state="unknown", at=None, says=kept)
    if len(released) < len(moments):
        says = (
            f"{kept} They are still needed, to measure what a retrain would show: the owner may not destroy them yet."
        )
        return Copy(what=what, state="there", at=None, says=says)
    says = f"{kept} Nothing here needs them since the time given; whether they were destroyed it cannot know."
    return Copy(what=what, state="unknown", at=max(released), says=says)
