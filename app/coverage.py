"""Do the intervals hold what they promise? Truth that a retrain revealed, and tickets simulated on the bank, say so.

An interval of level 94 % should hold the truth 94 times in 100. Fewer than chance allows, and the model's policy publishes
no approximate update any more, by itself, until somebody has looked.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from math import exp, fsum, lgamma, log, log1p
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app import policy, runs
from app.tables import AuditEvent, Batch, Verdict, Version

DOUBT = 0.05  # a shortfall that chance brings about less often than this is none of chance
FIGURES = ("mu", "ue")


@dataclass(frozen=True)
class Coverage:
    """How many intervals held the truth, of how many, and the level they were for."""

    covered: int
    count: int
    nominal: float

    @property
    def short(self) -> bool:
        """Whether so few would hold it by chance less often than `DOUBT`."""
        return self.count > 0 and at_most(self.covered, self.count, self.nominal) < DOUBT


def at_most(covered: int, count: int, nominal: float) -> float:
    """The chance that at most `covered` of `count` independent intervals hold the truth, each with the chance `nominal`,
    which is neither 0 nor 1. By logarithms: the binomial coefficients of a thousand are beyond a float."""
    log_hit, log_miss = log(nominal), log1p(-nominal)
    ways = (lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1) for k in range(covered + 1))
    return min(1.0, fsum(exp(way + k * log_hit + (count - k) * log_miss) for k, way in enumerate(ways)))


def of_model(session: Session, model_id: int) -> dict[str, Coverage]:
    """Coverage of MU and of UE over the model's verdicts whose truth was measured, since somebody last let it publish again.

    One retrain reveals the truth of several verdicts, so they are less independent than the test takes them for, and the
    test stops a little too soon rather than too late.
    """
    query = select(Verdict).join(Batch, Batch.id == Verdict.batch_id)
    query = query.where(Batch.model_id == model_id)
    # The kind stands in the statement, not in a parameter, so that the index of these few events serves.
    resumed = select(AuditEvent.body).where(AuditEvent.model_id == model_id, text("audit_event.kind = 'model.resumed'"))
    last = session.scalar(resumed.order_by(AuditEvent.seq.desc()).limit(1))
    if last is not None:
        query = query.join(Version, Version.id == Verdict.truth_version_id)
        query = query.where(Version.published_at > datetime.fromisoformat(json.loads(last)["at"]))
    verdicts = session.scalars(query.where(Verdict.truth.is_not(None))).all()
    return {figure: over(figure, list(verdicts)) for figure in FIGURES}


def over(figure: str, verdicts: list[Verdict]) -> Coverage:
    """Coverage of one figure; verdicts that estimate it for too few samples, or whose truth is unknown, do not count."""
    held: list[bool] = []
    levels: list[float] = []
    for verdict in verdicts:
        interval, truth = verdict.statistics.get(figure), (verdict.truth or {}).get(figure)
        if interval is None or truth is None or (figure == "ue" and interval["n"] < policy.FEW):
            continue
        held.append(interval["low"] <= truth <= interval["high"])
        levels.append(interval["level"])
    nominal = sum(levels) / len(levels) if levels else 0.0
    return Coverage(sum(held), len(held), nominal)


def simulated(facts: dict[str, Any]) -> list[Coverage]:
    """Coverage on tickets simulated on a bank, as its facts tell it."""
    return [Coverage(row["covered"], row["tickets"], row["nominal"]) for row in facts.get("calibration", [])]


def check(session: Session, model_id: int) -> None:
    """After truth was measured: stop publishing where intervals have held it too seldom."""
    for figure, found in of_model(session, model_id).items():
        if found.short:
            why = (
                f"retrains showed the true {figure.upper()} within {found.covered} of {found.count} intervals of"
                f" {found.nominal:.0%}: too few to trust the estimate"
            )
            runs.stop_publishing(session, model_id, why)


def check_bank(session: Session, model_id: int, facts: dict[str, Any]) -> None:
    """After a table was assembled: stop publishing where it does not forecast its own references.

    Simulated tickets of one bank overlap, so that a count of hundreds is worth a few dozen: the shortfall must be one of
    more than five in a hundred as well.
    """
    for found in simulated(facts):
        if found.short and found.covered / found.count < found.nominal - 0.05:
            why = (
                f"the bank's forecast held for {found.covered} of {found.count} simulated tickets at {found.nominal:.0%}:"
                " too few to trust it"
            )
            runs.stop_publishing(session, model_id, why)
