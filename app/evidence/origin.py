"""Where a version comes from: tickets, lineage, runs, what is kept of its training, and how much of the drift budget is used.

Reads rows only. A ticket's id and counts appear, a sample's or subject's never.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import versions
from app.curves import Epoch
from app.due import Drift
from app.tables import Obligation, Reason, RiskTier, Run, Ticket, Verdict, Version, VersionKind


class TicketLine(BaseModel):
    """A ticket that this version answers."""

    ticket: UUID
    reason: Reason
    risk_tier: RiskTier
    samples: int
    received_at: datetime
    data_removed_at: datetime | None
    fulfilled_at: datetime | None
    data_releasable_at: datetime | None


class Attempt(BaseModel):
    epoch: int
    worker: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    detail: str | None


class Ancestor(BaseModel):
    version: str
    kind: VersionKind
    weights_sha256: str
    published_at: datetime
    forgotten: int
    audit: str


class Lineage(BaseModel):
    dataset: str
    problem: str
    samples_in_manifest: int
    manifest_sha256: str
    samples_excluded: int
    excluded_ordinals_sha256: str
    forgotten_by_this_version: int
    tickets: list[TicketLine]
    parents: list[Ancestor] = Field(description="Back to the first version, newest first")


class RecordsKept(BaseModel):
    """What this version keeps, or kept until it was superseded, of the training its weights come from."""

    kept: bool = Field(description="Whether the bytes are there; those of a superseded version are deleted")
    sha256: str
    bytes: int
    of: str = Field(description="The version that was trained; later ones have its records, less what they forgot")
    quoted_bytes: int = Field(description="What the training was told that its records would take at most")
    parts: list[str]
    epochs: int
    steps: int | None
    journal_steps: int | None
    lost_steps: int = Field(description="Steps whose change was purged because a forgotten sample was in them")
    undone_steps: int = Field(description="Steps whose change was purged after it was taken back out of the weights")
    purged_samples: int = Field(description="Samples forgotten since the training, of which nothing is kept here")


class StepCost(BaseModel):
    """Seconds of one forward and backward pass over a batch, measured after the training on the machine that did it."""

    restricted: float
    plain: float


class Training(BaseModel):
    """The training that this version's weights come from."""

    version: str
    epochs: list[Epoch] = Field(description="Empty where the release that trained kept no curve")
    samples: int | None
    seconds: float | None
    restriction: str | None
    alpha: float | None
    step: StepCost | None = Field(description="With the restriction and without; null where nothing was restricted")

    @property
    def cost(self) -> float | None:
        """How many times as long a step took as one without the restriction."""
        return None if self.step is None or self.step.plain <= 0 else self.step.restricted / self.step.plain


class Budget(BaseModel):
    """Approximate updates since the last training."""

    live_samples: int
    forgotten: int
    updates: int
    days: float
    false_publishes: float = Field(
        description="So many of these updates are expected, at most, to lie beyond a threshold all the same"
    )
    limits: dict[str, Any]

    @property
    def expectation(self) -> str:
        """The error of all these updates together, in a sentence."""
        if self.updates == 0:
            return "Nothing was published on an estimate since the last training."
        counted = (
            "1 update since the last training is"
            if self.updates == 1
            else f"{self.updates} updates since the last training are"
        )
        return (
            f"At most {self.false_publishes:g} of {counted} expected to be false: published although the true UE or MU lies"
            " beyond its threshold."
        )


def lineage(session: Session, version: Version) -> Lineage:
    model = version.model
    return Lineage(
        dataset=model.dataset.name,
        problem=model.problem,
        samples_in_manifest=model.dataset.sample_count,
        manifest_sha256=version.manifest_digest,
        samples_excluded=version.excluded_count,
        excluded_ordinals_sha256=version.excluded_digest,
        forgotten_by_this_version=version.forgotten,
        tickets=tickets_of(session, version),
        parents=[
            Ancestor(
                version=versions.name_of(parent),
                kind=parent.kind,
                weights_sha256=parent.weights_digest,
                published_at=parent.published_at,
                forgotten=parent.forgotten,
                audit=f"/models/{versions.name_of(parent)}/audit",
            )
            for parent in versions.chain(session, version)[1:]
        ],
    )


def tickets_of(session: Session, version: Version) -> list[TicketLine]:
    """The tickets that this version answers, oldest first."""
    query = select(Ticket, Obligation).join(Obligation, Obligation.ticket_id == Ticket.id)
    rows = session.execute(query.where(Obligation.version_id == version.id).order_by(Ticket.created_at, Ticket.id))
    return [
        TicketLine(
            ticket=ticket.id,
            reason=ticket.reason,
            risk_tier=ticket.risk_tier,
            samples=obligation.samples,
            received_at=ticket.created_at,
            data_removed_at=ticket.data_removed_at,
            fulfilled_at=obligation.fulfilled_at,
            data_releasable_at=ticket.data_releasable_at,
        )
        for ticket, obligation in rows
    ]


def runs_of(session: Session, batch_id: UUID) -> list[Attempt]:
    found = session.scalars(select(Run).where(Run.batch_id == batch_id).order_by(Run.epoch))
    return [Attempt.model_validate(run, from_attributes=True) for run in found]


def training_of(session: Session, version: Version) -> Training:
    """What its verdict keeps of it; for an update, of the training that it descends from."""
    of = versions.anchor(session, version.model_id, version.number)
    verdict = session.get_one(Verdict, of.verdict_id)
    recipe = of.environment.get("recipe") or {}
    return Training(
        version=versions.name_of(of),
        epochs=verdict.method.get("curve", []),
        samples=verdict.method.get("samples"),
        seconds=verdict.seconds.get("train"),
        restriction=recipe.get("restriction"),
        alpha=recipe.get("alpha"),
        step=verdict.method.get("seconds_a_step"),
    )


def records_of(version: Version) -> RecordsKept | None:
    """The facts that were written with the version; whether they still have bytes, its row says."""
    if version.records is None:
        return None
    facts = dict(version.records)
    return RecordsKept(kept=version.records_digest is not None, sha256=facts.pop("digest"), **facts)


def budget(session: Session, version: Version) -> Budget:
    """The drift budget as it stood when this version was published, with the limits of its own policy."""
    drift = Drift.up_to(session, version)
    return Budget(
        live_samples=drift.live,
        forgotten=drift.forgotten,
        updates=drift.updates,
        days=round(drift.days, 2),
        false_publishes=drift.false_publishes,
        limits=version.batch.policy["drift"],
    )
