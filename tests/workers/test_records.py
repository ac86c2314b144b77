"""What a training leaves: quoted, kept with its version, purged of what is forgotten, and never worth a version."""

from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import func, update
from sqlalchemy.exc import IntegrityError

from app import audit, evidence, store, sweep, versions
from app.config import settings
from app.db import transaction
from app.errors import Gone
from app.policy import PolicyBody
from app.tables import Policy, Version, VersionKind
from tests.app.test_versions import Later
from tests.workers.conftest import LENIENT, Line, load_clusters, register
from unlearning.recorder import Recorder
from unlearning.records import Records
from workers import artifacts, pipeline

EVERYTHING = {"initial": True, "journal": True, "fisher": True, "importance": True, "importance_batch": 50}
STEPS = 24  # 3 epochs of 400 samples by 50


def keeping(**recorder: Any) -> PolicyBody:
    return PolicyBody.model_validate(LENIENT.model_dump() | {"recorder": EVERYTHING | recorder})


@pytest.fixture
def line(database: object) -> Line:
    """A trained model whose policy records everything and lets any update pass."""
    load_clusters()
    made = register("net", keeping())
    made.work()
    return made


def events(version: Version, kind: str) -> list[dict[str, Any]]:
    with transaction() as session:
        return [e["data"] for e in audit.timeline(session, batch_id=version.batch_id) if e["kind"] == kind]


def report(line: Line, number: int) -> evidence.Report:
    with transaction() as session:
        return evidence.report(session, versions.resolve(session, f"{line.name}-v{number}"))


def records_of(version: Version) -> Records:
    assert version.records_digest is not None
    return artifacts.load_records(version.records_digest)


def test_a_training_keeps_what_the_policy_asks_for_and_says_its_size_first(line: Line) -> None:
    (version,) = line.versions()
    records = records_of(version)
    assert records.parts == ("initial", "membership", "journal", "fisher", "importance")
    assert records.steps is not None
    assert records.initial is not None
    assert records.journal is not None
    assert len(records.steps) == len(records.journal) == STEPS
    weights = artifacts.load_weights(version.weights_digest)
    for name, value in weights.items():
        total = records.initial[name] + sum(delta[name] for delta in records.journal.values())
        torch.testing.assert_close(total, value, rtol=1e-5, atol=1e-6)
    (quoted,) = events(version, "records.quoted")
    assert quoted["total"] == sum(quoted["bytes"].values())
    assert 0.9 * quoted["total"] < records.nbytes <= quoted["total"] + 100
    kinds = [event["kind"] for event in report(line, 1).timeline]
    assert kinds.index("records.quoted") < kinds.index("verdict.recorded")
    (published,) = events(version, "version.published")
    assert published["records"] == version.records_digest


def test_the_audit_says_what_is_kept(line: Line) -> None:
    (version,) = line.versions()
    found = report(line, 1)
    assert found.records is not None
    assert version.records_digest is not None
    assert found.records.model_dump() == {
        "kept": True,
        "sha256": version.records_digest,
        "bytes": len(store.get(version.records_digest)),
        "of": "net-v1",
        "quoted_bytes": events(version, "records.quoted")[0]["total"],
        "parts": ["initial", "membership", "journal", "fisher", "importance"],
        "epochs": 3,
        "steps": STEPS,
        "journal_steps": STEPS,
        "lost_steps": 0,
        "undone_steps": 0,
        "purged_samples": 0,
    }
    assert found.version.records_bytes == found.records.bytes


def test_nothing_is_recorded_unless_asked_and_recording_changes_no_weight(line: Line) -> None:
    plain = register("plain", LENIENT)
    plain.work()
    (recorded,), (unrecorded,) = line.versions(), plain.versions()
    assert unrecorded.weights_digest == recorded.weights_digest
    assert unrecorded.records_digest is None
    assert unrecorded.records is None
    assert report(plain, 1).records is None
    assert events(unrecorded, "records.quoted") == []


def test_above_the_limit_the_training_goes_on_without_records_and_says_so(database: object) -> None:
    load_clusters()
    line = register("net", keeping(limit_bytes=10_000))
    line.work()
    (version,) = line.versions()
    assert version.records_digest is None
    (quoted,), (refused,) = events(version, "records.quoted"), events(version, "records.refused")
    assert quoted["total"] > quoted["limit"] == 10_000
    assert f"would take {quoted['total']:,} bytes" in refused["why"]
    assert "the policy's limit is 10,000" in refused["why"]


@pytest.mark.parametrize("part", ["stepped", "finished"])
def test_a_recorder_that_fails_costs_the_records_and_not_the_version(
    database: object, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("subject-4711-secret does not fit")

    load_clusters()
    monkeypatch.setattr(Recorder, part, fail)
    line = register("net", keeping())
    line.work()
    (version,) = line.versions()
    assert version.records_digest is None
    (abandoned,) = events(version, "records.abandoned")
    assert abandoned["why"].startswith("RuntimeError in test_records.py")
    assert "secret" not in str(report(line, 1))


def test_records_that_cannot_be_stored_do_not_cost_the_version(
    database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    load_clusters()
    monkeypatch.setattr(artifacts, "save_records", full)
    line = register("net", keeping())
    line.work()
    (version,) = line.versions()
    assert version.records_digest is None
    assert events(version, "records.abandoned")[0]["why"].startswith("OSError")


def test_an_update_takes_the_records_over_without_what_they_hold_of_the_forgotten(line: Line) -> None:
    (first,) = line.versions()
    before = records_of(first)
    forget = np.arange(4)
    line.submit(forget.tolist())
    line.work()
    first, second = line.versions()
    assert second.kind is VersionKind.UNLEARNED
    after = records_of(second)
    touched = before.touched(forget)
    assert 0 < len(touched) < STEPS
    assert after.steps is not None
    assert after.journal is not None
    assert not any(np.isin(step, forget).any() for step in after.steps)
    assert sorted(after.journal) == [number for number in range(STEPS) if number not in touched]
    assert after.lost == set(touched)
    assert after.parts == ("initial", "membership", "journal")
    found = report(line, 2).records
    assert found is not None
    assert (found.of, found.purged_samples, found.lost_steps, found.journal_steps) == (
        "net-v1",
        4,
        len(touched),
        STEPS - len(touched),
    )
    line.submit([10, 11])
    line.work()
    again = report(line, 3).records
    assert again is not None
    assert (again.of, again.purged_samples) == ("net-v1", 6)


def test_the_parents_records_are_deleted_when_the_child_is_published(line: Line) -> None:
    old = line.versions()[0].records_digest
    assert old is not None
    line.submit(range(4))
    line.work()
    first, second = line.versions()
    assert first.records_digest is None
    with pytest.raises(Gone):
        store.get(old)
    (purged,) = events(second, "records.purged")
    assert purged == {"version": "net-v1", "records": old, "into": second.records_digest, "samples": 4}
    left = report(line, 1).records
    assert left is not None
    assert (left.kept, left.sha256) == (False, old)
    assert report(line, 1).version.records_bytes is None


def collected(monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patch:
        patch.setattr(store, "datetime", Later)
        return sweep.purge()


def test_a_worker_that_dies_after_the_publication_leaves_the_old_bytes_to_the_sweep(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = line.versions()[0].records_digest
    assert old is not None
    line.submit(range(4))
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "settle", lambda *_: None)
        line.work()
    assert store.get(old), "nothing has deleted them yet"
    assert line.versions()[0].records_digest is None
    collected(monkeypatch)
    with pytest.raises(Gone):
        store.get(old)
    assert records_of(line.versions()[1])


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


def test_a_worker_that_dies_before_the_publication_has_changed_nothing(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = line.versions()[0].records_digest
    stored: list[str] = []
    real = artifacts.save_records

    def dying(*arguments: Any) -> Any:
        stored.append(real(*arguments)[0])
        raise Killed

    ticket = line.submit(range(4))
    monkeypatch.setattr(artifacts, "save_records", dying)
    with pytest.raises(Killed):
        line.work()
    monkeypatch.setattr(artifacts, "save_records", real)
    assert [v.records_digest for v in line.versions()] == [old]
    line.expire_lease()
    line.work()
    first, second = line.versions()
    assert first.records_digest is None
    assert second.records_digest not in (None, *stored)
    assert line.ticket(ticket).obligations[0].version_id == second.id
    collected(monkeypatch)
    with pytest.raises(Gone):
        store.get(stored[0])
    assert records_of(second)


def test_a_retrain_has_records_of_its_own_without_any_tombstoned_sample(line: Line) -> None:
    old = line.versions()[0].records_digest
    assert old is not None
    line.submit(range(100, 140))
    line.retrain()
    (version,) = (v for v in line.versions() if v.kind is VersionKind.RETRAINED)
    records = records_of(version)
    assert records.steps is not None
    assert not any(np.isin(step, np.arange(100, 140)).any() for step in records.steps)
    assert records.fisher is not None
    assert records.fisher.count == 360
    found = report(line, version.number).records
    assert found is not None
    assert (found.of, found.purged_samples) == (f"net-v{version.number}", 0)
    with pytest.raises(Gone):
        store.get(old)


def test_a_retrain_under_a_policy_that_records_nothing_keeps_nothing(line: Line) -> None:
    old = line.versions()[0].records_digest
    assert old is not None
    with transaction() as session:
        body = LENIENT.model_dump(mode="json")
        session.add(Policy(model_id=line.model_id, number=2, body=body, author="operator"))
    line.retrain()
    assert [v.records_digest for v in line.versions()] == [None, None]
    assert events(line.versions()[1], "records.purged")[0]["into"] is None
    with pytest.raises(Gone):
        store.get(old)


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_records_that_cannot_be_used_cost_no_update(line: Line, harm: str) -> None:
    digest = line.versions()[0].records_digest
    assert digest is not None
    path = settings().home / "artifacts" / store.path(digest)
    path.unlink() if harm == "gone" else path.write_bytes(b"\0" + path.read_bytes()[1:])
    line.submit(range(4))
    line.work()
    second = line.versions()[1]
    assert second.kind is VersionKind.UNLEARNED
    assert second.records_digest is None
    (unusable,) = events(second, "records.unusable")
    assert unusable == {"records": digest, "why": {"gone": "gone", "damaged": "corrupt_artifact"}[harm]}


def test_sums_alone_do_not_outlive_the_first_update(database: object) -> None:
    load_clusters()
    line = register("net", keeping(initial=False, journal=False))
    line.work()
    assert records_of(line.versions()[0]).parts == ("fisher", "importance")
    line.submit(range(4))
    line.work()
    assert [v.records_digest for v in line.versions()] == [None, None]


def test_models_with_the_same_training_do_not_share_the_bytes(line: Line) -> None:
    """Deleting one's must leave the other's."""
    other = register("other", keeping())
    other.work()
    mine, theirs = line.versions()[0], other.versions()[0]
    assert mine.weights_digest == theirs.weights_digest
    assert mine.records_digest != theirs.records_digest
    line.submit(range(4))
    line.work()
    assert records_of(other.versions()[0]).parts == records_of(theirs).parts


def test_what_is_named_is_not_collected(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    collected(monkeypatch)
    assert records_of(line.versions()[0])


def test_no_superseded_version_can_have_records(line: Line) -> None:
    held = update(Version).where(Version.model_id == line.model_id)
    with pytest.raises(IntegrityError, match="records_until_superseded"), transaction() as session:
        session.execute(held.values(superseded_at=func.now()))
    with pytest.raises(IntegrityError, match="records_until_superseded"), transaction() as session:
        session.execute(held.values(records=None))


def test_a_run_that_lost_its_lease_leaves_the_records_of_the_winner(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.submit(range(4))
    real = artifacts.save_records
    taken: list[bool] = []

    def overtaken(*arguments: Any) -> Any:
        if not taken:
            taken.append(True)
            line.expire_lease()
            line.work()
        return real(*arguments)

    monkeypatch.setattr(artifacts, "save_records", overtaken)
    line.work()
    assert [v.number for v in line.versions()] == [1, 2]
    assert records_of(line.versions()[1])
