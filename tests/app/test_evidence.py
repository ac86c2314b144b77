"""The audit report of each kind of version, and that it outlives the weights."""

import json

import pytest

from app import evidence, versions
from app.db import transaction
from app.tables import Decision, VersionKind
from tests.app import story


def report(reference: str) -> evidence.Report:
    with transaction() as session:
        return evidence.report(session, versions.resolve(session, reference))


@pytest.fixture
def line(database: str) -> int:
    """v1 trained, v2 unlearned, v3 retrained after an update that did not pass."""
    story.dataset()
    model_id = story.trained()
    story.submit(1, 2)
    story.work(model_id)
    story.submit(3, subjects=["p-5"])
    lease = story.closed(model_id)
    story.record(lease, b"rejected", story.ESCALATE)
    story.publish(lease, b"retrained", VersionKind.RETRAINED)
    return model_id


def test_a_first_version(line: int) -> None:
    found = report("m-v1")
    assert found.summary == "m-v1 is the model's first version, trained on all 20 samples of its manifest."
    assert (found.version.parent, found.version.current) == (None, False)
    assert (found.lineage.parents, found.lineage.tickets) == ([], [])
    assert found.not_promised == list(evidence.LIMITS_OF_A_RETRAIN)


def test_an_update(line: int) -> None:
    found = report("m-v2")
    assert "approximate update for 2 samples" in found.summary
    assert "MU -0.010 [-0.020, +0.000] within ±0.03" in found.summary
    assert "UE +0.020 [-0.050, +0.090], of too few samples to claim a rate" in found.summary
    assert found.not_promised == list(evidence.LIMITS_OF_AN_UPDATE)
    (ticket,) = found.lineage.tickets
    assert ticket.samples == 2
    assert [parent.version for parent in found.lineage.parents] == ["m-v1"]
    assert (found.lineage.samples_excluded, found.lineage.forgotten_by_this_version) == (2, 2)
    assert found.verdict.decision is Decision.PUBLISH
    assert found.verdict.weights_sha256 == found.version.weights_sha256
    assert (found.drift.updates, found.drift.forgotten, found.drift.live_samples) == (1, 2, 20)
    assert found.drift.false_publishes == 0.05
    assert found.drift.expectation == (
        "At most 0.05 of 1 update since the last training is expected to be false: published although the true UE or MU lies"
        " beyond its threshold."
    )
    assert (found.verdict.thresholds["attempt"], found.verdict.thresholds["attempt_error"]) == (1, pytest.approx(0.03))
    assert found.verdict.truth == {"mu": 0.0, "ue": 0.0}
    assert [run.outcome for run in found.runs] == ["published"]


def test_a_retrain_shows_what_was_tried_before_it(line: int) -> None:
    found = report("m@current")
    assert found.version.version == "m-v3"
    assert found.version.current
    assert "retrained from its initial weights on 15 samples of the manifest's 20" in found.summary
    assert [(v.rung, v.decision) for v in found.attempts_at_a_verdict] == [
        ("iau", Decision.ESCALATE),
        ("retrain", Decision.PUBLISH),
    ]
    assert [parent.version for parent in found.lineage.parents] == ["m-v2", "m-v1"]
    assert (found.drift.updates, found.drift.forgotten, found.drift.live_samples) == (0, 0, 15)
    assert found.drift.false_publishes == 0
    assert found.drift.expectation == "Nothing was published on an estimate since the last training."
    kinds = [event["kind"] for event in found.timeline]
    assert kinds[0] == "batch.closed"
    assert "version.published" in kinds


def test_one_sample_is_not_called_samples(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    story.submit(1)
    story.work(model_id)
    assert "approximate update for 1 sample that" in report("m-v2").summary


@pytest.mark.parametrize("reference", ["m-v1", "m-v2", "m-v3"])
def test_no_id_is_in_it_and_it_is_plain_json(line: int, reference: str) -> None:
    said = json.dumps(report(reference).model_dump(mode="json"), allow_nan=False)
    assert "s-00" not in said
    assert '"p-' not in said


def test_a_version_that_also_answers_a_late_ticket(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    story.submit(1)
    lease = story.closed(model_id)
    story.submit(1)
    story.publish(lease)
    story.work(model_id)
    assert len(report("m-v2").lineage.tickets) == 2


def test_the_errors_of_updates_add_up_until_a_training(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    for ordinal, error in enumerate([0.05, 0.05, 0.2]):
        story.replace(model_id, story.EAGER | {"thresholds": {"error": error}})
        story.submit(ordinal)
        story.work(model_id)
    assert [report(f"m-v{number}").drift.false_publishes for number in (1, 2, 3, 4)] == [0, 0.05, 0.1, 0.3]
    story.retrain(model_id)
    story.work(model_id)
    assert report("m@current").drift.false_publishes == 0
    assert "At most 0.3 of 3 updates since the last training are expected" in report("m-v4").drift.expectation
