"""Rows become metric families: names, help and labels of everything that Postgres tells are written here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from app.metrics.live import SLACK_BOUNDS, Snapshot
from app.metrics.tally import BOUNDS, Key
from app.presence import Condition, Present
from app.tables import Role

OTHER = "(other)"
Row = Mapping[str, Any]
Values = Mapping[tuple[str, ...], float]

COUNTERS = {
    "events": ("expunge_events", "Events in the audit log", ["kind"]),
    "tombstones": ("expunge_tombstones", "Tombstones written: one a ticket and sample", []),
    "batches_closed": ("expunge_batches_closed", "Batches closed", ["model", "kind", "trigger"]),
    "claims": ("expunge_claims", "Runs begun, by attempt; 5 stands for the fifth and later", ["model", "attempt"]),
    "leases_stolen": (
        "expunge_leases_stolen",
        "Runs whose batch was taken from them: their worker was lost",
        ["model"],
    ),
    "runs": (
        "expunge_runs",
        "Runs ended; `ended` has nothing to publish",
        ["model", "outcome"],
    ),
    "verdicts": ("expunge_verdicts", "Verdicts", ["model", "rung", "decision"]),
}
"""Names without the `_total` that the exposition adds. Those that have a label `model` are counted for each model."""
HISTOGRAMS = {
    "step_seconds": ("expunge_step_seconds", "What the steps before a verdict took", ["step", "rung"]),
    "run_seconds": ("expunge_run_seconds", "From a run's claim to its end", ["outcome"]),
    "ticket_seconds": ("expunge_ticket_seconds", "From a ticket's acceptance to its fulfilment", []),
}


class Models:
    """The label of each model: its name for the oldest ones, `(other)` for those beyond the bound."""

    def __init__(self, rows: Iterable[Row], most: int) -> None:
        self.rows = list(rows)
        self.names: dict[int, str] = {row["id"]: row["name"] for row in self.rows[:most]}

    def label(self, model_id: int) -> str:
        return self.names.get(model_id, OTHER)

    def gather(self, rows: Iterable[Row], value: str, *by: str, how: Callable[[list[float]], float] = sum) -> Values:
        """One column by model and further columns; where models share a label their values become one by `how`."""
        found: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for row in rows:
            if row[value] is not None:
                found[self.label(row["model_id" if "model_id" in row else "id"]), *(row[b] for b in by)].append(
                    row[value]
                )
        return {labels: how(values) for labels, values in found.items()}


def gauge(name: str, says: str, labels: list[str], values: Values) -> Metric:
    family = GaugeMetricFamily(name, says, labels=labels)
    for key, value in values.items():
        family.add_metric(key, float(value))
    return family


def of_totals(totals: Mapping[Key, float], models: Models, head: int) -> Iterator[Metric]:
    """Counters and histograms over the audit log, and how far behind it they are."""
    for counted, (name, says, labels) in COUNTERS.items():
        family = CounterMetricFamily(name, says, labels=labels)
        sums: dict[tuple[str, ...], float] = defaultdict(float)
        for (kind, model_id, rest), value in totals.items():
            if kind == counted:
                sums[(models.label(model_id), *rest) if "model" in labels else rest] += value
        for key, value in sums.items():
            family.add_metric(key, value)
        yield family
    for counted, (name, says, labels) in HISTOGRAMS.items():
        yield histogram(HistogramMetricFamily(name, says, labels=labels), counted, totals)
    behind = head - int(totals.get(("seq", 0, ()), 0))
    yield gauge("expunge_events_behind", "Events that the totals do not count yet", [], {(): behind})


def histogram(family: HistogramMetricFamily, counted: str, totals: Mapping[Key, float]) -> Metric:
    """Buckets are kept apart, and exposed as Prometheus has them: each holds those below it."""
    seen: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    for (kind, _, labels), value in totals.items():
        if kind == counted:
            seen[labels[:-1]][labels[-1]] = value
    for key, found in seen.items():
        buckets, below = [], 0.0
        for bound in [*map(str, BOUNDS[counted]), "+Inf"]:
            below += found.get(bound, 0)
            buckets.append((bound, below))
        family.add_metric(key, buckets, totals.get((f"{counted}_sum", 0, key), 0.0))
    return family


def of_snapshot(snapshot: Snapshot, models: Models) -> Iterator[Metric]:
    """Gauges of what is open."""
    yield from of_obligations(snapshot.rows["obligations"], models)
    yield from of_models(models)
    yield gauge(
        "expunge_batches",
        "Batches that are ready, running or quarantined; a running one on which rung",
        ["model", "state", "rung"],
        models.gather(snapshot.rows["batches"], "count", "state", "rung"),
    )
    yield from of_banks(snapshot.rows["banks"], models)
    yield from of_workers(snapshot.present)
    (kept,) = snapshot.rows["artifacts"]
    yield gauge(
        "expunge_artifact_bytes", "Bytes of the artifacts that rows name", ["kind"], {(k,): kept[k] for k in kept}
    )
    yield from of_webhooks(snapshot.rows["webhooks"][0])
    yield from of_exports(snapshot.rows["exports"])
    connections = snapshot.rows["connections"]
    yield gauge(
        "expunge_database_connections",
        "Connections of all processes to Postgres",
        ["state"],
        {(row["state"],): row["count"] for row in connections},
    )
    yield gauge(
        "expunge_database_connections_limit",
        "Connections that Postgres takes",
        [],
        {(): max((row["most"] for row in connections), default=0)},
    )
    yield gauge("expunge_scrape_seconds", "What asking Postgres for all this took", [], {(): snapshot.seconds})


def of_webhooks(row: Row) -> Iterator[Metric]:
    states: Values = {(state,): row[state] for state in ("enabled", "disabled")}
    yield gauge("expunge_webhook_endpoints", "Webhook endpoints", ["state"], states)
    behind = "Events of the log that the enabled endpoint furthest behind has not seen"
    yield gauge("expunge_webhook_lag_events", behind, [], {(): row["lag"]})
    yield gauge("expunge_webhook_deliveries_due", "Deliveries that are due and wait for a sender", [], {(): row["due"]})
    waited = "How long the oldest of them has been due"
    yield gauge("expunge_webhook_oldest_due_seconds", waited, [], {(): row["oldest"]})


def of_exports(rows: Sequence[Row]) -> Iterator[Metric]:
    lag: Values = {(row["name"],): row["lag"] for row in rows}
    yield gauge("expunge_export_lag_events", "Events of the log that an exporter has not told yet", ["exporter"], lag)
    failing: Values = {(row["name"],): row["failing"] for row in rows}
    yield gauge("expunge_export_failing", "1 where the other system did not take the next event", ["exporter"], failing)


def of_obligations(rows: Sequence[Row], models: Models) -> Iterator[Metric]:
    by = ["model", "state"]
    yield gauge("expunge_obligations", "Obligations that are open", by, models.gather(rows, "count", "state"))
    oldest = models.gather(rows, "oldest", "state", how=max)
    yield gauge("expunge_oldest_obligation_age_seconds", "Age of the oldest open obligation", by, oldest)
    slack = models.gather(rows, "slack", how=min)
    yield gauge("expunge_deadline_slack_seconds", "Time to the nearest deadline; below 0 it is over", ["model"], slack)
    overdue = models.gather([{**row, "overdue": row["within"][0]} for row in rows], "overdue")
    yield gauge("expunge_obligations_overdue", "Open obligations whose deadline is over", ["model"], overdue)
    spread = GaugeHistogramMetricFamily("expunge_slack_seconds", "Time to the deadlines of all open obligations")
    within = [sum(row["within"][at] for row in rows) for at in range(len(SLACK_BOUNDS))]
    buckets = [(str(float(bound)), count) for bound, count in zip(SLACK_BOUNDS, within, strict=True)]
    total = sum(row["with_deadline"] for row in rows)
    spread.add_metric([], [*buckets, ("+Inf", total)], sum(row["slack_sum"] for row in rows))
    yield spread


def of_models(models: Models) -> Iterator[Metric]:
    yield gauge("expunge_models", "Models", [], {(): len(models.rows)})
    for name, says in (
        ("held", "1 for a model whose tickets wait although a batch is due; under (other) how many do"),
        ("stopped", "1 for a model of which no approximate update is published; under (other) how many are"),
    ):
        marked = models.gather([{**row, name: int(row[name])} for row in models.rows], name)
        yield gauge(f"expunge_model_{name}", says, ["model"], marked)
    margins = models.gather(models.rows, "margin", how=max)
    yield gauge("expunge_deadline_margin_seconds", "The policy's margin before a deadline", ["model"], margins)


def of_workers(present: Sequence[Present]) -> Iterator[Metric]:
    """Also how many there are not: an alert must see a zero."""
    counts: dict[tuple[str, ...], float] = {(role, condition): 0 for role in Role for condition in Condition}
    heard: dict[tuple[str, ...], float] = {}
    for each in present:
        counts[each.role, each.condition] += 1
        heard[(each.role,)] = max(heard.get((each.role,), 0), each.heard_at.timestamp())
    yield gauge(
        "expunge_workers", "Workers, beat and the sweep: idle, busy, stalled or lost", ["role", "condition"], counts
    )
    says = "When a worker last received a message, beat last sent one, the sweep last ran"
    yield gauge("expunge_heard_timestamp_seconds", says, ["role"], heard)


def of_banks(rows: Sequence[Row], models: Models) -> Iterator[Metric]:
    states = ("pending", "running", "done", "failed")
    found: dict[tuple[str, ...], float] = {
        (label, state): n for state in states for (label,), n in models.gather(rows, state).items()
    }
    says = "References of the banks in use; done are those that are trained"
    yield gauge("expunge_bank_references", says, ["model", "state"], found)
    for name, says in (
        ("wanted", "References that are asked for"),
        ("assembled", "References whose scores are in the table"),
    ):
        yield gauge(f"expunge_bank_references_{name}", says, ["model"], models.gather(rows, name))
