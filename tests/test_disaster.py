"""Everything is lost: real processes, a back-up taken while they run, and a journal that went on after it."""

import shutil
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import lineage
from tests.servers import short_folder
from tests.service import Service, service

pytestmark = pytest.mark.service


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


def test_after_losing_everything_no_tombstoned_sample_is_trained_on(folder: Path) -> None:
    """Run, back up, delete more, lose all of it, restore, replay, retrain. A sample that is read again fails the training."""
    archive, journal = str(folder / "archive"), str(folder / "journal")
    first = folder / "first"
    first.mkdir()
    with service(first) as up:
        api = up.api()
        up.model(api)
        before = up.submit(api, range(20))
        up.fulfilled(api, before)
        told = up.command("backup", archive).stdout
        assert "audit log's head" in told
        manifest = told.split("kept elsewhere:")[1].split()[0]
        assert "SHA-256" in up.command("audit", "export", journal).stdout
        after = up.submit(api, range(20, 60), external_id="case-1")
        up.fulfilled(api, after)
        late = up.submit(api, range(60, 80))
        told = up.command("audit", "export", journal).stdout
        assert "Segment 2" in told
        segment = told.split("SHA-256")[1].split()[0]
    shutil.rmtree(first)
    second = folder / "second"
    second.mkdir()
    poison = {"EXPUNGE_TEST_POISON": " ".join(map(str, range(80)))}
    told = Service(second, poison).command("restore", archive, "--sha256", manifest).stdout
    assert "Nothing is trained or published" in told.replace("\n", " ")
    with service(second, **poison) as up:
        refused = up.command("restore", archive, check=False)
        assert (refused.returncode, "not empty" in refused.stderr) == (1, True)
        api = up.api()
        waiting = api.post("/retrains", {"model": "net", "why": "to see it wait"})["id"]
        up.until(
            lambda: any('"locked"' in log.read_text() for log in (second / "log").glob("*.log")),
            "the sweep to find it locked",
        )
        assert api.get(f"/batches/{waiting}")["state"] == "ready"
        assert "not replayed" in up.command("audit", "verify").stdout
        told = up.command("replay", journal, "--by", "ada", "--sha256", segment).stdout
        assert "2 tickets over 60 samples are back" in told
        for ticket in (before, after, late):
            up.fulfilled(api, ticket)
        assert api.get(f"/batches/{waiting}")["state"] == "published"
        assert api.get(f"/deletions/{after}")["external_id"] == "case-1"
        left_out = api.get("/models/net@current/audit")["lineage"]["excluded_ordinals_sha256"]
        assert left_out == lineage.digest(array("q", range(80)))
        assert "ada replayed it" in up.command("audit", "verify").stdout
        assert "Segment 3" in up.command("audit", "export", journal).stdout
