"""`expunge up` and `expunge migrate`: the whole service on one machine, the same code as on many."""

import errno
import importlib.util
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer
from alembic import command

from app.cli.console import console
from app.config import Settings, settings
from app.db import alembic_config, engine
from app.errors import ServiceError
from app.installation import make_files
from embedded.lock import exclusive
from embedded.postgres import PostgresServer
from embedded.processes import wait_for
from embedded.redis import RedisServer
from embedded.supervisor import Program, Refused, StartFailed, Supervisor

DATABASE = "expunge"
LIGHT = "light"  # as in app.queue, which would read the settings when it is imported
VACATE_SECONDS = 5.0
DRAIN_SECONDS = 20
DRAIN = ("--timeout-graceful-shutdown", str(DRAIN_SECONDS))  # requests under way get their answer
NO_VALUES = {"log_error_verbosity": "terse", "log_min_error_statement": "panic"}
"""Postgres would log the row that a constraint refused, and the statement: people's ids."""


def up(
    data_dir: Annotated[Path | None, typer.Option(help="Folder for servers, artifacts and logs")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on")] = None,
) -> None:
    """Run the whole service until Ctrl-C: servers, API, a worker that trains, a light one, beat.

    State lives in the data folder and survives restarts. DATABASE_URL, REDIS_URL and ARTIFACT_URL, when set, replace the
    private server of each.
    """
    configure(data_dir, host, port)
    with running(lambda line: console.print(line, highlight=False)) as supervisor:
        supervisor.watch(announce)
    console.print("stopped")


def configure(data_dir: Path | None, host: str | None, port: int | None) -> None:
    """Options become environment, so that every child process reads the same settings."""
    for name, value in (("EXPUNGE_DATA_DIR", data_dir), ("EXPUNGE_HOST", host), ("EXPUNGE_PORT", port)):
        if value is not None:
            os.environ[name] = str(value)
    settings.cache_clear()


def announce() -> None:
    conf = settings()
    console.print(f"API        {conf.url}   (documentation at {conf.url}/docs)", highlight=False)
    console.print(f"Pages      {conf.url}   (sign in with a key)", highlight=False)
    console.print(f"Data       {conf.home}   (logs in {conf.home / 'log'})", highlight=False)
    console.print("First key  expunge keys create NAME --scope admin", highlight=False)
    console.print("Ctrl-C stops it.")


@contextmanager
def running(report: Callable[[str], None]) -> Iterator[Supervisor]:
    """Everything started and ready inside; nothing left outside. Raises `ServiceError` with what did not start."""
    conf = settings()
    check_installed()
    make_home(conf.home)
    try:
        with exclusive(conf.home), Supervisor(conf.home / "log", report) as supervisor:
            find_free(conf.host, conf.port)
            start_servers(supervisor, conf)
            upgrade()
            for program in programs(conf):
                supervisor.start(program)
            yield supervisor
    except (Refused, StartFailed) as error:
        raise ServiceError(str(error)) from None


def check_installed(needed: tuple[str, ...] = ("torch", "numpy", "sklearn", "safetensors")) -> None:
    """A worker without its packages would fail at the first ticket, and again at every sweep."""
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ServiceError(
            f"The worker's packages are not installed ({', '.join(missing)}). Run: pip install 'expunge[worker]'"
        )


def make_home(home: Path) -> None:
    """The data folder, for its owner alone."""
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ServiceError(f"The data folder {home} cannot be made: {error.strerror}. Name another.") from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise ServiceError(f"The data folder {home} cannot be written to. Name another, or mend its permissions.")
    make_files(home)


def find_free(host: str, port: int) -> None:
    """Refuse an address that somebody else listens on: their answers would be taken for ours. An API whose owner was
    killed a moment ago is given the time to end."""
    try:
        if not wait_for(lambda: is_free(host, port), VACATE_SECONDS):
            raise ServiceError(
                f"Something else listens on {host}:{port}. Stop it, or choose another port with --port or EXPUNGE_PORT."
            )
    except OSError as error:
        raise ServiceError(
            f"{host}:{port} cannot be listened on: {error.strerror}. Choose others with --host and --port."
        ) from None


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there. Raises `OSError` where nobody can."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def start_servers(supervisor: Supervisor, conf: Settings) -> None:
    """The private servers for which no address was given."""
    if conf.database_url is None:
        postgres = PostgresServer(conf.home / "postgres", conf.socket_dir, options=NO_VALUES)
        postgres.prepare()
        supervisor.start(postgres.program())
        postgres.create_database(DATABASE)
    if conf.redis_url is None:
        redis = RedisServer(conf.home / "redis", conf.socket_dir / "redis.sock")
        redis.prepare()
        supervisor.start(redis.program())


def programs(conf: Settings) -> list[Program]:
    """API, both workers and beat, each the very command that a deployment runs."""
    celery = (sys.executable, "-m", "celery", "-A", "app.queue:celery")
    quiet = (*celery[:3], "--quiet", *celery[3:])  # beat's banner would be the one thing in its log that is no JSON
    calm = ("--loglevel", "INFO", "--without-gossip")
    address = ("--host", conf.host, "--port", str(conf.port))
    return [
        Program(
            "api",
            (
                sys.executable,
                "-m",
                "uvicorn",
                "app.main:app",
                *address,
                "--no-access-log",
                "--no-server-header",
                *DRAIN,
            ),
            ready=lambda: answers(f"{conf.url}/readyz"),
            ready_seconds=120,  # a small machine that is busy takes its time over the imports
            stop_seconds=DRAIN_SECONDS + 5,
        ),
        Program(
            "worker",
            (*celery, "worker", "--exclude-queues", LIGHT, "--pool", "prefork", "--concurrency", "1", *calm),
            env=spare_a_core(),
            stop_seconds=conf.stop_seconds + 5,  # by then its run has given its batch back
            death_signal=signal.SIGKILL,  # on SIGTERM it would finish its run first, beside its successor
        ),
        Program(
            "light",
            (*celery, "worker", "--queues", LIGHT, "--pool", "threads", "--concurrency", "4", *calm, "-n", "light@%h"),
            stop_seconds=10,
        ),
        Program("beat", (*quiet, "beat", "--loglevel", "INFO", "--schedule", str(conf.home / "beat")), stop_seconds=5),
    ]


def spare_a_core() -> dict[str, str]:
    """Threads for the worker's arithmetic: all cores but one, which Postgres and the API need; as many as the operator
    says where OMP_NUM_THREADS is set. More threads than free cores wait for each other at every step."""
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) - 1)))}


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.TransportError:
        return False


def upgrade() -> None:
    """Bring the schema to what this code needs; on a fresh database, make it."""
    command.upgrade(alembic_config(), "head")
    engine().dispose()


def migrate() -> None:
    """Bring the database's schema up to date. Safe to run twice, or from several places at once."""
    upgrade()
    console.print("The schema is up to date.")
