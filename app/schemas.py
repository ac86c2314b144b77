"""Shapes of requests and responses. Unknown fields are refused, so that a typo is an error and not a default."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.auth import Scope
from app.keys import LARGEST_LIMIT, LONGEST_DAYS, LONGEST_OVERLAP
from app.policy import PolicyBody
from app.presence import Condition
from app.tables import (
    ApprovalState,
    BankState,
    BatchKind,
    BatchState,
    Decision,
    Instead,
    ObligationState,
    ProposalState,
    Reason,
    RiskTier,
    Role,
    TicketState,
    Trigger,
    VersionKind,
)


def no_control(text: str) -> str:
    """Refuse what Postgres cannot keep or a log must not show. The message never repeats the value."""
    if any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise ValueError("must not hold control characters or lone surrogates")
    return text


def no_nul(text: str) -> str:
    if "\0" in text or any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise ValueError("must not hold NUL or lone surrogates")
    return text


def this_age(when: datetime) -> datetime:
    """Refuse years near the ends of the calendar, which one zone has and another lacks."""
    if not 1970 <= when.year < 9999:
        raise ValueError("must lie between the years 1970 and 9998")
    return when


Id = Annotated[str, StringConstraints(min_length=1, max_length=512), AfterValidator(no_nul)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(no_control)]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DeletionRequest(Request):
    """One deletion ticket. Name samples, subjects, or both."""

    dataset: Name
    sample_ids: list[Id] = Field(default=[], description="Ids as in the dataset's manifest, each once")
    subject_ids: list[Id] = Field(default=[], description="All samples of these subjects, each named once")
    reason: Reason
    risk_tier: RiskTier = RiskTier.STANDARD
    external_id: Name | None = Field(default=None, description="Your own reference; unique among your tickets for ever")
    deadline: Annotated[AwareDatetime, AfterValidator(this_age)] | None = Field(
        default=None, description="When the law wants it done, with a zone"
    )

    @model_validator(mode="after")
    def _names_something_once(self) -> "DeletionRequest":
        if not self.sample_ids and not self.subject_ids:
            raise ValueError("name at least one sample id or subject id")
        for ids, what in ((self.sample_ids, "sample_ids"), (self.subject_ids, "subject_ids")):
            repeats = len(ids) - len(set(ids))
            if repeats:
                raise ValueError(f"{what} holds {repeats} repeat(s); name each id once")
        return self


class Counts(BaseModel):
    accepted: int = Field(description="Samples that this ticket is the first to name")
    unknown: int = Field(description="Ids that the manifest does not hold")
    already_forgotten: int = Field(description="Samples that a fulfilled ticket named before")
    pending_elsewhere: int = Field(description="Samples that an open ticket named before; this one waits for them too")


class DeletionAccepted(BaseModel):
    id: UUID
    state: TicketState
    counts: Counts
    models: int = Field(description="Models that owe something")
    href: str
    receipt: str = Field(description="Where the signed receipt is")


class ObligationView(BaseModel):
    model: str
    state: ObligationState
    samples: int
    clean_version: str | None = Field(description="The published version that passed validation without the samples")
    clean_since: datetime | None
    batch: UUID | None
    doing: str | None = Field(description="What a worker does about it just now, or why it waits")
    approval: ApprovalState | None = Field(
        description="Of the second person's approval that it came to wait for; null where it needed none"
    )
    progress: float
    audit: str | None


class TicketView(BaseModel):
    """A ticket with the three facts kept apart: removed, clean (per model), releasable."""

    id: UUID
    client: str
    dataset: str
    reason: Reason
    risk_tier: RiskTier
    external_id: str | None
    state: TicketState
    counts: Counts
    created_at: datetime
    deadline: datetime | None
    closed_at: datetime | None
    data_removed_at: datetime | None = Field(description="From here on no training reads the samples")
    data_releasable_at: datetime | None = Field(description="Nothing here needs the raw samples any more: destroy them")
    obligations: list[ObligationView]
    receipt: str = Field(description="Where the signed receipt is")
    statement: str | None = Field(description="Where the signed statement is; null until the ticket has ended")


class TicketDetail(TicketView):
    timeline: list[dict[str, Any]]


class TicketPage(BaseModel):
    items: list[TicketView]
    next: str | None = Field(description="Cursor of the next page; null on the last")


class DatasetView(BaseModel):
    name: str
    samples: int
    subjects: int = Field(description="Distinct subjects")
    subjects_estimated: bool = Field(description="Whether `subjects` is an estimate, as it is for very large manifests")
    manifest_sha256: str
    created_at: datetime


class ModelRequest(Request):
    name: Name
    dataset: Name
    problem: Name = Field(description="Entry point in the group `expunge.problems`, installed with the workers")
    policy: PolicyBody = PolicyBody()


class ModelView(BaseModel):
    name: str
    dataset: str
    problem: str
    current_version: str | None
    pending_obligations: int
    held: str | None = Field(description="Why pending tickets wait: for an operator, or for what may settle a verdict")
    stopped: str | None = Field(description="Why no approximate update is published at present; null when they are")
    created_at: datetime


class VersionView(BaseModel):
    version: str
    model: str
    kind: VersionKind
    parent: str | None
    weights_sha256: str
    weights_bytes: int
    published_at: datetime
    superseded_at: datetime | None
    weights_withdrawn_at: datetime | None = Field(
        default=None,
        description="Nobody is given the weights from here on: beside a later version's they would give somebody away",
    )
    weights_purged_at: datetime | None
    records_bytes: int | None = Field(description="Kept of its training for methods that need it; null when nothing is")
    current: bool
    audit: str
    weights: str


class ModelDetail(ModelView):
    versions: list[VersionView]
    running: "BatchView | None"
    bank: BankState | None = Field(description="State of its reference bank; null without one")


class VerdictView(BaseModel):
    rung: str
    decision: Decision
    reasons: list[str]
    method: dict[str, Any]
    statistics: dict[str, Any]
    thresholds: dict[str, Any]
    seconds: dict[str, Any]
    weights_sha256: str
    truth: dict[str, Any] | None
    at: datetime


class BatchView(BaseModel):
    id: UUID
    model: str
    kind: BatchKind
    trigger: Trigger
    state: BatchState
    why: str
    requested_by: str
    parent: str | None
    version: str | None
    obligations: int
    attempt: int
    rung: str | None
    step: str | None
    progress: float
    failure: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class BatchDetail(BatchView):
    policy: dict[str, Any]
    verdicts: list[VerdictView]
    timeline: list[dict[str, Any]]


class BatchPage(BaseModel):
    items: list[BatchView]
    next: str | None


class PolicyView(BaseModel):
    model: str
    number: int
    author: str
    approved_by: str | None = Field(description="Who let it take effect, where it loosened what guards the model")
    created_at: datetime
    policy: PolicyBody


class RetrainRequest(Request):
    model: Name
    why: Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(no_control)]


Why = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(no_control)]


class FlushRequest(Request):
    """Nothing can be said about it: what passes the cap waits for approval, whoever flushes."""


class OutlierDeletionRequest(Request):
    """A person's yes: these samples, shown as outlying, are to be deleted."""

    sample_ids: list[Id] = Field(min_length=1, description="Of samples that are shown as outlying, each once")
    why: Why = Field(description="For the audit log, where it stays: without the id of a sample")

    @model_validator(mode="after")
    def _names_each_once(self) -> "OutlierDeletionRequest":
        if len(set(self.sample_ids)) < len(self.sample_ids):
            raise ValueError("sample_ids holds a repeat; name each id once")
        return self


class ApproveRequest(Request):
    samples: int = Field(
        ge=1, le=2**62, description="At most so many: as many as you saw. More by now is refused with 409"
    )
    tickets_sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="Of the tickets that you saw: others by now, though no more samples, are refused with 409 as well",
    )
    why: Why = Field(description="For the audit")
    hours: float = Field(168, gt=0, le=720, description="An approval that nothing has used by then is void")


class RefuseRequest(Request):
    why: Why = Field(description="For the audit and, where they go on waiting, for the clients")
    instead: Instead = Field(
        default=Instead.WAIT,
        description="`wait`: hold the tickets and tell their clients why; `retrain`: no update, but a retrain without them."
        " The data are removed either way",
    )


class ApprovalView(BaseModel):
    id: int
    model: str
    state: ApprovalState
    samples: int = Field(description="That wait for it, or that it names")
    tickets: int
    tickets_sha256: str = Field(description="Of their ids in ascending order, each followed by a line feed")
    clients: list[str] = Field(description="Who asked: none of them can approve")
    share: float = Field(description="Of the training set, forgotten within the window, these samples included")
    cap: float
    deadline: datetime | None = Field(description="The earliest of the tickets'")
    asked_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    why: str | None
    instead: Instead | None = Field(description="What a refusal means")
    expires_at: datetime | None
    batch: UUID | None = Field(description="That used it")


class DecisionRequest(Request):
    why: Why = Field(description="For the audit")


class ProposalView(BaseModel):
    """A policy that takes effect when somebody else than its author approves it."""

    id: int
    model: str
    state: ProposalState
    base: int = Field(description="Number of the policy that it would replace")
    loosens: list[str] = Field(description="What it changes of that which guards the model, before and after")
    author: str
    created_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    why: str | None
    policy: PolicyBody


class AttemptReplayed(BaseModel):
    rung: str
    at: datetime
    recorded: Decision
    replayed: Decision
    reasons: list[str] = Field(description="Of the decision that is replayed")
    stopped: bool = Field(
        description="Kept from publishing while updates of the model were stopped, whatever thresholds say"
    )


class BatchReplayed(BaseModel):
    batch: UUID
    at: datetime
    recorded: str | None = Field(description="The rung that published; null where none has")
    replayed: str | None = Field(description="The rung that would have; null where the next one was never tried")
    says: str
    differs: bool
    attempts: list[AttemptReplayed]


class DryRunView(BaseModel):
    """What a policy would have made of a model's past batches, by their verdicts' own statistics. Nothing is written."""

    model: str
    batches: int
    differing: int
    updates: int = Field(description="That would have published an update")
    updates_recorded: int = Field(description="That did")
    retrains: int
    unknown: int = Field(description="Whose next rung was never tried, so that nothing can be said")
    notes: list[str] = Field(description="What the replay leaves out")
    items: list[BatchReplayed] = Field(description="Newest first")


class ResumeRequest(Request):
    why: Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(no_control)]


class RollbackRequest(Request):
    to: Annotated[str, StringConstraints(min_length=1, max_length=160)] = Field(
        description="A version of this model that was trained: `<model>-v<number>`"
    )
    why: Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(no_control)]


class ScheduleRequest(Request):
    model: Name
    cron: Annotated[str, StringConstraints(min_length=1, max_length=100)] = Field(description="Five fields, in UTC")


class ScheduleView(BaseModel):
    id: int
    model: str
    cron: str
    author: str
    next_at: datetime


class OccurrenceView(BaseModel):
    scheduled_for: datetime
    batch: UUID | None
    note: str


class BankRequest(Request):
    references: int | None = Field(
        default=None,
        ge=4,
        le=64,
        description="Models to be trained for it, by groups of four; the policy's number if null",
    )


class BankCost(BaseModel):
    """What is still to be spent on a bank of `references`."""

    references: int
    trainings: int = Field(description="References that are not finished; each takes three quarters of a training")
    seconds: float | None = Field(description="On one worker; null where the model's last training is not known")
    bytes: int = Field(description="Of the table's rows; what it holds of unseen data comes on top")


class ReferenceView(BaseModel):
    number: int
    progress: float
    failure: str | None = Field(description="Of its last attempt")


class BankView(BaseModel):
    """A model's reference bank; without one, what it would cost."""

    model: str
    state: BankState | None = Field(
        description="`building` until there is a table, `ready` from then on; null without one"
    )
    version: str | None = Field(description="The trained version it belongs to")
    wanted: int
    done: int
    running: list[ReferenceView]
    failed: list[ReferenceView] = Field(
        description="Their attempts are spent; ordering the bank again gives them new ones"
    )
    why: str | None
    requested_by: str | None
    created_at: datetime | None
    ready_at: datetime | None
    table_sha256: str | None
    cost: BankCost
    facts: dict[str, Any] | None = Field(description="What the table says: references, samples, seconds, noise floor")


class KeyRequest(Request):
    client: Name = Field(description="Whose key it is; tickets belong to this name")
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]
    days: Annotated[float, Field(gt=0, le=LONGEST_DAYS)] | None = Field(default=None, description="Life; null: no end")
    requests_per_minute: Annotated[int, Field(ge=1, le=LARGEST_LIMIT)] | None = Field(
        default=None, description="Instead of the service's limit"
    )
    ids_per_day: Annotated[int, Field(ge=0, le=LARGEST_LIMIT)] | None = Field(
        default=None, description="Instead of the service's limit"
    )


class RotateRequest(Request):
    overlap_days: Annotated[float, Field(ge=0, le=LONGEST_OVERLAP)] = Field(
        default=7, description="How long the old key goes on, unless it ends sooner anyhow"
    )


class KeyView(BaseModel):
    """A key without its secret, which the service does not have."""

    prefix: str
    client: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute")
    requests_per_minute: int | None
    ids_per_day: int | None


class KeyMade(KeyView):
    key: str = Field(description="The whole key, this one time")


class WorkerView(BaseModel):
    """A process of the queue: when it was last seen, when it last heard (beat: sent) a message, and what it works on."""

    name: str
    role: Role
    host: str
    pid: int
    condition: Condition
    started_at: datetime
    seen_at: datetime
    heard_at: datetime
    task: str | None
    batch: str | None
    model: str | None


class ProblemDetail(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None
    errors: list[dict[str, str]] | None = None
