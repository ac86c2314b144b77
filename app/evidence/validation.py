"""The report's section on how a version was judged: estimates, power, attempts, calibration, copies, and what is not shown."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import coverage, policy, versions
from app.evidence import findings
from app.evidence.copies import Copy, copies
from app.evidence.estimates import Estimate, estimates
from app.evidence.figures import Figure, figures
from app.evidence.findings import Attack, OneByOne, Power
from app.policy import FEW, PolicyBody
from app.schemas import VerdictView
from app.tables import Bank, Decision, Version, VersionKind

PROGRESS = (
    "exposure_before",
    "exposure",
    "exposure_change",
    "residual",
    "overshoot",
    "support",
    "ue_before",
    "forgetting",
)
UTILITY = (
    "accuracy_before",
    "accuracy",
    "worst_class",
    "macro_accuracy",
    "nll",
    "ece_before",
    "ece",
    "churn",
    "cumulative_mu",
)
OTHERS = ("neighbours", "holdout_shift")


class Turn(BaseModel):
    """One verdict of the batch, and the share of the accepted error that it used. Null where the release that recorded it
    kept none, and for a retrain, which is judged by no interval."""

    rung: str
    decision: Decision
    attempt: int | None
    of: int = Field(description="How many verdicts on different weights the policy allows a batch")
    error: float | None
    this: bool = Field(description="Whether it is the verdict on this version")


class Simulated(BaseModel):
    """Tickets simulated on the reference bank, whose truth is known."""

    size: int
    tickets: int
    covered: int
    nominal: float


class BankUsed(BaseModel):
    """The reference bank that a verdict leant on, as it was then."""

    sha256: str
    references: int
    samples: int | None = Field(description="Training samples that its table knew")
    ready_at: datetime | None = Field(description="When its first table was put together; null when that is not known")
    noise_floor_mu: float | None
    noise_floor_ue: float | None
    noise_floor_level: float | None
    simulated: list[Simulated]


class Retrains(BaseModel):
    """How often the intervals of one figure held what a retrain showed later, over all of the model's verdicts by now."""

    name: str
    covered: int
    count: int
    nominal: float


class Calibration(BaseModel):
    """Whether intervals hold what they promise."""

    bank: BankUsed | None
    retrains: list[Retrains]
    stopped: str | None = Field(description="Why no approximate update of the model is published at present")


class Judged(BaseModel):
    """What follows from the verdicts alone. A version that was trained has no estimates: nothing had to be estimated."""

    estimates: list[Estimate]
    power: Power | None
    progress: list[Figure] = Field(description="What there was to forget, and what is left of it")
    attacks: list[Attack]
    one_by_one: OneByOne | None
    utility: list[Figure]
    others: list[Figure] = Field(description="What the update did to samples that were not to be forgotten")
    attempts: list[Turn]
    error: float | None = Field(description="Accepted chance of a false publication, over all attempts of the batch")
    not_shown: list[str] = Field(description="What this very verdict does not show")


class Validation(Judged):
    """How the version was judged."""

    expected_false: str = Field(description="The error of all updates since the last training together, in a sentence")
    calibration: Calibration
    copies: list[Copy] = Field(description="What still holds the forgotten samples, as it stands when this is read")


def validation(
    session: Session, version: Version, verdict: VerdictView, verdicts: list[VerdictView], expected_false: str
) -> Validation:
    """The section, from a version's verdict, all verdicts of its batch, and the sentence on the drift budget."""
    return Validation(
        **as_judged(
            version.kind, version.forgotten, policy.stored(version.batch.policy), verdict, verdicts
        ).model_dump(),
        expected_false=expected_false,
        calibration=calibration(session, version, verdict),
        copies=copies(session, version),
    )


def as_judged(
    kind: VersionKind, forgotten: int, body: PolicyBody, verdict: VerdictView, verdicts: list[VerdictView]
) -> Judged:
    """What follows from the verdicts alone."""
    approximate = kind is VersionKind.UNLEARNED
    made = Judged(
        estimates=estimates(verdict) if approximate else [],
        power=findings.power(verdict) if approximate else None,
        progress=figures(verdict, *PROGRESS),
        attacks=findings.attacks(verdict),
        one_by_one=findings.one_by_one(verdict, forgotten) if approximate else None,
        utility=figures(verdict, *UTILITY),
        others=figures(verdict, *OTHERS),
        attempts=[turn(each, policy.attempts(body), verdict) for each in verdicts],
        error=verdict.thresholds.get("error") if approximate else None,
        not_shown=[],
    )
    made.not_shown = not_shown(made, body.accept_undetectable) if approximate else []
    return made


def turn(each: VerdictView, allowed: int, verdict: VerdictView) -> Turn:
    return Turn(
        rung=each.rung,
        decision=each.decision,
        attempt=each.thresholds.get("attempt"),
        of=allowed,
        error=each.thresholds.get("attempt_error"),
        this=each.at == verdict.at and each.weights_sha256 == verdict.weights_sha256,
    )


def calibration(session: Session, version: Version, verdict: VerdictView) -> Calibration:
    measured = coverage.of_model(session, version.model_id)
    return Calibration(
        bank=bank_used(session, version, verdict),
        retrains=[
            Retrains(name=name, covered=found.covered, count=found.count, nominal=round(found.nominal, 6))
            for name, found in measured.items()
            if found.count
        ],
        stopped=version.model.stopped,
    )


def bank_used(session: Session, version: Version, verdict: VerdictView) -> BankUsed | None:
    """Out of the verdict, which keeps what the bank said of itself at the time; None where it leant on none."""
    facts: dict[str, Any] | None = verdict.method.get("bank")
    if facts is None:
        return None
    anchor = versions.anchor(session, version.model_id, version.number)
    ready = select(Bank.ready_at).where(Bank.version_id == anchor.id, Bank.ready_at <= verdict.at)
    floor = facts.get("noise_floor") or {}
    return BankUsed(
        sha256=facts["sha256"],
        references=facts["references"],
        samples=facts.get("samples"),
        ready_at=session.scalar(ready.order_by(Bank.ready_at.desc()).limit(1)),
        noise_floor_mu=floor.get("mu"),
        noise_floor_ue=floor.get("ue"),
        noise_floor_level=floor.get("level"),
        simulated=[Simulated.model_validate(row) for row in facts.get("calibration") or []],
    )


def not_shown(made: Judged, accepts_undetectable: bool) -> list[str]:
    """What this verdict leaves open, beyond what no verdict on an update shows."""
    said = []
    if made.one_by_one is not None and made.one_by_one.says is not None:
        said.append(made.one_by_one.says)
    for each in made.estimates:
        if not each.claimed and (made.one_by_one is None or made.one_by_one.says is None):
            said.append(f"UE is of {each.n} samples, too few for a rate: it decided nothing.")
        if each.assumption_is == "not tested":
            said.append(f"{each.name.upper()} rests on an assumption that was not tested: {each.assumption}")
        elif each.assumption_is == "contradicted":
            said.append(f"{each.name.upper()} rests on an assumption that a test contradicted: {each.assumption}")
        elif each.assumption_is == "corrected for":
            said.append(
                f"{each.name.upper()} was corrected for what the reference models, trained on less, differ by on unseen data;"
                " whether the forgotten samples differ in the same way was not seen."
            )
    if not any(each.name == "ue" and each.noise_floor is not None for each in made.estimates):
        said.append("What two retrains of this model differ by was not measured: no reference bank was at hand.")
    if made.power is not None and made.power.informative is False:
        said.append("The attack behind UE tells no members from unseen samples on this model: its UE is no evidence.")
    if accepts_undetectable and undetectable(made):
        said.append(
            "The forgotten samples did not detectably stand out before the update either, and the policy accepts that: nothing"
            " was seen to go."
        )
    if not made.attacks:
        said.append("No attack but the one behind UE was tried.")
    if not any(found.name == "neighbours" for found in made.others):
        said.append("Whether samples like the forgotten ones are more exposed now was not looked at.")
    return said


def undetectable(made: Judged) -> bool:
    """Whether neither view of what there was to forget shows anything; as in the policy."""
    seen = {found.name: found for found in made.progress}
    ranks, excess = seen.get("exposure_before"), seen.get("ue_before")
    by_rank = ranks is not None and ranks.low > 0 and findings.supported(seen.get("support"))
    by_recall = excess is not None and excess.low > 0 and excess.n >= FEW
    return not by_rank and not by_recall
