"""What is asked of a manifest of many millions, each question in turns with the barest SQL that answers it."""

import time
from array import array
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg

from app import lineage, tickets
from app.db import transaction
from app.tables import Reason, RiskTier
from benchmarks.results import Row, in_turns, ratios

IDS = 10_000


class Manifest:
    """A loaded dataset whose sample `i` is called `sample-<i>` and belongs to `subject-<i // 20>`."""

    def __init__(self, address: str, name: str, dataset: int, rows: int) -> None:
        self.connection: psycopg.Connection[Any] = psycopg.connect(address)
        self.name, self.dataset, self.rows, self.taken = name, dataset, rows, 0

    def next(self, count: int) -> range:
        """Ordinals spread over the whole manifest that nobody took before."""
        first, self.taken = self.taken, self.taken + count
        return range(first, first + count)

    def ids(self, count: int) -> list[str]:
        stride = self.rows // 100_003 * 97 + 1  # coprime enough to spread them: neighbours would share a page
        return [f"sample-{i * stride % self.rows:010d}" for i in self.next(count)]

    def subject(self) -> str:
        return f"subject-{self.next(1)[0] * 7919 % (self.rows // 20):08d}"

    def ticket(self, sample_ids: list[str], subject_ids: list[str]) -> float:
        """Seconds to accept a ticket, below HTTP."""
        asked = tickets.Submission(self.name, sample_ids, subject_ids, Reason.OTHER, RiskTier.LOW, None, None)
        begun = time.perf_counter()
        with transaction() as session:
            tickets.submit(session, "bench", asked)
        return time.perf_counter() - begun

    def bare(self, column: str, values: list[str]) -> float:
        """Seconds to look samples up and write their tombstones."""
        begun = time.perf_counter()
        with self.connection.transaction():
            self.connection.execute(
                "INSERT INTO tombstone (dataset_id, ordinal, ticket_id) SELECT dataset_id, ordinal, %s FROM sample"
                f" WHERE dataset_id = %s AND {column} = ANY(%s)",
                (uuid4(), self.dataset, values),
            )
        return time.perf_counter() - begun


def questions(manifest: Manifest, rounds: int) -> list[Row]:
    """Look-ups by id and by subject, and what the next training must leave out."""
    name = f"of {manifest.rows:,} samples"
    return [
        compared(
            f"a ticket of {IDS:,} ids {name}",
            lambda: manifest.ticket(manifest.ids(IDS), []),
            lambda: manifest.bare("sample_id", manifest.ids(IDS)),
            rounds,
        ),
        compared(
            f"a ticket of one subject {name}",
            lambda: median(lambda: manifest.ticket([], [manifest.subject()])),
            lambda: median(lambda: manifest.bare("subject", [manifest.subject()])),
            rounds,
        ),
        compared(
            f"what the next training leaves out {name}",
            lambda: excluded(manifest),
            lambda: bare_excluded(manifest),
            rounds,
        ),
    ]


def median(once: Callable[[], float]) -> float:
    return sorted(once() for _ in range(51))[25]


def excluded(manifest: Manifest) -> float:
    begun = time.perf_counter()
    with transaction() as session:
        ordinals = lineage.tombstoned(session, manifest.dataset)
    lineage.digest(ordinals)
    return time.perf_counter() - begun


def bare_excluded(manifest: Manifest) -> float:
    """The same ordinals by one plain statement, to an array."""
    begun = time.perf_counter()
    query = "SELECT DISTINCT ordinal FROM tombstone WHERE dataset_id = %s ORDER BY ordinal"
    array("q", (ordinal for (ordinal,) in manifest.connection.execute(query, (manifest.dataset,))))
    manifest.connection.rollback()
    return time.perf_counter() - begun


def compared(name: str, ours: Callable[[], float], bare: Callable[[], float], rounds: int) -> Row:
    ours(), bare()  # the first use of a page, a plan and a connection
    measured, floor = in_turns(ours, bare, rounds=rounds)
    ratio, spread = ratios(measured, floor)
    return Row(name, milliseconds(measured), milliseconds(floor), ratio, 2, True, spread)


def milliseconds(figures: list[float]) -> str:
    return f"{1000 * sorted(figures)[len(figures) // 2]:.1f} ms"


def independent(small: Manifest, large: Manifest, rounds: int) -> Row:
    """A ticket of ten ids on the large manifest against one on the small."""
    many, few = in_turns(
        lambda: median(lambda: large.ticket(large.ids(10), [])),
        lambda: median(lambda: small.ticket(small.ids(10), [])),
        rounds=rounds,
    )
    ratio, spread = ratios(many, few)
    name = f"a ticket of 10 ids of {large.rows:,} samples against {small.rows:,}"
    return Row(name, milliseconds(many), milliseconds(few), ratio, 1.5, True, spread)
