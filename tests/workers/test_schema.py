"""Workers and beat on a schema that is not theirs: they wait, say for what, and begin once it is migrated."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

from app.db import alembic_config, engine
from embedded.processes import wait_for
from tests.databases import forget_settings
from tests.servers import Servers
from workers import schema

LONG = 90.0
"""Processes start slowly on a busy machine; the bound only ends a test that has failed."""
CELERY = (sys.executable, "-m", "celery", "--quiet", "-A", "app.queue:celery")
PROGRAMS = {
    "worker": ("worker", "--exclude-queues", "light", "--pool", "prefork", "--concurrency", "1"),
    "light": ("worker", "--queues", "light", "--pool", "threads", "--concurrency", "1"),
    "beat": ("beat",),
}


def rows() -> list[str]:
    """Who has told that it is there."""
    with engine().connect() as connection:
        return [str(role) for role in connection.scalars(text("SELECT role FROM worker ORDER BY role"))]


def behind() -> None:
    command.downgrade(alembic_config(), "-1")


def test_what_is_missing_is_said(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert schema.missing() is None
    behind()
    assert "run `expunge migrate`" in str(schema.missing())
    command.upgrade(alembic_config(), "head")
    assert schema.missing() is None
    monkeypatch.setenv("DATABASE_URL", "postgresql:///expunge?host=/nonexistent")
    forget_settings()
    assert schema.missing() == "Postgres does not tell its schema's revision (OperationalError)."


def test_it_waits_and_leaves_no_connection_to_be_inherited(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    behind()
    pauses: list[float] = []

    def migrate_at_the_third(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            command.upgrade(alembic_config(), "head")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(schema.time, "sleep", migrate_at_the_third)
    schema.wait()
    assert len(pauses) == 3
    assert signal.getsignal(signal.SIGTERM) is before
    assert "Connections in pool: 0" in engine().pool.status()


@contextmanager
def started(name: str, servers: Servers, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker or beat of the database that this process's settings name; gone at the end."""
    log, schedule = folder / f"{name}.log", ("--schedule", str(folder / "beat")) if name == "beat" else ()
    argv = (*CELERY, *PROGRAMS[name], "--loglevel", "INFO", *schedule)
    with log.open("wb") as out:
        child = subprocess.Popen(
            argv, env=os.environ | {"REDIS_URL": servers.redis_url}, stdout=out, stderr=out, start_new_session=True
        )
        try:
            assert wait_for(lambda: "schema.awaited" in log.read_text(), LONG), log.read_text()
            yield child
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@pytest.mark.service
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_begins_once_the_schema_is_migrated(name: str, database: str, servers: Servers, tmp_path: Path) -> None:
    command.downgrade(alembic_config(), "base")
    with started(name, servers, tmp_path) as child:
        assert child.poll() is None
        command.upgrade(alembic_config(), "head")
        assert wait_for(lambda: name in rows(), LONG), (tmp_path / f"{name}.log").read_text()
        assert "run `expunge migrate`" in (tmp_path / f"{name}.log").read_text()


@pytest.mark.service
@pytest.mark.parametrize("name", PROGRAMS)
def test_one_that_waits_ends_when_it_is_told_to(name: str, database: str, servers: Servers, tmp_path: Path) -> None:
    command.downgrade(alembic_config(), "base")
    with started(name, servers, tmp_path) as child:
        child.terminate()
        assert child.wait(LONG) == 0, (tmp_path / f"{name}.log").read_text()
