"""Headers that every answer carries, whatever it says, and pages that run no script and load nothing from elsewhere."""

import hashlib
import re
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from app import config, headers
from app.cli import service
from app.main import app
from app.pages import HERE
from tests.app import story

ANSWERS: dict[str, Callable[[TestClient], object]] = {
    "200": lambda http: http.get("/models"),
    "page": lambda http: http.get("/docs"),
    "report": lambda http: http.get("/models/m@current/audit", headers={"Accept": "text/html"}),
    "stylesheet": lambda http: http.get("/static/expunge.css"),
    "stylesheet of figures": lambda http: http.get("/static/figures.css"),
    "comparison": lambda http: http.get("/models/m@current/compare?with=m-v1", headers={"Accept": "text/html"}),
    "weights that are lost": lambda http: http.get("/models/m@current/weights"),
    "401": lambda http: http.get("/models", headers={"Authorization": "Bearer x"}),
    "404": lambda http: http.get("/nowhere"),
    "405": lambda http: http.put("/deletions"),
    "413": lambda http: http.post("/retrains", content=b"x" * (16 * 2**20 + 1)),
    "422": lambda http: http.post("/retrains", json={}),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_answer_has_them(http: TestClient, answer: str) -> None:
    story.dataset()
    story.trained()
    found = ANSWERS[answer](http).headers  # type: ignore[attr-defined]  # the client's answer
    assert found["x-content-type-options"] == "nosniff"
    assert found["x-frame-options"] == "DENY"
    assert found["referrer-policy"] == "no-referrer"
    assert found["cross-origin-opener-policy"] == found["cross-origin-resource-policy"] == "same-origin"
    assert found["permissions-policy"] == "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
    policy = dict(part.strip().split(" ", 1) for part in found["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy.keys() <= {"default-src", "frame-ancestors", "base-uri", "form-action", "style-src", "img-src"}
    assert "unsafe" not in found["content-security-policy"]
    assert (found["cache-control"] == "no-store") == (answer not in ("page", "stylesheet", "stylesheet of figures"))
    assert "strict-transport-security" not in found
    assert "server" not in found


def test_a_defect_has_them_too(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("app.views.schedule", broken)
    monkeypatch.setattr("app.schedules.all_of", lambda _: [None])
    answer = http.get("/schedules")
    assert answer.status_code == 500
    assert headers.ALWAYS.items() <= dict(answer.headers).items()


def test_hsts_where_it_is_asked_for(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_HSTS_SECONDS", "31536000")
    config.settings.cache_clear()
    headers.encoded.cache_clear()
    assert http.get("/livez").headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"


def test_no_template_holds_a_script_a_style_or_an_address_elsewhere() -> None:
    """Scripts are files of our own that the frame names; no template has one in it."""
    templates = list((HERE / "templates").rglob("*.html"))
    assert len(templates) >= 4
    ours = re.compile(r'<script src="\{\{ shell\.url\("static/[\w.]+"\) \}\}"( defer)?></script>')
    for template in templates:
        text = ours.sub("", template.read_text())
        assert not re.search(
            r"<script|<style|<iframe|<object|<embed|<base|\sstyle=|\son\w+=|javascript:", text, re.IGNORECASE
        )
        assert not re.search(r"(src|href|action)=[\"'](https?:)?//", text), template.name
        assert "|safe" not in text.replace(" ", ""), "escaping is never off"
    for sheet in (HERE / "static").glob("*.css"):
        assert not re.search(r"@import|url\(", sheet.read_text()), sheet.name


def test_files_of_others_are_the_bytes_that_were_looked_at() -> None:
    folder = HERE / "static/vendor"
    kept = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert kept.keys() == {path.name for path in folder.iterdir()} - {"SHA256SUMS", "README.md"}
    for name, digest in kept.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    assert {name for name in kept if name.endswith(".LICENSE")} == {"htmx.LICENSE"}


def test_no_page_of_the_frameworks_own_is_served() -> None:
    assert TestClient(app).get("/redoc").status_code == 404


def test_the_server_does_not_name_itself_however_it_is_started(database: str) -> None:
    flag = "--no-server-header"
    assert flag in service.programs(config.settings())[0].argv
    for name in ("Dockerfile", "docker-compose.yml"):
        assert flag in (HERE.parent / name).read_text()
