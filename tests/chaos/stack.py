"""The real processes on one folder, each a child that can be hurt and that comes back: API, workers, beat, servers.

The programs are those of `expunge up`, with a second worker that trains. Unlike its supervisor this one restarts the dead
at once: a harness that kills every few seconds would spend its time in the pauses.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import redis
from celery import Celery

from app.cli.demo import free_port
from app.cli.service import LIGHT
from embedded import processes
from embedded.child import Child, Program
from embedded.janitor import Janitor
from embedded.postgres import PostgresServer
from embedded.redis import RedisServer
from tests.chaos.control import Control
from tests.faults.plugin import DUMP

ROOT = Path(__file__).parents[2]
LONG = 480.0
RESTART_SECONDS = 0.2
SETTINGS = {
    "EXPUNGE_SWEEP_SECONDS": "0.5",
    "EXPUNGE_LEASE_SECONDS": "1.5",
    "EXPUNGE_RETRY_SECONDS": "0",
    "EXPUNGE_LOG_LEVEL": "INFO",
    "OMP_NUM_THREADS": "1",
}
WORKERS = ("worker-a", "worker-b", "light")
"""Two that train, and the one that sweeps."""
BUSY = """
    SELECT pid, state, wait_event_type, wait_event, pg_blocking_pids(pid), now() - xact_start, left(query, 150)
    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'
"""


class Stack:
    """Start it, talk to it, hurt it. `tend` restarts what has died; call it while you wait."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.port = folder, free_port()
        self.control = Control(folder / "faults")
        self.postgres = PostgresServer(folder / "postgres", folder / "run", options={"fsync": "off"})
        self.redis = RedisServer(folder / "redis", folder / "run" / "redis.sock")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EXPUNGE_")}
        for name in ("DATABASE_URL", "REDIS_URL", "ARTIFACT_URL"):
            kept.pop(name, None)
        paths = [str(ROOT / "tests/faults/hook"), str(ROOT / "tests/problems"), str(ROOT)]
        mine = {
            "EXPUNGE_DATA_DIR": str(folder),
            "EXPUNGE_PORT": str(self.port),
            "EXPUNGE_FAULTS": str(self.control.folder),
            "PYTHONPATH": os.pathsep.join(paths),
        }
        self.environment = kept | SETTINGS | mine | settings
        self.children: dict[str, Child] = {}
        self.away: set[str] = set()
        self.died: dict[str, float] = {}
        self.janitor = Janitor()
        (folder / "log").mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> str:
        return self.postgres.url("expunge")

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    def program(self, name: str) -> Program:
        """What each child runs."""
        celery = (sys.executable, "-m", "celery", "-A", "app.queue:celery")
        if name == "postgres":
            return self.postgres.program()
        if name == "redis":
            return self.redis.program()
        if name == "api":
            address = ("--host", "127.0.0.1", "--port", str(self.port))
            return self._ours(name, (sys.executable, "-m", "uvicorn", "app.main:app", *address, "--no-access-log"))
        if name.startswith("beat"):
            return self._ours(name, (*celery, "beat", "--schedule", str(self.folder / name)))
        calm = ("--hostname", f"{name}@%h", "--loglevel", "INFO", "--without-gossip", "--without-mingle")
        if name == "light":
            return self._ours(
                name, (*celery, "worker", "--queues", LIGHT, "--pool", "threads", "--concurrency", "4", *calm)
            )
        # Loaded before the fork, so that a new child is there at once; the last is what a first training would load.
        loaded = ("--include", "workers.pipeline,workers.references,torch._dynamo")
        pool = ("--exclude-queues", LIGHT, "--pool", "prefork", "--concurrency", "1")
        return self._ours(name, (*celery, "worker", *pool, *loaded, *calm))

    def _ours(self, name: str, argv: tuple[str, ...]) -> Program:
        return Program(name, argv, env=self.environment, stop_seconds=5, death_signal=signal.SIGKILL)

    def start(self) -> None:
        """Servers, schema, and the rest, until everything answers."""
        for server, name in ((self.postgres, "postgres"), (self.redis, "redis")):
            server.prepare()
            self.begin(name)
            self.until(server.answers, f"{name} to answer")
        self.postgres.create_database("expunge")
        self.command("migrate")
        for name in ("api", *WORKERS, "beat"):
            self.begin(name)
        self.until(self.api_answers, "the API to answer")

    def begin(self, name: str) -> None:
        """Start a program that is not running."""
        self.away.discard(name)
        self.children[name] = child = Child(self.program(name), self.folder / "log")
        self.janitor.add(child.pid, 0)

    def end(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Signal a program and its group; it stays away until `begin`."""
        self.away.add(name)
        if name not in self.children:
            return
        self.signal(name, how)
        if not processes.wait_for(self.children[name].exited, 10):
            self.signal(name, signal.SIGKILL)
        self.bury(name)

    def bury(self, name: str) -> None:
        child = self.children.pop(name)
        child.clear()
        self.janitor.remove(child.pid)

    def signal(self, name: str, number: int) -> None:
        """To the whole group of a program, except Postgres, whose postmaster passes it on."""
        child = self.children.get(name)
        if child is None:
            return
        try:
            if name == "postgres" and number != signal.SIGKILL:
                os.kill(child.pid, number)
            else:
                os.killpg(child.pid, number)
        except ProcessLookupError:
            return

    def proceed(self) -> None:
        """Let everything go on that was stopped, and start everything that is away, but a second beat."""
        for name in list(self.children):
            self.signal(name, signal.SIGCONT)
        for name in self.away - self.children.keys() - {"beat-2"}:
            self.begin(name)

    def tend(self) -> None:
        """Restart what has died. From the main thread: a child gets its death signal when the thread ends that forked."""
        for name, child in list(self.children.items()):
            if child.exited():
                self.bury(name)
                self.died[name] = time.monotonic()
        for name, since in list(self.died.items()):
            if name not in self.away and time.monotonic() - since >= RESTART_SECONDS:
                del self.died[name]
                self.begin(name)

    def until(self, condition: Callable[[], bool], what: str, seconds: float = LONG) -> None:
        """Wait for a condition, tending meanwhile; the bound only ends what has failed."""

        def met() -> bool:
            self.tend()
            return condition()

        if not processes.wait_for(met, seconds, pause=0.03):
            raise TimeoutError(f"waited in vain for {what}\n{self.last_words()}")

    def last_words(self) -> str:
        """What Postgres, our processes and their logs say, for whoever must find out why nothing goes on."""
        for name in ("api", "beat", *WORKERS):
            self.signal(name, DUMP)
        try:
            busy = "\n".join(str(row) for row in self.ask(BUSY))
        except psycopg.Error as error:
            busy = str(error)
        time.sleep(0.5)  # they write in their own time
        return f"-- postgres\n{busy}\n{self.logs()}"

    def logs(self) -> str:
        """The end of each."""
        logs = [(name, self.folder / "log" / f"{name}.log") for name in ("api", "beat", *WORKERS)]
        return "\n".join(f"-- {name}\n{log.read_text()[-4000:]}" for name, log in logs if log.exists())

    def api_answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).is_success
        except httpx.TransportError:
            return False

    def command(self, *arguments: str) -> str:
        """One call of the command line."""
        argv = [sys.executable, "-m", "app.cli", *arguments]
        quiet = {name: value for name, value in self.environment.items() if name != "EXPUNGE_FAULTS"}
        return subprocess.run(argv, env=quiet, capture_output=True, text=True, check=True, timeout=LONG).stdout.strip()

    def ask(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """One statement of the harness's own."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            found = connection.execute(query, values)  # type: ignore[call-overload] # the harness's own literals
            return found.fetchall() if found.description else []

    def ring(self, task: str) -> None:
        """A doorbell for the light worker, as beat sends it."""
        options = {"global_keyprefix": "expunge:"}
        with Celery("harness", broker=self.redis.url, broker_transport_options=options) as bell:
            bell.send_task(task, queue=LIGHT, ignore_result=True, retry=False)

    def flush_redis(self) -> None:
        client: redis.Redis = self.redis.client()
        try:
            client.flushall()
        finally:
            client.close()

    def stop(self) -> None:
        """Nothing is left afterwards."""
        self.control.heal()
        for name in ("beat", "beat-2", *WORKERS, "api", "redis", "postgres"):
            if name in self.children:
                self.end(name, signal.SIGINT if name == "postgres" else signal.SIGKILL)
        self.janitor.close()


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[Stack]:
    """A started stack, and afterwards nothing of it."""
    stack = Stack(folder, **settings)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
