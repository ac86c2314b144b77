"""The command line against a service whose answers are scripted: what does not come, or is not what it should be."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import cli
from app.cli import audit, console, datasets, models, policies, schedules, tickets, webhooks
from app.errors import ServiceError
from expunge import Client, Retry
from tests.expunge.driver import KEY, TICKET, Script, problem

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
        monkeypatch.setattr(console.console, "_width", 200)
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
    said: dict[str, Any] = {"thresholds": {"ue": 0.2, "newer": 1.5}, "newest": {"a": 1, "b": "\x9b2J"}}
    whole = {"model": "m", "number": 1, "author": "a", "approved_by": None, "created_at": "2026-01-01T00:00:00Z"}
    answer = httpx.Response(200, json=whole | {"policy": said}, headers={"ETag": '"policy-1-1"'})
    _, printed, _ = told([answer], "policy", "show", "m")
    assert json.loads(printed[printed.index("{") :]) == said
    assert "\\u009b2J" in printed, "a terminal takes the character for the beginning of a command"
    script = Script(answer)
    service = Client("http://service", KEY, http=httpx.Client(transport=script.transport))
    policies.assign(service, "m", {"thresholds.newer": 2, "newest.a": 3})
    assert json.loads(script.asked[-1].content) == {
        "thresholds": {"ue": 0.2, "newer": 2},
        "newest": {"a": 3, "b": "\x9b2J"},
    }
    with pytest.raises(ServiceError, match=r"no drift\.max_updates"):
        policies.assign(service, "m", {"drift.max_updates": 2})


class TestTextOfOthers:
    """In which a bracket closes nothing, and a colon begins no picture."""

    ODD = "case [/] [bold]7[/bold] :smile: [red]"

    def test_in_a_list_of_tickets(self, told: Told) -> None:
        page = httpx.Response(200, json={"items": [TICKET | {"external_id": self.ODD}], "next": None})
        code, printed, _ = told([page], "tickets", "list")
        assert code == 0
        assert self.ODD in printed

    def test_in_a_proposal(self, told: Told) -> None:
        proposal = {
            "id": 1, "model": "m", "state": "refused", "base": 1, "loosens": ["window.days: 30 -> 3 [/]"], "author": "a [/]",
            "created_at": "2026-01-01T00:00:00Z", "decided_by": "b", "decided_at": None, "why": self.ODD, "policy": {},
        }  # fmt: skip
        code, printed, _ = told([httpx.Response(200, json=[proposal])], "policy", "proposals", "m")
        assert code == 0
        assert self.ODD in printed

    def test_in_a_complaint(self, told: Told) -> None:
        refused = problem(409, "conflict", f"No: {self.ODD}")
        assert told([refused], "tickets", "cancel", "t") == (1, "", f"No: {self.ODD}\n")

    def test_in_what_is_being_done(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(console, "console", console.Plain(force_terminal=True, width=120))
        with console.progress() as bars:
            console.show(bars, bars.add_task(self.ODD, total=1.0, step=""), 0.5, f"held: {self.ODD}")
            bars.refresh()
        assert f"held: {self.ODD}" in capsys.readouterr().out

    def test_what_would_move_a_terminal_s_cursor_is_written_out(self, told: Told) -> None:
        refused = problem(409, "conflict", "held\x1b[2J\x1b]0;mine\x07\r and")
        assert told([refused], "tickets", "cancel", "t")[2] == "held\\x1b[2J\\x1b]0;mine\\x07\\r and\n"
        row = TICKET | {"external_id": "case\x1b[1A\r7"}
        code, printed, _ = told([httpx.Response(200, json={"items": [row], "next": None})], "tickets", "list")
        assert (code, "case\\x1b[1A\\r7" in printed, "\x1b[1A" in printed) == (0, True, False)

    def test_in_the_name_of_what_is_loaded(self, told: Told, tmp_path: Path) -> None:
        file = tmp_path / "m.csv"
        file.write_text("id\na\n")
        said = (1, "", "Nothing is called '[/]'.\n")
        assert told([httpx.ReadError], "datasets", "load", "[/]", "--file", str(file)) == said


def test_the_key_of_a_ticket_that_was_refused_is_not(told: Told) -> None:
    assert told([problem(422, "nothing_known")], *SUBMIT, "--key", "k") == (1, "", "what to do\n")
