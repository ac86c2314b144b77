"""One scrape: totals as they are, what is open at most some seconds old, this process's own. Labels are bounded here.

Labels hold model names, states, rungs, route templates, classes of status and decisions: never a ticket, a sample, a client
or a path. Models beyond `EXPUNGE_METRICS_MODELS`, counted from the oldest, share the label `(other)`, which no model can
be named; so a series never changes what it means while the setting stays.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from time import monotonic

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from app import store
from app.config import settings
from app.db import revisions, transaction
from app.metrics import live, requests, tally
from app.metrics.families import Models, of_snapshot, of_totals

disable_created_metrics()  # type: ignore[no-untyped-call]  # the package leaves this one function untyped
UP = "1 while Postgres answers this process, else 0"
SECONDS = 5.0
"""How long what is open is not asked again: the most that scrapes, however many, can ask of Postgres."""


class Database(Collector):
    """What Postgres holds. When it does not answer, `expunge_up` is 0 and nothing else of it is said."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.snapshot: live.Snapshot | None = None

    def cache_clear(self) -> None:
        self.snapshot = None

    @override
    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("expunge_up", UP)
        try:
            found = list(self.ask())
        except SQLAlchemyError:
            self.cache_clear()
            found = []
        up.add_metric([], float(bool(found)))
        yield up
        yield from found

    def ask(self) -> Iterable[Metric]:
        with self.lock:  # one scrape asks; another that comes meanwhile waits for its answer
            if self.snapshot is None or monotonic() - self.snapshot.taken >= SECONDS:
                tally.catch_up()
                self.snapshot = live.take()
            snapshot = self.snapshot
        with transaction() as session:
            totals, head = tally.totals(session), live.head(session)
        models = Models(snapshot.rows["models"], settings().metrics_models)
        yield from schema()
        yield from of_totals(totals, models, head.seq)
        yield from of_snapshot(snapshot, models)
        yield from of_head(head.seq, head.at)


def schema() -> Iterator[Metric]:
    found, expected = revisions()
    told = InfoMetricFamily("expunge_schema", "The database's revision, and the one that this code needs")
    told.add_metric([], {"revision": found or "none", "expected": expected or "none"})
    yield told
    fits = float(found == expected)
    yield GaugeMetricFamily("expunge_schema_matches", "1 while the two are the same", value=fits)


def of_head(seq: int, at: float | None) -> Iterator[Metric]:
    yield GaugeMetricFamily("expunge_audit_head", "Number of the audit log's last event", value=float(seq))
    if at is not None:
        yield GaugeMetricFamily("expunge_audit_last_event_timestamp_seconds", "When that event was written", value=at)


class Process(Collector):
    """What this process, or all processes of this server, have answered."""

    @override
    def collect(self) -> Iterable[Metric]:
        return requests.registry().collect()


class Build(Collector):
    """Which version tells all this."""

    @override
    def collect(self) -> Iterator[Metric]:
        told = InfoMetricFamily("expunge_build", "The version that runs")
        told.add_metric([], {"version": version("expunge")})
        yield told


class Disk(Collector):
    """The disk below the artifacts, where they are on one that this process sees. A bucket has no such end."""

    @override
    def collect(self) -> Iterator[Metric]:
        found = store.space()
        if found is not None:
            size, free = found
            yield GaugeMetricFamily(
                "expunge_artifact_store_size_bytes", "Size of the disk of the artifacts", value=size
            )
            yield GaugeMetricFamily("expunge_artifact_store_free_bytes", "What is free of it", value=free)


class Away(Collector):
    """All that may be said to somebody whose key cannot be looked at, because Postgres is away."""

    @override
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("expunge_up", UP, value=0)


DATABASE = Database()


def render(accept: str, *, known: bool = True) -> tuple[bytes, str]:
    """The exposition and its content type; to somebody whom nobody could check only that Postgres is away."""
    registry = CollectorRegistry()
    for collector in (Build(), DATABASE, Process(), Disk()) if known else (Build(), Away()):
        registry.register(collector)
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type
