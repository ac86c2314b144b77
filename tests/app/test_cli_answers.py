"""The command line against a service whose answers are scripted: what does not come, or is not what it should be."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import cli
from app.cli import audit, datasets, models, policies, schedules, tickets, webhooks
from app.errors import ServiceError
from expunge import Client, Retry
from tests.expunge.driver import KEY, Script, problem

Told = Callable[..., tuple[int, str, str]]
LOGIN = httpx.Response(200, html="<html>please log in</html>")
SUBMIT = ("tickets", "submit", "--dataset", "people", "--sample", "s-0001")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Call `expunge` on these answers: its exit code, what it prints, and what it complains of."""

    def call(answers: list[Any], *arguments: str) -> tuple[int, str, str]:
        script = Script(*answers)
        service = Client("http://service", KEY, http=httpx.Client(transport=script.transport), retry=Retry(tries=1))
        for module in (audit, datasets, models, policies, schedules, tickets, webhooks):
            monkeypatch.setattr(module, "api", lambda: service)
        monkeypatch.setattr(sys, "argv", ["expunge", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return call


@pytest.mark.parametrize("answer", [httpx.ReadTimeout, problem(409, "in_flight"), httpx.Response(502)])
def test_the_key_of_a_ticket_that_may_have_been_made_is_printed(told: Told, answer: Any) -> None:
    code, _, complaint = told([answer], *SUBMIT, "--key", "case 7's")
    assert code == 1
    assert """Send it again with --key 'case 7'"'"'s': it will not be made twice.""" in complaint
    code, _, complaint = told([answer], *SUBMIT)
    assert (code, complaint.count("Send it again with --key ")) == (1, 1)


@pytest.mark.parametrize("name", ["receipt.json", "receipt.pdf"])
def test_a_page_is_not_kept_as_a_receipt(told: Told, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    code, _, complaint = told([LOGIN], "tickets", "receipt", "t", "--to", str(file))
    assert (code, file.exists()) == (1, False)
    assert "Is a proxy in between" in complaint


@pytest.mark.parametrize(
    ("command", "option"), [(("bundle", "m-v1"), "--to"), (("checkpoint",), "--to"), (("show", "m-v1"), "--html")]
)
def test_a_page_is_not_kept_as_evidence(told: Told, tmp_path: Path, command: tuple[str, ...], option: str) -> None:
    file = tmp_path / "kept"
    code, printed, complaint = told([LOGIN], "audit", *command, option, str(file))
    assert (code, printed, file.exists()) == (1, "", False)
    assert "Is a proxy in between" in complaint
    assert told([LOGIN], "audit", "checkpoint")[:2] == (1, "")
    assert told([LOGIN], "audit", "show", "m-v1", "--json")[:2] == (1, "")


def test_a_policy_of_another_release_is_shown_and_changed_as_it_is(told: Told) -> None:
    said: dict[str, Any] = {"thresholds": {"ue": 0.2, "newer": 1.5}, "newest": {"a": 1}}
    whole = {"model": "m", "number": 1, "author": "a", "approved_by": None, "created_at": "2026-01-01T00:00:00Z"}
    answer = httpx.Response(200, json=whole | {"policy": said}, headers={"ETag": '"policy-1-1"'})
    _, printed, _ = told([answer], "policy", "show", "m")
    assert json.loads(printed[printed.index("{") :]) == said
    script = Script(answer)
    service = Client("http://service", KEY, http=httpx.Client(transport=script.transport))
    policies.assign(service, "m", {"thresholds.newer": 2, "newest.a": 3})
    assert json.loads(script.asked[-1].content) == {"thresholds": {"ue": 0.2, "newer": 2}, "newest": {"a": 3}}
    with pytest.raises(ServiceError, match=r"no drift\.max_updates"):
        policies.assign(service, "m", {"drift.max_updates": 2})


def test_the_key_of_a_ticket_that_was_refused_is_not(told: Told) -> None:
    assert told([problem(422, "nothing_known")], *SUBMIT, "--key", "k") == (1, "", "what to do\n")
