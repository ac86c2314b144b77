"""The tables. A *model* is a line of versions of one network; the ORM classes are tables, never models.

Every fact the service relies on is a row here; Redis holds nothing that this file does not. Where an invariant can be
a constraint it is one, so that a bug in the code is an error and not a wrong deletion.
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Reason(StrEnum):
    """Why a sample must go. `unlawful_training` never gets an approximate answer."""

    CONSENT_WITHDRAWN = "consent_withdrawn"
    ERASURE_REQUEST = "erasure_request"
    REGULATOR_ORDER = "regulator_order"
    UNLAWFUL_TRAINING = "unlawful_training"
    POISONED = "poisoned"
    OUTLIER = "outlier"
    OTHER = "other"


class RiskTier(StrEnum):
    """How much is at stake; a policy sends some tiers straight to a retrain."""

    LOW = "low"
    STANDARD = "standard"
    HIGH = "high"


class TicketState(StrEnum):
    PENDING = "pending"
    WORKING = "working"
    FULFILLED = "fulfilled"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"


class ObligationState(StrEnum):
    PENDING = "pending"
    BATCHED = "batched"
    FULFILLED = "fulfilled"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"


class BatchKind(StrEnum):
    """What a batch sets out to do: make version 1, climb the ladder, or go straight to its last rung."""

    TRAIN = "train"
    UNLEARN = "unlearn"
    RETRAIN = "retrain"


class BatchState(StrEnum):
    READY = "ready"
    RUNNING = "running"
    PUBLISHED = "published"
    SPLIT = "split"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"


class Trigger(StrEnum):
    """Why a batch closed when it did."""

    REGISTRATION = "registration"
    SIZE = "size"
    AGE = "age"
    DEADLINE = "deadline"
    FLUSH = "flush"
    OPERATOR = "operator"
    SCHEDULE = "schedule"
    BISECTION = "bisection"


class BankState(StrEnum):
    """`ready` once a first table exists; it may still be growing. `retired`: its version's line has ended."""

    BUILDING = "building"
    READY = "ready"
    RETIRED = "retired"


class ReferenceState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class ApprovalState(StrEnum):
    """`requested` and `refused` wait for a decision, or for another one; `used` once a batch has taken what it names; `lapsed`
    when it was needed no more."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REFUSED = "refused"
    USED = "used"
    EXPIRED = "expired"
    LAPSED = "lapsed"


class Instead(StrEnum):
    """What a refusal means. Never that the data come back: the tombstones stand whatever is decided."""

    WAIT = "wait"
    RETRAIN = "retrain"


class ProposalState(StrEnum):
    PROPOSED = "proposed"
    APPROVED = "approved"
    REFUSED = "refused"
    OVERTAKEN = "overtaken"


class VersionKind(StrEnum):
    TRAINED = "trained"
    UNLEARNED = "unlearned"
    RETRAINED = "retrained"


EXACT = (VersionKind.TRAINED, VersionKind.RETRAINED)
"""Kinds of versions that were trained, not unlearned."""


class Decision(StrEnum):
    PUBLISH = "publish"
    ESCALATE = "escalate"
    INCONCLUSIVE = "inconclusive"


class DeliveryState(StrEnum):
    """Of a webhook delivery. `failed`: tried for as long as the settings say; a redelivery begins anew."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Role(StrEnum):
    """What tells that it is there: a worker that works batches off, one that serves the light queue alone, beat, and the
    sweep, which whoever runs it tells of."""

    WORKER = "worker"
    LIGHT = "light"
    BEAT = "beat"
    SWEEP = "sweep"


NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads this plain class attribute
        str: Text,
        int: BigInteger,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
    }


def words(enum: type[StrEnum]) -> Enum:
    """A closed set of words, kept as text with a check: adding a word is a migration, not an ALTER TYPE."""
    return Enum(
        enum, native_enum=False, create_constraint=True, values_callable=lambda e: [m.value for m in e], length=24
    )


class ApiKey(Base):
    """One key of one client. Only a digest of the secret is stored; several keys may serve one client (rotation)."""

    __tablename__ = "api_key"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    client: Mapped[str]
    prefix: Mapped[str] = mapped_column(unique=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    requests_per_minute: Mapped[int | None] = mapped_column(Integer)
    """Instead of the setting; the key then has a bucket of its own. None: as the setting says."""
    ids_per_day: Mapped[int | None]
    """Instead of the setting, held against what the client named today through all of its keys."""
    __table_args__ = (
        CheckConstraint("requests_per_minute > 0", name="positive_rate"),
        CheckConstraint("ids_per_day >= 0", name="no_negative_ids"),
    )


class WebSession(Base):
    """Somebody signed in with a browser: the digest of what its cookie holds, and whose key or identity it stands for."""

    __tablename__ = "web_session"
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    key_id: Mapped[int | None] = mapped_column(ForeignKey("api_key.id"))
    """The key that it stands for, and ends with."""
    subject: Mapped[str | None]
    """Or the client name of an identity provider's subject, with the scopes that its roles had."""
    scopes: Mapped[list[str] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """To the minute; what a page asks for by itself does not count."""
    flash: Mapped[str | None]
    """What the next page says of what was just done."""
    __table_args__ = (
        CheckConstraint(
            "(key_id IS NULL) = (subject IS NOT NULL) AND (subject IS NULL) = (scopes IS NULL)",
            name="of_a_key_or_a_subject",
        ),
        Index(None, "expires_at"),
    )


class DailyIds(Base):
    """How many ids a client named on one day (UTC), where a limit is set. Written in the ticket's transaction."""

    __tablename__ = "daily_ids"
    client: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    ids: Mapped[int]


class Dataset(Base):
    __tablename__ = "dataset"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    sample_count: Mapped[int]
    subject_count: Mapped[int]
    manifest_digest: Mapped[str]
    """SHA-256 of the manifest in its canonical form; see lineage.py."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Sample(Base):
    """The manifest: one row per training record, a partition per dataset so that loading is COPY, then index."""

    __tablename__ = "sample"
    dataset_id: Mapped[int] = mapped_column(primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    sample_id: Mapped[str]
    subject: Mapped[str | None]
    __table_args__ = (
        UniqueConstraint("dataset_id", "sample_id"),
        Index(None, "dataset_id", "subject"),
        {"postgresql_partition_by": "LIST (dataset_id)"},
    )


class Model(Base):
    __tablename__ = "model"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    problem: Mapped[str]
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    current_version_id: Mapped[int | None] = mapped_column(ForeignKey("version.id", use_alter=True))
    flush_requested_at: Mapped[datetime | None]
    """Set by an operator's flush; the next batch closes at once and clears it."""
    held: Mapped[str | None]
    """Why pending obligations wait although a batch is due, in one sentence; null when nothing holds them."""
    stopped: Mapped[str | None]
    """Why no approximate update of this model is published at present, in one sentence; null when they are."""
    deferral: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What an inconclusive batch waits for, until when: `deferral.Deferral`. Null when nothing waits."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    dataset: Mapped[Dataset] = relationship()


class Policy(Base):
    """One immutable version of a model's policy; the highest number is in force."""

    __tablename__ = "policy"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    number: Mapped[int] = mapped_column(Integer)
    body: Mapped[dict[str, Any]]
    author: Mapped[str]
    approved_by: Mapped[str | None]
    """Who let it take effect, where it loosens what guards the model: somebody else than its author."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        UniqueConstraint("model_id", "number"),
        CheckConstraint("approved_by <> author", name="approved_by_another"),
    )


class Proposal(Base):
    """A policy that loosens the one in force, and takes effect when somebody else than its author approves."""

    __tablename__ = "proposal"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    state: Mapped[ProposalState] = mapped_column(words(ProposalState))
    base: Mapped[int] = mapped_column(Integer)
    """Number of the policy that it would replace. Once there is a newer one, nobody can approve it any more."""
    body: Mapped[dict[str, Any]]
    loosens: Mapped[list[str]]
    author: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    why: Mapped[str | None]
    __table_args__ = (
        Index(None, "model_id"),
        CheckConstraint("state <> 'approved' OR decided_by <> author", name="approved_by_another"),
    )


class Ticket(Base):
    """One deletion request as received, and the three facts kept apart: removed, clean (per obligation), releasable."""

    __tablename__ = "ticket"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    client: Mapped[str]
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    reason: Mapped[Reason] = mapped_column(words(Reason))
    risk_tier: Mapped[RiskTier] = mapped_column(words(RiskTier))
    external_id: Mapped[str | None]
    state: Mapped[TicketState] = mapped_column(words(TicketState))
    accepted: Mapped[int] = mapped_column(Integer)
    unknown: Mapped[int] = mapped_column(Integer)
    already_forgotten: Mapped[int] = mapped_column(Integer)
    pending_elsewhere: Mapped[int] = mapped_column(Integer)
    deadline_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    data_removed_at: Mapped[datetime | None]
    """From here on no training reads the samples: the tombstones were written in this ticket's own transaction."""
    data_releasable_at: Mapped[datetime | None]
    """Nothing here needs the raw samples any more; their owner may destroy them."""
    closed_at: Mapped[datetime | None]
    salt: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Of the commitment that stands in the log; null once it was destroyed, and for tickets of earlier releases."""
    dataset: Mapped[Dataset] = relationship()
    obligations: Mapped[list["Obligation"]] = relationship(back_populates="ticket", order_by="Obligation.model_id")
    __table_args__ = (
        UniqueConstraint("client", "external_id"),
        Index(None, "client", "created_at", "id"),
        Index(None, "created_at", "id"),
        Index(None, "dataset_id", "created_at", "id"),
        # What is not yet done is little beside what is, and must be found without walking along that.
        Index("ix_ticket_unfulfilled", "state", "created_at", "id", postgresql_where=text("state <> 'fulfilled'")),
        Index("ix_ticket_open", "created_at", "id", postgresql_where=text("closed_at IS NULL")),
        Index(None, "external_id", postgresql_where=text("external_id IS NOT NULL")),
    )


class Tombstone(Base):
    """A sample that no later training may read, and the ticket that says so.

    One row per ticket and sample: two tickets may name one sample, and cancelling one of them leaves it dead. No foreign
    keys: the rows are written by the statement that looked the samples up, in the ticket's own transaction, and ten
    thousand key checks would cost more than the ticket.
    """

    __tablename__ = "tombstone"
    dataset_id: Mapped[int] = mapped_column(primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[UUID] = mapped_column(primary_key=True)
    __table_args__ = (Index(None, "ticket_id"),)


class Obligation(Base):
    """What one model still owes one ticket."""

    __tablename__ = "obligation"
    ticket_id: Mapped[UUID] = mapped_column(ForeignKey("ticket.id"), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"), primary_key=True)
    state: Mapped[ObligationState] = mapped_column(words(ObligationState))
    samples: Mapped[int] = mapped_column(Integer)
    """Samples of the ticket that the model had not yet forgotten when the ticket came."""
    batch_id: Mapped[UUID | None] = mapped_column(ForeignKey("batch.id"))
    version_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))
    """The published version that no longer holds the samples."""
    approval_id: Mapped[int | None] = mapped_column(ForeignKey("approval.id"))
    """The approval that names it, where it came to wait for one."""
    deadline_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    fulfilled_at: Mapped[datetime | None]
    released_at: Mapped[datetime | None]
    """From here on this model's checks no longer need the raw samples."""
    ticket: Mapped[Ticket] = relationship(back_populates="obligations")
    model: Mapped[Model] = relationship()
    version: Mapped["Version | None"] = relationship()
    batch: Mapped["Batch | None"] = relationship()
    approval: Mapped["Approval | None"] = relationship()
    __table_args__ = (
        Index(None, "batch_id"),
        Index(None, "approval_id", postgresql_where=text("approval_id IS NOT NULL")),
        Index("ix_obligation_pending", "model_id", "created_at", postgresql_where=text("state = 'pending'")),
        Index(
            "ix_obligation_open",
            "model_id",
            postgresql_where=text("state IN ('pending', 'batched', 'quarantined')"),
        ),
        Index(
            "ix_obligation_unreleased",
            "model_id",
            postgresql_where=text("state = 'fulfilled' AND released_at IS NULL"),
        ),
        Index(None, "version_id", postgresql_where=text("version_id IS NOT NULL")),
        CheckConstraint("(state = 'fulfilled') = (version_id IS NOT NULL)", name="fulfilled_by_a_version"),
    )


class Approval(Base):
    """A second person's consent that a model forgets more than its policy's cap: asked for, then given or refused.

    What it names are the obligations that point to it. Once decided, none joins them.
    """

    __tablename__ = "approval"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    state: Mapped[ApprovalState] = mapped_column(words(ApprovalState))
    samples: Mapped[int]
    share: Mapped[float] = mapped_column(Float)
    """Of the training set, forgotten within the window, these samples included."""
    cap: Mapped[float] = mapped_column(Float)
    deadline_at: Mapped[datetime | None]
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    warned_at: Mapped[datetime | None]
    """When the log was told that a deadline is near and nobody has decided."""
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    why: Mapped[str | None]
    instead: Mapped[Instead | None] = mapped_column(words(Instead))
    expires_at: Mapped[datetime | None]
    batch_id: Mapped[UUID | None] = mapped_column(ForeignKey("batch.id"))
    """The batch that used it."""
    __table_args__ = (
        Index(
            "uq_approval_one_open",
            "model_id",
            unique=True,
            postgresql_where=text("state = 'requested' OR (state = 'refused' AND instead = 'wait')"),
        ),
        CheckConstraint("(state = 'approved') <= (expires_at IS NOT NULL)", name="approved_for_a_time"),
        CheckConstraint("(state = 'refused') <= (instead IS NOT NULL)", name="refused_for_something"),
    )


class Batch(Base):
    """Obligations of one model worked off together. `lease_epoch` fences every write of a run."""

    __tablename__ = "batch"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    kind: Mapped[BatchKind] = mapped_column(words(BatchKind))
    trigger: Mapped[Trigger] = mapped_column(words(Trigger))
    state: Mapped[BatchState] = mapped_column(words(BatchState))
    policy_id: Mapped[int] = mapped_column(ForeignKey("policy.id"))
    policy: Mapped[dict[str, Any]]
    """The policy as it was when the batch closed: what judged it stays readable whatever comes later."""
    parent_version_id: Mapped[int | None] = mapped_column(ForeignKey("version.id", use_alter=True))
    why: Mapped[str]
    """One sentence: why this kind of batch, and why now."""
    requested_by: Mapped[str]
    split_from_id: Mapped[UUID | None] = mapped_column(ForeignKey("batch.id"))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    lease_epoch: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[datetime | None]
    not_before: Mapped[datetime] = mapped_column(server_default=func.now())
    """Back-off after a failed run."""
    rung: Mapped[str | None]
    step: Mapped[str | None]
    progress: Mapped[float] = mapped_column(Float, default=0.0)
    failure: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    model: Mapped[Model] = relationship()
    parent_version: Mapped["Version | None"] = relationship(foreign_keys=[parent_version_id])
    __table_args__ = (
        Index("uq_batch_one_running", "model_id", unique=True, postgresql_where=text("state = 'running'")),
        Index("ix_batch_open", "model_id", "created_at", postgresql_where=text("state IN ('ready', 'running')")),
        Index("ix_batch_quarantined", "model_id", postgresql_where=text("state = 'quarantined'")),
        Index(None, "created_at", "id"),
    )


class Run(Base):
    """One attempt at a batch: a lease epoch, who held it, how it ended."""

    __tablename__ = "run"
    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batch.id"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    """published, failed, ended, given back, or null while it runs; a run whose lease was taken away stays null for ever."""
    detail: Mapped[str | None]


class Verdict(Base):
    """The judgement of one rung on exactly the bytes named, with every statistic behind it."""

    __tablename__ = "verdict"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batch.id"))
    epoch: Mapped[int]
    rung: Mapped[str]
    weights_digest: Mapped[str]
    decision: Mapped[Decision] = mapped_column(words(Decision))
    reasons: Mapped[list[str]]
    method: Mapped[dict[str, Any]]
    statistics: Mapped[dict[str, Any]]
    thresholds: Mapped[dict[str, Any]]
    seconds: Mapped[dict[str, Any]]
    truth: Mapped[dict[str, Any] | None]
    """True MU and UE, measured when a retrain landed, beside what was estimated."""
    truth_version_id: Mapped[int | None] = mapped_column(ForeignKey("version.id", use_alter=True))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    figures: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True), deferred=True)
    """What was drawn of it for the reader: counts in bins, curves, maps. Null for weights that were not published, and for
    verdicts of earlier releases. Read only where it is asked for."""
    __table_args__ = (Index(None, "batch_id"), UniqueConstraint("id", "weights_digest", "decision"))


class Version(Base):
    """One published set of weights. Its verdict must say publish about these very bytes: a foreign key, not a habit."""

    __tablename__ = "version"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    number: Mapped[int] = mapped_column(Integer)
    kind: Mapped[VersionKind] = mapped_column(words(VersionKind))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))
    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batch.id"), unique=True)
    verdict_id: Mapped[int]
    decision: Mapped[Decision] = mapped_column(words(Decision))
    weights_digest: Mapped[str]
    weights_bytes: Mapped[int]
    manifest_digest: Mapped[str]
    excluded_digest: Mapped[str]
    """SHA-256 of the ordinals left out, ascending, as little-endian 64-bit integers."""
    excluded_count: Mapped[int]
    forgotten: Mapped[int] = mapped_column(Integer)
    """Samples this version forgot that its parent still held."""
    environment: Mapped[dict[str, Any]]
    """What the bytes depend on besides the inputs: code, library and device versions, threads, seed, recipe."""
    published_at: Mapped[datetime] = mapped_column(server_default=func.now())
    superseded_at: Mapped[datetime | None]
    weights_fetched_at: Mapped[datetime | None]
    """When somebody was first given the weights. What they may be compared with later is out of this service's hands."""
    weights_withdrawn_at: Mapped[datetime | None]
    """From here on nobody is given them, because of what a comparison with a later version would tell."""
    weights_purged_at: Mapped[datetime | None]
    gradients_digest: Mapped[str | None]
    """The cached gradient sum over the live training set at these weights; null until it is computed, or purged."""
    records_digest: Mapped[str | None]
    """What is kept of the training, for methods that need it. Null when nothing is, and from the day the version is
    superseded: an old version's records hold what was forgotten since."""
    records: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What the records hold, or held, for the audit: `runs.Kept`."""
    disclosure: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What a comparison with earlier versions would tell, and what was done about it: `disclosure.Guard`."""
    exposure: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True), deferred=True)
    """Which of its training samples have outlying gradients, as ordinals: `unlearning.exposure.Exposure`, or why that could not
    be told. Null where the policy did not ask, and from the day the version is superseded."""
    model: Mapped[Model] = relationship(foreign_keys=[model_id])
    parent: Mapped["Version | None"] = relationship(remote_side=[id])
    verdict: Mapped[Verdict] = relationship(
        foreign_keys="[Version.verdict_id, Version.weights_digest, Version.decision]", viewonly=True
    )
    batch: Mapped[Batch] = relationship(foreign_keys=[batch_id])
    __table_args__ = (
        UniqueConstraint("model_id", "number"),
        UniqueConstraint("records_digest"),
        UniqueConstraint("model_id", "parent_id", postgresql_nulls_not_distinct=True),
        ForeignKeyConstraint(
            ["verdict_id", "weights_digest", "decision"], ["verdict.id", "verdict.weights_digest", "verdict.decision"]
        ),
        CheckConstraint("decision = 'publish'", name="published_on_a_verdict"),
        CheckConstraint(
            "records_digest IS NULL OR (superseded_at IS NULL AND records IS NOT NULL)", name="records_until_superseded"
        ),
        CheckConstraint("exposure IS NULL OR superseded_at IS NULL", name="exposure_until_superseded"),
        Index(None, "model_id", "published_at"),
        Index("ix_version_kept", "model_id", postgresql_where=text("weights_purged_at IS NULL")),
    )


class Bank(Base):
    """The reference bank of a version that was trained, and of the updates that descend from it."""

    __tablename__ = "bank"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"))
    state: Mapped[BankState] = mapped_column(words(BankState))
    wanted: Mapped[int] = mapped_column(Integer)
    """References asked for. Those whose scores are in the table: `facts`."""
    digest: Mapped[str | None]
    """The score table; null until there is one, and once retired. Rewritten without the rows of forgotten samples."""
    facts: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Of the table that `digest` names: references, noise floors, how well it predicted the references themselves."""
    why: Mapped[str]
    requested_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ready_at: Mapped[datetime | None]
    retired_at: Mapped[datetime | None]
    model: Mapped[Model] = relationship()
    version: Mapped[Version] = relationship()
    __table_args__ = (
        Index("uq_bank_one_in_use", "model_id", unique=True, postgresql_where=text("state <> 'retired'")),
        UniqueConstraint("digest"),
        CheckConstraint("state <> 'ready' OR digest IS NOT NULL", name="ready_with_a_table"),
        CheckConstraint("state <> 'retired' OR digest IS NULL", name="retired_without_one"),
    )


class Reference(Base):
    """One model of a bank: trained, scored and thrown away by whichever worker claims it. The lease fences its writes."""

    __tablename__ = "reference"
    bank_id: Mapped[int] = mapped_column(ForeignKey("bank.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    state: Mapped[ReferenceState] = mapped_column(words(ReferenceState))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    lease_epoch: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[datetime | None]
    not_before: Mapped[datetime] = mapped_column(server_default=func.now())
    worker: Mapped[str | None]
    progress: Mapped[float] = mapped_column(Float, default=0.0)
    digest: Mapped[str | None]
    """Its scores, until the table that holds them has replaced them."""
    seconds: Mapped[float | None]
    failure: Mapped[str | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    bank: Mapped[Bank] = relationship()


class Schedule(Base):
    __tablename__ = "schedule"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    cron: Mapped[str]
    """Five fields, read in UTC."""
    enabled: Mapped[bool] = mapped_column(Boolean, default=True)
    author: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    next_at: Mapped[datetime]
    model: Mapped[Model] = relationship()


class Occurrence(Base):
    """One due time of a schedule. The primary key is what makes it happen once, however many tickers run."""

    __tablename__ = "occurrence"
    schedule_id: Mapped[int] = mapped_column(ForeignKey("schedule.id"), primary_key=True)
    scheduled_for: Mapped[datetime] = mapped_column(primary_key=True)
    batch_id: Mapped[UUID | None] = mapped_column(ForeignKey("batch.id"))
    note: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Idempotency(Base):
    """A client's Idempotency-Key, kept in the ticket's own transaction."""

    __tablename__ = "idempotency"
    client: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_digest: Mapped[bytes] = mapped_column(LargeBinary)
    ticket_id: Mapped[UUID] = mapped_column(ForeignKey("ticket.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (Index(None, "created_at"),)


class WebhookEndpoint(Base):
    """Where a client wants to be told. Its secret is not here: see app/webhooks/keys.py."""

    __tablename__ = "webhook_endpoint"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    client: Mapped[str]
    url: Mapped[str]
    description: Mapped[str | None]
    events: Mapped[list[str] | None]
    """What it asked to be told of; null for all that its owner may see."""
    every_client: Mapped[bool] = mapped_column(Boolean)
    """Made by an admin: while its owner is one, it hears of all clients' tickets, and of models and batches."""
    cursor: Mapped[int]
    """The audit log's number up to which its deliveries were written."""
    secret_number: Mapped[int] = mapped_column(Integer)
    secret_check: Mapped[bytes] = mapped_column(LargeBinary)
    previous_until: Mapped[datetime | None]
    """Until when calls are signed with the secret before this one as well."""
    succeeded_at: Mapped[datetime | None]
    """When a call last succeeded, to the minute."""
    disabled_at: Mapped[datetime | None]
    disabled_why: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        Index("ix_webhook_endpoint_client", "client", "created_at", "id"),
        Index("ix_webhook_endpoint_newest", "created_at", "id"),
    )


class WebhookDelivery(Base):
    """One thing that one endpoint is told. Its id is the `webhook-id` of every attempt."""

    __tablename__ = "webhook_delivery"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_endpoint.id", ondelete="CASCADE"))
    seq: Mapped[int | None]
    """The audit log's event; null for a test call."""
    part: Mapped[int] = mapped_column(Integer)
    """Which of the things that the event tells."""
    type: Mapped[str]
    body: Mapped[str]
    """What is sent and signed, byte for byte."""
    state: Mapped[DeliveryState] = mapped_column(words(DeliveryState))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When it is tried next. While a sender has it: when its claim lapses."""
    claimed: Mapped[bool] = mapped_column(Boolean, default=False)
    tries: Mapped[int] = mapped_column(Integer, default=0)
    """Attempts since it was last begun anew, which is what the wait grows by."""
    give_up_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    endpoint: Mapped[WebhookEndpoint] = relationship()
    attempts: Mapped[list["WebhookAttempt"]] = relationship(order_by="WebhookAttempt.number", passive_deletes=True)
    __table_args__ = (
        UniqueConstraint("endpoint_id", "seq", "part"),
        Index("ix_webhook_delivery_due", "endpoint_id", "due_at", postgresql_where=text("state = 'pending'")),
        Index("ix_webhook_delivery_claimed", "endpoint_id", "due_at", postgresql_where=text("claimed")),
        Index("ix_webhook_delivery_newest", "endpoint_id", "created_at", "id"),
    )


class WebhookAttempt(Base):
    """One call: when, how long, and how it went in one word. Nothing of what the receiver said."""

    __tablename__ = "webhook_attempt"
    delivery_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_delivery.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seconds: Mapped[float | None] = mapped_column(Float)
    status: Mapped[int | None] = mapped_column(Integer)
    outcome: Mapped[str | None]
    """Null while it is under way, and for ever where its sender died."""


class AuditEvent(Base):
    """The append-only log. `hash` chains each row to all before it; UPDATE, DELETE and TRUNCATE are refused."""

    __tablename__ = "audit_event"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    ticket_id: Mapped[UUID | None]
    batch_id: Mapped[UUID | None]
    model_id: Mapped[int | None]
    body: Mapped[str]
    """Canonical JSON: the bytes that were hashed."""
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = (
        Index(None, "ticket_id", postgresql_where=text("ticket_id IS NOT NULL")),
        Index(None, "batch_id", postgresql_where=text("batch_id IS NOT NULL")),
        Index(None, "model_id", "seq", postgresql_where=text("model_id IS NOT NULL")),
        Index("ix_audit_event_resumed", "model_id", "seq", postgresql_where=text("kind = 'model.resumed'")),
    )


class AuditHead(Base):
    """One row: the last sequence number and hash. Its row lock orders the appenders."""

    __tablename__ = "audit_head"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    seq: Mapped[int]
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)


class AuditTile(Base):
    """256 hashes of the log's Merkle tree, side by side on level `8 * height`, and the root over them. Written once each is
    full; they follow from the events, and spare reading those again."""

    __tablename__ = "audit_tile"
    height: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    root: Mapped[bytes] = mapped_column(LargeBinary)
    hashes: Mapped[bytes] = mapped_column(LargeBinary)


class Checkpoint(Base):
    """A tree head that was signed: the log had so many events, with this root."""

    __tablename__ = "checkpoint"
    size: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    origin: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(ForeignKey("signing_key.fingerprint"), primary_key=True)
    root: Mapped[bytes] = mapped_column(LargeBinary)
    note: Mapped[str]
    """As it was signed, byte for byte."""
    signed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    published_at: Mapped[datetime | None]


class SigningKey(Base):
    """The public halves of keys that signed something, from their first use on: a rotation leaves the old ones readable."""

    __tablename__ = "signing_key"
    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    """SHA-256 of the Ed25519 key's DER encoding."""
    statements: Mapped[str]
    weights: Mapped[str]
    since: Mapped[datetime] = mapped_column(server_default=func.now())


class Installation(Base):
    """One row: what this installation made up for itself on its first migration."""

    __tablename__ = "installation"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    cursor_key: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)


class ExportCursor(Base):
    """How far an exporter has told the log to somebody else's system: app/exports. Its row lock lets one process do so."""

    __tablename__ = "export_cursor"
    name: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int]
    """The last event that was taken, or that the exporter has nothing to say of."""
    failed_at: Mapped[datetime | None]
    """When the event after it was last refused; null where it was not."""
    failure: Mapped[str | None]


class Tally(Base):
    """Totals over the audit log: `metrics.tally`. The row named `seq` says up to which event they were counted."""

    __tablename__ = "tally"
    name: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """0 where no model is meant."""
    labels: Mapped[str] = mapped_column(primary_key=True)
    """A JSON list."""
    value: Mapped[float] = mapped_column(Float)


class Restoration(Base):
    """That this database came out of a back-up: which one, where its audit log ended, and what was done about the tickets
    that came after it. Nothing is trained or published while one is unresolved; see lockdown.py."""

    __tablename__ = "restoration"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    backup: Mapped[str]
    taken_at: Mapped[datetime]
    schema: Mapped[str]
    seq: Mapped[int]
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    restored_at: Mapped[datetime] = mapped_column(server_default=func.now())
    resolved_at: Mapped[datetime | None]
    resolved_by: Mapped[str | None]
    why: Mapped[str | None]
    """Given by whoever declares that nothing newer came; null where the journal was replayed."""
    journal_seq: Mapped[int | None]
    journal_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Where the lost installation's log ended, as far as it was exported."""


class Worker(Base):
    """A process that works, or rings for those that do, as it wrote of itself: `presence`."""

    __tablename__ = "worker"
    name: Mapped[str] = mapped_column(primary_key=True)
    """`host:pid`; runs are put on record under it."""
    role: Mapped[Role] = mapped_column(words(Role))
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime]
    heard_at: Mapped[datetime]
    """When it last received a message, or sent one where it is beat."""
    task: Mapped[str | None]
