"""The page that describes the interface says all that the schema says."""

import re
from html.parser import HTMLParser
from typing import Any

from fastapi.testclient import TestClient
from typing_extensions import override

from app.interface import Word, interface, words
from app.main import app
from app.pages import templates

SCHEMA: dict[str, Any] = app.openapi()


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.tags.add(tag)
        self.ids += [told["id"] or ""] if "id" in told else []
        self.links += [told["href"] or ""] if "href" in told else []

    @override
    def handle_data(self, data: str) -> None:
        self.text += data


def page() -> Page:
    return Page(TestClient(app).get("/docs").text)


def test_it_names_every_operation_scope_and_status() -> None:
    shown = re.sub(r"\s+", " ", page().text)
    for path, methods in SCHEMA["paths"].items():
        for method, described in methods.items():
            assert f"{method.upper()} {path} " in shown
            for way in described.get("security", []):
                assert f"Scope {next(iter(way.values()))[0]}." in shown
    found = [each for tag in interface(SCHEMA).tags.values() for each in tag]
    assert len(found) == sum(len(methods) for methods in SCHEMA["paths"].values())
    assert all(each.answers for each in found)


def test_it_shows_every_shape_and_field() -> None:
    shown = page()
    for name, schema in SCHEMA["components"]["schemas"].items():
        assert name in shown.ids
        for field in schema.get("properties", {}):
            assert field in shown.text


def test_every_link_inside_leads_somewhere_and_none_leads_away() -> None:
    shown = page()
    assert len(shown.ids) == len(set(shown.ids))
    for link in shown.links:
        assert link in ("./static/expunge.css", "openapi.json") or link.removeprefix("#") in [*shown.ids]
    assert shown.tags.isdisjoint({"script", "style", "iframe", "img"})


def test_types_are_words() -> None:
    assert words({"$ref": "#/components/schemas/A"}) == [Word("A", shape=True)]
    assert words({"type": "array", "items": {"$ref": "#/x/A"}}) == [Word("list of "), Word("A", shape=True)]
    assert words({"anyOf": [{"type": "integer"}, {"type": "null"}]}) == [Word("integer"), Word(" or "), Word("null")]
    assert words({"type": "string", "format": "uuid"}) == [Word("uuid")]
    assert words({"type": "object", "additionalProperties": {"type": "number"}}) == [Word("map to "), Word("number")]
    assert words({"enum": ["a", "b"]}) == [Word("a | b")]
    assert words({"const": 1}) == [Word("1")]
    assert words({}) == [Word("any")]


def test_what_a_description_holds_is_text() -> None:
    hostile = "<script>alert(1)</script>"
    described = {"operationId": hostile, "description": hostile, "responses": {"200": {"description": hostile}}}
    schema = {
        "info": {"title": "t", "version": hostile},
        "paths": {f"/{hostile}": {"get": described}},
        "components": {
            "schemas": {hostile: {"description": hostile, "properties": {hostile: {"description": hostile}}}}
        },
    }
    drawn = templates.get_template("docs.html").render(interface=interface(schema))
    assert "<script" not in drawn
    assert "&lt;script&gt;" in drawn
