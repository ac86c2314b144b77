"""Real workers and beat tell that they are there, and a worker that hears nothing any more is told from one that works."""

import os
import signal
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.service import Api, Service, service


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def row(api: Api, role: str) -> Any:
    found = [each for each in api.get("/workers") if each["role"] == role]
    return found[0] if found else None


def redis(running: Service, signum: signal.Signals) -> None:
    for pid, command in running.processes().items():
        if "redis" in command or "valkey" in command:
            os.kill(pid, signum)


@pytest.mark.service
def test_a_worker_that_lives_and_hears_nothing_is_seen(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        api = running.api()
        roles = ("worker", "light", "beat", "sweep")
        running.until(lambda: all(row(api, role) for role in roles), "them to tell that they are there")
        for role in roles:
            assert running.command("health", role).returncode == 0

        running.model(api)
        running.close_gate()
        ticket = running.submit(api, range(3))
        running.until(lambda: row(api, "worker")["batch"], "the worker to say what it holds")
        held = row(api, "worker")
        running.until(lambda: row(api, "worker")["task"] == "expunge.work", "its next heartbeat")
        running.open_gate()
        told = running.fulfilled(api, ticket)
        assert (held["batch"], held["model"]) == (told["obligations"][0]["batch"], "net")

        redis(running, signal.SIGSTOP)
        try:
            before = row(api, "worker")
            running.until(
                lambda: (
                    row(api, "worker")["seen_at"] > before["seen_at"]
                    and row(api, "beat")["seen_at"] > before["seen_at"]
                ),
                "heartbeats that need no broker",
            )
            silent = row(api, "worker")["heard_at"]
            seen = row(api, "worker")["seen_at"]
            running.until(lambda: row(api, "worker")["seen_at"] > seen, "another")
            assert moment(row(api, "worker")["heard_at"]) - moment(silent) < timedelta(seconds=5), "it beats every ten"
        finally:
            redis(running, signal.SIGCONT)
        stopped = moment(seen)
        running.until(lambda: moment(row(api, "worker")["heard_at"]) > stopped, "the worker to hear again")
