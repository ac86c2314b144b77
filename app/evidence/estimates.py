"""MU and UE out of a verdict: what is estimated, how, on what assumption, and what the interval can tell."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app import policy
from app.evidence.figures import Figure, figure, figures
from app.policy import FEW, PolicyBody
from app.schemas import VerdictView

Name = Literal["mu", "ue"]
Standing = Literal["within", "crosses", "above", "below"]
Assumption = Literal["not contradicted", "contradicted", "corrected for", "not tested"]

ESTIMANDS: dict[Name, str] = {
    "mu": "The accuracy on the audit's test, this version less a model retrained without the forgotten samples. No such"
    " model existed when the decision was due, so it is an estimate.",
    "ue": "The attack's recall on the forgotten samples (the share of them that it calls members of the training set), this"
    " version less a model retrained without them. No such model existed when the decision was due, so it is an estimate.",
}


class Estimate(BaseModel):
    """MU or UE: what is estimated, how, on what assumption, and how it stands against its threshold."""

    name: Name
    estimand: str
    estimator: str
    assumption: str
    assumption_is: Assumption
    assumption_tests: list[Figure] = Field(description="What was found when the assumption was put to the test")
    n: int
    of: Literal["test samples", "forgotten samples"]
    estimate: float
    low: float
    high: float
    level: float | None
    interval: str = Field(description="How the interval was made")
    threshold: float | None
    standing: Standing | None = Field(description="Of the whole interval against ±threshold; null without a threshold")
    noise_floor: float | None = Field(description="What two retrains differ by, as far as a reference bank measured it")
    by_source: list[Figure] = Field(description="The same by each source, where there was more than one to ask")
    reason: str | None = Field(description="The verdict's own sentence on it")
    claimed: bool = Field(description="False where so few samples have no rate: then it decides nothing")
    half_width: float
    detectable: str = Field(description="What the interval's half-width means: the smallest effect that could be told")


def estimates(verdict: VerdictView) -> list[Estimate]:
    """MU and UE, as far as the verdict has them."""
    return [made for name in ESTIMANDS if (made := estimate(verdict, name)) is not None]


def estimate(verdict: VerdictView, name: Name) -> Estimate | None:
    found = figure(verdict, name)
    if found is None:
        return None
    threshold = verdict.thresholds.get(name)
    assumption, state, tests = assumed_of_mu(found) if name == "mu" else assumed_of_ue(verdict, found)
    half = round((found.high - found.low) / 2, 9)
    return Estimate(
        name=name,
        estimand=ESTIMANDS[name],
        estimator=estimator(name, found),
        assumption=assumption,
        assumption_is=state,
        assumption_tests=tests,
        n=found.n,
        of="test samples" if name == "mu" else "forgotten samples",
        estimate=found.estimate,
        low=found.low,
        high=found.high,
        level=found.level,
        interval=found.interval,
        threshold=threshold,
        standing=None if threshold is None else standing(found, threshold),
        noise_floor=noise_floors(verdict).get(name),
        by_source=figures(verdict, f"{name}_bank", f"{name}_holdout"),
        reason=next((reason for reason in verdict.reasons if reason.startswith(f"{name.upper()} ")), None),
        claimed=name == "mu" or found.n >= FEW,
        half_width=half,
        detectable=detectable(half, threshold),
    )


def standing(found: Figure, threshold: float) -> Standing:
    """As `policy.within` decides."""
    if -threshold <= found.low and found.high <= threshold:
        return "within"
    if found.low > threshold:
        return "above"
    return "below" if found.high < -threshold else "crosses"


def detectable(half: float, threshold: float | None) -> str:
    told = f"The interval reaches {half:.3f} to either side: a smaller difference could not have been told from none."
    if threshold is None:
        return told
    if half > threshold:
        return f"{told} That is more than the threshold: with an interval as wide no estimate could be published."
    return f"{told} With an interval as wide, an estimate beyond ±{threshold - half:.3f} would not have been published."


def noise_floors(verdict: VerdictView) -> dict[str, Any]:
    bank = verdict.method.get("bank") or {}
    return bank.get("noise_floor") or {}


def estimator(name: Name, found: Figure) -> str:
    if name == "mu":
        said = (
            "The change of accuracy from the version before to this one, on the same test samples: the version before"
        )
        return f"{said} stands in for the retrained model."
    if found.estimator == "bank":
        said = (
            "The attack's recall on the forgotten samples, less what the reference bank forecasts of a retrained model:"
        )
        return f"{said} sample by sample, the answers of the reference models that never saw the sample."
    if found.estimator == "holdout":
        said = "The attack's recall on the forgotten samples, less what the version before shows of unseen samples that"
        return f"{said} they are held against."
    return f"By the estimator {found.estimator}."


def assumed_of_mu(found: Figure) -> tuple[str, Assumption, list[Figure]]:
    noise = "is in the interval" if "noise" in found.interval else "is not in the interval"
    said = "On average it costs no accuracy to retrain without so few samples. What two trainings differ by by chance"
    return f"{said} {noise}.", "not tested", []


def assumed_of_ue(verdict: VerdictView, found: Figure) -> tuple[str, Assumption, list[Figure]]:
    """What UE's estimator takes for granted, and what became of it when it was tested by the rule that refuses to publish.
    Where references differ from the model on unseen data, beyond chance, the forecast was corrected for it."""
    kin = figure(verdict, "kin")
    both = " Enough of what is like the forgotten samples stays in the training set." if kin is not None else ""
    if found.estimator == "bank":
        test = figure(verdict, "reference_shift")
        said = (
            "A reference model that never saw a sample answers it as the retrained model would: it was trained by the same"
            " recipe, on three quarters of the data. Where references differ from this model on unseen data, the forecast"
            " is shifted by as much of that as is not chance."
        )
        shifted = test is not None and (test.low > 0 or test.high < 0)
    else:
        test = figure(verdict, "fair_draw")
        said = (
            "The forgotten samples are a fair draw: a model that never saw them finds them as hard as the unseen samples that"
            " they are held against."
        )
        shifted = False
    tests = [each for each in (test, kin) if each is not None]
    if policy.assumption(verdict.statistics, PolicyBody()) is not None:
        return said + both, "contradicted", tests
    if shifted:
        return said + both, "corrected for", tests
    untested = test is None or test.interval == "none"
    return said + both, "not tested" if untested else "not contradicted", tests
