"""Names that would be markup, digests that would be paths, links that lead elsewhere."""

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jinja2 import nodes

from app import batches, store, versions
from app.auth import Scope
from app.config import settings
from app.db import transaction
from app.errors import Corrupt
from app.pages import HERE, templates
from app.policy import PolicyBody
from app.tables import Model, Reason, Trigger
from tests.app import story
from tests.app.conftest import Caller

SCRIPT = "<script>alert('x')</script>"
QUOTES = "\"><img src=x onerror='alert(1)'>{{ 1234567 * 7654321 }}"
HOSTILE = f"{SCRIPT}{QUOTES}"


def test_every_page_shows_hostile_names_as_text(database: str, http: TestClient, caller: Caller) -> None:
    """Data set, problem, client, reference, reason and worker are somebody else's words."""
    story.load(HOSTILE, [(f"s{i}{SCRIPT}", f"p{i}{SCRIPT}") for i in range(20)])
    with transaction() as session:
        body = PolicyBody.model_validate(story.EAGER)
        model = versions.register(session, "m", HOSTILE, HOSTILE, body, HOSTILE)
        batches.request_retrain(session, model, Trigger.REGISTRATION, HOSTILE, HOSTILE)
        model_id = model.id
    story.publish(story.claimed(model_id, HOSTILE))
    asked = {"dataset": HOSTILE, "sample_ids": [f"s1{SCRIPT}"], "reason": Reason.OTHER, "external_id": HOSTILE}
    assert caller("<b>tool</b>", Scope.DELETIONS_WRITE).post("/deletions", json=asked).status_code == 202
    story.close(model_id)
    story.publish(story.claimed(model_id, HOSTILE))
    with transaction() as session:
        batches.request_retrain(session, session.get_one(Model, model_id), Trigger.OPERATOR, HOSTILE, HOSTILE)
    story.publish(story.claimed(model_id, HOSTILE))
    for number in (1, 2, 3):
        page = http.get(f"/models/m-v{number}/audit", headers={"Accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
        assert "<script" not in page.text
        assert "<img" not in page.text
        assert "<b>tool" not in page.text
        assert "9449772114007" not in page.text, "a template in a name is not filled in"
        assert "&lt;script&gt;" in page.text, "the test needs the names to be on the page"
    beside = http.get("/models/m-v1/compare?with=m-v3", headers={"Accept": "text/html"})
    assert beside.headers["content-type"].startswith("text/html")
    assert "<script" not in beside.text
    assert "<img" not in beside.text


def test_no_template_and_no_code_marks_text_as_safe() -> None:
    folder = HERE / "templates"
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.html"))
    assert names
    for name in names:
        source = (HERE / "templates" / name).read_text()
        tree = templates.env.parse(source)
        assert not [each for each in tree.find_all(nodes.Filter) if each.name in {"safe", "xmlattr"}], name
        assert "autoescape" not in source, name
        decides: Any = templates.env.autoescape
        assert decides is True or decides(name), name
    for file in HERE.rglob("*.py"):
        assert not re.search(r"\bMarkup\b|HTMLResponse|autoescape=False", file.read_text()), file.name


class TestPaths:
    """A digest that is none never reaches the store; a link in its folder gives nothing away and takes nothing along."""

    @pytest.mark.parametrize(
        "name", ["../../secret", "/etc/passwd", "sha256/../x", "a" * 63 + "\n", "A" * 64, "%2e" * 21 + "x"]
    )
    def test_a_hostile_digest_reaches_nothing(self, database: str, name: str) -> None:
        for use in (store.get, store.verify, store.delete, lambda digest: list(store.chunks(digest))):
            with pytest.raises(AssertionError, match="SHA-256"):
                use(name)

    @pytest.fixture
    def secret(self, database: str, tmp_path: Path) -> Path:
        file = tmp_path / "secret"
        file.write_bytes(b"what the artifacts' folder does not hold")
        return file

    @staticmethod
    def linked(secret: Path) -> str:
        digest = store.put(b"weights")
        place = settings().home / "artifacts" / store.path(digest)
        place.unlink()
        place.symlink_to(secret)
        return digest

    def test_bytes_behind_a_link_are_not_served(self, secret: Path) -> None:
        digest = self.linked(secret)
        for read in (store.get, store.verify):
            with pytest.raises(Corrupt):
                read(digest)

    def test_a_write_replaces_the_link_and_not_what_is_behind_it(self, secret: Path) -> None:
        digest = self.linked(secret)
        store.put(b"weights")
        assert store.get(digest) == b"weights"
        assert secret.read_bytes().startswith(b"what the")

    def test_a_deletion_takes_the_link_alone(self, secret: Path) -> None:
        digest = self.linked(secret)
        store.delete(digest)
        assert secret.exists()
        assert not (settings().home / "artifacts" / store.path(digest)).is_symlink()
