"""What two published versions tell beside each other: where hardly anybody was forgotten between them, who that was.

By policy a batch of so few waits for company (`merge`), or the earlier weights are withdrawn in the commit that publishes
the later ones (`withdraw`), so that at no moment anybody can be given both. Whoever has the earlier ones already has them:
only `merge` helps against that, and the report says whether it is so.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, timedelta
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app import audit, due
from app.policy import Lone, PolicyBody
from app.tables import Model, Trigger, Version

# Subjects of whom the model forgets samples by the obligations that are meant, and that its version of that number held:
# it held all but those that a version up to it was published without, and those whose ticket is older than the model. No
# further than is asked: past `enough` of them, how many there are is of no concern.
SUBJECTS = """
    SELECT count(*) FROM (
        SELECT DISTINCT coalesce('subject ' || sample.subject, 'sample ' || sample.ordinal)
        FROM obligation
        LEFT JOIN version ON version.id = obligation.version_id
        JOIN tombstone AS mine ON mine.ticket_id = obligation.ticket_id
        JOIN sample ON sample.dataset_id = :dataset_id AND sample.ordinal = mine.ordinal
        WHERE obligation.model_id = :model_id AND mine.dataset_id = :dataset_id AND {meant}
          AND NOT EXISTS (
            SELECT FROM tombstone AS other
            JOIN ticket ON ticket.id = other.ticket_id
            LEFT JOIN obligation AS owed ON owed.ticket_id = other.ticket_id AND owed.model_id = :model_id
            LEFT JOIN version AS earlier ON earlier.id = owed.version_id
            WHERE other.dataset_id = mine.dataset_id AND other.ordinal = mine.ordinal
              AND (earlier.number <= :number OR (owed.state IS NULL AND ticket.created_at < :registered))
          )
        LIMIT :enough
    ) AS subjects
"""
PENDING = text(SUBJECTS.format(meant="obligation.state = 'pending'"))
BETWEEN = text(
    SUBJECTS.format(
        meant="(version.number > :number OR (obligation.batch_id = :batch_id AND obligation.state = 'batched'))"
    )
)


@dataclass(frozen=True)
class Guard:
    """How near a version is to earlier ones, by which rule, and which of their weights were withdrawn for it.

    `few` says of how many subjects was forgotten since its parent: True for some and fewer than `min_batch`, False for as
    many or more, None for nobody. `handed_out` are those of the withdrawn that somebody had been given before.
    """

    rule: str
    min_batch: int
    few: bool | None
    withdrawn: list[str]
    handed_out: list[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def waits(session: Session, model: Model, pending: due.Waiting, body: PolicyBody, closing: due.Closing) -> str | None:
    """The sentence that keeps a due batch open until it has company, or None. What a deferral waited for is not put off again,
    and neither a deadline nor an operator's flush waits."""
    lone = body.lone
    if lone.rule != "merge" or closing.trigger in (Trigger.DEADLINE, Trigger.FLUSH) or due.near(pending, body):
        return None
    assert pending.oldest is not None
    until = pending.oldest + timedelta(seconds=lone.max_wait_seconds)
    if pending.now >= until or due.Deferral.of(model) is not None:
        return None
    current = session.get_one(Version, model.current_version_id)
    if session.scalar(PENDING, asked(model, current.number, lone.min_batch)) >= lone.min_batch:
        return None
    return (
        f"waits for company, until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC at most: a version that forgets fewer than"
        f" {lone.min_batch} subjects would give them away beside its parent"
    )


def asked(model: Model, number: int, enough: int) -> dict[str, Any]:
    return {
        "model_id": model.id,
        "dataset_id": model.dataset_id,
        "registered": model.created_at,
        "number": number,
        "enough": enough,
    }


def guard(session: Session, model: Model, version: Version, lone: Lone) -> Guard | None:
    """Withdraw what may not be given out beside the version that is about to be published; None for a first one.

    Not only its parent: versions before it may be as near. What each of them lacks, all later ones lack too, so the first one
    that is far enough ends the search. Writes rows and no event, so that the log's head is taken after them.
    """
    if version.parent_id is None:
        return None
    earlier = select(Version).where(Version.model_id == model.id, Version.number < version.number)
    few: bool | None = None
    near: list[Version] = []
    for other in session.scalars(earlier.order_by(Version.number.desc())).all():
        values = asked(model, other.number, lone.min_batch) | {"batch_id": version.batch_id}
        subjects = session.scalar(BETWEEN, values) or 0
        if other.id == version.parent_id and subjects:
            few = subjects < lone.min_batch
        if subjects >= lone.min_batch:
            break
        if subjects and other.weights_withdrawn_at is None and other.weights_purged_at is None:
            near.append(other)
    if lone.rule == "allow":
        return Guard(lone.rule, lone.min_batch, few, [], [])
    withdrawn = withdraw(session, near)
    names = [f"{model.name}-v{each.number}" for each in withdrawn]
    given = [f"{model.name}-v{each.number}" for each in withdrawn if each.weights_fetched_at is not None]
    return Guard(lone.rule, lone.min_batch, few, names, given)


def withdraw(session: Session, near: list[Version]) -> list[Version]:
    """Nobody is given their weights from this commit on. A row that `versions.hand_out` has locked is waited for."""
    numbers = [each.id for each in near]
    ended = update(Version).where(Version.id.in_(numbers)).values(weights_withdrawn_at=func.now()).returning(Version)
    found = session.scalars(ended.execution_options(populate_existing=True)).all()
    return sorted(found, key=lambda each: each.number)


def tell(session: Session, model: Model, version: Version, found: Guard) -> None:
    """The events of what was withdrawn."""
    for name in found.withdrawn:
        audit.append(
            session,
            "weights.withdrawn",
            "expunge",
            batch_id=version.batch_id,
            model_id=model.id,
            version=name,
            beside=f"{model.name}-v{version.number}",
            handed_out=name in found.handed_out,
        )
