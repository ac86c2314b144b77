"""The reads that people wait for, over HTTP, while the history behind them grows a thousandfold."""

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from benchmarks.results import Row
from benchmarks.scale.history import extend, ticket_id
from benchmarks.wire import Wire

REQUESTS = 1000
PAGE = 50
ROUNDS = 3


@dataclass(frozen=True)
class Place:
    """Where the reads go: the API and its database, two keys, and what the history's tickets belong to."""

    url: str
    address: str
    admin: str
    owner: str
    dataset: int
    model: int
    version: int
    audited: str


@dataclass(frozen=True)
class Latency:
    """Milliseconds: the medians, over the rounds, of each round's percentile."""

    p50: float
    p99: float


def grow(place: Place, sizes: list[int]) -> tuple[list[Row], dict[str, dict[str, list[float]]]]:
    """Every read at each size of the history; its slowest percentile at the last against the first."""
    found: dict[str, list[Latency]] = {}
    there = 0
    for size in sizes:
        extend(place.address, there + 1, size, dataset=place.dataset, model=place.model, version=place.version)
        there = size
        for name, read in routes(place, size).items():
            found.setdefault(name, []).append(latency(read))
            print(
                f"  {size:>9,} tickets  {name:<44} p50 {found[name][-1].p50:6.2f} ms  p99 {found[name][-1].p99:6.2f} ms"
            )
    rows = [
        Row(
            f"{name}: p99 at {sizes[-1]:,} tickets against {sizes[0]:,}",
            f"{each[-1].p99:.1f} ms",
            f"{each[0].p99:.1f} ms",
            each[-1].p99 / each[0].p99,
            1.5,
            True,
            f"p50 {each[0].p50:.1f} and {each[-1].p50:.1f} ms",
        )
        for name, each in found.items()
    ]
    series = {name: {"p50": [e.p50 for e in each], "p99": [e.p99 for e in each]} for name, each in found.items()}
    return rows, series


def routes(place: Place, size: int) -> dict[str, Callable[[], Callable[[], object]]]:
    """The reads, each a function that connects and returns what asks once. Tickets are drawn at random."""
    draw = random.Random(0)
    with psycopg.connect(place.address) as connection:
        ids = [ticket_id(connection, draw.randint(1, size)) for _ in range(200)]
    newest = f"/deletions?limit={PAGE}"

    def asks(key: str, path: Callable[[], str]) -> Callable[[], Callable[[], object]]:
        def connect() -> Callable[[], object]:
            wire = Wire(place.url, key)
            return lambda: wire.get(path())

        return connect

    def deep() -> Callable[[], object]:
        wire = Wire(place.url, place.owner)
        path = f"{newest}&cursor={further_down(wire)}"
        return lambda: wire.get(path)

    return {
        "a ticket": asks(place.admin, lambda: f"/deletions/{draw.choice(ids)}"),
        "a client's newest tickets": asks(place.owner, lambda: newest),
        "the same list further down": deep,
        "tickets that are overdue": asks(place.admin, lambda: f"{newest}&overdue=true"),
        "a version's audit": asks(place.admin, lambda: f"/models/{place.audited}/audit"),
        "a model": asks(place.admin, lambda: f"/models/{place.audited.rpartition('-v')[0]}"),
    }


def further_down(owner: Wire) -> str:
    """A cursor some pages down: ten, or as many as there are."""
    cursor = ""
    for _ in range(10):
        page = owner.get(f"/deletions?limit={PAGE}" + (f"&cursor={cursor}" if cursor else ""))
        if not page["next"]:
            break
        cursor = page["next"]
    assert cursor, "the history is too short for a second page"
    return cursor


def latency(connect: Callable[[], Callable[[], object]]) -> Latency:
    read = connect()
    for _ in range(50):
        read()
    rounds = [sorted(seconds(read) for _ in range(REQUESTS // ROUNDS)) for _ in range(ROUNDS)]
    return Latency(*(1000 * statistics.median(of[int(q * len(of))] for of in rounds) for q in (0.5, 0.99)))


def seconds(read: Callable[[], object]) -> float:
    begun = time.perf_counter()
    read()
    return time.perf_counter() - begun
