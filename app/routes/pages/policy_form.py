"""A policy as a form: its fields, helps and limits come from the schema, so that a new value needs no work here."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from app.interface import limits
from app.policy import PolicyBody
from app.routes.pages.shell import Faults, faults_of

Schema = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One value. `kind` is number, text, flag, choice, list or json; `options` are a choice's."""

    path: str
    label: str
    kind: str
    help: str
    options: tuple[str, ...]
    nullable: bool


@dataclass(frozen=True)
class Group:
    """Values that belong together, such as all thresholds."""

    title: str
    help: str
    entries: tuple[Entry, ...]


@lru_cache
def groups() -> tuple[Group, ...]:
    """The whole form: the values that stand alone first, then part by part."""
    schema = PolicyBody.model_json_schema()
    alone, parts = [], []
    for name, told in schema["properties"].items():
        shape = resolved(schema, told)
        if "properties" in shape:
            entries = tuple(entry(schema, f"{name}.{each}", sub) for each, sub in shape["properties"].items())
            parts.append(Group(words(name), prose(shape.get("description", "")), entries))
        else:
            alone.append(entry(schema, name, told))
    thresholds = parts.pop(0)
    return (thresholds, Group("In general", "", tuple(alone)), *parts)


def words(name: str) -> str:
    return name.upper() if name in ("mu", "ue") else name.replace("_", " ").capitalize()


def prose(text: str) -> str:
    """A description as a person reads it."""
    return text.replace("`", "")


def resolved(schema: Schema, told: Schema) -> Schema:
    """What a reference leads to, with what stands beside it."""
    if "$ref" not in told:
        return told
    found: Schema = schema["$defs"][told["$ref"].rpartition("/")[2]]
    return found | {name: value for name, value in told.items() if name != "$ref"}


def entry(schema: Schema, path: str, told: Schema) -> Entry:
    told = resolved(schema, told)
    choices = [each for each in told.get("anyOf", [told]) if each.get("type") != "null"]
    nullable = any(each.get("type") == "null" for each in told.get("anyOf", []))
    said = [told["description"]] if "description" in told else []
    said += [sentence for sentence in limits(told) if "`" not in sentence]
    if nullable:
        said.append("empty: none")
    only = choices[0] if len(choices) == 1 else {}
    kind, options = kind_of(only)
    if kind == "list":
        said.append("with commas between them")
    return Entry(path, words(path.rpartition(".")[2]), kind, prose("; ".join(said)), options, nullable)


def kind_of(told: Schema) -> tuple[str, tuple[str, ...]]:
    if "enum" in told:
        return "choice", tuple(map(str, told["enum"]))
    if told.get("type") in ("number", "integer"):
        return "number", ()
    kinds = {"boolean": "flag", "array": "list", "object": "json"}
    return kinds.get(str(told.get("type")), "text"), ()


def entries() -> Iterator[Entry]:
    for group in groups():
        yield from group.entries


def shown(body: PolicyBody) -> dict[str, Any]:
    """The value of each field for a policy."""
    whole = body.model_dump(mode="json")
    found = {}
    for each in entries():
        value: Any = whole
        for step in each.path.split("."):
            value = value[step]
        found[each.path] = value
    return found


def texts(body: PolicyBody) -> dict[str, str]:
    """What the form's fields hold for a policy."""
    return {path: text(value) for path, value in shown(body).items()}


def text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, str):
        return value
    shown = json.dumps(value)
    return shown.removesuffix(".0") if isinstance(value, float) else shown


def read(typed: Mapping[str, str]) -> PolicyBody:
    """The policy that the fields make up. Raises `Faults` with a sentence for each field that is wrong."""
    body: dict[str, Any] = {}
    found: dict[str, str] = {}
    for each in entries():
        sent = typed.get(each.path, "").strip()
        part = body
        *above, last = each.path.split(".")
        for step in above:
            part = part.setdefault(step, {})
        try:
            part[last] = value(each, sent)
        except (ValueError, RecursionError):
            found[each.path] = "not JSON: an object such as {} is needed"
    if found:
        raise Faults(found)
    try:
        return PolicyBody.model_validate(body)
    except ValidationError as error:
        raise by_field(faults_of(error)) from None


def value(each: Entry, sent: str) -> Any:
    if each.nullable and not sent:
        return None
    if each.kind == "list":
        return [part.strip() for part in sent.split(",") if part.strip()]
    return json.loads(sent or "{}") if each.kind == "json" else sent


def by_field(error: Faults) -> Faults:
    """A fault lies at the field that it is in, however deep inside."""
    paths = [each.path for each in entries()]
    return Faults(
        {
            next((path for path in paths if name == path or name.startswith(f"{path}.")), name): said
            for name, said in error.fields.items()
        }
    )


def read_json(sent: str) -> PolicyBody:
    """The policy as JSON. What it leaves out has its default."""
    try:
        return PolicyBody.model_validate(json.loads(sent))
    except json.JSONDecodeError as error:
        raise Faults({"body": f"not JSON (at character {error.pos})"}) from None
    except ValidationError as error:
        raise faults_of(error) from None
    except (ValueError, RecursionError):
        raise Faults({"body": "not JSON that can be read: a number is too long, or it is nested too deeply"}) from None
