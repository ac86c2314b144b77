"""Real processes that are told to stop, as every deploy does, and a broker that forgets who works on what."""

import os
import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.plain import Api
from tests.servers import short_folder
from tests.service import LENIENT, LONG, Service, service

pytestmark = pytest.mark.service

WORKER = "app.queue:celery worker --exclude-queues"
LIGHT = "app.queue:celery worker --queues"
BEAT = "app.queue:celery beat"
API = "uvicorn app.main:app"
PATIENT = {"EXPUNGE_LEASE_SECONDS": "3600"}
"""A lease that nothing may wait for: whoever loses a run to a stop without giving it back fails the test."""

ANY_SHARE = LENIENT | {"window": {"max_share": 1}, "drift": {"max_share": 1}}


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@contextmanager
def beside(up: Service, **options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A second worker, ready."""
    second = up.second_worker(**options)
    try:
        up.until(lambda: "second@" in (up.folder / "second.log").read_text() and ready(up), "the second worker")
        yield second
    finally:
        second.kill()
        second.wait()


def ready(up: Service) -> bool:
    return " ready." in (up.folder / "second.log").read_text()


def versions(api: Api) -> list[str]:
    return [version["version"] for version in api.get("/models/net/versions")["versions"]]


def batch_of(api: Api, ticket: dict[str, Any]) -> Any:
    return api.get(f"/batches/{ticket['obligations'][0]['batch']}")


def told(batch: Any) -> Counter[str]:
    return Counter(event["kind"] for event in batch["timeline"])


def in_its_middle(up: Service, api: Api) -> str:
    """A ticket whose batch waits at the gate, in the midst of a read."""
    up.close_gate()
    ticket = up.submit(api, range(40))
    up.until(lambda: (up.gate / "reached").exists(), "the batch to be in its middle")
    return ticket


def test_a_worker_that_is_stopped_hands_its_batch_to_another_at_once(folder: Path) -> None:
    """It is stuck in a read for longer than it is given, and the lease would run for an hour."""
    with service(folder, **PATIENT, EXPUNGE_STOP_SECONDS="0.5") as up:
        api = up.api()
        up.model(api)
        ticket = in_its_middle(up, api)
        (first,) = up.started(WORKER)
        with beside(up):
            os.kill(first, signal.SIGTERM)
            batch = batch_of(api, api.get(f"/deletions/{ticket}"))["id"]
            up.until(lambda: told(api.get(f"/batches/{batch}"))["run.claimed"] == 2, "the second worker to have it")
            up.open_gate()
            found = up.fulfilled(api, ticket)
            up.until(lambda: first not in up.processes(), "the first worker to end by itself")
        ended = batch_of(api, found)
        assert versions(api) == ["net-v1", "net-v2"]
        assert ended["attempt"] == 1
        assert (told(ended)["run.given_back"], told(ended)["version.published"]) == (1, 1)
        assert "unbroken" in up.command("audit", "verify").stdout


@pytest.mark.parametrize("whom", ["the parent", "all of them"])
def test_a_stopped_worker_gives_back_between_two_steps_and_ends(folder: Path, whom: str) -> None:
    """A container's first process is signalled alone, a unit's processes all at once. The supervisor's next one goes on."""
    with service(folder, **PATIENT, EXPUNGE_STOP_SECONDS="3600") as up:
        api = up.api()
        up.model(api)
        ticket = in_its_middle(up, api)
        workers = [pid for pid, command in up.processes().items() if WORKER in command]
        assert len(workers) == 2
        for pid in workers if whom == "all of them" else up.started(WORKER):
            os.kill(pid, signal.SIGTERM)
        log = folder / "log" / "worker.log"
        up.until(lambda: "Warm shutdown" in log.read_text(), "the worker to have heard of it")
        up.open_gate()
        batch = batch_of(api, up.fulfilled(api, ticket))
        assert (batch["attempt"], told(batch)["run.claimed"], told(batch)["run.given_back"]) == (1, 2, 1)
        assert versions(api) == ["net-v1", "net-v2"]


def test_a_deploy_under_a_stream_of_tickets_loses_nothing(folder: Path) -> None:
    """Each process is told to stop and started anew while tickets come; whatever was answered 202 is fulfilled."""
    with service(folder, **PATIENT) as up:
        api = up.api()
        up.model(api, policy=ANY_SHARE)
        accepted: dict[str, str] = {}
        done = threading.Event()

        def stream() -> None:
            """As a careful client: the same key until there is an answer."""
            number = 0
            while not done.is_set() and number < 150:
                ids = [f"train-{number:04d}", f"train-{number + 200:04d}"]  # of two subjects
                body = {"dataset": "clusters", "sample_ids": ids, "reason": "other"}
                try:
                    answer = api.http.post("/deletions", json=body, headers={"Idempotency-Key": f"k-{number}"})
                except httpx.TransportError:
                    done.wait(0.05)
                    continue
                if answer.status_code == 202:
                    accepted[f"k-{number}"] = answer.json()["id"]
                    number += 1
                else:
                    assert answer.status_code in (409, 503), answer.text
                done.wait(0.1)

        client = threading.Thread(target=stream)
        client.start()
        try:
            for mark in (WORKER, API, LIGHT, BEAT, WORKER):
                before = len(accepted)
                up.terminate(mark)
                up.until(lambda mark=mark: up.started(mark), f"{mark} to be back")
                up.until(lambda before=before: len(accepted) > before + 2, "more tickets")
        finally:
            done.set()
            client.join(LONG)
        assert len(accepted) > 10
        for ticket in accepted.values():
            up.fulfilled(api, ticket)
        assert len(api.get("/deletions", limit=200)["items"]) == min(200, len(set(accepted.values())))
        assert "unbroken" in up.command("audit", "verify").stdout
        assert up.stop() == 0


def test_a_message_handed_out_again_in_mid_run_gives_one_publication(folder: Path) -> None:
    """The broker's visibility timeout is shorter than the run, so it takes the first worker for lost."""
    with service(folder) as up:
        api = up.api()
        up.model(api)
        up.kill(WORKER)
        up.until(lambda: not any(WORKER in command for command in up.processes().values()), "no worker to be left")
        for pid in up.started("app.cli up"):
            os.kill(pid, signal.SIGSTOP)  # it would start the worker anew
        with beside(up, queue="tests.shortsighted:celery", pool="prefork"):
            ticket = in_its_middle(up, api)
            third = up.second_worker(queue="tests.shortsighted:celery", pool="solo")
            try:
                up.until(lambda: twice(up), "one message to be received twice")
                up.open_gate()
                found = up.fulfilled(api, ticket)
            finally:
                third.kill()
                third.wait()
        assert versions(api) == ["net-v1", "net-v2"]
        batch = batch_of(api, found)
        assert (batch["attempt"], told(batch)["version.published"]) == (1, 1)
        for pid in up.started("app.cli up"):
            os.kill(pid, signal.SIGCONT)


def twice(up: Service) -> bool:
    """Whether one message was handed out twice, by the ids that the workers log."""
    received = re.findall(r"Task expunge\.work\[([0-9a-f-]+)\] received", (up.folder / "second.log").read_text())
    return len(received) > len(set(received))


def test_a_connection_lost_in_mid_run_costs_nothing(folder: Path) -> None:
    """The task goes on, its message is handed out again, and the worker listens again afterwards."""
    with service(folder, **PATIENT) as up:
        api = up.api()
        up.model(api)
        ticket = in_its_middle(up, api)
        with redis.Redis(unix_socket_path=str(folder / "run" / "redis.sock")) as broker:
            assert broker.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") > 0
        up.open_gate()
        found = up.fulfilled(api, ticket)
        assert batch_of(api, found)["attempt"] == 1
        assert versions(api) == ["net-v1", "net-v2"]
        up.fulfilled(api, up.submit(api, range(100, 140)))
