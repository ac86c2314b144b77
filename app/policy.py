"""A model's policy: thresholds, ladder, limits. Statistics and a policy go in, a verdict with its reasons comes out.

`publish` only by equivalence: the whole interval lies within the threshold. `escalate` when an interval lies wholly
beyond one, on either side, or a veto trips. Anything else is `inconclusive`, and the next rung is tried.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationInfo, model_validator
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import audit
from app.errors import PreconditionFailed, Unprocessable
from app.tables import Bank, BankState, Decision, Model, Policy, RiskTier

Method = Literal[
    "ia",
    "iau-released",
    "usgd",
    "bad-teaching",
    "amnesiac",
    "amnesiac-relabel",
    "fisher",
    "fine-tune",
    "neggrad+",
    "scrub",
    "salun",
    "ssd",
    "msg",
    "ct",
]
"""Further methods that workers bring along: docs/methods.md."""

Own = Annotated[str, StringConstraints(pattern=r"^own:[a-zA-Z0-9][a-zA-Z0-9+._-]{0,62}$")]
"""A method that a package of the workers' brings. Whether it is installed there shows when its turn comes."""


ERROR = 0.05
"""`thresholds.error` where nothing else is said."""
ATTEMPTS = (0.6, 0.4)
"""How `thresholds.error` is split over a batch's verdicts: one split of the audit's data may judge no more than these."""


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Thresholds(Part):
    """What an update may differ by from the estimate of a retrain. Rates, not percent."""

    mu: float = Field(0.03, gt=0, le=1, description="Largest accepted |MU|: change of test accuracy")
    ue: float = Field(
        0.15, gt=0, le=1, description="Largest accepted |UE|: excess of the attack's recall on the forget set"
    )
    worst_class: float = Field(0.15, gt=0, le=1, description="Largest accepted loss of accuracy in any one class")
    retrain_accuracy_drop: float = Field(
        0.10, gt=0, le=1, description="A retrain that loses more is held for an operator"
    )
    seed_sd: float = Field(
        0.005,
        ge=0,
        le=0.5,
        description="Standard deviation, between trainings, of test accuracy and of an attack's rate on unseen data: taken"
        " where no bank has measured them",
    )
    error: float = Field(
        ERROR,
        ge=0.001,
        le=0.2,
        description="Largest accepted chance that a batch whose true UE or MU lies beyond its threshold is published all"
        " the same, over all its rungs together",
    )


class Update(Part):
    """How the first rung steps. `eta` null: found by a bounded search on tuning data that the audit never uses."""

    variant: Literal["ia", "ia+gc"] = "ia+gc"
    weights: Literal["sums", "means"] = "means"
    step: Literal["sgd", "adam"] = "sgd"
    eta: float | None = Field(None, gt=0, le=1000)
    eta_max: float = Field(100.0, gt=0, le=1000)
    evaluations: int = Field(12, ge=3, le=50)


class Calibrated(Part):
    """How far the second rung may go. `learning_rate` null: twice the recipe's own."""

    strength: float = Field(1.0, gt=0, le=100, description="Weight of forgetting against keeping")
    learning_rate: float | None = Field(None, gt=0, le=1)
    passes: float = Field(
        2.0,
        gt=0,
        le=100,
        description="So often over the forget set, and up to twice as often again where the gap is wide",
    )
    accuracy_budget: float = Field(
        0.02, gt=0, le=1, description="Accuracy on tuning data that the way may cost, beyond chance"
    )


class Recorder(Part):
    """What a training keeps for methods that need more than its weights: nothing unless said, and nothing where the quote
    exceeds the limit. There is no list of samples to watch: a policy names nobody."""

    initial: bool = Field(False, description="The weights that training began from")
    membership: bool = Field(False, description="Which sample was in which step; comes with the journal")
    journal: bool = Field(False, description="What each step changed: a copy of the parameters a step")
    fisher: bool = Field(False, description="The diagonal Fisher of the training set")
    importance: bool = Field(False, description="SSD's importance of the training set")
    importance_batch: int = Field(128, ge=1, description="SSD's batch size")
    limit_bytes: int = Field(2 * 1024**3, ge=0, description="A training whose quote is larger keeps nothing")

    @property
    def asked(self) -> bool:
        """Whether anything is to be kept."""
        return self.initial or self.membership or self.journal or self.fisher or self.importance


class Batching(Part):
    max_samples: int = Field(1000, ge=1, description="A batch closes when it holds this many samples")
    max_wait_seconds: float = Field(3600, ge=0, description="or when its oldest obligation has waited this long")
    deadline_margin_seconds: float = Field(86_400, ge=0, description="or when a deadline is this near")


class Drift(Part):
    """Approximate updates since the last retrain; when spent, the next batch retrains."""

    max_share: float = Field(0.25, gt=0, le=1, description="Share of the training set forgotten")
    max_updates: int = Field(50, ge=1)
    max_days: float = Field(90, gt=0)
    false_publishes: float = Field(
        1.0,
        gt=0,
        description="Largest expected number of updates that were published although beyond a threshold: the sum of their"
        " `thresholds.error`",
    )


class Window(Part):
    """Cap on the share forgotten within some days: mass deletion is also an attack on the model."""

    days: float = Field(30, gt=0)
    max_share: float = Field(0.5, gt=0, le=1)


class Lone(Part):
    """Two versions between which hardly anybody was forgotten give those few away to whoever has the weights of both."""

    rule: Literal["merge", "withdraw", "allow"] = Field(
        "withdraw",
        description="'withdraw': nobody is given the weights of earlier versions that lie so near from the commit on that"
        " publishes the new one; 'merge': the batch waits for company first, and they are withdrawn where none came;"
        " 'allow': neither",
    )
    min_batch: int = Field(
        10, ge=1, le=10**6, description="Fewer subjects than this are few; a sample without a subject counts as one"
    )
    max_wait_seconds: float = Field(
        604_800, ge=0, description="'merge': so long a batch waits; a deadline's margin and a flush end it too"
    )


class BankPart(Part):
    """The reference bank: `unlearning.bank`. Each reference costs three quarters of a training."""

    build: Literal["never", "demand", "training"] = Field(
        "demand",
        description="'training': anew after every training and retrain; 'demand': when somebody asks, or an inconclusive"
        " verdict does; 'never': not at all",
    )
    references: int = Field(8, ge=4, le=64, multiple_of=4, description="Models trained for it, by groups of four")
    most: int = Field(
        16, ge=4, le=64, multiple_of=4, description="So many may it grow to, to settle an inconclusive verdict"
    )


class Inconclusive(Part):
    """What may settle a verdict that the ladder left inconclusive, before the retrain that always does."""

    wait_seconds: float = Field(
        0,
        ge=0,
        description="How long a batch may wait for more tickets or more references; a deadline's margin still counts."
        " 0: it retrains at once",
    )


class Compute(Part):
    """By how many processes of a worker's host a model is trained, and the gradients of its training set are summed."""

    processes: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = Field(
        1,
        description="'auto': one a CUDA device that the worker sees, or without CUDA as many as its cores have room for",
    )
    threads_per_process: int | None = Field(
        None,
        ge=1,
        le=256,
        description="CPU threads of each; null: one, or on CUDA devices an equal part of the worker's",
    )
    min_samples: int = Field(
        10_000, ge=0, description="Fewer samples than this are the business of one process: starting more costs seconds"
    )
    checkpoint_seconds: float = Field(
        60, ge=0, description="A training by several processes writes a checkpoint this often; 0: after every step"
    )
    restarts: int = Field(3, ge=0, le=100, description="So often the processes are started again when one is lost")


class Outliers(Part):
    """Training samples whose gradients stand out, looked for after each publication. It names them; nothing is deleted for it
    unless a person says so, sample by sample."""

    look: bool = Field(False, description="One pass of gradients over at most 20,000 samples, after each publication")
    z: float = Field(
        6.0,
        ge=3,
        le=100,
        description="How far above the median the logarithm of a norm must lie, in standard deviations told from the MAD",
    )
    most: int = Field(50, ge=1, le=1000, description="So many are named, the most outlying; how many there are is told")


class PolicyBody(Part):
    thresholds: Thresholds = Thresholds()
    update: Update = Update()
    calibrated: Calibrated = Calibrated()
    ladder: list[Literal["iau", "iau-calibrated", "retrain"] | Method | Own] = ["iau", "iau-calibrated", "retrain"]
    methods: dict[Method | Own, dict[str, JsonValue]] = Field(
        {}, description="Settings of further methods on the ladder; what is left out is its authors' default"
    )
    recorder: Recorder = Recorder()
    bank: BankPart = BankPart()
    inconclusive: Inconclusive = Inconclusive()
    batching: Batching = Batching()
    compute: Compute = Compute()
    drift: Drift = Drift()
    window: Window = Window()
    lone: Lone = Lone()
    outliers: Outliers = Outliers()
    retrain_tiers: list[RiskTier] = [RiskTier.HIGH]
    accept_undetectable: bool = Field(
        False, description="Publish although membership of the forget set was not detectable before the update either"
    )
    release: Literal["publish", "backfill"] = Field(
        "backfill", description="Raw samples are releasable on publication, or once a retrain has measured the true UE"
    )
    keep_weights_days: float = Field(30, ge=0, description="Weights of superseded versions are purged after this")

    @model_validator(mode="after")
    def _ladder_ends_in_a_retrain(self, info: ValidationInfo) -> "PolicyBody":
        if not self.ladder or self.ladder[-1] != "retrain" or len(set(self.ladder)) != len(self.ladder):
            raise ValueError("the ladder must name each rung once and end in 'retrain', which always has an answer")
        if len(self.ladder) > 1 + len(ATTEMPTS) and info.context != STORED:
            raise ValueError(
                "the ladder may name two rungs before 'retrain': two attempts are all that one split of the audit's data"
                " may judge, a third would pass by chance too often"
            )
        if self.recorder.asked and self.compute.processes not in (1, "auto"):
            raise ValueError(
                "the recorder sees a training by one process: ask it for nothing, or set compute.processes to 1 ('auto' is 1"
                " where it records)"
            )
        idle = [name for name in self.methods if name not in self.ladder]
        if idle:
            raise ValueError(f"methods has settings for {idle[0]!r}, which the ladder does not name")
        return self


STORED = {"stored": True}


def stored(body: dict[str, Any]) -> PolicyBody:
    """A policy out of its row. One of an earlier release may have a longer ladder: its further rungs get no attempt."""
    return PolicyBody.model_validate(body, context=STORED)


def attempts(policy: PolicyBody) -> int:
    """How many verdicts on different weights a batch may have, before a retrain is all that is left."""
    return min(len(policy.ladder) - 1, len(ATTEMPTS))


def attempt_error(policy: PolicyBody, attempt: int) -> float:
    """The share of `thresholds.error` that a batch's first or second verdict may use; their sum is the whole of it.

    By the union bound the chance that one of them publishes what it should not is at most that sum, however much the
    two have in common. `ValueError` for an attempt that there is not.
    """
    if not 1 <= attempt <= attempts(policy):
        raise ValueError(f"a batch of this policy has {attempts(policy)} attempt(s), no number {attempt}")
    return round(policy.thresholds.error * (1.0 if attempts(policy) == 1 else ATTEMPTS[attempt - 1]), 9)


@dataclass(frozen=True)
class Settle:
    """What may settle an inconclusive verdict, and in one sentence why. `samples`: how many a batch should have;
    `references`: how many the bank."""

    kind: Literal["next_rung", "larger_batch", "references", "retrain"]
    says: str
    samples: int | None = None
    references: int | None = None


@dataclass(frozen=True)
class Judgement:
    decision: Decision
    reasons: list[str]
    settle: Settle | None = None


@dataclass(frozen=True)
class Finding:
    """One question's answer. An inconclusive one says what would answer it."""

    decision: Decision
    reason: str
    settle: Settle | None = None


Statistics = dict[str, dict[str, Any]]
FEW = 50  # samples below which no rate is claimed
KIN = 0.3  # of what is like D_f, that D_f may be: references lack a quarter of it themselves
SUPPORT = 0.8  # of D_f, that must have unseen samples as hard
NEIGHBOURS = 0.05  # by which the exposure of retained samples near D_f may rise
MOST_TIMES = (
    10  # by which an interval may be too wide for a larger batch to be asked for: that is a hundred times as many
)
ROOM = 0.5  # of a threshold that an interval's half-width may take, so that a retrain would pass most of the time


def judge(policy: PolicyBody, statistics: Statistics, forget_count: int) -> Judgement:
    """The verdict on an approximate update, from the statistics that `unlearning.validation` estimates.

    Every question must be answered with publish: equivalence on both sides. One escalation is enough to escalate.
    """
    broken = unreadable(statistics)
    if broken is not None:
        return Judgement(broken.decision, [broken.reason], settled_by([broken]))
    findings = [
        within("MU", statistics["mu"], policy.thresholds.mu, "accuracy rose", "accuracy fell"),
        worst_class(statistics["worst_class"], policy.thresholds.worst_class),
        total(statistics.get("cumulative_mu"), policy.thresholds.mu),
        neighbours(statistics.get("neighbours")),
    ]
    doubt = assumption(statistics, policy)
    if doubt is not None:  # what rests on it says nothing, for or against
        findings.append(doubt)
    else:
        findings += [
            excess(statistics, policy, forget_count),
            progress(statistics, policy, forget_count),
            standing_out(statistics),
        ]
    said = [finding for finding in findings if finding is not None]
    for decision in (Decision.ESCALATE, Decision.INCONCLUSIVE):
        found = [finding for finding in said if finding.decision is decision]
        if found:
            settle = settled_by(found) if decision is Decision.INCONCLUSIVE else None
            return Judgement(decision, [finding.reason for finding in found], settle)
    return Judgement(Decision.PUBLISH, [finding.reason for finding in said])


UNCHANGED = "the update left the weights as they were"


def judge_update(
    policy: PolicyBody, statistics: Statistics, forget_count: int, *, unchanged: bool, bank: dict[str, Any] | None
) -> Judgement:
    """As `judge`, with two vetoes before it: weights that did not change have forgotten nothing, and thresholds below the noise
    floor of a bank that came after them can be held against nobody. `bank` are the facts of the one that was read."""
    if unchanged:
        return Judgement(Decision.ESCALATE, [UNCHANGED])
    below = below_floor(policy, bank) if bank is not None else []
    if below:
        settle = Settle("retrain", "thresholds above the floor, or a retrain, settle it")
        return Judgement(Decision.INCONCLUSIVE, below, settle)
    return judge(policy, statistics, forget_count)


def unreadable(statistics: Statistics) -> Finding | None:
    """A figure that is no number decides nothing and passes nothing, whichever it is."""
    for name, found in statistics.items():
        if not all(isfinite(found[part]) for part in ("estimate", "low", "high")):
            return Finding(Decision.INCONCLUSIVE, f"{name} is not finite: nothing can be told from it")
    return None


def settled_by(found: list[Finding]) -> Settle:
    """What would settle all of them at once: a wish that only a retrain grants outweighs the others, and of two batches
    the larger is asked for."""
    wishes = [finding.settle for finding in found if finding.settle is not None]
    for wish in wishes:
        if wish.kind == "retrain":
            return wish
    if len(wishes) < len(found) or not wishes:
        return Settle("next_rung", "another update, or in the end the retrain, may show what this one does not")
    for kind in ("next_rung", "references"):
        for wish in wishes:
            if wish.kind == kind:
                return wish
    return max(wishes, key=lambda wish: wish.samples or 0)


def within(name: str, statistic: dict[str, Any], threshold: float, above: str, below: str) -> Finding:
    """Equivalence: the whole interval inside ±threshold. Wholly outside, on either side: escalate."""
    low, high = statistic["low"], statistic["high"]
    shown = f"{name} [{low:+.3f}, {high:+.3f}] against ±{threshold:g}"
    if -threshold <= low and high <= threshold:
        return Finding(Decision.PUBLISH, f"{shown}: the whole interval is within")
    if low > threshold:
        return Finding(Decision.ESCALATE, f"{shown}: wholly above, {above}")
    if high < -threshold:
        return Finding(Decision.ESCALATE, f"{shown}: wholly below, {below}")
    return Finding(Decision.INCONCLUSIVE, f"{shown}: the interval crosses the threshold")


def excess(statistics: Statistics, policy: PolicyBody, count: int) -> Finding | None:
    """UE. Of few samples no rate is claimed, and what an attack without power says is no evidence."""
    ue, threshold = statistics["ue"], policy.thresholds.ue
    finding = within("UE", ue, threshold, "members still stand out", "over-forgetting stands out")
    if not has_rate(statistics):
        return None
    if not informative(statistics):
        if finding.decision is Decision.PUBLISH:
            return Finding(Decision.PUBLISH, f"{finding.reason}, but the attack is uninformative: that is no evidence")
        return Finding(finding.decision, f"{finding.reason}; the attack is uninformative")
    times = (ue["high"] - ue["low"]) / 2 / (ROOM * threshold)
    if finding.decision is Decision.INCONCLUSIVE and 1 < times <= MOST_TIMES:
        needed = int(count * times**2) + 1
        says = f"with about {needed} samples the interval would have half the width of the threshold"
        return Finding(finding.decision, finding.reason, Settle("larger_batch", says, samples=needed))
    return finding


def has_rate(statistics: Statistics) -> bool:
    """Whether UE is of so many samples that it says something. A bank may not know all that are to be forgotten."""
    return bool(statistics["ue"]["n"] >= FEW)


def informative(statistics: Statistics) -> bool:
    """Whether the attack calls members that the model learnt more often than unseen samples, beyond chance. One that calls
    everything a member has a recall of one and a UE of nought for any model."""
    return bool(statistics["attack_tpr"]["low"] > statistics["attack_fpr"]["high"])


def worst_class(statistic: dict[str, Any], threshold: float) -> Finding:
    """One class must not pay for the mean: a veto where the loss is surely beyond the limit. The worst of many classes falls
    by chance, between two retrains too, so a point beyond it alone is shown and no more."""
    shown = f"the worst class loses {max(0.0, -statistic['estimate']):.3f} of accuracy, limit {threshold:g}"
    if statistic["high"] < -threshold:
        return Finding(Decision.ESCALATE, f"{shown}: surely beyond")
    if statistic["estimate"] < -threshold:
        return Finding(Decision.PUBLISH, f"{shown}: beyond, but not surely")
    return Finding(Decision.PUBLISH, shown)


def total(statistic: dict[str, Any] | None, threshold: float) -> Finding | None:
    """Accuracy since the last training, over all updates since: steps that pass one by one must not add up."""
    if statistic is None:
        return None
    shown = f"since the last training accuracy changed by {statistic['estimate']:+.3f}, limit {threshold:g}"
    if statistic["high"] < -threshold:
        return Finding(Decision.ESCALATE, f"{shown}: wholly beyond")
    if statistic["estimate"] < -threshold:
        return Finding(Decision.INCONCLUSIVE, f"{shown}: beyond")
    return Finding(Decision.PUBLISH, shown)


def progress(statistics: Statistics, policy: PolicyBody, count: int) -> Finding:
    """Was there something to forget, has it surely gone down, and to half or less? Doing nothing fails here, always.

    Two views of what there was: the rank of D_f among unseen samples that are as hard (`exposure_before`), and the
    attack's excess at its threshold (`ue_before`). Where one shows, the change, paired with the parent, must lie below
    zero (doing nothing changes nothing), and what is left must be at most half of what there was.
    Surely more than half, on either side, escalates; how much is left in all is for UE to bound.
    """
    ranks = statistics["exposure_before"]
    if ranks["low"] > 0 and supported(statistics):
        return by_rank(statistics, count)
    if has_rate(statistics) and statistics["ue_before"]["low"] > 0 and informative(statistics):
        return less_than_half(statistics["ue_before"], statistics["ue"], statistics["forgetting"])
    said = f"membership of the {count} samples was not detectable before the update"
    if statistics["exposure"]["high"] < 0 and statistics["exposure_change"]["high"] < 0:
        return Finding(Decision.INCONCLUSIVE, f"{said}, and after it they stand out below unseen data")
    if policy.accept_undetectable:
        return Finding(Decision.PUBLISH, f"{said}; the policy accepts that")
    settle = larger(ranks, ranks, count)
    return Finding(Decision.INCONCLUSIVE, f"{said}, so nothing shows that they were forgotten", settle)


def supported(statistics: Statistics) -> bool:
    """Whether unseen samples as hard as D_f exist, so that its ranks among them mean something."""
    support = statistics.get("support")
    return support is None or bool(support["estimate"] >= SUPPORT)


def by_rank(statistics: Statistics, count: int) -> Finding:
    """The exposure: has it surely fallen, and to half or less?

    Overshooting is bounded less tightly here: it is vetoed where it is sure, and UE bounds it on both sides.
    """
    ranks, change = statistics["exposure_before"], statistics["exposure_change"]
    before, after = ranks["estimate"], statistics["exposure"]["estimate"]
    shown = f"exposure went from {before:+.3f} to {after:+.3f}"
    if statistics["residual"]["low"] > 0:
        return Finding(Decision.ESCALATE, f"{shown}: surely more than half is left")
    if statistics["overshoot"]["high"] < 0:
        return Finding(Decision.ESCALATE, f"{shown}: over-forgetting, D_f stands out below unseen data instead")
    if not change["high"] < 0:  # nor a NaN: what cannot be told is not published
        settle = larger(ranks, change, count)
        return Finding(Decision.INCONCLUSIVE, f"{shown}: that cannot be told from doing nothing", settle)
    if not -before <= after <= before / 2:
        return Finding(Decision.INCONCLUSIVE, f"{shown}: more than half is left, or all of it overshot")
    return Finding(Decision.PUBLISH, f"{shown}: surely fallen, and at most half is left")


def larger(before: dict[str, Any], unsure: dict[str, Any], count: int) -> Settle | None:
    """How many samples like these would make an interval narrow enough for what there was to forget, if that is known."""
    half, signal = (unsure["high"] - unsure["low"]) / 2, before["estimate"]
    if signal <= 0 or not 1 < half / signal <= MOST_TIMES:
        return None
    needed = int(count * (half / signal) ** 2) + 1
    return Settle("larger_batch", f"with about {needed} samples like these it could be told", samples=needed)


def less_than_half(before: dict[str, Any], after: dict[str, Any], forgetting: dict[str, Any]) -> Finding:
    """The attack's excess: has it surely fallen, and to half or less?"""
    shown = f"the attack's excess on the samples went from {before['estimate']:+.3f} to {after['estimate']:+.3f}"
    if not forgetting["high"] < 0:  # nor a NaN: what cannot be told is not published
        return Finding(
            Decision.INCONCLUSIVE, f"{shown}: the update changed too few calls to tell it from doing nothing"
        )
    if not abs(after["estimate"]) <= before["estimate"] / 2:
        return Finding(Decision.INCONCLUSIVE, f"{shown}: more than half is left, or as much overshot")
    return Finding(Decision.PUBLISH, f"{shown}: at least half is gone")


def standing_out(statistics: Statistics) -> Finding | None:
    """A mean may pass while single samples stand out among their like, where they have any."""
    if not supported(statistics):
        return None
    for name, what in (("members", "still as members"), ("strangers", "below unseen data: over-forgetting")):
        found = statistics.get(name)
        if found is not None and found["estimate"] > 0:
            count = round(found["estimate"] * found["n"])
            return Finding(Decision.ESCALATE, f"{count} of {found['n']} samples stand out one by one, {what}")
    return None


def neighbours(statistic: dict[str, Any] | None) -> Finding | None:
    """Forgetting some may expose others: retained samples near D_f. A retrain without D_f exposes them as well (measured on
    outliers, `docs/qualification.md`), so it is told, not held against the update."""
    if statistic is None or not statistic["low"] > NEIGHBOURS:
        return None
    return Finding(
        Decision.PUBLISH,
        f"to be watched: the exposure of retained samples near the forgotten ones rose by {statistic['estimate']:+.3f}",
    )


def assumption(statistics: Statistics, policy: PolicyBody) -> Finding | None:
    """The holdout speaks for D_f only where D_f is a fair draw; where it is not, references that never saw it must. And they
    saw most of its kind: where most of that goes, only a retrain will say."""
    kin = statistics.get("kin")
    if kin is not None and kin["estimate"] > KIN:
        reason = (
            f"with these samples goes {kin['estimate']:.0%} of what is like them: neither unseen data nor references say"
            " what a model shows that learnt hardly any of it"
        )
        return Finding(Decision.INCONCLUSIVE, reason, Settle("retrain", "a retrain without them will show it"))
    fair, ue = statistics.get("fair_draw"), statistics["ue"]
    if fair is None or ue["estimator"] == "bank" or not (fair["low"] > 0 or fair["high"] < 0):
        return None
    if abs(fair["estimate"]) <= 0.05:
        return None
    reason = (
        "the samples are no fair draw of their classes, so unseen data does not say what a retrain would show of them"
    )
    settle = None
    if policy.bank.build != "never":
        says = f"a bank of {policy.bank.references} references would say it"
        settle = Settle("references", says, references=policy.bank.references)
    return Finding(Decision.INCONCLUSIVE, reason, settle)


def judge_retrain(policy: PolicyBody, accuracy: float, accuracy_before: float | None) -> Judgement:
    """A retrain forgets by construction; it is held only when it is no use as a model."""
    if accuracy_before is None:
        return Judgement(Decision.PUBLISH, [f"first training: test accuracy {accuracy:.3f}"])
    drop, limit = accuracy_before - accuracy, policy.thresholds.retrain_accuracy_drop
    shown = f"trained without the samples; test accuracy {accuracy:.3f}, before {accuracy_before:.3f}"
    if drop > limit:
        return Judgement(Decision.ESCALATE, [f"{shown}: the drop exceeds {limit:g}, an operator must look"])
    return Judgement(Decision.PUBLISH, [shown])


def current(session: Session, model_id: int) -> Policy:
    """The policy in force: the highest number. Every model has one from its registration on."""
    query = select(Policy).where(Policy.model_id == model_id).order_by(Policy.number.desc()).limit(1)
    return session.scalars(query).one()


def below_floor(body: PolicyBody, facts: dict[str, Any]) -> list[str]:
    """What is wrong with thresholds that two retrains would not keep between themselves, a sentence each.

    `facts` are a bank's. Its `noise_floor` holds for `mu` and `ue` what two retrains differ by at most in `level` of the
    cases; what is absent was not measured. A ladder without an approximate rung holds nothing against them.
    """
    floor = facts.get("noise_floor") or {}
    found: list[str] = []
    if attempts(body) == 0:
        return found
    for name, threshold in (("mu", body.thresholds.mu), ("ue", body.thresholds.ue)):
        if floor.get(name) is not None and threshold < floor[name]:
            found.append(
                f"thresholds.{name} is {threshold:g}, below the noise floor of {floor[name]:.3g}: in"
                f" {1 - floor.get('level', 0.95):.0%} of the cases two retrains of this model differ by more"
            )
    return found


def etag(policy: Policy) -> str:
    return f'"policy-{policy.model_id}-{policy.number}"'


def to_replace(session: Session, model: Model, body: PolicyBody, if_match: str) -> Policy:
    """The policy in force, provided that the caller has seen it and `body` may stand in its place: `PreconditionFailed`
    otherwise, or `Unprocessable` when its thresholds are narrower than what two retrains differ by.

    The model's row is locked, so of two writers with the same ETag one wins and the other is told.
    """
    session.execute(select(Model.id).where(Model.id == model.id).with_for_update(key_share=True))
    present = current(session, model.id)
    if if_match.strip() != etag(present):
        raise PreconditionFailed(
            f"The policy in force is number {present.number}. Read it again and send its ETag.",
            headers={"ETag": etag(present)},
        )
    bank = select(Bank.facts).where(Bank.model_id == model.id, Bank.state != BankState.RETIRED)
    faults = below_floor(body, session.scalar(bank) or {})
    if faults:
        raise Unprocessable("; ".join(faults) + ". Widen them, or name no rung but retrain on the ladder.")
    return present


def replace(
    session: Session, model: Model, body: PolicyBody, if_match: str, author: str, approved_by: str | None = None
) -> Policy:
    """Put a new policy in force, whatever it loosens: proposals.py asks a second person first. Raises as `to_replace`."""
    number = to_replace(session, model, body, if_match).number + 1
    policy = Policy(
        model_id=model.id,
        number=number,
        body=body.model_dump(mode="json"),
        author=author,
        approved_by=approved_by,
    )
    session.add(policy)
    audit.append(
        session,
        "policy.changed",
        author,
        model_id=model.id,
        number=policy.number,
        policy=policy.body,
        approved_by=approved_by,
    )
    return policy
