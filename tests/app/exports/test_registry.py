"""Versions in a real MLflow registry: what is there, in which order it came, and what a crash or an outage leaves."""

import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from sqlalchemy import func, update

from app import rollback, store, sweep, versions
from app.db import transaction
from app.exports import follow, registry
from app.tables import Version
from tests.app import story
from tests.app.exports import scene
from tests.receiver import receiver

# MLflow's own store; the address of a registry behind HTTP needs none of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")


def held(client: MlflowClient, model: str = "m") -> dict[str, ModelVersion]:
    """What the registry has of the model, by our names."""
    return {each.tags["expunge.version"]: each for each in client.search_model_versions(f"name='{model}'")}


def served(client: MlflowClient, alias: str = "current") -> str:
    return str(client.get_model_version_by_alias("m", alias).tags["expunge.version"])


def test_each_version_is_there_and_the_alias_is_on_the_current_one(mlflow: MlflowClient) -> None:
    scene.updated()
    follow.export()
    found = held(mlflow)
    assert sorted(found) == ["m-v1", "m-v2"]
    assert served(mlflow) == "m-v2"
    published = scene.events("version.published")[1]
    assert found["m-v2"].source == "https://expunge.example/models/m-v2/weights"
    assert found["m-v2"].tags == {
        "expunge.event": published.hash,
        "expunge.version": "m-v2",
        "expunge.parent": "m-v1",
        "expunge.batch": str(published.batch_id),
        "expunge.kind": "unlearned",
        "expunge.rung": "iau",
        "expunge.verdict": "publish",
        "expunge.weights": "https://expunge.example/models/m-v2/weights",
        "expunge.weights_sha256": published.data["weights"],
        "expunge.audit": "https://expunge.example/models/m-v2/audit",
        "expunge.tickets": "1",
        "expunge.mu": "-0.01",
        "expunge.mu_low": "-0.02",
        "expunge.mu_high": "0",
    }
    assert "expunge.parent" not in found["m-v1"].tags
    assert scene.cursor("mlflow").seq == scene.head()


def test_ue_is_told_where_it_is_a_rate(mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the 40 samples of the other tests it says nothing: of fewer than 50 no rate is claimed."""
    enough = story.statistics(ue=story.statistic(0.02, -0.05, 0.09, n=50))
    monkeypatch.setattr(story, "statistics", lambda: enough)
    scene.updated()
    follow.export()
    tags = held(mlflow)["m-v2"].tags
    assert [tags[f"expunge.{name}"] for name in ("ue", "ue_low", "ue_high")] == ["0.02", "-0.05", "0.09"]


def test_no_sample_subject_or_ticket_is_named(mlflow: MlflowClient) -> None:
    scene.updated()
    ticket = story.submit(3, external_id="case-77")
    with transaction() as session:
        model_id = versions.find_model(session, "m").id
    story.work(model_id)
    follow.export()
    whole = str([(vars(each), each.tags) for each in mlflow.search_model_versions("name='m'")])
    assert "m-v3" in whole
    for named in (*(story.sample(i) for i in range(20)), "p-0", "p-1", "case-77", str(ticket)):
        assert named not in whole


def test_telling_all_again_adds_nothing_and_leads_the_alias_nowhere(
    mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.updated()
    follow.export()
    moved: list[str] = []
    move = MlflowClient.set_registered_model_alias

    def noted(self: MlflowClient, name: str, alias: str, version: str) -> None:
        moved.append(str(version))
        move(self, name, alias, version)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", noted)
    scene.rewind("mlflow")
    follow.export()
    assert len(mlflow.search_model_versions("name='m'")) == 2
    assert moved == [str(held(mlflow)["m-v2"].version)]


class Died(BaseException):
    """The process ends here."""


@contextmanager
def dies(monkeypatch: pytest.MonkeyPatch, call: str, *, after: bool) -> Iterator[None]:
    """The first such call to the registry is the process's last: before it was made, or after it had been answered."""
    real = getattr(MlflowClient, call)

    def once(self: MlflowClient, *args: Any, **more: Any) -> Any:
        if after:
            real(self, *args, **more)
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, call, once)
        with pytest.raises(Died):
            yield


@pytest.mark.parametrize(
    ("call", "after"),
    [
        ("create_registered_model", True),
        ("create_model_version", False),
        ("create_model_version", True),
        ("set_registered_model_alias", False),
        ("set_registered_model_alias", True),
    ],
)
def test_a_crash_between_two_calls_leaves_nothing_twice_and_nothing_out(
    mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch, call: str, after: bool
) -> None:
    story.dataset()
    story.trained()
    with dies(monkeypatch, call, after=after):
        follow.export()
    follow.export()
    assert sorted(held(mlflow)) == ["m-v1"]
    assert len(mlflow.search_model_versions("name='m'")) == 1
    assert served(mlflow) == "m-v1"


def test_a_rollback_is_a_version_and_has_the_alias(mlflow: MlflowClient) -> None:
    story.dataset()
    model_id = story.register()
    for weights in (b"old", b"new"):
        if weights == b"new":
            story.retrain(model_id)
        story.publish(story.claimed(model_id), weights)
        store.put(weights)
    follow.export()
    with transaction() as session:
        model = versions.find_model(session, "m")
        rollback.roll_back(session, model, versions.resolve(session, "m-v1"), "two points", "ada")
    follow.export()
    found = held(mlflow)
    assert served(mlflow) == "m-v3"
    digests = [found[f"m-v{n}"].tags["expunge.weights_sha256"] for n in (1, 2, 3)]
    assert digests[0] == digests[2] != digests[1]
    assert found["m-v3"].tags["expunge.parent"] == "m-v2"


def test_weights_that_nobody_is_given_any_more_are_marked(mlflow: MlflowClient) -> None:
    story.dataset()
    model_id = story.trained(policy=story.EAGER | {"lone": {"rule": "withdraw", "min_batch": 5}})
    story.submit(1)
    story.work(model_id)
    with transaction() as session:
        late = func.now() - timedelta(days=4000)
        session.execute(update(Version).where(Version.number == 1).values(superseded_at=late))
    sweep.purge()
    follow.export()
    tags = held(mlflow)["m-v1"].tags
    assert tags["expunge.weights_withdrawn"] == scene.events("weights.withdrawn")[0].at
    assert tags["expunge.weights_purged"] == scene.events("weights.purged")[0].at
    assert not {"expunge.weights_withdrawn", "expunge.weights_purged"} & held(mlflow)["m-v2"].tags.keys()


def test_a_version_that_was_deleted_there_holds_nothing_up(mlflow: MlflowClient) -> None:
    story.dataset()
    model_id = story.trained(policy=story.EAGER | {"lone": {"rule": "withdraw", "min_batch": 5}})
    follow.export()
    mlflow.delete_model_version("m", str(held(mlflow)["m-v1"].version))
    story.submit(1)
    story.work(model_id)
    follow.export()
    assert sorted(held(mlflow)) == ["m-v2"]
    assert scene.cursor("mlflow").seq == scene.head()


def test_a_model_that_is_registered_there_already_is_used(mlflow: MlflowClient) -> None:
    mlflow.create_registered_model("m")
    mlflow.create_model_version("m", "s3://elsewhere/by-hand")
    story.dataset()
    story.trained()
    follow.export()
    assert str(mlflow.get_model_version_by_alias("m", "current").version) == "2"


def test_an_alias_of_ones_own(mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.configure(monkeypatch, mlflow_alias="champion")
    story.dataset()
    story.trained()
    follow.export()
    assert served(mlflow, "champion") == "m-v1"


def test_an_outage_loses_nothing_and_tells_no_password(mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    good = registry_address()
    story.dataset()
    model_id = story.trained()
    with receiver() as away:
        port = away.port
    scene.configure(monkeypatch, mlflow_uri=f"http://ada:hunter2@127.0.0.1:{port}")
    for _ in range(2):
        with structlog.testing.capture_logs() as lines:
            follow.export()
        row = scene.cursor("mlflow")
        assert row.failure == "The registry did not take it: INTERNAL_ERROR."
        assert row.failed_at is not None
        assert [line["event"] for line in lines] == ["export.failed"]
        assert "hunter2" not in str(lines) + row.failure
    assert scene.cursor("mlflow").seq < scene.events("version.published")[0].seq
    story.submit(1)
    story.work(model_id)
    scene.configure(monkeypatch, mlflow_uri=good)
    follow.export()
    assert sorted(held(mlflow)) == ["m-v1", "m-v2"]
    row = scene.cursor("mlflow")
    assert (row.seq, row.failed_at, row.failure) == (scene.head(), None, None)


def registry_address() -> str:
    """The one that is configured."""
    (found,) = follow.configured()
    assert isinstance(found, registry.Registry)
    return found.address


@pytest.fixture(scope="session")
def server(empty_registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of MLflow's own server, as it is when nobody has configured it further."""
    serving = pytest.importorskip("werkzeug.serving")
    folder = tmp_path_factory.mktemp("server")
    store = f"sqlite:///{shutil.copy(empty_registry, folder / 'server.db')}"
    with pytest.MonkeyPatch.context() as patched:
        for name in ("FILE_STORE", "REGISTRY_STORE"):
            patched.setenv(f"_MLFLOW_SERVER_{name}", store)
        patched.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(folder / "artifacts"))
        app = pytest.importorskip("mlflow.server").app
        made = serving.make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()
        made.server_close()


@pytest.mark.service
@pytest.mark.parametrize("allowed", [False, True])
def test_a_real_server(server: str, mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    """Over HTTP: a server that takes no source on another host by default, and one that was told to."""
    if allowed:
        monkeypatch.setenv("MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES", "https")
    scene.configure(monkeypatch, mlflow_uri=server)
    name = "told" if allowed else "untold"
    story.dataset()
    model_id = story.trained(name, policy=story.EAGER | {"lone": {"rule": "withdraw", "min_batch": 5}})
    story.submit(1)
    story.work(model_id)
    follow.export()
    scene.rewind("mlflow")
    follow.export()
    assert scene.cursor("mlflow").failure is None
    client = registry.client_of(server)
    found = held(client, name)
    assert len(client.search_model_versions(f"name='{name}'")) == 2
    second = found[f"{name}-v2"]
    digest = second.tags["expunge.weights_sha256"]
    assert second.source == (second.tags["expunge.weights"] if allowed else f"expunge:/weights/{digest}")
    assert "expunge.weights_withdrawn" in found[f"{name}-v1"].tags
    assert str(client.get_model_version_by_alias(name, "current").version) == str(second.version)
    address = registry.Registry(server, "current", "https://expunge.example")
    address.restore([registry.Line(name, None, frozenset())])
    address.restore([registry.Line(name, None, frozenset()), registry.Line("never-told", None, frozenset())])
    assert client.get_registered_model(name).aliases == {}
    assert all("expunge.lost" in each.tags for each in held(client, name).values())


@pytest.mark.parametrize("status", [404, 401, 500])
def test_what_is_no_registry_is_said(mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    story.dataset()
    story.trained()
    with receiver() as other:
        other.answer = lambda _: (status, {"Content-Type": "text/html"})
        scene.configure(monkeypatch, mlflow_uri=other.url(path=""))
        follow.export()
        asked = {call.path.partition("?")[0] for call in other.calls}
    assert asked == {"/api/2.0/mlflow/model-versions/search"}
    assert str(scene.cursor("mlflow").failure).startswith("The registry did not take it: ")


def test_without_the_extra_it_is_said_at_each_tick_and_nothing_is_lost(
    mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.dataset()
    story.trained()
    registry.client_of.cache_clear()
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "mlflow", None)
        for _ in range(2):
            with structlog.testing.capture_logs() as lines:
                follow.export()
            assert [line["failure"] for line in lines] == [registry.MISSING]
    assert scene.cursor("mlflow").failure == registry.MISSING
    follow.export()
    assert served(mlflow) == "m-v1"
