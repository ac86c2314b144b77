"""The doorbell: what it costs when nobody is there to hear it."""

import kombu.utils.functional
import pytest
import structlog
from fastapi.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from app import queue
from app.cli import service
from app.main import app
from tests.app import story
from tests.app.conftest import Caller


def never(seconds: float) -> None:
    raise AssertionError(f"a caller would wait {seconds} s for a broker that is down")


def test_a_broker_that_is_down_is_reported_once_and_not_waited_for(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kombu.utils.functional, "sleep", lambda seconds: seconds and never(seconds))
    with structlog.testing.capture_logs() as lines:
        queue.nudge(1, 2, 3)
    assert [(line["event"], line["model"]) for line in lines] == [("nudge.lost", 1)]


def test_each_reference_rings_once_and_a_broker_that_is_down_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[str] = []
    monkeypatch.setattr(queue, "send", rung.append)
    queue.ring_references(3)
    assert rung == [queue.REFERENCE] * 3

    def broken(task: str) -> None:
        rung.append(task)
        raise OSError("no bell")

    monkeypatch.setattr(queue, "send", broken)
    with structlog.testing.capture_logs() as lines:
        queue.ring_references(3)
    assert len(rung) == 4
    assert [line["event"] for line in lines] == ["nudge.lost"]


def test_tasks_are_named_by_strings_that_the_workers_know() -> None:
    assert set(queue.ROUTES) == {
        f"expunge.{name}"
        for name in ["work", "sweep", "purge", "reference", "relay", "deliver", "canary", "checkpoint", "export"]
    }
    tasks = {entry["task"] for entry in queue.celery.conf.beat_schedule.values()}
    assert tasks == {queue.SWEEP, queue.PURGE, queue.RELAY, queue.CANARY, queue.CHECKPOINT, queue.EXPORT}


def test_what_takes_moments_waits_behind_no_training() -> None:
    light = {queue.SWEEP, queue.PURGE, queue.RELAY, queue.DELIVER, queue.CHECKPOINT, queue.EXPORT}
    assert {task for task, where in queue.ROUTES.items() if where == queue.LIGHT} == light
    assert set(queue.celery.conf.task_queues) == {queue.HEAVY, queue.LIGHT} == {"celery", service.LIGHT}
    assert queue.celery.conf.task_default_queue == queue.HEAVY


def test_delivery_is_at_least_once() -> None:
    conf = queue.celery.conf
    assert conf.task_acks_late
    assert conf.worker_prefetch_multiplier == 1
    assert conf.visibility_timeout > conf.task_time_limit


@pytest.mark.parametrize("error", [OSError, RuntimeError, ModuleNotFoundError, ConnectionError])
def test_nothing_about_the_doorbell_fails_what_was_committed(
    database: str, http: TestClient, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def broken(*_: object) -> None:
        raise error("no bell")

    story.dataset()
    monkeypatch.setattr(queue, "send", broken)
    with structlog.testing.capture_logs() as lines:
        made = http.post("/models", json={"name": "m", "dataset": "people", "problem": "digits"})
    assert made.status_code == 201
    lost = [line for line in lines if line["event"] != "request"]
    assert [(line["event"], line["error"]) for line in lost] == [("nudge.lost", error.__name__)]


def test_an_answer_does_not_wait_for_the_doorbell(
    database: str, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that hangs takes its time-out; by then the client has its answer."""
    story.dataset()
    model_id = story.trained()
    story.submit(1)
    lease = story.closed(model_id)
    story.fail(lease, again=False)
    heard: list[str] = []
    monkeypatch.setattr(queue, "send", lambda *_: heard.append("bell"))
    http = caller("admin")
    for path, asked in (
        ("/models", {"name": "n", "dataset": "people", "problem": "digits"}),
        ("/models/m/flush", {}),
        (f"/batches/{lease.batch_id}/retry", {}),
        ("/models/m/bank", {"references": 4}),
        ("/retrains", {"model": "m", "why": "x"}),
        ("/deletions", {"dataset": "people", "sample_ids": ["s-0002"], "reason": "other"}),
    ):
        heard.clear()
        monkeypatch.setattr(queue, "rung", {})
        answered(http, path, asked, heard)
        assert heard[0] == "answer", path
        assert "bell" in heard, path


def answered(http: TestClient, path: str, asked: dict[str, object], heard: list[str]) -> None:
    """Send a request and note when its answer leaves."""

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.body":
                heard.append("answer")
            await send(message)

        await app(scope, receive, sent)

    response = TestClient(noting, headers=http.headers).post(path, json=asked)
    assert response.is_success, response.text
