"""The lineage as a drawing: what each kind of version leads back to."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.charts import Chart
from app.evidence.graph import graph
from app.evidence.origin import Ancestor, Attempt, Lineage, TicketLine
from app.schemas import VerdictView, VersionView
from app.tables import Decision, Reason, RiskTier, VersionKind

NOW = datetime(2026, 3, 4, tzinfo=UTC)
BATCH = UUID(int=7)


def ancestor(number: int, kind: VersionKind, forgotten: int = 3) -> Ancestor:
    return Ancestor(
        version=f"m-v{number}",
        kind=kind,
        weights_sha256=f"{number:064x}",
        published_at=NOW,
        forgotten=forgotten,
        audit="",
    )


def ticket(samples: int) -> TicketLine:
    return TicketLine(
        ticket=UUID(int=samples), reason=Reason.OTHER, risk_tier=RiskTier.STANDARD, samples=samples, received_at=NOW,
        data_removed_at=NOW, fulfilled_at=NOW, data_releasable_at=None,
    )  # fmt: skip


def lineage(**changes: Any) -> Lineage:
    fields: dict[str, Any] = {
        "dataset": "people", "problem": "digits", "samples_in_manifest": 100, "manifest_sha256": "f" * 64,
        "samples_excluded": 8, "excluded_ordinals_sha256": "e" * 64, "forgotten_by_this_version": 5,
        "tickets": [ticket(2), ticket(3)], "parents": [ancestor(1, VersionKind.TRAINED)],
    }  # fmt: skip
    return Lineage(**fields | changes)


def verdict(rung: str, decision: Decision = Decision.PUBLISH) -> VerdictView:
    return VerdictView(
        rung=rung, decision=decision, reasons=[], method={}, statistics={}, thresholds={}, seconds={},
        weights_sha256="d" * 64, truth=None, at=NOW,
    )  # fmt: skip


def version(kind: VersionKind, number: int) -> VersionView:
    return VersionView(
        version=f"m-v{number}", model="m", kind=kind, parent=f"m-v{number - 1}" if number > 1 else None,
        weights_sha256="d" * 64, weights_bytes=1234567, published_at=NOW, superseded_at=None, weights_withdrawn_at=None,
        weights_purged_at=None, records_bytes=None, current=True, audit="", weights="",
    )  # fmt: skip


def made(kind: VersionKind, number: int, found: Lineage, *rungs: VerdictView, runs: int = 1) -> Chart:
    attempts = [
        Attempt(epoch=n + 1, worker=f"w:{n}", started_at=NOW, finished_at=NOW, outcome=None, detail=None)
        for n in range(runs)
    ]
    return graph(version(kind, number), found, list(rungs) or [verdict("iau")], BATCH, "closed by age", attempts)


def texts(chart: Chart) -> list[str]:
    return [mark.text for mark in chart.marks if mark.tag == "text"]


def kinds(chart: Chart) -> list[str]:
    classes = [mark.attributes["class"] for mark in chart.marks if mark.tag == "rect"]
    return [css.removeprefix("box ") for css in classes]


def test_an_update_leads_back_to_its_tickets_and_to_the_last_training() -> None:
    chart = made(VersionKind.UNLEARNED, 2, lineage())
    assert kinds(chart) == ["ticket", "batch", "data", "version", "run", "verdict", "bytes"]
    assert {"2 tickets", "5 samples", "forget set of this update", "m-v1", "first training", "rung iau"} <= set(
        texts(chart)
    )
    assert {"verdict: publish", "m-v2", "1\u202f234\u202f567 bytes"} <= set(texts(chart))


def test_versions_between_are_counted_not_drawn() -> None:
    parents = [ancestor(number, VersionKind.UNLEARNED) for number in (9, 8, 7, 6)]
    trained = [ancestor(5, VersionKind.RETRAINED), ancestor(4, VersionKind.TRAINED)]
    chart = made(VersionKind.UNLEARNED, 10, lineage(parents=[*parents, *trained]))
    told = texts(chart)
    assert kinds(chart).count("version") == 3
    assert {"m-v5", "retrained", "3 updates between", "9 samples forgotten", "m-v9"} <= set(told)
    assert "m-v4" not in told, "nothing before the last training is in the weights"
    two = texts(made(VersionKind.UNLEARNED, 7, lineage(parents=[parents[-1], *trained])))
    assert {"m-v5", "m-v6"} <= set(two)
    assert not [text for text in two if "between" in text]


def test_a_retrain_leads_back_to_the_data_and_what_it_left_out() -> None:
    tried = (verdict("iau", Decision.INCONCLUSIVE), verdict("iau-calibrated", Decision.ESCALATE), verdict("retrain"))
    chart = made(VersionKind.RETRAINED, 2, lineage(), *tried, runs=3)
    told = texts(chart)
    assert kinds(chart) == ["ticket", "batch", "data", "data", "run", "verdict", "bytes"]
    assert {"8 samples", "left out of the training", "5 that m-v1 had learnt", "data set people"} <= set(told)
    assert "92 of 100 samples" in told
    assert "after iau (inconclusive), iau-calibrated (escalate)" in chart.detail
    assert "run 3 by w:2, after 2 more" in chart.detail


def test_a_first_training_has_nothing_to_lead_back_to() -> None:
    nothing = lineage(samples_excluded=0, forgotten_by_this_version=0, tickets=[], parents=[])
    chart = made(VersionKind.TRAINED, 1, nothing, verdict("retrain"), runs=0)
    assert kinds(chart) == ["batch", "data", "run", "verdict", "bytes"]
    assert len([mark for mark in chart.marks if mark.attributes["class"] == "arrow"]) == 4


def test_a_ticket_that_nothing_was_left_of() -> None:
    """A retrain may answer tickets whose samples an earlier version had forgotten, or none had ever held."""
    chart = made(VersionKind.RETRAINED, 2, lineage(samples_excluded=0, forgotten_by_this_version=0), verdict("retrain"))
    assert kinds(chart) == ["ticket", "batch", "data", "run", "verdict", "bytes"]
