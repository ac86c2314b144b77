"""The audit report of a version: from the tickets to the bytes, every statistic, and what none of them shows.

Reads rows only; the weights may be long purged. No sample or subject id appears: a ticket's id and counts do.
"""

from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app import audit, versions, views
from app.charts import Chart
from app.evidence import comparison
from app.evidence.comparison import Comparison
from app.evidence.drawn import Drawn, drawn
from app.evidence.figures import Figure, figure
from app.evidence.graph import graph
from app.evidence.neighbours import Neighbours, neighbours
from app.evidence.origin import (
    Attempt,
    Budget,
    Lineage,
    RecordsKept,
    Training,
    budget,
    lineage,
    records_of,
    runs_of,
    training_of,
)
from app.evidence.validation import Validation, validation
from app.evidence.words import Answer, answers
from app.policy import FEW
from app.schemas import VerdictView, VersionView
from app.tables import Version, VersionKind

LIMITS_OF_AN_UPDATE = (
    "The update is approximate. It was judged by the tests listed here; another test might still tell the forget set "
    "from data the model never saw.",
    "MU and UE are estimates: no retrained model existed when the decision was due. Their intervals are for one retrain that "
    "may still come, under the assumption that each names; they do not cover every way in which it may fail.",
    "Where a reference bank speaks, each of its models lacked a quarter of the subjects, hardly ever the whole forget set at "
    "once: what many alike samples taught jointly (a whole class, say) it tells less well.",
    "Where unseen data speak, they speak for samples as hard and of the same class. Matching by hardness is itself an "
    "estimate, and where nothing tells hardness, the class alone is matched.",
    "The tests look at what the model answers. What its inner layers hold was not examined.",
    "Each publication may be wrong with the chance that the policy accepts; over many they add up, as the drift budget counts.",
    "Earlier versions of this model still hold the samples until their weights are purged; so do copies, back-ups, logs "
    "and models derived from them outside this service.",
    "Comparing the weights of two consecutive versions can reveal something about the samples forgotten between them.",
)
LIMITS_OF_A_RETRAIN = (
    "The version was trained without the samples. Copies of earlier versions, back-ups and models derived from them outside "
    "this service are not touched by that.",
    "What the remaining data say about a person (relatives, near-duplicates, aggregates) is still in the model.",
)


class Report(BaseModel):
    """Why a version may be trusted."""

    version: VersionView
    summary: str
    lineage: Lineage
    batch: UUID
    why: str
    policy: dict[str, Any]
    verdict: VerdictView = Field(description="The verdict on exactly these weights")
    attempts_at_a_verdict: list[VerdictView] = Field(
        description="Every verdict of the batch, in order, this one included"
    )
    runs: list[Attempt]
    answers: list[Answer] = Field(description="The report in words, a question each")
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

    @property
    def graph(self) -> Chart:
        """From tickets to bytes, as a drawing."""
        tried = [each for each in self.attempts_at_a_verdict if each.at < self.verdict.at]
        return graph(self.version, self.lineage, [*tried, self.verdict], self.batch, self.why, self.runs)


def report(session: Session, version: Version) -> Report:
    """Everything the service knows about `version`, as one value."""
    verdicts = views.verdicts(session, version.batch_id)
    verdict = views.verdict(version.verdict)
    exact = version.kind is not VersionKind.UNLEARNED
    view, origin = views.version(version, version.model.current_version_id), lineage(session, version)
    drift = budget(session, version)
    found = validation(session, version, verdict, verdicts, drift.expectation)
    return Report(
        version=view,
        summary=summary(version, verdict),
        answers=answers(view, origin, verdict, version.batch.why, drift, found),
        validation=found,
        lineage=origin,
        batch=version.batch_id,
        why=version.batch.why,
        policy=version.batch.policy,
        verdict=verdict,
        attempts_at_a_verdict=verdicts,
        runs=runs_of(session, version.batch_id),
        drift=drift,
        neighbours=neighbours(version),
        training=training_of(session, version),
        records=records_of(version),
        environment=version.environment,
        not_promised=list(LIMITS_OF_A_RETRAIN if exact else LIMITS_OF_AN_UPDATE),
        timeline=audit.timeline(session, batch_id=version.batch_id),
        figures=drawn(version.verdict),
    )


def compare(session: Session, one: Version, other: Version) -> Comparison:
    """Two versions of one model side by side. Raises `Unprocessable` where they are of two models, or the same."""
    earlier, later = comparison.in_order(one, other)
    first, second = (summary(version, views.verdict(version.verdict)) for version in (earlier, later))
    return comparison.compare(session, earlier, later, (first, second))


def summary(version: Version, verdict: VerdictView) -> str:
    """The verdict in one sentence, claiming no more than was measured."""
    name = versions.name_of(version)
    if version.kind is VersionKind.TRAINED:
        return f"{name} is the model's first version, trained on {training_set(version)}."
    again = verdict.method.get("rolled_back_to")
    if again is not None:
        return f"{name} serves the weights of {again} again, which were trained on {training_set(version)}."
    if version.kind is VersionKind.RETRAINED:
        return f"{name} was retrained from its initial weights on {training_set(version)}."
    mu, ue = figure(verdict, "mu"), figure(verdict, "ue")
    assert mu is not None, "an update is published on an estimate of MU"
    assert ue is not None, "an update is published on an estimate of UE"
    passed = (
        f"{name} is an approximate update for {samples(version.forgotten)} that passed its policy's tests: estimated MU"
    )
    return f"{passed} {held(mu, verdict)}, estimated UE {held(ue, verdict)}."


def held(found: Figure, verdict: VerdictView) -> str:
    """An estimate against its threshold; of few samples no rate is claimed."""
    if found.name == "ue" and found.n < FEW:
        return f"{found.shown}, of too few samples to claim a rate"
    return f"{found.shown} within ±{verdict.thresholds[found.name]:g}"


def training_set(version: Version) -> str:
    """What a training read, in words: tombstoned samples are left out."""
    total, excluded = version.model.dataset.sample_count, version.excluded_count
    return (
        f"{samples(total - excluded)} of the manifest's {total}" if excluded else f"all {total} samples of its manifest"
    )


def samples(count: int) -> str:
    return "1 sample" if count == 1 else f"{count} samples"
