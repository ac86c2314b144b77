"""When a batch is due, and of what kind it must be. Reads rows and decides; batches.py closes."""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app import banks, versions
from app.policy import ERROR, PolicyBody
from app.tables import (
    EXACT,
    BatchKind,
    Model,
    Obligation,
    ObligationState,
    Reason,
    Ticket,
    Trigger,
    Verdict,
    Version,
)


@dataclass(frozen=True)
class Waiting:
    """What some of a model's obligations add up to, by the database's clock."""

    now: datetime
    samples: int
    oldest: datetime | None
    deadline: datetime | None
    unlawful: bool
    tiers: frozenset[str]


def waiting(session: Session, model_id: int) -> Waiting:
    """The model's pending obligations, summed up."""
    return summed(session, (Obligation.model_id == model_id) & (Obligation.state == ObligationState.PENDING))


def held_by(session: Session, batch_id: UUID) -> Waiting:
    """The obligations that a batch works off, summed up."""
    return summed(session, (Obligation.batch_id == batch_id) & (Obligation.state == ObligationState.BATCHED))


def summed(session: Session, meant: ColumnElement[bool]) -> Waiting:
    """The obligations that are meant, summed up."""
    row = session.execute(
        select(
            func.now(),
            func.coalesce(func.sum(Obligation.samples), 0),
            func.min(Obligation.created_at),
            func.min(Obligation.deadline_at),
            func.coalesce(func.bool_or(Ticket.reason == Reason.UNLAWFUL_TRAINING), False),
            func.array_agg(Ticket.risk_tier.distinct()),
        )
        .join(Ticket, Ticket.id == Obligation.ticket_id)
        .where(meant)
    ).one()
    now, samples, oldest, deadline, unlawful, tiers = row
    return Waiting(now, int(samples), oldest, deadline, unlawful, frozenset(str(tier) for tier in tiers or ()))


def near(pending: Waiting, body: PolicyBody) -> bool:
    """Whether a deadline is so near that the batch must close."""
    margin = timedelta(seconds=body.batching.deadline_margin_seconds)
    return pending.deadline is not None and pending.deadline - pending.now <= margin


def trigger(pending: Waiting, body: PolicyBody, *, flush: bool) -> Trigger | None:
    """Why a batch should close now, if it should."""
    limits = body.batching
    if pending.oldest is None:
        return None
    if flush:
        return Trigger.FLUSH
    if pending.samples >= limits.max_samples:
        return Trigger.SIZE
    if pending.now - pending.oldest >= timedelta(seconds=limits.max_wait_seconds):
        return Trigger.AGE
    return Trigger.DEADLINE if near(pending, body) else None


@dataclass(frozen=True)
class Drift:
    """How far approximate updates have led away from the last training.

    `false_publishes` is the sum, over these updates, of the chance that each was published although its true UE or MU lies
    beyond its threshold: so many of them are expected to be false, at most, whatever depends on what.
    """

    live: int
    forgotten: int
    updates: int
    since: datetime
    days: float
    false_publishes: float

    @classmethod
    def now(cls, session: Session, model: Model) -> "Drift":
        """As it stands: at the model's current version, up to this moment."""
        drift = cls.up_to(session, session.get_one(Version, model.current_version_id))
        clock = session.scalars(select(func.now())).one()
        return replace(drift, days=(clock - drift.since).total_seconds() / 86_400)

    @classmethod
    def up_to(cls, session: Session, version: Version) -> "Drift":
        """As it stood when `version` was published, counted from the newest version that was trained, not unlearned."""
        earlier = select(Version).where(Version.model_id == version.model_id, Version.number <= version.number)
        anchor = session.scalars(earlier.where(Version.kind.in_(EXACT)).order_by(Version.number.desc()).limit(1)).one()
        error = func.coalesce(Verdict.thresholds["error"].as_float(), ERROR)  # verdicts of earlier releases have none
        later = session.execute(
            select(func.coalesce(func.sum(Version.forgotten), 0), func.count(), func.coalesce(func.sum(error), 0.0))
            .join(Verdict, Verdict.id == Version.verdict_id)
            .where(
                Version.model_id == version.model_id, Version.number > anchor.number, Version.number <= version.number
            )
        ).one()
        since = versions.original(session, anchor).published_at
        return cls(
            live=version.model.dataset.sample_count - anchor.excluded_count,
            forgotten=int(later[0]),
            updates=later[1],
            since=since,
            days=(version.published_at - since).total_seconds() / 86_400,
            false_publishes=round(float(later[2]), 6),
        )


def no_approximation(pending: Waiting, body: PolicyBody) -> str | None:
    """Why these tickets get no approximate answer, whatever the model's state; None when they may."""
    if pending.unlawful:
        return "a ticket's reason is unlawful_training: it gets no approximate answer"
    tiers = pending.tiers & {str(tier) for tier in body.retrain_tiers}
    return f"the policy retrains for risk tier {', '.join(sorted(tiers))}" if tiers else None


def stopped_says(why: str) -> str:
    """The sentence that shows wherever a stop has kept an approximate update from being published."""
    return f"approximate updates are stopped: {why}"


def must_retrain(pending: Waiting, drift: Drift, body: PolicyBody, stopped: str | None) -> str | None:
    """The sentence that sends a batch straight to a retrain, or None. `stopped` is the model's."""
    barred = no_approximation(pending, body)
    if barred is not None:
        return barred
    if stopped is not None:
        return stopped_says(stopped)
    share = (drift.forgotten + pending.samples) / max(drift.live, 1)
    if share > body.drift.max_share:
        return f"drift budget: {share:.1%} forgotten since the last training exceeds {body.drift.max_share:.1%}"
    if drift.updates + 1 > body.drift.max_updates:
        return f"drift budget: {body.drift.max_updates} updates since the last training are spent"
    if drift.days > body.drift.max_days:
        return f"drift budget: the last training is {drift.days:.0f} days old"
    expected = round(drift.false_publishes + body.thresholds.error, 6)
    if expected > body.drift.false_publishes:
        return (
            f"drift budget: with this update {expected:g} of the publications since the last training would be expected "
            f"to be false, the limit is {body.drift.false_publishes:g}"
        )
    if body.ladder[0] == "retrain":
        return "the policy's ladder has no rung but retrain"
    return None


@dataclass(frozen=True)
class Deferral:
    """What the tickets of an inconclusive batch wait for, and until when. Kept as JSON in `Model.deferral`."""

    until: datetime
    batch: UUID
    why: str
    samples: int | None
    references: int | None

    @classmethod
    def of(cls, model: Model) -> "Deferral | None":
        if model.deferral is None:
            return None
        kept = dict(model.deferral)
        return cls(datetime.fromisoformat(kept.pop("until")), UUID(kept.pop("batch")), **kept)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"until": self.until.isoformat(), "batch": str(self.batch)}

    @property
    def what(self) -> str:
        return f"{self.samples} samples" if self.samples is not None else f"{self.references} references"

    @property
    def says(self) -> str:
        """For whoever waits."""
        until = self.until.astimezone(UTC)
        return f"waits for {self.what}, until {until:%Y-%m-%d %H:%M:%S} UTC at most: {self.why}"


@dataclass(frozen=True)
class Closing:
    """A batch that is to be closed: why now, of which kind, and the sentence for both."""

    trigger: Trigger
    kind: BatchKind
    why: str


def closing(
    session: Session, model: Model, pending: Waiting, drift: Drift, body: PolicyBody, by: Trigger | None = None
) -> Closing | None:
    """How the model's batch is to be closed now; None when it is not due. Pending obligations that wait for something
    are due by that alone, and not by age or size: all but those that get no approximate answer in any case. `by` is why
    those that are meant are due, where that is known."""
    flush = model.flush_requested_at is not None
    found, deferral = by or trigger(pending, body, flush=flush), Deferral.of(model)
    if found is None and deferral is None:
        return None
    why = must_retrain(pending, drift, body, model.stopped)
    if why is not None:
        return Closing(found or Trigger.AGE, BatchKind.RETRAIN, why)
    if deferral is not None:
        return over(deferral, pending, references(session, model.id), body, flush=flush)
    assert found is not None
    return Closing(found, BatchKind.UNLEARN, f"closed by {found}")


def over(deferral: Deferral, pending: Waiting, has: int, body: PolicyBody, *, flush: bool) -> Closing | None:
    """How the wait has ended: with what was waited for, or in vain; None when it goes on."""
    came = f"waited since batch {deferral.batch} was inconclusive, and has"
    if deferral.samples is not None and pending.samples >= deferral.samples:
        return Closing(
            Trigger.SIZE, BatchKind.UNLEARN, f"{came} {pending.samples} samples of {deferral.samples} wanted"
        )
    if deferral.references is not None and has >= deferral.references:
        return Closing(Trigger.AGE, BatchKind.UNLEARN, f"{came} {has} references of {deferral.references} wanted")
    vain = f"waited in vain for {deferral.what} since batch {deferral.batch} was inconclusive"
    if flush:
        return Closing(Trigger.FLUSH, BatchKind.RETRAIN, f"{vain}: an operator flushed")
    if near(pending, body):
        return Closing(Trigger.DEADLINE, BatchKind.RETRAIN, f"{vain}: a deadline is near")
    if pending.now >= deferral.until:
        return Closing(Trigger.AGE, BatchKind.RETRAIN, f"{vain}: the time is over")
    return None


def references(session: Session, model_id: int) -> int:
    """How many references the table of the model's bank holds; 0 without one."""
    bank = banks.in_use(session, model_id)
    return int(bank.facts["references"]) if bank is not None and bank.facts else 0
