"""Several hosts: API, database and two workers, each in a network namespace. One worker is cut off in the middle of a batch;
another takes over; the first comes back, and nothing happens twice."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.errors import ServiceError
from embedded.child import Program
from embedded.launch import command
from embedded.postgres import PostgresServer
from embedded.processes import wait_for
from embedded.redis import find_binary
from tests.buckets import bucket
from tests.hosts import NETWORK, Child, Host, hosts, missing
from tests.plain import Api
from tests.servers import short_folder
from tests.service import LENIENT, PROBLEMS

LACKING = missing()
LONG = 900.0
"""Processes start slowly where many share few cores; the bound only ends a test that has failed."""
CELERY = (sys.executable, "-m", "celery", "-A", "app.queue:celery")

pytestmark = [
    pytest.mark.service,
    pytest.mark.timeout(2 * LONG),
    pytest.mark.skipif(LACKING is not None, reason=str(LACKING)),
]


@dataclass
class Fleet:
    """The service on its hosts."""

    folder: Path
    hosts: dict[str, Host]
    environment: dict[str, str]

    def start(self, name: str, host: str, *argv: str, **more: str) -> Child:
        return self.hosts[host].start(list(argv), self.environment | more, self.folder / f"{name}.log")

    def worker(self, name: str) -> Child:
        gate = self.folder / f"gate-{name}"
        gate.mkdir()
        argv = (*CELERY, "worker", "--pool", "solo", "--hostname", f"{name}@%h", "--loglevel", "INFO")
        return self.start(name, name, *argv, EXPUNGE_TEST_GATE=str(gate), EXPUNGE_DATA_DIR=str(self.folder / name))

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def until(self, condition: Callable[[], Any], what: str) -> None:
        if not wait_for(lambda: bool(condition()), LONG, pause=0.1):
            ends = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in self.folder.glob("*.log"))
            raise AssertionError(f"waited in vain for {what}\n{ends}")

    def command(self, *arguments: str) -> str:
        argv = [sys.executable, "-m", "app.cli", *arguments]
        return subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, check=True, timeout=LONG
        ).stdout.strip()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.environment["DATABASE_URL"]) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[arg-type]  # the tests' own literals


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with short_folder() as folder, hosts("api", "data", "w1", "w2") as made, bucket(f"{NETWORK}.1") as s3:
        data = made["data"].address
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EXPUNGE_", "AWS_"))}
        mine = {
            "DATABASE_URL": f"postgresql://postgres@{data}:5432/expunge?connect_timeout=5",
            "REDIS_URL": f"redis://{data}:6379/0",
            "PYTHONPATH": os.pathsep.join([str(PROBLEMS), str(Path.cwd())]),
            "EXPUNGE_DATA_DIR": str(folder / "data"),
            "EXPUNGE_SWEEP_SECONDS": "1",
            "EXPUNGE_LEASE_SECONDS": "3",
            "EXPUNGE_RETRY_SECONDS": "0",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        ready = Fleet(folder, made, kept | s3.environment | mine)
        database(ready, made["data"])
        ready.command("migrate")
        ready.start(
            "api", "api", sys.executable, "-m", "uvicorn", "app.main:app", "--host", "0.0.0.0", "--port", "8420"
        )
        ready.start("beat", "api", *CELERY, "beat", "--schedule", str(folder / "beat"))
        yield ready


def database(fleet: Fleet, host: Host) -> None:
    """Postgres and Redis, listening to the network of the hosts."""
    postgres = PostgresServer(fleet.folder / "pg", fleet.folder / "run", None, {"listen_addresses": host.address})
    postgres.prepare()
    with (fleet.folder / "pg" / "pg_hba.conf").open("a") as file:
        file.write(f"host all all {NETWORK}.0/24 trust\n")
    program: Program = postgres.program()
    host.start(
        command(program.argv, signal.SIGKILL, program.identity), fleet.environment, fleet.folder / "postgres.log"
    )
    redis = (str(find_binary()), "--port", "6379", "--bind", host.address, "--protected-mode", "no", "--save", "")
    fleet.start("redis", "data", *redis)
    fleet.until(postgres.answers, "Postgres")
    postgres.create_database("expunge")


@pytest.fixture
def api(fleet: Fleet) -> Iterator[Api]:
    """The API, once it answers, spoken to from outside."""
    key = fleet.command("keys", "create", "tester", "--scope", "admin")
    api = Api(f"http://{fleet.hosts['api'].address}:8420", key)

    def answers() -> bool:
        try:
            return bool(api.call("GET", "/readyz").is_success)
        except ServiceError:
            return False

    fleet.until(answers, "the API")
    yield api
    api.http.close()


def test_a_worker_that_is_cut_off_in_mid_batch_changes_nothing_when_it_comes_back(fleet: Fleet, api: Api) -> None:
    first = fleet.worker("w1")
    lines = "".join(f"train-{i:04d},train-subject-{i // 20:03d}\n" for i in range(400))
    csv = {"Content-Type": "text/csv"}
    api.call("PUT", "/datasets/clusters", content=("id,subject\n" + lines).encode(), headers=csv)
    api.post("/models", {"name": "net", "dataset": "clusters", "problem": "clusters", "policy": LENIENT})
    fleet.until(lambda: fleet.rows("SELECT 1 FROM version WHERE gradients_digest IS NOT NULL"), "the first version")

    gate = fleet.folder / "gate-w1"
    (gate / "closed").touch()
    ticket = submit(api, range(40))
    fleet.until((gate / "reached").exists, "the first worker to be in the middle of its batch")
    ((holder, epoch),) = fleet.rows("SELECT worker, epoch FROM run WHERE outcome IS NULL")
    assert holder.endswith(f":{first.pid}")
    fleet.hosts["w1"].cut()

    second = fleet.worker("w2")
    fleet.until(lambda: api.get(f"/deletions/{ticket}")["state"] == "fulfilled", "the second worker to take over")
    (gate / "closed").unlink()  # the first one goes on with what it believes to be its batch
    fleet.hosts["w1"].heal()
    fleet.until(lambda: "run.superseded" in fleet.log("w1"), "the first worker to be told")

    assert first.poll() is None
    assert second.poll() is None
    one, two = fleet.rows("SELECT number, parent_id FROM version ORDER BY number")
    assert (one[0], two[0]) == (1, 2)
    worked = fleet.rows("SELECT worker, epoch FROM run WHERE outcome = 'published' ORDER BY started_at DESC LIMIT 1")
    assert worked[0][0].endswith(f":{second.pid}")
    assert worked[0][1] > epoch

    # Both are of use again: what comes next is done once, by either.
    later = [submit(api, range(40 + 10 * turn, 50 + 10 * turn)) for turn in range(3)]
    for each in later:
        fleet.until(lambda each=each: api.get(f"/deletions/{each}")["state"] == "fulfilled", "a later ticket")
    parents = fleet.rows("SELECT parent_id, count(*) FROM version GROUP BY parent_id HAVING count(*) > 1")
    assert parents == []
    versions = fleet.rows("SELECT count(*) FROM version")[0][0]
    assert fleet.rows("SELECT count(*) FROM audit_event WHERE kind = 'version.published'")[0][0] == versions
    assert fleet.rows("SELECT count(*) FROM obligation WHERE state <> 'fulfilled'") == [(0,)]
    fleet.command("audit", "verify")


def submit(api: Api, ordinals: range) -> str:
    ids = [f"train-{i:04d}" for i in ordinals]
    return str(api.post("/deletions", {"dataset": "clusters", "sample_ids": ids, "reason": "other"})["id"])
