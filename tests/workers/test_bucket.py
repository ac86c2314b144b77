"""The main job with its artifacts in an S3-compatible bucket: in one process, and through real ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, update

from app import sweep
from app.db import transaction
from app.tables import Batch, BatchState, TicketState, VersionKind
from tests.buckets import Bucket, bucket, used
from tests.service import LENIENT as LENIENT_POLICY
from tests.service import service
from tests.workers.conftest import LENIENT, Line, load_clusters, register
from workers import artifacts


@pytest.fixture
def line(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Line, Bucket]]:
    """A trained model, and the bucket that keeps its versions."""
    with used(monkeypatch, EXPUNGE_STORE_SECONDS="1") as s3:
        load_clusters()
        made = register("lenient", LENIENT)
        made.work()
        yield made, s3


@pytest.mark.service
def test_train_update_retrain_and_purge(line: tuple[Line, Bucket], tmp_path: Path) -> None:
    made, s3 = line
    ticket = made.submit(range(40))
    made.work()
    made.retrain()
    first, second, third = made.versions()
    assert [version.kind for version in (first, second, third)] == [
        VersionKind.TRAINED,
        VersionKind.UNLEARNED,
        VersionKind.RETRAINED,
    ]
    assert made.ticket(ticket).state is TicketState.FULFILLED
    for version in (first, second, third):
        assert artifacts.load_weights(version.weights_digest)
    kept = {name.rpartition("/")[2] for name in s3.names()}
    assert sweep.referenced() <= kept
    assert not list(tmp_path.rglob("sha256"))  # nothing in the folder


@pytest.mark.service
def test_a_store_that_fails_in_mid_upload_costs_an_attempt_and_no_ticket(line: tuple[Line, Bucket]) -> None:
    made, s3 = line
    (before,) = made.versions()
    ticket = made.submit(range(40))
    s3.wire.up = 5_000  # enough to ask for the parent's weights, and for a part of the new ones
    made.work()
    assert s3.wire.cuts
    assert [version.id for version in made.versions()] == [before.id]
    assert made.batch().state is not BatchState.PUBLISHED
    assert made.ticket(ticket).state is not TicketState.FULFILLED
    s3.wire.up = None
    with transaction() as session:
        session.execute(update(Batch).where(Batch.model_id == made.model_id).values(not_before=func.now()))
    made.work()
    _, after = made.versions()
    assert artifacts.load_weights(after.weights_digest)
    assert made.ticket(ticket).state is TicketState.FULFILLED


@pytest.mark.service
def test_the_whole_service_on_a_bucket(tmp_path: Path) -> None:
    with bucket() as s3, service(tmp_path, **s3.environment) as running:
        api = running.api()
        lines = "".join(f"train-{i:04d},train-subject-{i // 20:03d}\n" for i in range(400))
        csv = {"Content-Type": "text/csv"}
        api.call("PUT", "/datasets/clusters", content=("id,subject\n" + lines).encode(), headers=csv)
        wanted = {"name": "net", "dataset": "clusters", "problem": "clusters", "policy": LENIENT_POLICY}
        api.post("/models", wanted)
        running.until(lambda: api.get("/models/net/versions")["versions"], "the first version")
        ticket = running.submit(api, range(40))
        assert running.fulfilled(api, ticket)["state"] == "fulfilled"
        weights = api.call("GET", "/models/net@current/weights").content
        assert any(name.endswith(artifacts.digest_of(weights)) for name in s3.names())
        assert not list(tmp_path.rglob("sha256/*/*"))
