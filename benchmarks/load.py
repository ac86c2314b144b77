"""A minute of mixed traffic at the highest rate that this machine holds. `python -m benchmarks.load [--seconds N]`.

First a closed loop finds how many requests a second the API answers with all clients busy. Then an open loop offers a share
of that rate for a minute: requests are due at fixed times, and a latency counts from when a request was due, so that a
stall is charged to every request it delayed. Before and after the minute, in turns, the tickets' rate is held against the
same rows by bare psycopg. At the end every ticket that was answered 202 is looked for in Postgres.
"""

import argparse
import itertools
import os
import random
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psycopg

from app.db import engine
from benchmarks import intake
from benchmarks.results import Row, finish, in_turns
from benchmarks.scale.__main__ import published_twice
from benchmarks.scale.reads import Place
from benchmarks.wire import Wire

CLIENTS = 8
OFFERED = 0.8
"""Of the highest rate: at the rate itself a queue grows without end."""
MIX = {"POST a ticket": 60, "GET a ticket": 25, "GET a list of tickets": 8, "GET an audit": 4, "GET a model": 3}
"""Requests of each kind in a hundred."""


@dataclass
class Client:
    """One connection with its own random order of requests, and what it was promised."""

    bench: intake.Bench
    place: Place
    seed: int
    tickets: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wire = Wire(self.place.url, self.place.admin)
        self.draw = random.Random(self.seed)
        kinds = [kind for kind, share in MIX.items() for _ in range(share)]
        self.draw.shuffle(kinds)
        self.order = itertools.cycle(kinds)

    def once(self) -> str:
        """Send the next request and wait for its answer; returns its kind."""
        kind = next(self.order)
        if kind == "POST a ticket" or not self.tickets:
            body = {"dataset": "pool", "sample_ids": self.bench.ids(intake.PER_TICKET), "reason": "other"}
            self.tickets.append(self.wire.post("/deletions", body, str(uuid4()))["id"])
            return "POST a ticket"
        paths = {
            "GET a ticket": f"/deletions/{self.draw.choice(self.tickets)}",
            "GET a list of tickets": "/deletions?limit=50",
            "GET an audit": f"/models/{self.place.audited}/audit",
            "GET a model": f"/models/{self.place.audited.rpartition('-v')[0]}",
        }
        self.wire.get(paths[kind])
        return kind


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison with bare psycopg")
    options = parser.parse_args()
    with intake.servers():
        place = published_twice()
        bench = intake.Bench(800)
        rows, more = measure(bench, place, options)
        engine().dispose()
    return finish("load", rows, vars(options) | {"clients": CLIENTS, "mix": MIX, "offered": OFFERED}, more)


def measure(bench: intake.Bench, place: Place, options: argparse.Namespace) -> tuple[list[Row], dict[str, object]]:
    """The comparison, the highest rate, the minute, and what is left of it on disk."""
    ours, bare = compared(bench, options.rounds)
    clients = [Client(bench, place, seed) for seed in range(CLIENTS)]
    top = closed(clients, max(5.0, options.seconds / 6))
    api = api_process()
    before = resident(api)
    found = open_loop(clients, OFFERED * top, options.seconds)
    after = resident(api)
    later, later_bare = compared(bench, options.rounds)
    promised = [ticket for client in clients for ticket in client.tickets]
    lost = missing(bench.address, promised)
    latencies = {kind: percentiles(each) for kind, each in sorted(found.items())}
    total = sum(map(len, found.values()))
    posts = len(found["POST a ticket"])
    rows = [
        Row("tickets/s over HTTP against bare psycopg, before", *rate(ours, bare)),
        Row("tickets/s over HTTP against bare psycopg, after", *rate(later, later_bare)),
        Row("requests answered of those offered", f"{total / options.seconds:.0f}/s", f"{OFFERED * top:.0f}/s offered",
            total / options.seconds / (OFFERED * top), 0.99, False, f"highest rate {top:.0f}/s"),
        Row("tickets answered 202 that Postgres lacks", str(lost), f"{len(promised)} promised", float(lost), 0, True),
        Row("memory of the API after the minute against before", f"{after / 2**20:.0f} MB", f"{before / 2**20:.0f} MB",
            after / before, 1.1, True),
    ]  # fmt: skip
    for kind, (p50, p99) in latencies.items():
        print(f"  {kind:<24} {len(found[kind]):>7} requests  p50 {p50:7.2f} ms  p99 {p99:7.2f} ms")
        rows.append(Row(f"{kind}: p99 against p50", f"{p99:.1f} ms", f"{p50:.1f} ms", p99 / p50, None, True))
    print(f"  {posts / options.seconds:.0f} tickets a second, {posts / options.seconds * 86_400:,.0f} a day")
    return rows, {"milliseconds": latencies, "highest_rate": top, "tickets_a_second": posts / options.seconds}


def compared(bench: intake.Bench, rounds: int) -> tuple[list[float], list[float]]:
    """Tickets a second over HTTP and by bare psycopg, in turns."""
    ours, bare = in_turns(
        lambda: intake.rate(bench.count, intake.CLIENTS, lambda: intake.over_http(bench, bench.url)),
        lambda: intake.rate(bench.count, intake.CLIENTS, lambda: intake.by_psycopg(bench)),
        rounds=rounds,
    )
    return ours, bare


def rate(ours: list[float], bare: list[float]) -> tuple[str, str, float, float | None, bool]:
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    return f"{statistics.median(ours):.0f}/s", f"{statistics.median(bare):.0f}/s", ratio, None, False


def closed(clients: list[Client], seconds: float) -> float:
    """Requests a second with every client asking as soon as it was answered."""
    end = time.perf_counter() + seconds

    def work(client: Client) -> int:
        count = 0
        while time.perf_counter() < end:
            client.once()
            count += 1
        return count

    with ThreadPoolExecutor(len(clients)) as pool:
        return sum(pool.map(work, clients)) / seconds


def open_loop(clients: list[Client], rate: float, seconds: float) -> dict[str, list[float]]:
    """Offer `rate` requests a second; for each kind the seconds from when a request was due to its answer."""
    begun, lock, number = time.perf_counter(), threading.Lock(), itertools.count()
    found: dict[str, list[float]] = {kind: [] for kind in MIX}

    def work(client: Client) -> None:
        while (due := begun + next(number) / rate) < begun + seconds:
            time.sleep(max(0.0, due - time.perf_counter()))
            kind = client.once()
            taken = time.perf_counter() - due
            with lock:
                found[kind].append(taken)

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(work, clients))
    return found


def percentiles(seconds: list[float]) -> tuple[float, float]:
    """Milliseconds: the median and the 99th percentile."""
    found = sorted(seconds)
    return 1000 * found[len(found) // 2], 1000 * found[int(0.99 * len(found))]


def missing(address: str, promised: list[str]) -> int:
    with psycopg.connect(address) as connection:
        query = "SELECT count(*) FROM unnest(%s::uuid[]) AS p (id) WHERE NOT EXISTS (SELECT FROM ticket WHERE ticket.id = p.id)"
        (count,) = connection.execute(query, (promised,)).fetchone() or (len(promised),)
    return int(count)


def api_process() -> int:
    """The process that listens where the API does."""
    mark = f"EXPUNGE_DATA_DIR={os.environ['EXPUNGE_DATA_DIR']}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            mine = mark in (entry / "environ").read_bytes().split(b"\0")
            if mine and b"app.main:app" in (entry / "cmdline").read_bytes():
                return int(entry.name)
        except OSError:
            continue
    raise LookupError("the API's process is not to be found")


def resident(pid: int) -> int:
    """Resident bytes of a process now."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
