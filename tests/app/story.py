"""What happens to tickets, without torch: datasets, models, and a worker that publishes whatever bytes it is told to."""

import hashlib
import io
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import func, inspect, select, update
from sqlalchemy.orm import DeclarativeBase

from app import approvals, batches, keys, lineage, manifests, runs, tickets, versions
from app import policy as policies
from app.auth import Scope
from app.db import transaction
from app.policy import Judgement, PolicyBody
from app.tables import (
    Approval,
    ApprovalState,
    Batch,
    BatchKind,
    BatchState,
    Decision,
    Model,
    Obligation,
    Reason,
    RiskTier,
    Ticket,
    Trigger,
    Version,
    VersionKind,
)

Row = TypeVar("Row", bound=DeclarativeBase)

PUBLISH = Judgement(Decision.PUBLISH, ["every interval is within"])
ESCALATE = Judgement(Decision.ESCALATE, ["UE wholly above"])
EAGER: dict[str, Any] = {
    "batching": {"max_wait_seconds": 0},
    "window": {"max_share": 1},
    "drift": {"max_share": 1},
    "lone": {"rule": "allow"},
}
PATIENT: dict[str, Any] = {
    "batching": {"max_wait_seconds": 1e6, "max_samples": 10**6},
    "window": {"max_share": 1},
    "drift": {"max_share": 1},
    "lone": {"rule": "allow"},
}


def statistic(estimate: float, low: float, high: float, n: int = 40) -> dict[str, Any]:
    return {
        "estimate": estimate, "low": low, "high": high, "level": 0.95, "n": n,
        "estimator": "holdout", "interval": "bootstrap", "note": "for tests",
    }  # fmt: skip


def statistics(**replaced: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Statistics of an update that passes the default policy."""
    return {
        "mu": statistic(-0.01, -0.02, 0.0),
        "ue": statistic(0.02, -0.05, 0.09),
        "ue_before": statistic(0.3, 0.2, 0.4),
        "forgetting": statistic(-0.28, -0.35, -0.2),
        "exposure_before": statistic(0.4, 0.3, 0.5),
        "exposure": statistic(0.05, 0.0, 0.1),
        "exposure_change": statistic(-0.35, -0.4, -0.3),
        "residual": statistic(-0.15, -0.2, -0.1),
        "overshoot": statistic(0.25, 0.2, 0.3),
        "worst_class": statistic(-0.05, -0.1, 0.0),
        "attack_threshold": statistic(0.5, 0.5, 0.5),
        "attack_tpr": statistic(0.9, 0.85, 0.95),
        "attack_fpr": statistic(0.6, 0.55, 0.65),
        "recall": statistic(0.7, 0.6, 0.8),
        "accuracy": statistic(0.9, 0.85, 0.95),
    } | replaced


def sample(ordinal: int) -> str:
    return f"s-{ordinal:04d}"


def load(name: str, rows: Iterable[tuple[str, str | None]]) -> int:
    lines = ["id,subject\n", *(f"{identity},{subject or ''}\n" for identity, subject in rows)]
    with transaction() as session:
        source = io.BytesIO("".join(lines).encode())
        return manifests.load(session, name, manifests.blocks_from_csv(source), "engineer").id


def dataset(name: str = "people", samples: int = 20, per_subject: int = 2) -> int:
    """Samples s-0000, s-0001, ... of subjects p-0, p-1, ...; returns the dataset's number."""
    return load(name, [(sample(i), f"p-{i // per_subject}") for i in range(samples)])


def register(name: str = "m", dataset: str = "people", policy: dict[str, Any] | None = None) -> int:
    """A model whose first training is ordered but not done."""
    with transaction() as session:
        body = PolicyBody.model_validate(EAGER if policy is None else policy)
        model = versions.register(session, name, dataset, "digits", body, "engineer")
        batches.request_retrain(session, model, Trigger.REGISTRATION, "the model was registered", "engineer")
        return model.id


def trained(name: str = "m", dataset: str = "people", policy: dict[str, Any] | None = None) -> int:
    """A model with its first version."""
    model_id = register(name, dataset, policy)
    work(model_id)
    return model_id


def submission(
    *ordinals: int,
    subjects: Iterable[str] = (),
    dataset: str = "people",
    reason: Reason = Reason.ERASURE_REQUEST,
    tier: RiskTier = RiskTier.STANDARD,
    external_id: str | None = None,
    deadline: datetime | None = None,
) -> tickets.Submission:
    ids = [sample(ordinal) for ordinal in ordinals]
    return tickets.Submission(dataset, ids, list(subjects), reason, tier, external_id, deadline)


def submit(*ordinals: int, client: str = "tool", **rest: Any) -> UUID:
    with transaction() as session:
        return tickets.submit(session, client, submission(*ordinals, **rest)).ticket_id


def cancel(ticket_id: UUID) -> None:
    with transaction() as session:
        tickets.cancel(session, None, ticket_id, "tool")


def ticket(ticket_id: UUID) -> Ticket:
    with transaction() as session:
        return tickets.get(session, None, ticket_id)


def obligation(ticket_id: UUID, model_id: int) -> Obligation:
    with transaction() as session:
        return session.get_one(Obligation, (ticket_id, model_id))


def model(model_id: int) -> Model:
    with transaction() as session:
        return session.get_one(Model, model_id)


def batch(batch_id: UUID) -> Batch:
    with transaction() as session:
        return session.get_one(Batch, batch_id)


def all_of(table: type[Row]) -> list[Row]:
    """All rows of a table, by primary key."""
    with transaction() as session:
        return list(session.scalars(select(table).order_by(*inspect(table).primary_key)))


def close(model_id: int) -> Batch | None:
    with transaction() as session:
        return batches.close_due(session, model_id)


def claim(model_id: int, worker: str = "w1") -> runs.Lease | None:
    with transaction() as session:
        return runs.claim(session, model_id, worker)


def claimed(model_id: int, worker: str = "w1") -> runs.Lease:
    lease = claim(model_id, worker)
    assert lease is not None, "nothing to claim"
    return lease


def closed(model_id: int) -> runs.Lease:
    """Close what is due and take it."""
    assert close(model_id) is not None, "nothing was due"
    return claimed(model_id)


def record(
    lease: runs.Lease,
    weights: bytes,
    judgement: Judgement = PUBLISH,
    rung: str | None = None,
    found: dict[str, dict[str, Any]] | None = None,
) -> int:
    with transaction() as session:
        return runs.record_verdict(
            session,
            lease,
            rung=rung or ("iau" if lease.kind is BatchKind.UNLEARN else "retrain"),
            weights_digest=hashlib.sha256(weights).hexdigest(),
            judgement=judgement,
            method={"method": "iau"},
            statistics=statistics() if found is None else found,
            seconds={"update": 0.1},
        )[0]


def candidate(lease: runs.Lease, weights: bytes, verdict_id: int, kind: VersionKind | None = None) -> runs.Candidate:
    """What a worker would put forward after its work on the lease."""
    kinds = {
        BatchKind.TRAIN: VersionKind.TRAINED,
        BatchKind.UNLEARN: VersionKind.UNLEARNED,
        BatchKind.RETRAIN: VersionKind.RETRAINED,
    }
    kind = kind or kinds[lease.kind]
    with transaction() as session:
        forget = lineage.forget_set(session, lease.batch_id, lease.model_id)
        if kind is VersionKind.UNLEARNED:
            excluded = lineage.not_held(session, lease.batch_id, lease.model_id, lease.dataset_id)
        else:
            excluded = lineage.tombstoned(session, lease.dataset_id)
    return runs.Candidate(
        verdict_id=verdict_id,
        kind=kind,
        weights_digest=hashlib.sha256(weights).hexdigest(),
        weights_bytes=len(weights),
        excluded_digest=lineage.digest(excluded),
        excluded_count=len(excluded),
        forgotten=len(forget),
        environment={"threads": 1},
    )


def publish(lease: runs.Lease, weights: bytes | None = None, kind: VersionKind | None = None) -> Version:
    """Work the lease off as a worker would: absorb where it retrains, judge, publish."""
    weights = weights or f"{lease.batch_id}/{lease.epoch}".encode()
    retrains = lease.kind is not BatchKind.UNLEARN or kind is VersionKind.RETRAINED
    if retrains:
        with transaction() as session:
            runs.absorb(session, lease)
    verdict_id = record(lease, weights, rung="retrain" if retrains else "iau")
    offered = candidate(lease, weights, verdict_id, kind)
    with transaction() as session:
        version = runs.publish(session, lease, offered)
        if retrains and lease.parent:
            truths = {v.id: {"mu": 0.0, "ue": 0.0} for v in runs.unmeasured(session, lease.model_id)}
            runs.backfill(session, lease, truths, version)
        return version


def work(model_id: int) -> list[Version]:
    """Everything that is due for the model, batch after batch."""
    made = []
    while True:
        close(model_id)
        lease = claim(model_id)
        if lease is None:
            return made
        with transaction() as session:
            nothing = lease.kind is BatchKind.UNLEARN and not lineage.forget_set(session, lease.batch_id, model_id)
            if nothing:
                runs.nothing_left(session, lease)
        if not nothing:
            made.append(publish(lease))


def answered_late() -> UUID:
    """m-v2 forgets a sample that a ticket names which came too late for its batch, and finds nothing left to forget: that one."""
    dataset()
    model_id = trained()
    submit(1)
    lease = closed(model_id)
    late = submit(1)
    publish(lease)
    assert work(model_id) == []
    return late


def retrain(model_id: int) -> UUID:
    with transaction() as session:
        model = session.get_one(Model, model_id)
        return batches.request_retrain(session, model, Trigger.OPERATOR, "asked for", "operator").id


def fail(lease: runs.Lease, detail: str = "it broke", *, again: bool = True) -> None:
    with transaction() as session:
        runs.fail(session, lease, detail, again=again)


def rested(model_id: int) -> None:
    """Let the wait before another attempt be over."""
    with transaction() as session:
        session.execute(update(Batch).where(Batch.model_id == model_id).values(not_before=func.now()))


def expire(lease: runs.Lease) -> None:
    """Let the lease run out, as if its worker had been silent for long."""
    with transaction() as session:
        late = func.now() - timedelta(seconds=1)
        session.execute(update(Batch).where(Batch.id == lease.batch_id).values(lease_until=late))


def exhaust(model_id: int) -> None:
    """Fail the model's batch until its attempts are spent."""
    first = None
    with suppress(AssertionError):
        while True:
            lease = claimed(model_id)
            first = first or lease.batch_id
            if lease.batch_id != first:
                raise AssertionError("a batch too many was claimed")
            fail(lease)
            rested(model_id)
            if batch(first).state is not BatchState.READY:
                return


def tombstoned(dataset_id: int) -> list[int]:
    with transaction() as session:
        return list(lineage.tombstoned(session, dataset_id))


def forget_set(lease: runs.Lease) -> list[int]:
    with transaction() as session:
        return list(lineage.forget_set(session, lease.batch_id, lease.model_id))


def key(client: str = "tool", *scopes: Scope, days: float | None = None) -> str:
    with transaction() as session:
        return keys.create(session, client, list(scopes or Scope), days, "test").secret


def replace(model_id: int, body: dict[str, Any]) -> None:
    """Put another policy in force."""
    with transaction() as session:
        model, tag = session.get_one(Model, model_id), policies.etag(policies.current(session, model_id))
        policies.replace(session, model, PolicyBody.model_validate(body), tag, "operator")


def stop(model_id: int, why: str = "for the test") -> None:
    with transaction() as session:
        runs.stop_publishing(session, model_id, why)


def requested(model_id: int) -> Approval:
    """The newest request for a second person's approval."""
    with transaction() as session:
        return approvals.of_model(session, session.get_one(Model, model_id), 1)[0]


def approve(model_id: int, by: str = "second", samples: int | None = None, hours: float = 1) -> Approval:
    """Let what waits pass the cap."""
    request = requested(model_id)
    assert request.state in (ApprovalState.REQUESTED, ApprovalState.REFUSED)
    with transaction() as session:
        model, seen = session.get_one(Model, model_id), request.samples if samples is None else samples
        return approvals.approve(session, model, request.id, samples=seen, hours=hours, why="genuine", by=by)
