"""A service with something of everything in it, for whoever looks at its pages."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, update

from app import policy as policies
from app import presence, proposals, runs, schedules
from app.db import transaction
from app.policy import Judgement, PolicyBody
from app.tables import (
    Batch,
    BatchState,
    Decision,
    Model,
    Occurrence,
    Proposal,
    Role,
    Verdict,
    VersionKind,
    Worker,
)
from tests.app import story

POLICY: dict[str, Any] = story.EAGER | {"window": {"max_share": 0.2}}
CLIENT = "acme-privacy"
WIDE = story.statistic(0.12, 0.02, 0.22, 60)
FAR = story.statistic(0.34, 0.24, 0.44, 60)


@dataclass(frozen=True)
class Scene:
    """What tests look for."""

    published: UUID
    running: UUID
    quarantined: UUID
    fulfilled: UUID
    open: UUID
    overdue: UUID
    proposal: int
    schedule: int


def statistics(ue: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """As a worker finds them of 60 samples: a rate is claimed."""
    named = {name: found | {"n": 60} for name, found in story.statistics().items()}
    return named | {"ue": ue}


def judged(lease: runs.Lease, rung: str, ue: dict[str, Any], body: PolicyBody) -> Judgement:
    """A verdict on record, as the policy passes it."""
    found = statistics(ue)
    judgement = policies.judge(body, found, 60)
    story.record(lease, f"{lease.batch_id}/{rung}".encode(), judgement, rung, found)
    return judgement


def updated(model_id: int, ordinal: int, first: dict[str, Any], second: dict[str, Any] | None = None) -> UUID:
    """A ticket's batch down the ladder: what each rung's UE came to, and a retrain where neither passes."""
    story.submit(ordinal, client=CLIENT, external_id=f"DSR-{model_id}-{ordinal}")
    lease = story.closed(model_id)
    body = lease.policy
    for rung, ue in (("iau", first), ("iau-calibrated", second)):
        if ue is None:
            continue
        if judged(lease, rung, ue, body).decision is Decision.PUBLISH:
            weights = f"{lease.batch_id}/{rung}".encode()
            with transaction() as session:
                verdict_id = session.query(Verdict.id).filter_by(batch_id=lease.batch_id, rung=rung).scalar()
            offered = story.candidate(lease, weights, verdict_id)
            with transaction() as session:
                runs.publish(session, lease, offered)
            return lease.batch_id
        with transaction() as session:
            runs.escalate(session, lease, rung, "iau-calibrated" if rung == "iau" else "retrain", ["UE crosses"])
    story.publish(lease, kind=VersionKind.RETRAINED)
    return lease.batch_id


def near(estimate: float) -> dict[str, Any]:
    return story.statistic(estimate, estimate - 0.05, estimate + 0.06, 60)


def furnish(usual: int = 1) -> Scene:
    """Three models, each in another state, and tickets of two clients. `usual`: so many further updates."""
    story.dataset("people", 4000, 4)
    story.dataset("photos", 1200, 3)
    lenet = story.trained("lenet-mnist", "people", POLICY)
    for number, ue in enumerate((0.02, -0.01, 0.05, 0.03, -0.04, 0.06, 0.01)[:usual]):
        updated(lenet, number, near(ue))
    updated(lenet, 20, WIDE, near(0.01))
    updated(lenet, 21, FAR, WIDE)
    published = updated(lenet, 22, near(0.04))
    fulfilled = story.submit(40, 41, 42, client=CLIENT, external_id="DSR-2026-0117", deadline=soon(20))
    story.work(lenet)
    scheduled = schedule("lenet-mnist")
    proposed = propose(lenet)

    vgg = story.trained("vgg-photos", "photos", POLICY)
    story.submit(7, client="another", dataset="photos")
    story.close(vgg)
    lease = story.claimed(vgg)
    story.fail(lease, "CUDA ran out of memory in backward (training.py:217)", again=False)
    quarantined = lease.batch_id

    held = story.trained("resnet-photos", "photos", POLICY | {"batching": {"max_wait_seconds": 0}})
    story.submit(*range(20, 300), client="another", dataset="photos", external_id="sweep-of-2019", deadline=soon(2))
    story.close(held)
    story.stop(vgg, "the true UE of vgg-photos-v2 lay beyond its interval in 3 of 8 backfills")

    open_one = story.submit(100, 101, client=CLIENT, external_id="DSR-2026-0203", deadline=soon(9))
    overdue = story.submit(110, client=CLIENT, external_id="DSR-2025-1190", deadline=soon(-3))
    story.close(lenet)
    running = story.claimed(lenet, "gpu-1:4711")
    with transaction() as session:
        runs.heartbeat(session, running, rung="iau-calibrated", step="step 24 of 40", progress=0.6)
        session.execute(
            update(Batch).where(Batch.id == running.batch_id).values(lease_until=func.now() + timedelta(days=1))
        )
    workers()
    return Scene(published, running.batch_id, quarantined, fulfilled, open_one, overdue, proposed, scheduled)


def soon(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def schedule(model: str) -> int:
    """A weekly retrain that has come due once."""
    with transaction() as session:
        made = schedules.create(session, model, "0 3 * * 0", "operator")
        past = session.query(Batch.id).filter_by(state=BatchState.PUBLISHED).first()
        assert past is not None
        session.add(Occurrence(schedule_id=made.id, scheduled_for=soon(-5), batch_id=past[0], note="opened a retrain"))
        return made.id


def propose(model_id: int) -> int:
    """A wider threshold, which waits for a second person."""
    with transaction() as session:
        model = session.get_one(Model, model_id)
        present = policies.current(session, model_id)
        body = policies.stored(present.body)
        wider = body.model_copy(update={"thresholds": body.thresholds.model_copy(update={"ue": 0.25})})
        made = proposals.put(session, model, wider, policies.etag(present), "operator")
        assert isinstance(made, Proposal)
        session.flush()
        return made.id


def workers() -> None:
    """Two that live, one that was lost, beat and the sweep."""
    with transaction() as session:
        for name, role, silent in (
            ("gpu-1:4711", Role.WORKER, 2),
            ("gpu-2:4712", Role.WORKER, 400),
            ("light-1:23", Role.LIGHT, 1),
            ("beat-1:7", Role.BEAT, 1),
        ):
            host, _, pid = name.rpartition(":")
            at = func.now() - timedelta(seconds=silent)
            task = "expunge.work" if name == "gpu-1:4711" else None
            session.merge(Worker(name=name, role=role, host=host, pid=int(pid), seen_at=at, heard_at=at, task=task))
        presence.swept(session)
