"""The pages under docs/, held against the code: settings, routes, errors, commands, links, scopes."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic_core import PydanticUndefined

from app import main
from app.auth import Scope
from app.cli import app as command_line
from app.config import Settings
from app.errors import ServiceError
from app.policy import PolicyBody
from app.tables import BatchKind, BatchState, DeliveryState, Reason, RiskTier, TicketState
from app.webhooks import keys
from app.webhooks.events import EventType, Message
from app.webhooks.sending import Word

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [*DOCS.glob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "examples/spirals/README.md"]
)


def page(name: str) -> str:
    return (DOCS / name).read_text()


def rows(text: str) -> list[list[str]]:
    """Cells of every table row, without its code marks."""
    return [[c.strip() for c in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("|")]


def test_the_settings_table_is_the_settings() -> None:
    prefix = Settings.model_config["env_prefix"]
    found = {
        cells[0]: cells[1:]
        for cells in rows(page("operations.md").partition("## Settings")[2].partition("## One machine")[0])[2:]
    }
    for name, field in Settings.model_fields.items():
        variable = f"`{field.validation_alias or (prefix + name).upper()}`"
        default, described = found.pop(variable)
        assert field.default is not PydanticUndefined
        assert default == ("unset" if field.default is None else f"`{field.default}`"), variable
        assert described.rstrip(" |").startswith(field.description or ""), variable
    assert not found, "settings that do not exist"


def test_every_route_has_its_section() -> None:
    paths: dict[str, dict[str, Any]] = main.app.openapi()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    sections = re.split(r"^### ", page("api.md"), flags=re.MULTILINE)[1:]
    assert {section.partition("\n")[0].strip("`") for section in sections} == routes
    for section in sections:
        method, path = section.partition("\n")[0].strip("`").split()
        assert "curl" in section
        call = re.sub(r"\{\w+\}", '[^/ "]+', path)
        assert re.search(rf"\$URL{call}[ \"?\n]", section), f"the example of {path} asks for it"
        assert (f"-X {method}" in section) == (method != "GET")


def kinds(kind: type[ServiceError]) -> list[type[ServiceError]]:
    return [kind, *(found for each in kind.__subclasses__() for found in kinds(each))]


def test_every_error_is_listed() -> None:
    table = rows(page("api.md").partition("## Errors")[2].partition("## Idempotency")[0])[2:]
    listed = {(code, cells[1]) for cells in table for code in re.findall(r"`(\w+)`", cells[0])}
    assert listed == {(kind.code, str(kind.status)) for kind in kinds(ServiceError)}


def test_the_example_that_checks_a_call_does() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", page("api.md").partition("## Webhooks")[2], flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)  # the page's own lines
    secret, body, now = bytes(range(32)), b'{"type":"ticket.fulfilled"}', int(time.time())

    def headers(stamp: int, *more: str) -> dict[str, str]:
        signature = " ".join([*more, keys.sign(secret, "m1", stamp, body)])
        return {"webhook-id": "m1", "webhook-timestamp": str(stamp), "webhook-signature": signature}

    verify, shown = names["verify"], keys.shown(secret)
    assert verify(shown, headers(now), body)
    assert verify(shown, headers(now, "v1,AAAA"), body)
    assert not verify(shown, headers(now), body + b" ")
    assert not verify(shown, headers(now - 3600), body)
    assert not verify(keys.shown(bytes(32)), headers(now), body)
    assert not verify(shown, headers(now) | {"webhook-id": "m2"}, body)


def test_webhook_events_and_payloads_are_those_of_the_code() -> None:
    text = page("api.md").partition("## Webhooks")[2].partition("\n## ")[0]
    table = rows(text.partition("| event | `data` | told to |")[2].partition("\n\n")[0])[1:]
    named = [event for cells in table for event in re.findall(r"`([a-z_]+\.[a-z_]+)`", cells[0])]
    assert sorted(named) == sorted(EventType)
    (example,) = re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)
    message = Message.model_validate_json(example)
    assert message.model_dump(mode="json") == json.loads(example)
    for word in Word:
        assert f"`{word}`" in text, word


def test_closed_sets_of_words_are_complete() -> None:
    text = page("api.md")
    for words in (Scope, Reason, RiskTier, TicketState, BatchKind, BatchState, DeliveryState):
        for word in words:
            assert f"`{word}`" in text, word


def commands() -> set[str]:
    """Every command of the command line, such as `keys create`."""
    group: Any = typer.main.get_command(command_line)
    found = set()
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {each}" for each in inner} if inner else {name}
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_exist(path: Path) -> None:
    known = commands()
    groups = {command.partition(" ")[0] for command in known if " " in command}
    for said in re.findall(r"(?<!from)(?:^|[`(\s])expunge ((?:[a-z]+)(?: [a-z]+)?)", code_of(path.read_text())):
        first, _, second = said.partition(" ")
        name = said if first in groups and second else first
        assert name in known | groups, f"{path.name}: expunge {said}"


def code_of(text: str) -> str:
    """Only what stands between back-quotes or fences."""
    fenced = re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL)
    rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return "\n".join([*fenced, *re.findall(r"`([^`\n]+)`", rest)])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), f"{path.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_policy_values_exist() -> None:
    policy = PolicyBody().model_dump()
    text = page("your-own-model.md").partition("## Set a policy")[2].partition("## When")[0]
    named = [name for cells in rows(text)[2:] for name in re.findall(r"`([a-z_.*]+)`", cells[0])]
    assert named
    for name in named:
        part: Any = policy
        for step in name.split("."):
            part = part if step == "*" else part[step]


def test_files_that_are_named_exist() -> None:
    for path in PAGES:
        for named in re.findall(
            r"`((?:app|workers|unlearning|embedded|migrations|examples|tests)/[\w/.]*)`", path.read_text()
        ):
            assert (ROOT / named).exists(), f"{path.name}: {named}"


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for path in PAGES:
        assert set(re.findall(r"make ([a-z-]+)", code_of(path.read_text()))) <= targets, path.name
