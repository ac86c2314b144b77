"""A service that has lived through everything that a metric tells of, and what it then exports."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from prometheus_client.parser import text_string_to_metric_families

from app import banks, batches, presence, store
from app.db import transaction
from app.metrics.exposition import DATABASE, render
from app.tables import ExportCursor, Model, Role
from tests.app import story


@dataclass
class Scrape:
    """One exposition, read as Prometheus reads it."""

    text: str
    values: dict[tuple[str, frozenset[tuple[str, str]]], float] = field(default_factory=dict)
    labels: dict[str, set[str]] = field(default_factory=dict)
    """The labels of each name: of its samples, and of nothing where none has any."""
    families: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for family in text_string_to_metric_families(self.text):
            self.families[family.name] = family.type
            for sample in family.samples:
                self.values[sample.name, frozenset(sample.labels.items())] = sample.value
                self.labels.setdefault(sample.name, set()).update(sample.labels)

    def __call__(self, name: str, **labels: str) -> float:
        return self.values[name, frozenset(labels.items())]

    def has(self, name: str, **labels: str) -> bool:
        return (name, frozenset(labels.items())) in self.values


def scrape() -> Scrape:
    """What Postgres holds now, not what it held some seconds ago."""
    DATABASE.cache_clear()
    return Scrape(render("text/plain")[0].decode())


def everything() -> None:
    """One of each: fulfilled, failed, stolen, quarantined, running, waiting, held, stopped, a bank."""
    store.put(b"weights")
    story.dataset()
    story.dataset("plants")
    model_id, other = story.trained(), story.trained("quiet", "plants", story.PATIENT)
    story.submit(1)
    story.work(model_id)
    story.submit(2, deadline=datetime.now(UTC) + timedelta(hours=2))
    story.expire(story.closed(model_id))
    story.fail(story.claimed(model_id, "w2"), again=False)
    story.submit(3)
    story.closed(model_id)
    story.submit(1, dataset="plants", deadline=datetime.now(UTC) + timedelta(days=2))
    with transaction() as session:
        model = session.get_one(Model, other)
        banks.order(session, model, banks.anchor(session, other), 4, "to see", "engineer")
    with transaction() as session:
        batches.say_held(session, session.get_one(Model, other), "it waits")
    story.stop(other)
    with transaction() as session:
        session.add(ExportCursor(name="mlflow", seq=0))
        presence.begin(session, Role.WORKER)
