"""What another policy would have made of past batches: the verdicts' own statistics, held against other thresholds.

The decision is `policy`'s code and no copy of it, so that with what was in force then the decision of then comes out. What
cannot be known is said instead of guessed: a rung that was never tried has no statistics, one whose settings differ would have
come to other weights, and an interval's width goes by `thresholds.error` and `seed_sd` of its day.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import due, policy
from app.db import among
from app.policy import Judgement, PolicyBody
from app.tables import AuditEvent, Batch, Decision, Model, Obligation, Verdict, Version

RETRAIN = "retrain"
MOST = 200
STOPPED = "approximate updates are stopped"
"""Begins the first reason of a verdict that was kept from publishing while the model was stopped: no threshold's doing."""


@dataclass(frozen=True)
class Attempt:
    """One verdict: what was decided, and what would be."""

    rung: str
    at: datetime
    statistics: dict[str, Any]
    recorded: Decision
    replayed: Decision
    reasons: list[str]
    stopped: bool

    @property
    def differs(self) -> bool:
        return self.recorded is not self.replayed and not self.stopped


@dataclass(frozen=True)
class Replayed:
    """One batch. An outcome is the rung that published, `retrain`, or None where that cannot be known."""

    batch: UUID
    at: datetime
    attempts: list[Attempt]
    recorded: str | None
    replayed: str | None
    says: str

    @property
    def differs(self) -> bool:
        """Whether it would have come to something else. One that was put off has come to nothing yet."""
        return self.replayed is not None and self.replayed != (self.recorded or RETRAIN)


@dataclass(frozen=True)
class DryRun:
    """All of a model's past batches that were judged, newest first."""

    batches: list[Replayed]
    notes: list[str]

    def ended(self, outcome: str, *, recorded: bool = False) -> int:
        """How many batches came, or would have come, to an outcome: `update`, `retrain` or `unknown`."""
        found = [each.recorded if recorded else each.replayed for each in self.batches]
        if outcome == "update":
            return sum(each not in (None, RETRAIN) for each in found)
        return sum(each == (None if outcome == "unknown" else outcome) for each in found)

    @property
    def changed(self) -> int:
        return sum(each.differs for each in self.batches)


def past(session: Session, model: Model, limit: int) -> list[tuple[Batch, str | None, list[Verdict]]]:
    """The model's newest batches with a verdict on an update, each with its parent's weights and its verdicts in order."""
    approximate = select(Verdict.batch_id).where(Verdict.rung != RETRAIN)
    query = (
        select(Batch, Version.weights_digest)
        .outerjoin(Version, Version.id == Batch.parent_version_id)
        .where(Batch.model_id == model.id, Batch.id.in_(approximate))
        .order_by(Batch.created_at.desc(), Batch.id.desc())
        .limit(limit)
    )
    found = session.execute(query).all()
    fell = select(Verdict).where(Verdict.batch_id.in_([batch.id for batch, _ in found])).order_by(Verdict.id)
    verdicts: dict[UUID, list[Verdict]] = {}
    for verdict in session.scalars(fell):
        verdicts.setdefault(verdict.batch_id, []).append(verdict)
    return [(batch, parent, verdicts[batch.id]) for batch, parent in found]


def replay(session: Session, model: Model, body: PolicyBody, limit: int = MOST) -> DryRun:
    """The model's last batches under another policy."""
    found = past(session, model, limit)
    batches = [
        barred(session, batch, verdicts, body) or replay_batch(batch, parent, verdicts, body)
        for batch, parent, verdicts in found
    ]
    return DryRun(batches, notes(found, body))


def barred(session: Session, batch: Batch, verdicts: list[Verdict], body: PolicyBody) -> Replayed | None:
    """A batch whose tickets the policy gives no approximate answer, though they got one."""
    if set(body.retrain_tiers) <= set(policy.stored(batch.policy).retrain_tiers):
        return None
    meant = (Obligation.model_id == batch.model_id) & among(Obligation.ticket_id, began_with(session, batch))
    why = due.no_approximation(due.summed(session, meant), body)
    return Replayed(batch.id, batch.created_at, [], came_to(verdicts), RETRAIN, why) if why is not None else None


def began_with(session: Session, batch: Batch) -> list[UUID]:
    """The tickets that a batch was closed with: it may have lost some since, and one that became a retrain may have taken others
    over."""
    closed = select(AuditEvent.body).where(AuditEvent.kind == "batch.closed", AuditEvent.batch_id == batch.id)
    return [UUID(each) for each in json.loads(session.scalars(closed).one())["data"]["tickets"]]


def recorded(session: Session, model: Model, limit: int = MOST) -> DryRun:
    """The same batches each under its own policy: what was decided, decided again."""
    found = past(session, model, limit)
    batches = [replay_batch(each[0], each[1], each[2], policy.stored(each[0].policy)) for each in found]
    return DryRun(batches, [])


def notes(found: list[tuple[Batch, str | None, list[Verdict]]], body: PolicyBody) -> list[str]:
    """What the replay leaves out."""
    said = []
    for name, why in (
        ("error", "their intervals are as wide as that one's, and other verdicts might fall"),
        ("seed_sd", "their intervals hold that one"),
    ):
        differing = {getattr(policy.stored(batch.policy).thresholds, name) for batch, _, _ in found}
        differing.discard(getattr(body.thresholds, name))
        if differing:
            shown = ", ".join(f"{value:g}" for value in sorted(differing))
            said.append(f"Some batches were judged with thresholds.{name} = {shown}: {why}.")
    was = [policy.stored(batch.policy) for batch, _, _ in found]
    if any("iau" in each.ladder and each.thresholds.mu != body.thresholds.mu for each in was):
        said.append("What iau may cost in its search is half of thresholds.mu: under another its updates would differ.")
    if any(each.drift != body.drift for each in was):
        said.append("Drift limits are left out: under others some batches would have retrained at once, or have not.")
    rungs = {verdict.rung for _, _, verdicts in found for verdict in verdicts}
    unknown = [rung for rung in body.ladder if rung not in rungs and rung != RETRAIN]
    if unknown and found:
        said.append(f"Of {', '.join(unknown)} nothing is known: no batch has tried it.")
    return said


def replay_batch(batch: Batch, parent: str | None, verdicts: list[Verdict], body: PolicyBody) -> Replayed:
    """Down the policy's ladder, as a worker would have gone, to the first rung that publishes or is not known."""
    was = policy.stored(batch.policy)
    known = [rung for rung in body.ladder if settings_of(was, rung) == settings_of(body, rung)]
    attempts = [replay_verdict(verdict, parent, body) for verdict in verdicts if verdict.rung in known]

    def ends(outcome: str | None, says: str) -> Replayed:
        return Replayed(batch.id, batch.created_at, attempts, came_to(verdicts), outcome, says)

    passed_over = untried(was.ladder, [verdict.rung for verdict in verdicts])
    for rung in body.ladder[: policy.attempts(body)]:
        mine = [each for each in attempts if each.rung == rung]
        if any(each.replayed is Decision.PUBLISH and not each.stopped for each in mine):
            return ends(rung, f"{rung} publishes")
        if rung not in known:
            return ends(None, f"{rung} has other settings, and what it would come to is not known here")
        if not mine and rung not in passed_over:
            return ends(None, f"{rung} would be tried, of which nothing is known here")
    last = [each.replayed for each in attempts if each.rung != RETRAIN][-1:]
    waits = last == [Decision.INCONCLUSIVE] and body.inconclusive.wait_seconds > 0
    return ends(
        RETRAIN, "no update passes: it may wait for more, or retrains" if waits else "no update passes: it retrains"
    )


def came_to(verdicts: list[Verdict]) -> str | None:
    """The rung that published."""
    return next((verdict.rung for verdict in verdicts if verdict.decision is Decision.PUBLISH), None)


def settings_of(body: PolicyBody, rung: str) -> Any:
    """What a policy says of how a rung comes to its weights."""
    parts = {"iau": body.update, "iau-calibrated": body.calibrated}
    return parts[rung] if rung in parts else dict(body.methods).get(rung, {})


def untried(ladder: Sequence[str], judged: list[str]) -> set[str]:
    """Rungs without a verdict above one that has one: they were passed over, and would be again."""
    reached = max(ladder.index(rung) for rung in judged if rung in ladder)
    return {rung for rung in ladder[:reached] if rung not in judged}


def replay_verdict(verdict: Verdict, parent: str | None, body: PolicyBody) -> Attempt:
    """One verdict's statistics under the policy."""
    judged = judgement(verdict, parent, body)
    stopped = bool(verdict.reasons) and verdict.reasons[0].startswith(STOPPED)
    return Attempt(
        verdict.rung,
        verdict.created_at,
        verdict.statistics,
        verdict.decision,
        judged.decision,
        judged.reasons,
        stopped,
    )


def judgement(verdict: Verdict, parent: str | None, body: PolicyBody) -> Judgement:
    """What the policy makes of a verdict's statistics."""
    statistics = verdict.statistics
    if verdict.rung == RETRAIN:
        before = statistics.get("accuracy_before")
        return policy.judge_retrain(
            body, statistics["accuracy"]["estimate"], before["estimate"] if before is not None else None
        )
    count = verdict.method.get("forget_count", statistics["recall"]["n"])
    unchanged = verdict.weights_digest == parent
    return policy.judge_update(body, statistics, count, unchanged=unchanged, bank=verdict.method.get("bank"))
