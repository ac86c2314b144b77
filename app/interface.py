"""The OpenAPI schema as a page shows it: operations by tag, and the shapes they take and give."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

OpenApi = dict[str, Any]
LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "length at least {}",
    "maxLength": "length at most {}",
    "minItems": "{} items or more",
    "maxItems": "{} items or fewer",
    "pattern": "as `{}`",
}


@dataclass(frozen=True)
class Word:
    """A piece of a type: plain text, or the name of a shape to link to."""

    text: str
    shape: bool = False


@dataclass(frozen=True)
class Row:
    """A field of a shape, or a parameter of an operation."""

    name: str
    kind: list[Word]
    required: bool
    notes: str


@dataclass(frozen=True)
class Answer:
    status: str
    kind: list[Word]
    notes: str


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    anchor: str
    summary: str
    scope: str | None
    parameters: list[tuple[str, Row]]
    body: list[tuple[str, list[Word]]]
    answers: list[Answer]


@dataclass(frozen=True)
class Shape:
    """A named schema: fields, or the words it may be."""

    name: str
    summary: str
    rows: list[Row]
    values: list[str]


@dataclass(frozen=True)
class Interface:
    title: str
    version: str
    tags: dict[str, list[Operation]] = field(default_factory=dict)
    shapes: list[Shape] = field(default_factory=list)


def interface(schema: OpenApi) -> Interface:
    """Everything that the schema says, in its order; shapes by name."""
    found = Interface(schema["info"]["title"], schema["info"]["version"])
    for path, methods in schema["paths"].items():
        for method, described in methods.items():
            found.tags.setdefault(described.get("tags", ["other"])[0], []).append(operation(method, path, described))
    components = schema.get("components", {}).get("schemas", {})
    found.shapes.extend(shape(name, components[name]) for name in sorted(components))
    return found


def operation(method: str, path: str, described: OpenApi) -> Operation:
    scopes = [scope for way in described.get("security", []) for scope in next(iter(way.values()))]
    parameters = [
        (each["in"], row(each["name"], each["schema"] | kept(each, "description"), each.get("required", False)))
        for each in described.get("parameters", [])
    ]
    body = [
        (media, words(each["schema"])) for media, each in described.get("requestBody", {}).get("content", {}).items()
    ]
    answers = [answer(status, each) for status, each in described["responses"].items()]
    summary = described.get("description") or described.get("summary", "")
    scope = scopes[0] if scopes else None
    return Operation(method.upper(), path, described["operationId"], summary, scope, parameters, body, answers)


def kept(described: OpenApi, name: str) -> OpenApi:
    return {name: described[name]} if name in described else {}


def answer(status: str, described: OpenApi) -> Answer:
    kinds = [words(each["schema"]) for each in described.get("content", {}).values() if each.get("schema")]
    return Answer(
        status, kinds[0] if kinds else [], described.get("description", "").removeprefix("Successful Response")
    )


def shape(name: str, schema: OpenApi) -> Shape:
    required = set(schema.get("required", []))
    rows = [row(each, told, each in required) for each, told in schema.get("properties", {}).items()]
    return Shape(name, schema.get("description", ""), rows, [str(value) for value in schema.get("enum", [])])


def row(name: str, schema: OpenApi, required: bool) -> Row:
    notes = [*([schema["description"]] if "description" in schema else []), *limits(schema)]
    if schema.get("default") not in (None, [], {}) and not isinstance(schema["default"], dict):
        notes.append(f"default: {json.dumps(schema['default'])}")
    return Row(name, words(schema), required, "; ".join(notes))


def limits(schema: OpenApi) -> Iterator[str]:
    """What bounds the value, wherever in a choice of types it stands."""
    for each in [schema, *schema.get("anyOf", []), schema.get("items", {})]:
        for name, sentence in LIMITS.items():
            if name in each:
                yield sentence.format(each[name])


def words(schema: OpenApi) -> list[Word]:
    """A schema's type, to be read as words."""
    if "$ref" in schema:
        return [Word(schema["$ref"].rpartition("/")[2], shape=True)]
    if "const" in schema:
        return [Word(str(schema["const"]))]
    if "enum" in schema:
        return [Word(" | ".join(map(str, schema["enum"])))]
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return joined([words(each) for each in schema[choice]], " or ")
    kind = schema.get("type", "any")
    if kind == "array":
        return [Word("list of "), *words(schema.get("items", {}))]
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return [Word("map to "), *words(schema["additionalProperties"])]
    return [Word(schema.get("format") or str(kind))]


def joined(parts: list[list[Word]], separator: str) -> list[Word]:
    found = parts[0][:]
    for part in parts[1:]:
        found += [Word(separator), *part]
    return found
