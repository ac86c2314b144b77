"""Somewhere to export to: an MLflow registry in SQLite, and an HTTP receiver of OpenLineage events."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from app import config
from app.exports import openlineage, registry
from tests.app.exports import scene
from tests.receiver import Receiver, receiver


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's own tables, made once: it takes seconds."""
    made = tmp_path_factory.mktemp("mlflow") / "empty.db"
    registry.client_of(f"sqlite:///{made}").search_registered_models()
    return made


@pytest.fixture
def mlflow(
    database: str, empty_registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MlflowClient]:
    """The registry that the service is told of, through another client of it."""
    own = shutil.copy(empty_registry, tmp_path / "registry.db")
    address = f"sqlite:///{own}"
    scene.configure(monkeypatch, mlflow_uri=address, api_url="https://expunge.example")
    yield MlflowClient(tracking_uri=address, registry_uri=address)
    registry.client_of.cache_clear()
    config.settings.cache_clear()


@pytest.fixture
def marquez(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver of OpenLineage events that the service is told of, by the library that the extra `lineage` brings."""
    pytest.importorskip("openlineage.client", reason="the extra `lineage` is not installed", exc_type=ImportError)
    for name in [name for name in os.environ if name.startswith("OPENLINEAGE")]:
        monkeypatch.delenv(name)
    with receiver() as made:
        scene.configure(monkeypatch, openlineage_url=made.url(path=""), api_url="https://expunge.example")
        yield made
    openlineage.client_of.cache_clear()
    config.settings.cache_clear()
