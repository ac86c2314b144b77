"""What the service takes and answers. Written by `make client` from its OpenAPI schema: change that, not this."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field

from expunge.shapes import Shape, Words


class Answer(Shape):
    """A question a reader has, and what can be said to it, a sentence or a few to a paragraph."""

    question: str
    answer: list[str]


class ApprovalState(Words):
    """
    `requested` and `refused` wait for a decision, or for another one; `used` once a batch has taken what it names; `lapsed`
    when it was needed no more.
    """

    REQUESTED = "requested"
    APPROVED = "approved"
    REFUSED = "refused"
    USED = "used"
    EXPIRED = "expired"
    LAPSED = "lapsed"


class ApproveRequest(Shape):
    samples: int = Field(..., description="At most so many: as many as you saw. More by now is refused with 409")
    tickets_sha256: str | None = Field(
        None,
        description="Of the tickets that you saw: others by now, though no more samples, are refused with 409 as well",
    )
    why: str = Field(..., description="For the audit")
    hours: float = Field(168, description="An approval that nothing has used by then is void")


class Attempt(Shape):
    epoch: int
    worker: str
    started_at: AwareDatetime
    finished_at: AwareDatetime | None
    outcome: str | None
    detail: str | None


class BankCost(Shape):
    """What is still to be spent on a bank of `references`."""

    references: int
    trainings: int = Field(..., description="References that are not finished; each takes three quarters of a training")
    seconds: float | None = Field(..., description="On one worker; null where the model's last training is not known")
    bytes: int = Field(..., description="Of the table's rows; what it holds of unseen data comes on top")


class BankPart(Shape):
    """The reference bank: `unlearning.bank`. Each reference costs three quarters of a training."""

    model_config = ConfigDict(
        extra="allow",
    )
    build: str = Field(
        "demand",
        description="'training': anew after every training and retrain; 'demand': when somebody asks, or an inconclusive verdict does; 'never': not at all",
    )
    references: int = Field(8, description="Models trained for it, by groups of four")
    most: int = Field(16, description="So many may it grow to, to settle an inconclusive verdict")


class BankRequest(Shape):
    references: int | None = Field(
        None, description="Models to be trained for it, by groups of four; the policy's number if null"
    )


class BankState(Words):
    """
    `ready` once a first table exists; it may still be growing. `retired`: its version's line has ended.
    """

    BUILDING = "building"
    READY = "ready"
    RETIRED = "retired"


class BatchKind(Words):
    """
    What a batch sets out to do: make version 1, climb the ladder, or go straight to its last rung.
    """

    TRAIN = "train"
    UNLEARN = "unlearn"
    RETRAIN = "retrain"


class BatchState(Words):
    READY = "ready"
    RUNNING = "running"
    PUBLISHED = "published"
    SPLIT = "split"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"


class Batching(Shape):
    model_config = ConfigDict(
        extra="allow",
    )
    max_samples: int = Field(1000, description="A batch closes when it holds this many samples")
    max_wait_seconds: float = Field(3600, description="or when its oldest obligation has waited this long")
    deadline_margin_seconds: float = Field(86400, description="or when a deadline is this near")


class Binned(Shape):
    """One quantity over some samples on one model: a bin more than there are edges, the outermost open."""

    counts: list[int]
    shares: list[float] = Field(
        ..., description="Of unseen samples weighted as the comparison weighs them; counts are not"
    )
    mean: float


class Budget(Shape):
    """Approximate updates since the last training."""

    live_samples: int
    forgotten: int
    updates: int
    days: float
    false_publishes: float = Field(
        ..., description="So many of these updates are expected, at most, to lie beyond a threshold all the same"
    )
    limits: dict[str, Any]


class Calibrated(Shape):
    """How far the second rung may go. `learning_rate` null: twice the recipe's own."""

    model_config = ConfigDict(
        extra="allow",
    )
    strength: float = Field(1.0, description="Weight of forgetting against keeping")
    learning_rate: float | None = None
    passes: float = Field(
        2.0, description="So often over the forget set, and up to twice as often again where the gap is wide"
    )
    accuracy_budget: float = Field(0.02, description="Accuracy on tuning data that the way may cost, beyond chance")


class Classes(Shape):
    """Right answers on the audit's test, by class."""

    labels: list[int]
    n: list[int]
    before: list[int] | None = Field(..., description="Null where there was no version before")
    after: list[int]
    left_out: int = Field(..., description="Classes that changed less than those shown, where there are very many")


class Compute(Shape):
    """By how many processes of a worker's host a model is trained, and the gradients of its training set are summed."""

    model_config = ConfigDict(
        extra="allow",
    )
    processes: int | str = Field(
        1,
        description="'auto': one a CUDA device that the worker sees, or without CUDA as many as its cores have room for",
    )
    threads_per_process: int | None = Field(
        None, description="CPU threads of each; null: one, or on CUDA devices an equal part of the worker's"
    )
    min_samples: int = Field(
        10000, description="Fewer samples than this are the business of one process: starting more costs seconds"
    )
    checkpoint_seconds: float = Field(
        60, description="A training by several processes writes a checkpoint this often; 0: after every step"
    )
    restarts: int = Field(3, description="So often the processes are started again when one is lost")


class Condition(Words):
    IDLE = "idle"
    BUSY = "busy"
    STALLED = "stalled"
    LOST = "lost"


class ConsistencyProof(Shape):
    """RFC 9162, 2.1.4: that the log of `second` events begins with the log of `first`. Hashes in hexadecimal."""

    first: int
    second: int
    path: list[str]


class Copy(Shape):
    """One place where the forgotten samples, or their traces, are, were or may be."""

    what: str
    state: str = Field(..., description="'unknown': outside this service's knowledge")
    at: AwareDatetime | None = Field(..., description="When it went or is due to go, if that is known")
    says: str


class Counts(Shape):
    accepted: int = Field(..., description="Samples that this ticket is the first to name")
    unknown: int = Field(..., description="Ids that the manifest does not hold")
    already_forgotten: int = Field(..., description="Samples that a fulfilled ticket named before")
    pending_elsewhere: int = Field(
        ..., description="Samples that an open ticket named before; this one waits for them too"
    )


class DatasetView(Shape):
    name: str
    samples: int
    subjects: int = Field(..., description="Distinct subjects")
    subjects_estimated: bool = Field(
        ..., description="Whether `subjects` is an estimate, as it is for very large manifests"
    )
    manifest_sha256: str
    created_at: AwareDatetime


class Decision(Words):
    PUBLISH = "publish"
    ESCALATE = "escalate"
    INCONCLUSIVE = "inconclusive"


class DecisionRequest(Shape):
    why: str = Field(..., description="For the audit")


class DeliveryState(Words):
    """
    Of a webhook delivery. `failed`: tried for as long as the settings say; a redelivery begins anew.
    """

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Difference(Shape):
    """Something that is not the same; a path into nested values, and both of them."""

    path: str
    earlier: Any
    later: Any


class Drift(Shape):
    """Approximate updates since the last retrain; when spent, the next batch retrains."""

    model_config = ConfigDict(
        extra="allow",
    )
    max_share: float = Field(0.25, description="Share of the training set forgotten")
    max_updates: int = 50
    max_days: float = 90
    false_publishes: float = Field(
        1.0,
        description="Largest expected number of updates that were published although beyond a threshold: the sum of their `thresholds.error`",
    )


class Epoch(Shape):
    """One epoch. Mean losses in loss units, the restriction's part included in the training's."""

    number: int
    train_loss: float
    tuning_loss: float | None = Field(..., description="Null where the recipe does not stop early")
    tuning_accuracy: float | None


class EventType(Words):
    """
    The names that a receiver may rely on. One is added here, never renamed.
    """

    TICKET_ACCEPTED = "ticket.accepted"
    TICKET_FULFILLED = "ticket.fulfilled"
    TICKET_DATA_RELEASABLE = "ticket.data_releasable"
    TICKET_CANCELLED = "ticket.cancelled"
    TICKET_QUARANTINED = "ticket.quarantined"
    BATCH_DEFERRED = "batch.deferred"
    BATCH_ESCALATED = "batch.escalated"
    BATCH_QUARANTINED = "batch.quarantined"
    VERSION_PUBLISHED = "version.published"
    VERSION_WEIGHTS_PURGED = "version.weights_purged"
    VERSION_WEIGHTS_WITHDRAWN = "version.weights_withdrawn"
    APPROVAL_REQUESTED = "approval.requested"
    MODEL_STOPPED = "model.stopped"
    MODEL_RESUMED = "model.resumed"
    AUDIT_CHECKPOINTED = "audit.checkpointed"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_TEST = "webhook.test"


class Figure(Shape):
    """One statistic as the verdict keeps it. Rates, not percent."""

    name: str
    estimate: float
    low: float
    high: float
    level: float | None = None
    n: int
    estimator: str = ""
    interval: str = ""
    note: str = ""


class FlushRequest(Shape):
    """Nothing can be said about it: what passes the cap waits for approval, whoever flushes."""


class Form(Words):
    """
    What the audit comes as: the short name is for links, the media type for the Accept header.
    """

    JSON = "json"
    HTML = "html"
    IN_TOTO = "in-toto"
    ATTESTATIONS = "attestations"
    CYCLONEDX = "cyclonedx"
    PDF = "pdf"
    ZIP = "zip"


class Held(Shape):
    """Samples of one ticket that the version held although they were to be forgotten."""

    ticket: UUID
    samples: int = Field(
        ..., description="Without those that the version had forgotten before, or was never trained on"
    )
    received_at: AwareDatetime
    forgotten_by: str | None = Field(..., description="The version that no longer holds them; null while there is none")
    forgotten_at: AwareDatetime | None


class InclusionProof(Shape):
    """RFC 9162, 2.1.3: that an event is in the log of the first `size` events. Hashes in hexadecimal."""

    seq: int = Field(..., description="Counted from 1; its index as a leaf is one less")
    size: int
    leaf: str
    path: list[str]


class Inconclusive(Shape):
    """What may settle a verdict that the ladder left inconclusive, before the retrain that always does."""

    model_config = ConfigDict(
        extra="allow",
    )
    wait_seconds: float = Field(
        0,
        description="How long a batch may wait for more tickets or more references; a deadline's margin still counts. 0: it retrains at once",
    )


class Instead(Words):
    """
    What a refusal means. Never that the data come back: the tombstones stand whatever is decided.
    """

    WAIT = "wait"
    RETRAIN = "retrain"


class Lone(Shape):
    """Two versions between which hardly anybody was forgotten give those few away to whoever has the weights of both."""

    model_config = ConfigDict(
        extra="allow",
    )
    rule: str = Field(
        "withdraw",
        description="'withdraw': nobody is given the weights of earlier versions that lie so near from the commit on that publishes the new one; 'merge': the batch waits for company first, and they are withdrawn where none came; 'allow': neither",
    )
    min_batch: int = Field(10, description="Fewer subjects than this are few; a sample without a subject counts as one")
    max_wait_seconds: float = Field(
        604800, description="'merge': so long a batch waits; a deadline's margin and a flush end it too"
    )


class Map(Shape):
    """Where the score of an unseen image's class comes from: rows of digits from 0 to 9, each map by its own scale."""

    label: int
    before: list[str]
    after: list[str]
    distance: float = Field(..., description="Cosine distance of the two, before they were made coarse")


class Maps(Shape):
    """How far the activation maps of `n` unseen test images moved."""

    layer: str
    n: int
    seed: int
    distance: float
    empty_before: float
    empty_after: float
    shown: list[Map]


class ModelView(Shape):
    name: str
    dataset: str
    problem: str
    current_version: str | None
    pending_obligations: int
    held: str | None = Field(
        ..., description="Why pending tickets wait: for an operator, or for what may settle a verdict"
    )
    stopped: str | None = Field(
        ..., description="Why no approximate update is published at present; null when they are"
    )
    created_at: AwareDatetime


class Neighbours(Shape):
    """How near this version lies to earlier ones whose weights could be had, and by which rule."""

    rule: str = Field(..., description="`merge`, `withdraw` or `allow`: the policy's `lone.rule` when the batch closed")
    min_batch: int = Field(..., description="Fewer subjects than this are few")
    samples: int = Field(..., description="That lie between this version and its parent")
    few: bool | None = Field(..., description="Whether they are of few subjects; null where nothing was forgotten")
    withdrawn: list[str] = Field(..., description="Versions whose weights nobody is given since this one was published")
    handed_out: list[str] = Field(..., description="Those of them that somebody had been given before")
    says: list[str]


class ObligationState(Words):
    PENDING = "pending"
    BATCHED = "batched"
    FULFILLED = "fulfilled"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"


class ObligationView(Shape):
    model: str
    state: ObligationState
    samples: int
    clean_version: str | None = Field(
        ..., description="The published version that passed validation without the samples"
    )
    clean_since: AwareDatetime | None
    batch: UUID | None
    doing: str | None = Field(..., description="What a worker does about it just now, or why it waits")
    approval: ApprovalState | None = Field(
        ..., description="Of the second person's approval that it came to wait for; null where it needed none"
    )
    progress: float
    audit: str | None


class OccurrenceView(Shape):
    scheduled_for: AwareDatetime
    batch: UUID | None
    note: str


class OutlierDeletionRequest(Shape):
    """A person's yes: these samples, shown as outlying, are to be deleted."""

    sample_ids: list[str] = Field(..., description="Of samples that are shown as outlying, each once")
    why: str = Field(..., description="For the audit log, where it stays: without the id of a sample")


class OutlierView(Shape):
    sample_id: str
    norm: float = Field(
        ..., description="Of its loss's gradient, over all trainable parameters, at the version's weights"
    )
    z: float = Field(..., description="How far its logarithm lies above the median, in units of `spread`")


class Outliers(Shape):
    """
    Training samples whose gradients stand out, looked for after each publication. It names them; nothing is deleted for it
    unless a person says so, sample by sample.
    """

    model_config = ConfigDict(
        extra="allow",
    )
    look: bool = Field(False, description="One pass of gradients over at most 20,000 samples, after each publication")
    z: float = Field(
        6.0,
        description="How far above the median the logarithm of a norm must lie, in standard deviations told from the MAD",
    )
    most: int = Field(50, description="So many are named, the most outlying; how many there are is told")


class Pair(Shape):
    """A statistic of both verdicts; null where one has none of it."""

    name: str
    earlier: Figure | None
    later: Figure | None


class Power(Shape):
    """What the same tests showed on the version before: a test that saw nothing there says nothing by seeing nothing now."""

    figures: list[Figure]
    informative: bool | None = Field(..., description="Whether the attack tells members from unseen samples at all")
    says: list[str]


class ProposalState(Words):
    PROPOSED = "proposed"
    APPROVED = "approved"
    REFUSED = "refused"
    OVERTAKEN = "overtaken"


class Reason(Words):
    """
    Why a sample must go. `unlawful_training` never gets an approximate answer.
    """

    CONSENT_WITHDRAWN = "consent_withdrawn"
    ERASURE_REQUEST = "erasure_request"
    REGULATOR_ORDER = "regulator_order"
    UNLAWFUL_TRAINING = "unlawful_training"
    POISONED = "poisoned"
    OUTLIER = "outlier"
    OTHER = "other"


class Recorder(Shape):
    """
    What a training keeps for methods that need more than its weights: nothing unless said, and nothing where the quote
    exceeds the limit. There is no list of samples to watch: a policy names nobody.
    """

    model_config = ConfigDict(
        extra="allow",
    )
    initial: bool = Field(False, description="The weights that training began from")
    membership: bool = Field(False, description="Which sample was in which step; comes with the journal")
    journal: bool = Field(False, description="What each step changed: a copy of the parameters a step")
    fisher: bool = Field(False, description="The diagonal Fisher of the training set")
    importance: bool = Field(False, description="SSD's importance of the training set")
    importance_batch: int = Field(128, description="SSD's batch size")
    limit_bytes: int = Field(2147483648, description="A training whose quote is larger keeps nothing")


class RecordsKept(Shape):
    """What this version keeps, or kept until it was superseded, of the training its weights come from."""

    kept: bool = Field(..., description="Whether the bytes are there; those of a superseded version are deleted")
    sha256: str
    bytes: int
    of: str = Field(..., description="The version that was trained; later ones have its records, less what they forgot")
    quoted_bytes: int = Field(..., description="What the training was told that its records would take at most")
    parts: list[str]
    epochs: int
    steps: int | None
    journal_steps: int | None
    lost_steps: int = Field(..., description="Steps whose change was purged because a forgotten sample was in them")
    undone_steps: int = Field(
        ..., description="Steps whose change was purged after it was taken back out of the weights"
    )
    purged_samples: int = Field(..., description="Samples forgotten since the training, of which nothing is kept here")


class ReferenceView(Shape):
    number: int
    progress: float
    failure: str | None = Field(..., description="Of its last attempt")


class RefuseRequest(Shape):
    why: str = Field(..., description="For the audit and, where they go on waiting, for the clients")
    instead: Instead = Field(
        Instead.WAIT,
        description="`wait`: hold the tickets and tell their clients why; `retrain`: no update, but a retrain without them. The data are removed either way",
    )


class ResumeRequest(Shape):
    why: str


class RetrainRequest(Shape):
    model: str
    why: str


class Retrains(Shape):
    """How often the intervals of one figure held what a retrain showed later, over all of the model's verdicts by now."""

    name: str
    covered: int
    count: int
    nominal: float


class RiskTier(Words):
    """
    How much is at stake; a policy sends some tiers straight to a retrain.
    """

    LOW = "low"
    STANDARD = "standard"
    HIGH = "high"


class Roc(Shape):
    """One attack's recall on the forgotten samples at rates of unseen samples of their class that it calls members too."""

    attack: str
    rates: list[float]
    before: list[float]
    after: list[float]
    auc_before: float
    auc_after: float
    n_f: int
    n_h: int


class Role(Words):
    """
    What tells that it is there: a worker that works batches off, one that serves the light queue alone, beat, and the
    sweep, which whoever runs it tells of.
    """

    WORKER = "worker"
    LIGHT = "light"
    BEAT = "beat"
    SWEEP = "sweep"


class RollbackRequest(Shape):
    to: str = Field(..., description="A version of this model that was trained: `<model>-v<number>`")
    why: str


class RotateRequest(Shape):
    overlap_days: float = Field(7, description="How long the old key goes on, unless it ends sooner anyhow")


class ScheduleRequest(Shape):
    model: str
    cron: str = Field(..., description="Five fields, in UTC")


class ScheduleView(Shape):
    id: int
    model: str
    cron: str
    author: str
    next_at: AwareDatetime


class Scope(Words):
    DELETIONS_WRITE = "deletions:write"
    DELETIONS_READ = "deletions:read"
    AUDIT_READ = "audit:read"
    POLICIES_WRITE = "policies:write"
    POLICIES_APPROVE = "policies:approve"
    RETRAINS_WRITE = "retrains:write"
    WEBHOOKS_WRITE = "webhooks:write"
    METRICS_READ = "metrics:read"
    ADMIN = "admin"


class Serving(Shape):
    """What was served at a time."""

    model: str
    at: AwareDatetime
    version: str
    weights_sha256: str
    served_from: AwareDatetime
    served_until: AwareDatetime | None = Field(..., description="Null while it is served")
    held: list[Held] = Field(..., description="Tickets received by then whose samples it still held, oldest first")
    samples: int = Field(..., description="Of all these tickets together; one that two tickets name counts twice")
    sample_ids: list[str] | None = Field(..., description="Where asked for, 10000 at most, each once")
    more_ids: bool = Field(..., description="Whether there are more than these")
    unsure: str | None = Field(
        ..., description="Why it may have been otherwise, after a restore; null where it is known"
    )


class SigningKeyView(Shape):
    fingerprint: str = Field(..., description="SHA-256 of the Ed25519 key's DER encoding")
    statements: str = Field(
        ..., description="PEM: what checkpoints, attestations, receipts and statements are signed with"
    )
    weights: str = Field(..., description="PEM: what weights are signed with, for `model_signing verify key`")
    verifier: str = Field(..., description="The key as tools for signed notes take it, under the log's present origin")
    current: bool
    since: AwareDatetime = Field(..., description="When it first signed something")


class Simulated(Shape):
    """Tickets simulated on the reference bank, whose truth is known."""

    size: int
    tickets: int
    covered: int
    nominal: float


class Spread(Shape):
    """One quantity of the forgotten samples and of the unseen ones that they are held against, before and after."""

    quantity: str
    edges: list[float] = Field(..., description="Inner edges; a value on an edge is in the bin above it")
    n_f: int
    n_h: int
    forget_before: Binned
    forget_after: Binned
    unseen_before: Binned
    unseen_after: Binned
    seed: int | None = Field(..., description="Of the draw, where not all samples were taken")


class StepCost(Shape):
    """Seconds of one forward and backward pass over a batch, measured after the training on the machine that did it."""

    restricted: float
    plain: float


class Thresholds(Shape):
    """What an update may differ by from the estimate of a retrain. Rates, not percent."""

    model_config = ConfigDict(
        extra="allow",
    )
    mu: float = Field(0.03, description="Largest accepted |MU|: change of test accuracy")
    ue: float = Field(0.15, description="Largest accepted |UE|: excess of the attack's recall on the forget set")
    worst_class: float = Field(0.15, description="Largest accepted loss of accuracy in any one class")
    retrain_accuracy_drop: float = Field(0.1, description="A retrain that loses more is held for an operator")
    seed_sd: float = Field(
        0.005,
        description="Standard deviation, between trainings, of test accuracy and of an attack's rate on unseen data: taken where no bank has measured them",
    )
    error: float = Field(
        0.05,
        description="Largest accepted chance that a batch whose true UE or MU lies beyond its threshold is published all the same, over all its rungs together",
    )


class TicketLine(Shape):
    """A ticket that this version answers."""

    ticket: UUID
    reason: Reason
    risk_tier: RiskTier
    samples: int
    received_at: AwareDatetime
    data_removed_at: AwareDatetime | None
    fulfilled_at: AwareDatetime | None
    data_releasable_at: AwareDatetime | None


class TicketState(Words):
    PENDING = "pending"
    WORKING = "working"
    FULFILLED = "fulfilled"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"


class TicketView(Shape):
    """A ticket with the three facts kept apart: removed, clean (per model), releasable."""

    id: UUID
    client: str
    dataset: str
    reason: Reason
    risk_tier: RiskTier
    external_id: str | None
    state: TicketState
    counts: Counts
    created_at: AwareDatetime
    deadline: AwareDatetime | None
    closed_at: AwareDatetime | None
    data_removed_at: AwareDatetime | None = Field(..., description="From here on no training reads the samples")
    data_releasable_at: AwareDatetime | None = Field(
        ..., description="Nothing here needs the raw samples any more: destroy them"
    )
    obligations: list[ObligationView]
    receipt: str = Field(..., description="Where the signed receipt is")
    statement: str | None = Field(..., description="Where the signed statement is; null until the ticket has ended")


class Training(Shape):
    """The training that this version's weights come from."""

    version: str
    epochs: list[Epoch] = Field(..., description="Empty where the release that trained kept no curve")
    samples: int | None
    seconds: float | None
    restriction: str | None
    alpha: float | None
    step: StepCost | None = Field(
        ..., description="With the restriction and without; null where nothing was restricted"
    )


class Trigger(Words):
    """
    Why a batch closed when it did.
    """

    REGISTRATION = "registration"
    SIZE = "size"
    AGE = "age"
    DEADLINE = "deadline"
    FLUSH = "flush"
    OPERATOR = "operator"
    SCHEDULE = "schedule"
    BISECTION = "bisection"


class Turn(Shape):
    """
    One verdict of the batch, and the share of the accepted error that it used. Null where the release that recorded it
    kept none, and for a retrain, which is judged by no interval.
    """

    rung: str
    decision: Decision
    attempt: int | None
    of: int = Field(..., description="How many verdicts on different weights the policy allows a batch")
    error: float | None
    this: bool = Field(..., description="Whether it is the verdict on this version")


class Update(Shape):
    """How the first rung steps. `eta` null: found by a bounded search on tuning data that the audit never uses."""

    model_config = ConfigDict(
        extra="allow",
    )
    variant: str = "ia+gc"
    weights: str = "means"
    step: str = "sgd"
    eta: float | None = None
    eta_max: float = 100.0
    evaluations: int = 12


class VerdictView(Shape):
    rung: str
    decision: Decision
    reasons: list[str]
    method: dict[str, Any]
    statistics: dict[str, Any]
    thresholds: dict[str, Any]
    seconds: dict[str, Any]
    weights_sha256: str
    truth: dict[str, Any] | None
    at: AwareDatetime


class VersionKind(Words):
    TRAINED = "trained"
    UNLEARNED = "unlearned"
    RETRAINED = "retrained"


class VersionView(Shape):
    version: str
    model: str
    kind: VersionKind
    parent: str | None
    weights_sha256: str
    weights_bytes: int
    published_at: AwareDatetime
    superseded_at: AwareDatetime | None
    weights_withdrawn_at: AwareDatetime | None = Field(
        None,
        description="Nobody is given the weights from here on: beside a later version's they would give somebody away",
    )
    weights_purged_at: AwareDatetime | None
    records_bytes: int | None = Field(
        ..., description="Kept of its training for methods that need it; null when nothing is"
    )
    current: bool
    audit: str
    weights: str


class WebhookChange(Shape):
    """What is to change; what is left out stays."""

    url: str = ""
    events: list[EventType] | None = Field(
        None, description="What it is to be told of; null or left out: all that its owner may see"
    )
    description: str | None = None
    enabled: bool = True


class WebhookCreated(Shape):
    id: UUID
    client: str
    url: str
    description: str | None
    events: list[EventType] | None = Field(..., description="Null: all that its owner may see")
    every_client: bool = Field(..., description="Whether it hears of all clients' tickets, and of models and batches")
    enabled: bool
    disabled_at: AwareDatetime | None
    disabled_why: str | None
    last_success_at: AwareDatetime | None = Field(..., description="To the minute")
    old_secret_until: AwareDatetime | None = Field(
        ..., description="Until when calls carry the old secret's signature as well"
    )
    created_at: AwareDatetime
    href: str
    secret: str = Field(..., description="Shown this once: what calls are signed with")


class WebhookRequest(Shape):
    """A new endpoint."""

    url: str
    events: list[EventType] | None = Field(
        None, description="What it is to be told of; null or left out: all that its owner may see"
    )
    description: str | None = None


class WebhookRotate(Shape):
    """For how long calls are signed with the old secret as well."""

    overlap_hours: float = 24


class WebhookSecret(Shape):
    secret: str = Field(..., description="Shown this once: what calls are signed with")
    old_secret_until: AwareDatetime | None


class WebhookView(Shape):
    id: UUID
    client: str
    url: str
    description: str | None
    events: list[EventType] | None = Field(..., description="Null: all that its owner may see")
    every_client: bool = Field(..., description="Whether it hears of all clients' tickets, and of models and batches")
    enabled: bool
    disabled_at: AwareDatetime | None
    disabled_why: str | None
    last_success_at: AwareDatetime | None = Field(..., description="To the minute")
    old_secret_until: AwareDatetime | None = Field(
        ..., description="Until when calls carry the old secret's signature as well"
    )
    created_at: AwareDatetime
    href: str


class Window(Shape):
    """Cap on the share forgotten within some days: mass deletion is also an attack on the model."""

    model_config = ConfigDict(
        extra="allow",
    )
    days: float = 30
    max_share: float = 0.5


class Word(Words):
    """
    How an attempt went, in one word: all that is kept of it beside the status.
    """

    DELIVERED = "delivered"
    STATUS = "status"
    REDIRECT = "redirect"
    GONE = "gone"
    NAME_UNRESOLVED = "name_unresolved"
    ADDRESS_REFUSED = "address_refused"
    CONNECTION = "connection"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    SECRET_CHANGED = "secret_changed"


class WorkerView(Shape):
    """A process of the queue: when it was last seen, when it last heard (beat: sent) a message, and what it works on."""

    name: str
    role: Role
    host: str
    pid: int
    condition: Condition
    started_at: AwareDatetime
    seen_at: AwareDatetime
    heard_at: AwareDatetime
    task: str | None
    batch: str | None
    model: str | None


class Ancestor(Shape):
    version: str
    kind: VersionKind
    weights_sha256: str
    published_at: AwareDatetime
    forgotten: int
    audit: str


class ApprovalView(Shape):
    id: int
    model: str
    state: ApprovalState
    samples: int = Field(..., description="That wait for it, or that it names")
    tickets: int
    tickets_sha256: str = Field(..., description="Of their ids in ascending order, each followed by a line feed")
    clients: list[str] = Field(..., description="Who asked: none of them can approve")
    share: float = Field(..., description="Of the training set, forgotten within the window, these samples included")
    cap: float
    deadline: AwareDatetime | None = Field(..., description="The earliest of the tickets'")
    asked_at: AwareDatetime
    decided_by: str | None
    decided_at: AwareDatetime | None
    why: str | None
    instead: Instead | None = Field(..., description="What a refusal means")
    expires_at: AwareDatetime | None
    batch: UUID | None = Field(..., description="That used it")


class AttemptReplayed(Shape):
    rung: str
    at: AwareDatetime
    recorded: Decision
    replayed: Decision
    reasons: list[str] = Field(..., description="Of the decision that is replayed")
    stopped: bool = Field(
        ..., description="Kept from publishing while updates of the model were stopped, whatever thresholds say"
    )


class AttemptView(Shape):
    number: int
    started_at: AwareDatetime
    seconds: float | None
    status: int | None
    outcome: Word | None = Field(..., description="Null while it is under way, and where its sender died")


class BankUsed(Shape):
    """The reference bank that a verdict leant on, as it was then."""

    sha256: str
    references: int
    samples: int | None = Field(..., description="Training samples that its table knew")
    ready_at: AwareDatetime | None = Field(
        ..., description="When its first table was put together; null when that is not known"
    )
    noise_floor_mu: float | None
    noise_floor_ue: float | None
    noise_floor_level: float | None
    simulated: list[Simulated]


class BankView(Shape):
    """A model's reference bank; without one, what it would cost."""

    model: str
    state: BankState | None = Field(
        ..., description="`building` until there is a table, `ready` from then on; null without one"
    )
    version: str | None = Field(..., description="The trained version it belongs to")
    wanted: int
    done: int
    running: list[ReferenceView]
    failed: list[ReferenceView] = Field(
        ..., description="Their attempts are spent; ordering the bank again gives them new ones"
    )
    why: str | None
    requested_by: str | None
    created_at: AwareDatetime | None
    ready_at: AwareDatetime | None
    table_sha256: str | None
    cost: BankCost
    facts: dict[str, Any] | None = Field(
        ..., description="What the table says: references, samples, seconds, noise floor"
    )


class BatchDetail(Shape):
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
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    policy: dict[str, Any]
    verdicts: list[VerdictView]
    timeline: list[dict[str, Any]]


class BatchReplayed(Shape):
    batch: UUID
    at: AwareDatetime
    recorded: str | None = Field(..., description="The rung that published; null where none has")
    replayed: str | None = Field(..., description="The rung that would have; null where the next one was never tried")
    says: str
    differs: bool
    attempts: list[AttemptReplayed]


class BatchView(Shape):
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
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None


class Calibration(Shape):
    """Whether intervals hold what they promise."""

    bank: BankUsed | None
    retrains: list[Retrains]
    stopped: str | None = Field(..., description="Why no approximate update of the model is published at present")


class Change(Shape):
    """One statistic on the version before, and on this one."""

    before: Figure | None
    after: Figure | None


class DeletionAccepted(Shape):
    id: UUID
    state: TicketState
    counts: Counts
    models: int = Field(..., description="Models that owe something")
    href: str
    receipt: str = Field(..., description="Where the signed receipt is")


class DeletionRequest(Shape):
    """One deletion ticket. Name samples, subjects, or both."""

    dataset: str
    sample_ids: list[str] = Field([], description="Ids as in the dataset's manifest, each once")
    subject_ids: list[str] = Field([], description="All samples of these subjects, each named once")
    reason: Reason
    risk_tier: RiskTier = RiskTier.STANDARD
    external_id: str | None = Field(None, description="Your own reference; unique among your tickets for ever")
    deadline: AwareDatetime | None = Field(None, description="When the law wants it done, with a zone")


class DeliveryView(Shape):
    id: UUID = Field(..., description="The `webhook-id` of every attempt")
    type: EventType
    sequence: int | None
    state: DeliveryState
    next_attempt_at: AwareDatetime | None
    attempts: list[AttemptView]
    created_at: AwareDatetime
    ended_at: AwareDatetime | None


class Distance(Shape):
    """How the later version descends from the earlier one."""

    publications: int
    updates: int
    trainings: int
    forgotten: int = Field(..., description="Samples forgotten on the way, those of the later version included")
    anchor_earlier: str = Field(..., description="The last version up to it that was trained")
    anchor_later: str
    path: list[Ancestor] = Field(..., description="From after the earlier one up to the later one, oldest first")
    says: str


class Drawn(Shape):
    """Everything of one verdict. Of a training there are the classes alone: the forgotten samples are not looked at."""

    n_f: int | None = None
    coarse: bool = Field(False, description="Whether the forgotten samples are so few that bins and curves are coarse")
    withheld: str | None = Field(None, description="Why the forgotten samples have no distribution and no curve")
    source: str | None = None
    confidence: Spread | None = None
    roc: list[Roc] = Field([], validate_default=True)
    classes: Classes | None = None
    norms: Spread | None = None
    why_no_norms: str | None = None
    maps: Maps | None = None
    why_no_maps: str | None = None


class DryRunView(Shape):
    """What a policy would have made of a model's past batches, by their verdicts' own statistics. Nothing is written."""

    model: str
    batches: int
    differing: int
    updates: int = Field(..., description="That would have published an update")
    updates_recorded: int = Field(..., description="That did")
    retrains: int
    unknown: int = Field(..., description="Whose next rung was never tried, so that nothing can be said")
    notes: list[str] = Field(..., description="What the replay leaves out")
    items: list[BatchReplayed] = Field(..., description="Newest first")


class Estimate(Shape):
    """MU or UE: what is estimated, how, on what assumption, and how it stands against its threshold."""

    name: str
    estimand: str
    estimator: str
    assumption: str
    assumption_is: str
    assumption_tests: list[Figure] = Field(..., description="What was found when the assumption was put to the test")
    n: int
    of: str
    estimate: float
    low: float
    high: float
    level: float | None
    interval: str = Field(..., description="How the interval was made")
    threshold: float | None
    standing: str | None = Field(..., description="Of the whole interval against ±threshold; null without a threshold")
    noise_floor: float | None = Field(
        ..., description="What two retrains differ by, as far as a reference bank measured it"
    )
    by_source: list[Figure] = Field(..., description="The same by each source, where there was more than one to ask")
    reason: str | None = Field(..., description="The verdict's own sentence on it")
    claimed: bool = Field(..., description="False where so few samples have no rate: then it decides nothing")
    half_width: float
    detectable: str = Field(
        ..., description="What the interval's half-width means: the smallest effect that could be told"
    )


class ExposureLook(Shape):
    """Gradient norms of training samples at a version's weights, as they were seen soon after it was published."""

    n: int = Field(..., description="Samples looked at")
    of: int = Field(..., description="Samples of its training set that no ticket had named by then")
    seed: int | None = Field(..., description="Of the draw where not all were looked at; null where all were")
    zeros: int = Field(..., description="Samples whose gradient was zero")
    median: float | None = Field(..., description="Of the norms; null where `unjudged` says why")
    spread: float | None = Field(..., description="1.4826 times the MAD of the norms' natural logarithms")
    unjudged: str | None = Field(..., description="Why no sample could be called outlying; null where one could")
    z: float = Field(..., description="The policy's `outliers.z` when it was looked")
    edges: list[float]
    counts: list[int] = Field(..., description="Norms below the first edge, between two, and from the last on")
    found: int = Field(..., description="How many were outlying")
    most: int = Field(..., description="So many of them are kept, the most outlying: the policy's `outliers.most`")
    tombstoned: int = Field(..., description="Of those kept, how many were named by a ticket since, and are not shown")
    outliers: list[OutlierView] = Field(..., description="Those kept and not tombstoned, most outlying first")


class ExposureView(Shape):
    model: str
    version: str = Field(..., description="The current one")
    asked: bool = Field(..., description="Whether the policy in force asks for it, from the next publication on")
    why: str | None = Field(..., description="Why there is nothing to see; null where there is")
    look: ExposureLook | None


class KeyMade(Shape):
    prefix: str
    client: str
    scopes: list[Scope]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None = Field(..., description="To the minute")
    requests_per_minute: int | None
    ids_per_day: int | None
    key: str = Field(..., description="The whole key, this one time")


class KeyRequest(Shape):
    client: str = Field(..., description="Whose key it is; tickets belong to this name")
    scopes: list[Scope]
    days: float | None = Field(None, description="Life; null: no end")
    requests_per_minute: int | None = Field(None, description="Instead of the service's limit")
    ids_per_day: int | None = Field(None, description="Instead of the service's limit")


class KeyView(Shape):
    """A key without its secret, which the service does not have."""

    prefix: str
    client: str
    scopes: list[Scope]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None = Field(..., description="To the minute")
    requests_per_minute: int | None
    ids_per_day: int | None


class Lineage(Shape):
    dataset: str
    problem: str
    samples_in_manifest: int
    manifest_sha256: str
    samples_excluded: int
    excluded_ordinals_sha256: str
    forgotten_by_this_version: int
    tickets: list[TicketLine]
    parents: list[Ancestor] = Field(..., description="Back to the first version, newest first")


class ModelDetail(Shape):
    name: str
    dataset: str
    problem: str
    current_version: str | None
    pending_obligations: int
    held: str | None = Field(
        ..., description="Why pending tickets wait: for an operator, or for what may settle a verdict"
    )
    stopped: str | None = Field(
        ..., description="Why no approximate update is published at present; null when they are"
    )
    created_at: AwareDatetime
    versions: list[VersionView]
    running: BatchView | None
    bank: BankState | None = Field(..., description="State of its reference bank; null without one")


class OneByOne(Shape):
    """
    Samples that stand out by themselves, as shares of the forgotten samples. For small sets all p-values, ascending:
    an order that names nobody.
    """

    members: Change = Field(..., description="Above unseen samples as hard")
    strangers: Figure | None = Field(..., description="Below them: over-forgetting")
    p_members_before: list[float]
    p_members: list[float]
    p_strangers: list[float]
    says: str | None = Field(..., description="For fewer samples than a rate can be claimed of")


class PolicyBody(Shape):
    model_config = ConfigDict(
        extra="allow",
    )
    thresholds: Thresholds = Field(
        {"mu": 0.03, "ue": 0.15, "worst_class": 0.15, "retrain_accuracy_drop": 0.1, "seed_sd": 0.005, "error": 0.05},
        validate_default=True,
    )
    update: Update = Field(
        {"variant": "ia+gc", "weights": "means", "step": "sgd", "eta_max": 100.0, "evaluations": 12},
        validate_default=True,
    )
    calibrated: Calibrated = Field({"strength": 1.0, "passes": 2.0, "accuracy_budget": 0.02}, validate_default=True)
    ladder: list[str] = ["iau", "iau-calibrated", "retrain"]
    methods: dict[str, dict[str, Any]] = Field(
        {}, description="Settings of further methods on the ladder; what is left out is its authors' default"
    )
    recorder: Recorder = Field(
        {
            "initial": False,
            "membership": False,
            "journal": False,
            "fisher": False,
            "importance": False,
            "importance_batch": 128,
            "limit_bytes": 2147483648,
        },
        validate_default=True,
    )
    bank: BankPart = Field({"build": "demand", "references": 8, "most": 16}, validate_default=True)
    inconclusive: Inconclusive = Field({"wait_seconds": 0.0}, validate_default=True)
    batching: Batching = Field(
        {"max_samples": 1000, "max_wait_seconds": 3600.0, "deadline_margin_seconds": 86400.0}, validate_default=True
    )
    compute: Compute = Field(
        {"processes": 1, "min_samples": 10000, "checkpoint_seconds": 60.0, "restarts": 3}, validate_default=True
    )
    drift: Drift = Field(
        {"max_share": 0.25, "max_updates": 50, "max_days": 90.0, "false_publishes": 1.0}, validate_default=True
    )
    window: Window = Field({"days": 30.0, "max_share": 0.5}, validate_default=True)
    lone: Lone = Field({"rule": "withdraw", "min_batch": 10, "max_wait_seconds": 604800.0}, validate_default=True)
    outliers: Outliers = Field({"look": False, "z": 6.0, "most": 50}, validate_default=True)
    retrain_tiers: list[RiskTier] = [RiskTier.HIGH]
    accept_undetectable: bool = Field(
        False, description="Publish although membership of the forget set was not detectable before the update either"
    )
    release: str = Field(
        "backfill", description="Raw samples are releasable on publication, or once a retrain has measured the true UE"
    )
    keep_weights_days: float = Field(30, description="Weights of superseded versions are purged after this")


class PolicyView(Shape):
    model: str
    number: int
    author: str
    approved_by: str | None = Field(..., description="Who let it take effect, where it loosened what guards the model")
    created_at: AwareDatetime
    policy: PolicyBody


class ProposalView(Shape):
    """A policy that takes effect when somebody else than its author approves it."""

    id: int
    model: str
    state: ProposalState
    base: int = Field(..., description="Number of the policy that it would replace")
    loosens: list[str] = Field(..., description="What it changes of that which guards the model, before and after")
    author: str
    created_at: AwareDatetime
    decided_by: str | None
    decided_at: AwareDatetime | None
    why: str | None
    policy: PolicyBody


class Side(Shape):
    """One of the two."""

    version: VersionView
    summary: str
    verdict: VerdictView
    forgotten: int = Field(..., description="Samples that this version forgot and its parent still held")
    excluded: int = Field(..., description="Samples of the manifest that it has not learnt from, or forgot")
    figures: Drawn | None


class TicketDetail(Shape):
    id: UUID
    client: str
    dataset: str
    reason: Reason
    risk_tier: RiskTier
    external_id: str | None
    state: TicketState
    counts: Counts
    created_at: AwareDatetime
    deadline: AwareDatetime | None
    closed_at: AwareDatetime | None
    data_removed_at: AwareDatetime | None = Field(..., description="From here on no training reads the samples")
    data_releasable_at: AwareDatetime | None = Field(
        ..., description="Nothing here needs the raw samples any more: destroy them"
    )
    obligations: list[ObligationView]
    receipt: str = Field(..., description="Where the signed receipt is")
    statement: str | None = Field(..., description="Where the signed statement is; null until the ticket has ended")
    timeline: list[dict[str, Any]]


class TicketPage(Shape):
    items: list[TicketView]
    next: str | None = Field(..., description="Cursor of the next page; null on the last")


class WebhookPage(Shape):
    items: list[WebhookView]
    next: str | None


class Attack(Shape):
    """What one membership attack makes of the forgotten samples, before and after."""

    attack: str
    says: str
    auc: Change
    recall_fpr1: Change = Field(..., description="Recall where 1 % of unseen samples are called members")
    recall_fpr5: Change = Field(..., description="Recall where 5 % of unseen samples are called members")


class BatchPage(Shape):
    items: list[BatchView]
    next: str | None


class Comparison(Shape):
    """Two versions of one model, the earlier one first."""

    model: str
    earlier: Side
    later: Side
    statistics: list[Pair]
    policy: list[Difference] = Field(..., description="Where the policies differ that the two were judged by")
    environment: list[Difference] = Field(..., description="Where what the bytes depend on besides the inputs differs")
    lineage: Distance
    not_shown: list[str]


class DeliveryPage(Shape):
    items: list[DeliveryView]
    next: str | None


class ModelRequest(Shape):
    name: str
    dataset: str
    problem: str = Field(..., description="Entry point in the group `expunge.problems`, installed with the workers")
    policy: PolicyBody = Field(
        {
            "thresholds": {
                "error": 0.05,
                "mu": 0.03,
                "retrain_accuracy_drop": 0.1,
                "seed_sd": 0.005,
                "ue": 0.15,
                "worst_class": 0.15,
            },
            "update": {"eta_max": 100.0, "evaluations": 12, "step": "sgd", "variant": "ia+gc", "weights": "means"},
            "calibrated": {"accuracy_budget": 0.02, "passes": 2.0, "strength": 1.0},
            "ladder": ["iau", "iau-calibrated", "retrain"],
            "methods": {},
            "recorder": {
                "fisher": False,
                "importance": False,
                "importance_batch": 128,
                "initial": False,
                "journal": False,
                "limit_bytes": 2147483648,
                "membership": False,
            },
            "bank": {"build": "demand", "most": 16, "references": 8},
            "inconclusive": {"wait_seconds": 0.0},
            "batching": {"deadline_margin_seconds": 86400.0, "max_samples": 1000, "max_wait_seconds": 3600.0},
            "compute": {"checkpoint_seconds": 60.0, "min_samples": 10000, "processes": 1, "restarts": 3},
            "drift": {"false_publishes": 1.0, "max_days": 90.0, "max_share": 0.25, "max_updates": 50},
            "window": {"days": 30.0, "max_share": 0.5},
            "lone": {"max_wait_seconds": 604800.0, "min_batch": 10, "rule": "withdraw"},
            "outliers": {"look": False, "most": 50, "z": 6.0},
            "retrain_tiers": ["high"],
            "accept_undetectable": False,
            "release": "backfill",
            "keep_weights_days": 30.0,
        },
        validate_default=True,
    )


class Validation(Shape):
    """How the version was judged."""

    estimates: list[Estimate]
    power: Power | None
    progress: list[Figure] = Field(..., description="What there was to forget, and what is left of it")
    attacks: list[Attack]
    one_by_one: OneByOne | None
    utility: list[Figure]
    others: list[Figure] = Field(..., description="What the update did to samples that were not to be forgotten")
    attempts: list[Turn]
    error: float | None = Field(
        ..., description="Accepted chance of a false publication, over all attempts of the batch"
    )
    not_shown: list[str] = Field(..., description="What this very verdict does not show")
    expected_false: str = Field(
        ..., description="The error of all updates since the last training together, in a sentence"
    )
    calibration: Calibration
    copies: list[Copy] = Field(
        ..., description="What still holds the forgotten samples, as it stands when this is read"
    )


class Report(Shape):
    """Why a version may be trusted."""

    version: VersionView
    summary: str
    lineage: Lineage
    batch: UUID
    why: str
    policy: dict[str, Any]
    verdict: VerdictView = Field(..., description="The verdict on exactly these weights")
    attempts_at_a_verdict: list[VerdictView] = Field(
        ..., description="Every verdict of the batch, in order, this one included"
    )
    runs: list[Attempt]
    answers: list[Answer] = Field(..., description="The report in words, a question each")
    validation: Validation
    drift: Budget
    neighbours: Neighbours | None = Field(
        None, description="What comparing weights could tell. Null for a first version and those of earlier releases"
    )
    training: Training | None = Field(None, description="Null in reports of earlier releases")
    records: RecordsKept | None = Field(None, description="Null when the training kept nothing")
    environment: dict[str, Any]
    not_promised: list[str]
    timeline: list[dict[str, Any]]
    figures: Drawn | None = Field(
        None,
        description="Distributions, ROC curves, classes, gradient norms, maps; null for verdicts of earlier releases",
    )
