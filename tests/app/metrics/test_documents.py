"""What is written about the metrics, held against what the service exports."""

import re
from pathlib import Path

import pytest

from tests.app.metrics.exported import Scrape, everything, scrape

ROOT = Path(__file__).parents[3]
SUFFIXES = re.compile(r"_(bucket|count|sum|gcount|gsum)$")


@pytest.fixture
def exported(database: str) -> Scrape:
    """Of a service to which everything has happened, requests included."""
    from fastapi.testclient import TestClient

    from app.main import app

    TestClient(app).get("/livez")
    everything()
    return scrape()


def by_name(exported: Scrape) -> dict[str, set[str]]:
    """Labels of each metric, a histogram's as one."""
    found: dict[str, set[str]] = {}
    for name, labels in exported.labels.items():
        histogram = f"{SUFFIXES.sub('', name)}_bucket" in exported.labels
        found.setdefault(SUFFIXES.sub("", name) if histogram else name, set()).update(labels)
    return found


def test_the_page_lists_what_there_is(exported: Scrape) -> None:
    table = (ROOT / "docs" / "operations.md").read_text().partition("## Metrics")[2].partition("\n## ")[0]
    listed = {}
    for name, labels in re.findall(r"^\| `(expunge_\w+)` \| ([^|]*)\|", table, flags=re.MULTILINE):
        assert name not in listed
        listed[name] = set(re.findall(r"`(\w+)`", labels))
    assert listed == by_name(exported)
