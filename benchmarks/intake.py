"""Intake against bare psycopg, in one run on one private server: small tickets, a large ticket, a large manifest.

`python -m benchmarks.intake [--manifest-rows N]`. The floors write the same rows as durably, and look up what must be
looked up, by plain statements; they check nothing, hash nothing and know no client. Over HTTP there are two: bare psycopg,
and the same inserts behind the smallest FastAPI route, so that what HTTP costs is seen apart from what we cost.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg

from app import keys, manifests, tickets, versions
from app.auth import Scope
from app.cli import service
from app.cli.demo import free_port
from app.config import settings
from app.db import engine, transaction
from app.policy import PolicyBody
from app.tables import Reason, RiskTier
from benchmarks import intake_rows
from benchmarks.results import Row, finish, in_turns, ratios
from benchmarks.wire import Wire
from embedded.child import Program
from embedded.supervisor import Supervisor

POOL = 1_000_000
PER_TICKET = 10
LARGE = 10_000
CLIENTS = 4
WARM_UP = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tickets", type=int, default=800, help="small tickets a round")
    parser.add_argument("--manifest-rows", type=int, default=10_000_000)
    options = parser.parse_args()
    with servers() as supervisor:
        bench = Bench(options.tickets)
        rows = [
            *small_tickets(bench, supervisor, options.rounds),
            large_ticket(bench, options.rounds),
            *manifest(options.manifest_rows),
        ]
        engine().dispose()
    return finish("intake", rows, vars(options) | {"ids_per_ticket": PER_TICKET, "http_clients": CLIENTS})


@contextmanager
def servers() -> Iterator[Supervisor]:
    """A private Postgres with the schema and the API in front of it; no worker, so that nothing else runs."""
    with tempfile.TemporaryDirectory(prefix="ex-") as folder:
        service.configure(Path(folder), "127.0.0.1", free_port())
        engine.cache_clear()
        conf = settings()
        with Supervisor(conf.home / "log", print) as supervisor:
            service.start_servers(supervisor, conf)
            service.upgrade()
            supervisor.start(service.programs(conf)[0])
            yield supervisor


class Bench:
    """A dataset of `POOL` samples with one model; each ticket takes samples that no other took."""

    def __init__(self, count: int) -> None:
        self.count, self.taken, self.lock = count, 0, threading.Lock()
        with transaction() as session:
            csv = b"id,subject\n" + b"".join(b"s%08d,u%d\n" % (i, i // 20) for i in range(POOL))
            self.dataset = manifests.load(session, "pool", manifests.blocks_from_csv(io.BytesIO(csv)), "bench").id
            self.model = versions.register(session, "bench", "pool", "none", PolicyBody(), "bench").id
            self.key = keys.create(session, "bench", [Scope.DELETIONS_WRITE], None, "bench").secret
        self.url = settings().url
        self.address = settings().database.replace("postgresql+psycopg", "postgresql")

    def ids(self, count: int) -> list[str]:
        with self.lock:
            first, self.taken = self.taken, (self.taken + count) % POOL
        return [f"s{(first + i) % POOL:08d}" for i in range(count)]


def small_tickets(bench: Bench, supervisor: Supervisor, rounds: int) -> list[Row]:
    """Tickets a second: the domain function, and the route by several clients at once, each in turns with its floors."""
    route = start_floor(bench, supervisor)
    alone, alone_bare = in_turns(
        lambda: rate(bench.count, 1, lambda: in_process(bench)),
        lambda: rate(bench.count, 1, lambda: by_psycopg(bench)),
        rounds=rounds,
    )
    ours, floor, threads = in_turns(
        lambda: rate(bench.count, CLIENTS, lambda: over_http(bench, bench.url)),
        lambda: rate(bench.count, CLIENTS, lambda: over_http(bench, route)),
        lambda: rate(bench.count, CLIENTS, lambda: by_psycopg(bench)),
        rounds=rounds,
    )
    over = f"tickets/s over HTTP, {CLIENTS} clients"
    return [
        compared("tickets/s in process, 1 thread, against bare psycopg", alone, alone_bare, 0.8),
        compared(f"{over}, against bare psycopg behind a bare route", ours, floor, 0.8),
        compared(f"{over}, against bare psycopg in {CLIENTS} threads", ours, threads, None),
        compared(f"the bare route, against bare psycopg in {CLIENTS} threads", floor, threads, None),
    ]


def compared(name: str, figures: list[float], floor: list[float], aim: float | None) -> Row:
    ratio, spread = ratios(figures, floor)
    return Row(name, per_second(figures), per_second(floor), ratio, aim, False, spread)


def start_floor(bench: Bench, supervisor: Supervisor) -> str:
    """Start the bare route as the API is started; its address."""
    url = f"http://127.0.0.1:{free_port()}"
    env = {"BARE_DATABASE": bench.address, "BARE_DATASET": str(bench.dataset), "BARE_MODEL": str(bench.model)}
    address = ("--host", "127.0.0.1", "--port", url.rpartition(":")[2])
    argv = (sys.executable, "-m", "uvicorn", "benchmarks.intake_floor:app", *address, "--no-access-log")
    supervisor.start(Program("bare-route", argv, env, ready=lambda: service.answers(f"{url}/readyz")))
    return url


def per_second(figures: list[float]) -> str:
    return f"{sorted(figures)[len(figures) // 2]:.0f}/s"


def rate(count: int, threads: int, connect: Callable[[], Callable[[], None]]) -> float:
    """How many a second, `threads` at a time, each on a connection that is warm before the clock starts."""
    start = threading.Barrier(threads + 1, timeout=60)

    def work() -> None:
        one = connect()
        for _ in range(WARM_UP):
            one()
        start.wait()
        for _ in range(count // threads):
            one()

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(work) for _ in range(threads)]
        start.wait()
        begun = time.perf_counter()
        for each in running:
            each.result()
        return count / (time.perf_counter() - begun)


def in_process(bench: Bench) -> Callable[[], None]:
    """What the route does below HTTP."""

    def one() -> None:
        asked = tickets.Submission("pool", bench.ids(PER_TICKET), [], Reason.OTHER, RiskTier.LOW, None, None)
        with transaction() as session:
            tickets.submit(session, "bench", asked, str(uuid4()), b"{}")

    return one


def over_http(bench: Bench, url: str) -> Callable[[], None]:
    """POST /deletions on a kept-alive connection."""
    wire = Wire(url, bench.key)

    def one() -> None:
        body = {"dataset": "pool", "sample_ids": bench.ids(PER_TICKET), "reason": "other"}
        wire.post("/deletions", body, str(uuid4()))

    return one


def by_psycopg(bench: Bench) -> Callable[[], None]:
    """The same rows by psycopg."""
    connection = psycopg.connect(bench.address)
    return lambda: intake_rows.write(connection, bench.dataset, bench.model, uuid4(), bench.ids(PER_TICKET))


def large_ticket(bench: Bench, rounds: int) -> Row:
    """Seconds for one ticket of 10,000 ids over HTTP, against COPY of the ids and a join that writes the tombstones."""
    local = psycopg.connect(bench.address)
    client = httpx.Client(base_url=bench.url, headers={"Authorization": f"Bearer {bench.key}"}, timeout=60)

    def ours() -> float:
        body = {"dataset": "pool", "sample_ids": bench.ids(LARGE), "reason": "other"}
        begun = time.perf_counter()
        response = client.post("/deletions", json=body)
        assert response.status_code == 202, response.text
        return time.perf_counter() - begun

    def bare() -> float:
        ids, ticket = bench.ids(LARGE), uuid4()
        begun = time.perf_counter()
        with local.transaction(), local.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE asked (id text) ON COMMIT DROP")
            with cursor.copy("COPY asked FROM STDIN") as stream:
                stream.write("\n".join(ids) + "\n")
            cursor.execute(
                "INSERT INTO tombstone (dataset_id, ordinal, ticket_id) SELECT dataset_id, ordinal, %s FROM asked"
                " JOIN sample ON sample.dataset_id = %s AND sample.sample_id = asked.id",
                (ticket, bench.dataset),
            )
        return time.perf_counter() - begun

    measured, floor = in_turns(ours, bare, rounds=rounds)
    ratio, spread = ratios(measured, floor)
    return Row(
        f"a ticket of {LARGE:,} ids over HTTP", milliseconds(measured), milliseconds(floor), ratio, 1.5, True, spread
    )


def milliseconds(figures: list[float]) -> str:
    return f"{1000 * sorted(figures)[len(figures) // 2]:.0f} ms"


def manifest(rows: int) -> list[Row]:
    """Loading a manifest from a CSV file, in a process of its own, against COPY of the same file and the same indexes."""
    with tempfile.TemporaryDirectory(prefix="ex-") as folder:
        path = Path(folder) / "manifest.csv"
        write_csv(path, rows)
        address = settings().database
        ours, memory = in_its_own_process("ours", path, address)
        bare, _ = in_its_own_process("bare", path, address)
        _, memory_tenth = in_its_own_process("tenth", head(path, rows // 10), address)
    megabytes = f"{memory / 2**20:.0f} MB", f"{memory_tenth / 2**20:.0f} MB at a tenth"
    return [
        Row(f"a manifest of {rows:,} rows", f"{ours:.1f} s", f"{bare:.1f} s", ours / bare, 1.5, True),
        Row("its peak memory against a tenth of the rows", *megabytes, memory / memory_tenth, 1.25, True),
    ]


def write_csv(path: Path, rows: int) -> None:
    with path.open("wb") as sink:
        sink.write(b"id,subject\n")
        for first in range(0, rows, 100_000):
            last = min(first + 100_000, rows)
            sink.write(b"".join(b"sample-%010d,subject-%08d\n" % (i, i // 20) for i in range(first, last)))


def head(path: Path, rows: int) -> Path:
    short = path.with_name("short.csv")
    with path.open("rb") as source, short.open("wb") as sink:
        for _ in range(rows + 1):
            sink.write(source.readline())
    return short


def in_its_own_process(which: str, path: Path, address: str) -> tuple[float, int]:
    """Seconds and peak memory of one load in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.intake_manifest", which, str(path)]
    environment = os.environ | {"DATABASE_URL": address}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    seconds, memory = done.stdout.split()
    return float(seconds), int(memory)


if __name__ == "__main__":
    sys.exit(main())
