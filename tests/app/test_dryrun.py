"""Past verdicts under another policy: with the policy of then the decision of then, and nothing that is not known."""

from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app import dryrun, policy, runs
from app.db import transaction
from app.dryrun import DryRun, Replayed
from app.policy import Judgement, PolicyBody
from app.tables import Batch, Decision, Model, Policy, RiskTier, Verdict, VersionKind
from tests.app import story

BODY = PolicyBody.model_validate(story.EAGER)
MANY = 60


def found(**replaced: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Statistics of so many samples that a rate is claimed."""
    return {name: each | {"n": MANY} for name, each in story.statistics(**replaced).items()}


PASSES = found()
CROSSES = found(ue=story.statistic(0.12, 0.02, 0.22))
BEYOND = found(ue=story.statistic(0.34, 0.24, 0.44))
UNKNOWN = found(mu=story.statistic(float("0.01"), -0.01, 0.05))


def body(**thresholds: float) -> PolicyBody:
    return BODY.model_copy(update={"thresholds": BODY.thresholds.model_copy(update=thresholds)})


@pytest.fixture
def model_id(database: str) -> int:
    story.dataset()
    return story.trained()


def batch(
    model_id: int, ordinal: int, *verdicts: tuple[str, Decision, dict[str, dict[str, Any]]], ends: bool = True
) -> UUID:
    """A batch with these verdicts on record, each with the decision that is known to be right for it; published, or retrained."""
    story.submit(ordinal)
    lease = story.closed(model_id)
    for rung, decision, statistics in verdicts:
        weights = f"{lease.batch_id}/{rung}".encode()
        verdict_id = story.record(lease, weights, Judgement(decision, ["on record"]), rung, statistics)
        if decision is Decision.PUBLISH:
            offered = story.candidate(lease, weights, verdict_id)
            with transaction() as session:
                runs.publish(session, lease, offered)
            return lease.batch_id
    if ends:
        story.publish(lease, kind=VersionKind.RETRAINED)
    return lease.batch_id


def replay(model_id: int, other: PolicyBody = BODY, limit: int = dryrun.MOST) -> DryRun:
    with transaction() as session:
        return dryrun.replay(session, session.get_one(Model, model_id), other, limit)


def one(model_id: int, other: PolicyBody = BODY) -> Replayed:
    (only,) = replay(model_id, other).batches
    return only


def test_with_the_recorded_thresholds_the_recorded_decisions_come_out(model_id: int) -> None:
    batch(model_id, 0, ("iau", Decision.PUBLISH, PASSES))
    batch(model_id, 1, ("iau", Decision.INCONCLUSIVE, CROSSES), ("iau-calibrated", Decision.PUBLISH, PASSES))
    batch(model_id, 2, ("iau", Decision.ESCALATE, BEYOND), ("iau-calibrated", Decision.INCONCLUSIVE, CROSSES))
    batch(model_id, 3, ("iau", Decision.INCONCLUSIVE, UNKNOWN), ("iau-calibrated", Decision.ESCALATE, BEYOND))
    with transaction() as session:
        again = dryrun.recorded(session, session.get_one(Model, model_id))
    for run in (again, replay(model_id)):
        assert [each.recorded for each in run.batches] == ["retrain", "retrain", "iau-calibrated", "iau"]
        assert [each.replayed for each in run.batches] == ["retrain", "retrain", "iau-calibrated", "iau"]
        assert not [attempt for each in run.batches for attempt in each.attempts if attempt.differs]
        assert (run.changed, run.ended("update"), run.ended("retrain"), run.ended("unknown")) == (0, 2, 2, 0)
        assert run.notes == []


def test_each_batch_under_its_own_policy_whatever_is_in_force_now(model_id: int) -> None:
    batch(model_id, 0, ("iau", Decision.PUBLISH, PASSES))
    story.replace(model_id, story.EAGER | {"thresholds": {"ue": 0.05}})
    batch(model_id, 1, ("iau", Decision.INCONCLUSIVE, PASSES))
    with transaction() as session:
        again = dryrun.recorded(session, session.get_one(Model, model_id))
    assert not [attempt for each in again.batches for attempt in each.attempts if attempt.differs]


def test_a_wider_threshold_would_have_published_sooner(model_id: int) -> None:
    batch(model_id, 0, ("iau", Decision.INCONCLUSIVE, CROSSES), ("iau-calibrated", Decision.PUBLISH, PASSES))
    seen = one(model_id, body(ue=0.25))
    assert (seen.recorded, seen.replayed, seen.differs) == ("iau-calibrated", "iau", True)
    assert [(each.recorded, each.replayed) for each in seen.attempts] == [
        (Decision.INCONCLUSIVE, Decision.PUBLISH),
        (Decision.PUBLISH, Decision.PUBLISH),
    ]


def test_of_a_rung_that_was_never_tried_nothing_is_said(model_id: int) -> None:
    batch(model_id, 0, ("iau", Decision.PUBLISH, PASSES))
    seen = one(model_id, body(ue=0.05))
    assert seen.replayed is None
    assert not seen.differs
    assert "iau-calibrated would be tried" in seen.says
    assert replay(model_id, body(ue=0.05)).ended("unknown") == 1
    scrub = BODY.model_copy(update={"ladder": ["scrub", "retrain"]})
    assert one(model_id, scrub).replayed is None
    assert replay(model_id, scrub).notes == ["Of scrub nothing is known: no batch has tried it."]


def test_a_rung_that_did_not_apply_is_passed_over_again(model_id: int) -> None:
    """It has no verdict, and one below it has."""
    batch(model_id, 0, ("iau-calibrated", Decision.PUBLISH, PASSES))
    assert one(model_id).replayed == "iau-calibrated"


def test_a_ladder_without_updates_retrains(model_id: int) -> None:
    batch(model_id, 0, ("iau", Decision.PUBLISH, PASSES))
    seen = one(model_id, BODY.model_copy(update={"ladder": ["retrain"]}))
    assert (seen.replayed, seen.differs, seen.attempts) == ("retrain", True, [])


def test_what_was_stopped_is_no_threshold_s_doing(model_id: int) -> None:
    story.submit(0)
    lease = story.closed(model_id)
    story.stop(model_id, "for the test")
    story.record(lease, b"w", found=PASSES)
    story.publish(lease, kind=VersionKind.RETRAINED)
    seen = one(model_id)
    assert seen.attempts[0].recorded is Decision.INCONCLUSIVE
    assert seen.attempts[0].stopped
    assert not seen.attempts[0].differs
    assert seen.replayed == "retrain"


def test_the_two_vetoes_come_first(model_id: int) -> None:
    """Weights that did not change, and thresholds below the noise floor of the bank that was read."""
    batch(model_id, 0, ("iau", Decision.ESCALATE, PASSES), ("iau-calibrated", Decision.INCONCLUSIVE, PASSES))
    with transaction() as session:
        first, second = session.query(Verdict).filter(Verdict.rung != "retrain").order_by(Verdict.id)
        parent = session.query(Batch).filter_by(id=first.batch_id).one().parent_version
        assert parent is not None
        first.weights_digest = parent.weights_digest
        second.method = second.method | {"bank": {"noise_floor": {"ue": 0.2, "level": 0.95}}}
    attempts = one(model_id).attempts
    assert [each.replayed for each in attempts[:2]] == [Decision.ESCALATE, Decision.INCONCLUSIVE]
    assert attempts[0].reasons == [policy.UNCHANGED]
    assert "below the noise floor of 0.2" in attempts[1].reasons[0]
    assert one(model_id, body(ue=0.25)).attempts[1].replayed is Decision.PUBLISH


def test_one_that_was_put_off_has_come_to_nothing_yet(model_id: int) -> None:
    batch(
        model_id, 0, ("iau", Decision.INCONCLUSIVE, CROSSES), ("iau-calibrated", Decision.ESCALATE, BEYOND), ends=False
    )
    seen = one(model_id)
    assert (seen.recorded, seen.replayed, seen.differs) == (None, "retrain", False)
    assert one(model_id, body(ue=0.25)).differs


def test_a_retrain_that_was_held(model_id: int) -> None:
    """Its verdict is replayed too: how far accuracy may drop is a threshold."""
    dropped = found(accuracy=story.statistic(0.7, 0.65, 0.75), accuracy_before=story.statistic(0.9, 0.85, 0.95))
    batch(model_id, 0, ("iau", Decision.ESCALATE, BEYOND), ("retrain", Decision.ESCALATE, dropped), ends=False)
    assert one(model_id).attempts[1].replayed is Decision.ESCALATE
    assert one(model_id, body(retrain_accuracy_drop=0.3)).attempts[1].replayed is Decision.PUBLISH


def test_what_cannot_be_replayed_is_said(model_id: int) -> None:
    batch(model_id, 0, ("iau", Decision.PUBLISH, PASSES))
    notes = replay(model_id, body(error=0.1, seed_sd=0.02)).notes
    assert "thresholds.error = 0.05" in notes[0]
    assert "thresholds.seed_sd = 0.005" in notes[1]


@pytest.mark.parametrize(
    ("other", "rung"),
    [
        ({"update": {"weights": "sums"}}, "iau"),
        ({"calibrated": {"strength": 0.5}}, "iau-calibrated"),
        ({"methods": {"scrub": {"passes": 3}}, "ladder": ["scrub", "retrain"]}, "scrub"),
    ],
)
def test_statistics_of_other_weights_are_not_passed_off(model_id: int, other: dict[str, Any], rung: str) -> None:
    if rung == "scrub":
        story.replace(model_id, story.EAGER | {"methods": {"scrub": {"passes": 1}}, "ladder": ["scrub", "retrain"]})
    batch(model_id, 0, (rung, Decision.PUBLISH, PASSES))
    seen = one(model_id, PolicyBody.model_validate(story.EAGER | other))
    assert (seen.replayed, seen.attempts, seen.differs) == (None, [], False)
    assert f"{rung} has other settings" in seen.says


def test_a_rung_of_the_same_settings_is_not_doubted_for_another_s(model_id: int) -> None:
    batch(model_id, 0, ("iau", Decision.PUBLISH, PASSES))
    assert one(model_id, PolicyBody.model_validate(story.EAGER | {"calibrated": {"strength": 0.5}})).replayed == "iau"


def test_tickets_that_would_get_no_approximate_answer(model_id: int) -> None:
    batch(model_id, 0, ("iau", Decision.PUBLISH, PASSES))
    seen = one(model_id, PolicyBody.model_validate(story.EAGER | {"retrain_tiers": ["standard", "high"]}))
    assert (seen.recorded, seen.replayed, seen.differs) == ("iau", "retrain", True)
    assert "risk tier standard" in seen.says


def test_tickets_that_its_retrain_took_over_are_not_its_own(model_id: int) -> None:
    """What the batch was closed with was no high risk; a ticket that came while it was tried went with its retrain."""
    story.submit(0)
    lease = story.closed(model_id)
    story.record(lease, b"weights", Judgement(Decision.ESCALATE, ["on record"]), "iau", BEYOND)
    story.submit(1, tier=RiskTier.HIGH)
    with transaction() as session:
        assert runs.absorb(session, lease)
    story.publish(lease, kind=VersionKind.RETRAINED)
    tiered = PolicyBody.model_validate(story.EAGER | {"retrain_tiers": ["high"]})
    was = PolicyBody.model_validate(story.EAGER | {"retrain_tiers": []})
    with transaction() as session:
        session.execute(update(Batch).where(Batch.id == lease.batch_id).values(policy=was.model_dump(mode="json")))
    assert "risk tier" not in one(model_id, tiered).says


def test_what_steers_an_update_is_said(model_id: int) -> None:
    batch(model_id, 0, ("iau", Decision.PUBLISH, PASSES))
    assert "half of thresholds.mu" in replay(model_id, body(mu=0.02)).notes[0]
    drift = BODY.model_copy(update={"drift": BODY.drift.model_copy(update={"max_updates": 3})})
    assert "Drift limits are left out" in replay(model_id, drift).notes[0]


def test_one_that_may_wait_is_said_to(model_id: int) -> None:
    batch(model_id, 0, ("iau", Decision.ESCALATE, BEYOND), ("iau-calibrated", Decision.INCONCLUSIVE, CROSSES))
    patient = BODY.model_copy(update={"inconclusive": BODY.inconclusive.model_copy(update={"wait_seconds": 60.0})})
    assert "may wait for more" in one(model_id, patient).says
    assert "may wait" not in one(model_id).says


def test_the_newest_so_many(model_id: int) -> None:
    made = [batch(model_id, number, ("iau", Decision.PUBLISH, PASSES)) for number in range(3)]
    assert [each.batch for each in replay(model_id, limit=2).batches] == made[:0:-1]


def test_trainings_alone_have_nothing_to_replay(model_id: int) -> None:
    story.retrain(model_id)
    story.work(model_id)
    assert replay(model_id).batches == []


def test_over_http_it_writes_nothing(http: TestClient, model_id: int) -> None:
    batch(model_id, 0, ("iau", Decision.INCONCLUSIVE, CROSSES), ("iau-calibrated", Decision.PUBLISH, PASSES))
    before = story.all_of(Policy)
    answer = http.post("/policies/m/dry-run", json={"thresholds": {"ue": 0.25}})
    assert answer.status_code == 200
    said = answer.json()
    assert (said["batches"], said["differing"], said["updates"], said["updates_recorded"]) == (1, 1, 1, 1)
    assert said["items"][0]["replayed"] == "iau"
    assert said["items"][0]["attempts"][0]["reasons"][0].startswith("MU")
    assert [row.id for row in story.all_of(Policy)] == [row.id for row in before]
    assert http.post("/policies/m/dry-run?limit=0", json={}).status_code == 422
    assert http.post("/policies/nothing/dry-run", json={}).status_code == 404
    assert http.post("/policies/m/dry-run", json={"thresholds": {"ue": 7}}).status_code == 422


def test_a_training_that_was_ordered_is_taken_back_over_http(http: TestClient, model_id: int) -> None:
    batch_id = story.retrain(model_id)
    answer = http.post(f"/batches/{batch_id}/cancel", json={"why": "ordered twice"})
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert http.post(f"/batches/{batch_id}/cancel", json={"why": "again"}).status_code == 409
    assert http.post(f"/batches/{UUID(int=0)}/cancel", json={"why": "x"}).status_code == 404
