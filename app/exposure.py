"""Which training samples of a model's current version have outlying gradients, and a person's yes to delete some of them.

A worker names them where the policy asks (`policy.Outliers`). Nothing is deleted for that alone: whoever may do everything
confirms samples one by one, and an ordinary ticket comes of it. This module names samples to its caller and to nobody else: no
log line, event or error repeats an id.
"""

from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import audit, lockdown, policy, tickets, versions
from app.errors import Conflict, Unprocessable
from app.tables import Model, Reason, RiskTier, Sample, Tombstone, Version

SHORTEST = 4
"""An id of fewer characters may stand in a sentence by chance."""


class OutlierView(BaseModel):
    sample_id: str
    norm: float = Field(description="Of its loss's gradient, over all trainable parameters, at the version's weights")
    z: float = Field(description="How far its logarithm lies above the median, in units of `spread`")


class ExposureLook(BaseModel):
    """Gradient norms of training samples at a version's weights, as they were seen soon after it was published."""

    n: int = Field(description="Samples looked at")
    of: int = Field(description="Samples of its training set that no ticket had named by then")
    seed: int | None = Field(description="Of the draw where not all were looked at; null where all were")
    zeros: int = Field(description="Samples whose gradient was zero")
    median: float | None = Field(description="Of the norms; null where `unjudged` says why")
    spread: float | None = Field(description="1.4826 times the MAD of the norms' natural logarithms")
    unjudged: str | None = Field(description="Why no sample could be called outlying; null where one could")
    z: float = Field(description="The policy's `outliers.z` when it was looked")
    edges: list[float]
    counts: list[int] = Field(description="Norms below the first edge, between two, and from the last on")
    found: int = Field(description="How many were outlying")
    most: int = Field(description="So many of them are kept, the most outlying: the policy's `outliers.most`")
    tombstoned: int = Field(description="Of those kept, how many were named by a ticket since, and are not shown")
    outliers: list[OutlierView] = Field(description="Those kept and not tombstoned, most outlying first")


class ExposureView(BaseModel):
    model: str
    version: str = Field(description="The current one")
    asked: bool = Field(description="Whether the policy in force asks for it, from the next publication on")
    why: str | None = Field(description="Why there is nothing to see; null where there is")
    look: ExposureLook | None


def view(session: Session, name: str) -> ExposureView:
    """What was seen of the model's current version, its outlying samples by id, for somebody who may read them.

    Raises `NotFound`, and `Conflict` on a restored installation that does not know all tombstones yet.
    """
    lockdown.refuse_samples(session)
    version = versions.resolve(session, f"{name}@current")
    kept = session.scalar(select(Version.exposure).where(Version.id == version.id))
    asked = policy.stored(policy.current(session, version.model_id).body).outliers.look
    why, look = None, None
    if kept is None:
        why = NOT_YET if asked else NOT_ASKED
    elif "why" in kept:
        why = kept["why"]
    else:
        look = shown(session, version.model.dataset_id, kept)
    return ExposureView(model=version.model.name, version=versions.name_of(version), asked=asked, why=why, look=look)


NOT_ASKED = "The policy does not ask for it. Set `outliers.look`, and it is looked after the next publication."
NOT_YET = (
    "It was not looked at yet: a worker does so in the minutes after it has published, unless it is stopped meanwhile. A version"
    " that was rolled back to, or published before the policy asked, is not looked at."
)


def shown(session: Session, dataset_id: int, kept: dict[str, Any]) -> ExposureLook:
    """What a worker has kept, with ids for ordinals, without the samples that a ticket names by now."""
    ordinals = [each["position"] for each in kept["outliers"]]
    dead = select(Tombstone.ordinal).where(
        Tombstone.dataset_id == Sample.dataset_id, Tombstone.ordinal == Sample.ordinal
    )
    query = select(Sample.ordinal, Sample.sample_id).where(
        Sample.dataset_id == dataset_id, Sample.ordinal.in_(ordinals)
    )
    ids = {row.ordinal: row.sample_id for row in session.execute(query.where(~dead.exists()))}
    outliers = [
        OutlierView(sample_id=ids[each["position"]], norm=each["norm"], z=each["z"])
        for each in kept["outliers"]
        if each["position"] in ids
    ]
    return ExposureLook.model_validate(kept | {"outliers": outliers, "tombstoned": len(ordinals) - len(outliers)})


def confirm(
    session: Session,
    name: str,
    sample_ids: list[str],
    why: str,
    client: str,
    key: str | None = None,
    body: bytes = b"",
    ids_per_day: int | None = None,
) -> tickets.Accepted:
    """Somebody's yes: a ticket over samples that are shown as outlying at present, and the event that says who and why.

    A request that comes again with its `Idempotency-Key` finds its samples tombstoned, so the key is asked for before it is
    refused; only after the list was read, so that one which commits in between is not refused either. Two that confirm one
    sample at the same time may both be let in, as any two tickets over it would be.

    Raises `Conflict` where a sample is not shown, `Unprocessable` where the reason names one, and as `tickets.submit` does.
    """
    seen = view(session, name)
    listed = {each.sample_id: each for each in seen.look.outliers} if seen.look else {}
    stale = len([each for each in sample_ids if each not in listed])
    if stale and not tickets.key_used(session, client, key):
        raise Conflict(
            f"{stale} of {len(sample_ids)} samples are not among the {len(listed)} that are outlying in {seen.version} at"
            " present. Read the list again. What is not on it is deleted by `POST /deletions`."
        )
    if any(len(each) >= SHORTEST and each in why for each in {*listed, *sample_ids}):
        raise Unprocessable("The reason stays in the log for good: give it without the id of a sample.")
    model = versions.find_model(session, name)
    asked = tickets.Submission(
        model.dataset.name, sample_ids, [], Reason.OUTLIER, RiskTier.STANDARD, external_id=None, deadline_at=None
    )
    made = tickets.submit(session, client, asked, key, name.encode() + b"\n" + body, ids_per_day)
    if not made.replayed:
        tell(session, model, seen, made, len(sample_ids), why, client)
    return made


def tell(
    session: Session, model: Model, seen: ExposureView, made: tickets.Accepted, samples: int, why: str, by: str
) -> None:
    """Who said yes to what, and why. Beside the ticket's own event, in one commit with it."""
    assert seen.look is not None
    facts = {
        "version": seen.version,
        "samples": samples,
        "z": seen.look.z,
        "listed": len(seen.look.outliers),
        "why": why,
    }
    audit.append(session, "exposure.confirmed", by, ticket_id=made.ticket_id, model_id=model.id, **facts)
