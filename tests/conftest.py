"""Fixtures for the whole suite."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Test processes share few cores: more threads than cores wait for each other. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests import client_of_starlette, databases
from tests.servers import Missing, Servers, running

assert client_of_starlette, "imported before any test imports Starlette's"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On the machine's own servers only what meets a server is repeated: the rest would answer as it did."""
    if os.environ.get("EXPUNGE_TEST_SERVERS", "wheel") == "wheel":
        return
    meets = [item for item in items if "servers" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in meets])
    items[:] = meets


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """A private Postgres and Redis for this test process; EXPUNGE_TEST_SERVERS=system takes the machine's own."""
    try:
        with running(os.environ.get("EXPUNGE_TEST_SERVERS", "wheel")) as pair:
            yield pair
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def template(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database at the newest revision, to be copied."""
    return databases.migrated_template(servers, tmp_path_factory.mktemp("template"))


@pytest.fixture
def database(servers: Servers, template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty, migrated database that this process's settings point at; its address."""
    with (
        databases.lent(servers, template) as name,
        databases.use(servers, name, tmp_path, monkeypatch) as address,
    ):
        yield address
