"""An id for every request, and one line that says how it was answered and holds nothing that a client made up."""

import json
import logging

import pytest
from fastapi.testclient import TestClient

from app import logs, queue
from app.routes import deletions
from tests.app import story
from tests.app.conftest import Caller

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def lines(http: TestClient, capsys: pytest.CaptureFixture[str]) -> "Lines":
    """The service is up; from here on its lines are read."""
    capsys.readouterr()
    return Lines(capsys)


class Lines:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys, self.text = capsys, ""

    def new(self) -> list[dict[str, object]]:
        """Those that were not read yet, each of which must be JSON."""
        self.text = self.capsys.readouterr().out
        return [json.loads(line) for line in self.text.splitlines()]


def test_one_line_a_request(http: TestClient, lines: Lines) -> None:
    answer = http.get("/models/secret-name?external_id=secret-query")
    (line,) = lines.new()
    assert "secret" not in lines.text
    told = {name: line[name] for name in ("event", "level", "method", "route", "status", "client")}
    assert told == {
        "event": "request", "level": "info", "method": "GET", "route": "/models/{reference}", "status": 404,
        "client": "admin",
    }  # fmt: skip
    assert line["request_id"] == answer.headers["x-request-id"] == answer.json()["request_id"]
    assert float(str(line["ms"])) >= 0


@pytest.mark.parametrize("sent", [TRACE, "5f0c6f7e-93a1-4f6e-8f0a-0c2b7f7c1a11"])
def test_a_well_formed_id_is_taken(http: TestClient, lines: Lines, sent: str) -> None:
    assert http.get("/livez", headers={"X-Request-Id": sent}).headers["x-request-id"] == sent
    http.get("/nowhere", headers={"X-Request-Id": sent})
    assert lines.new()[-1]["request_id"] == sent


@pytest.mark.parametrize(
    "sent", ["jane.doe@example.org", "s-0001", "12345", "a" * 65, '0123456789abcdef", "x": "', "-" * 20]
)
def test_any_other_is_not(http: TestClient, lines: Lines, sent: str) -> None:
    """It might be somebody's name, or break the line."""
    given = http.get("/nowhere", headers={"X-Request-Id": sent}).headers["x-request-id"]
    lines.new()
    assert given != sent
    assert sent not in lines.text


def test_an_accepted_ticket_is_named(http: TestClient, lines: Lines) -> None:
    queue.rung.clear()  # of whichever test rang for a model of this number a moment ago
    story.dataset()
    story.trained(policy=story.PATIENT)
    lines.new()
    body = {"dataset": "people", "sample_ids": [story.sample(1)], "reason": "other"}
    accepted = http.post("/deletions", json=body)
    told = lines.new()
    assert story.sample(1) not in lines.text
    (line,) = [line for line in told if line["event"] == "request"]
    assert line["ticket"] == accepted.json()["id"]
    # The broker is away: the line about the doorbell names both ids, so that it can be told whose it was.
    (lost,) = [line for line in told if line["event"] == "nudge.lost"]
    assert (lost["ticket"], lost["request_id"]) == (line["ticket"], line["request_id"])


def test_a_defect_names_its_request_and_not_its_text(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    def raises(*_: object, **__: object) -> None:
        raise RuntimeError("s-0001 of Jane Doe")

    monkeypatch.setattr(deletions.tickets, "page", raises)
    answer = caller("tool").get("/deletions")
    told = lines.new()
    assert "Jane" not in lines.text
    assert answer.status_code == 500
    assert {line["request_id"] for line in told if line["event"] in ("defect", "request")} == {
        answer.json()["request_id"]
    }


def test_a_refused_body_has_an_id_too(http: TestClient) -> None:
    refused = http.post("/deletions", content=b"x" * (17 * 2**20))
    assert refused.status_code == 413
    assert refused.headers["x-request-id"] == refused.json()["request_id"]


def test_probes_are_not_worth_a_line(http: TestClient, lines: Lines) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert http.get(path).is_success
    assert lines.new() == []


def test_a_librarys_lines_are_json_without_what_was_raised(lines: Lines) -> None:
    try:
        raise ValueError("sample s-0001 is unreadable")
    except ValueError:
        logging.getLogger("celery.app.trace").error("Task raised unexpected: %r", "s-0001", exc_info=True)
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    raised, plain = lines.new()
    assert "s-0001" not in lines.text
    assert (raised["logger"], raised["event"], raised["level"]) == ("celery.app.trace", "exception", "error")
    assert str(raised["error"]).startswith("ValueError in test_access.py:")
    assert (plain["event"], plain["logger"]) == ("Started server process [7]", "uvicorn.error")


def test_what_is_being_done_is_in_each_line() -> None:
    with logs.about(batch="b"), logs.about(model="m"):
        logs.note(ticket="t")
        assert logs.add_doing(None, "", {"event": "x"}) == {"batch": "b", "model": "m", "ticket": "t", "event": "x"}
    assert logs.add_doing(None, "", {"event": "x"}) == {"event": "x"}
    logs.note(ticket="t")  # about nothing
    assert logs.request_id() is None
