"""One ticket's way through real processes, followed by its id in what they write."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.service import service

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def lines(path: Path) -> list[dict[str, Any]]:
    """Every line of a process's log, each of which must be JSON."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.service
def test_a_ticket_is_found_in_api_worker_and_audit(tmp_path: Path) -> None:
    # The sweep is far off, so that the worker is woken by the ticket's own bell.
    with service(tmp_path, EXPUNGE_SWEEP_SECONDS="3600") as running:
        api = running.api()
        running.model(api)
        # A worker that is still at the model's first training would take the ticket along, under that request's id.
        running.until(lambda: "succeeded in" in (tmp_path / "log" / "worker.log").read_text(), "the worker to rest")
        ids = [f"train-{i:04d}" for i in range(3)]
        body = {"dataset": "clusters", "sample_ids": ids, "reason": "other"}
        answer = api.call("POST", "/deletions", json=body, headers={"X-Request-Id": TRACE})
        ticket = answer.json()["id"]
        assert answer.headers["x-request-id"] == TRACE
        told = running.fulfilled(api, ticket)
        running.until(
            lambda: "run.published" in (tmp_path / "log" / "worker.log").read_text(), "the worker's last word"
        )
        logs = {name: lines(tmp_path / "log" / f"{name}.log") for name in ("api", "worker", "beat")}
        text = "".join((tmp_path / "log" / f"{name}.log").read_text() for name in logs)

    (asked,) = [line for line in logs["api"] if line.get("ticket") == ticket and line["event"] == "request"]
    assert (asked["request_id"], asked["route"], asked["status"], asked["client"]) == (
        TRACE,
        "/deletions",
        202,
        "tester",
    )

    (claimed,) = [line for line in logs["worker"] if ticket in line.get("tickets", [])]
    assert (claimed["event"], claimed["request_id"], claimed["task"]) == ("run.claimed", TRACE, "expunge.work")
    batch = told["obligations"][0]["batch"]
    assert (claimed["batch"], claimed["model"], claimed["epoch"]) == (batch, "net", 1)
    of_batch = [line for line in logs["worker"] if line.get("batch") == batch]
    assert {"run.claimed", "run.published"} <= {line["event"] for line in of_batch}
    assert {(line["model"], line["epoch"], line["request_id"]) for line in of_batch} == {("net", 1, TRACE)}

    events = {event["kind"]: event for event in told["timeline"]}
    assert events["ticket.accepted"]["ticket"] == ticket
    assert events["run.claimed"]["batch"] == batch

    assert any(line.get("logger", "").startswith("celery") for line in logs["worker"]), (
        "Celery's own lines are JSON too"
    )
    assert any(line.get("logger") == "uvicorn.error" for line in logs["api"])
    assert not [name for name in (*ids, "train-subject") if name in text]
