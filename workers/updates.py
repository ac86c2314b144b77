"""The rung `iau`: one approximate update of the parent, judged without a retrained model."""

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import structlog
import torch
from sqlalchemy import update

from app import lineage, policy, runs, store
from app.db import transaction
from app.errors import Corrupt, Gone
from app.policy import Judgement
from app.tables import Decision, Version, VersionKind
from unlearning.evidence import Evidence, gather
from unlearning.gradients import GradientSum, gradient_sum
from unlearning.iau import IauResult, IauSettings, unlearn
from unlearning.intervals import wilson
from unlearning.problem import Indices
from unlearning.training import restore
from unlearning.validation import LEVEL, Statistic, validate
from workers import artifacts
from workers.context import Context

log = structlog.get_logger()
RUNG = "iau"


def approximate(context: Context, forget: Indices, following: str) -> Version | None:
    """Update, judge, publish; None when the verdict says otherwise and the rung `following` must try."""
    context.pulse.enter(RUNG)
    begun = time.perf_counter()
    tombstoned = read_tombstones(context)
    total = live_gradients(context, forget, tombstoned)
    ready = time.perf_counter()
    result = unlearn(
        context.parent,
        context.problem,
        forget,
        total,
        context.tuning,
        settings_of(context),
        progress=context.pulse.step,
    )
    updated = time.perf_counter()
    context.pulse.step(1.0, "validating")
    child = restore(context.problem, result.state, context.device)
    live = np.union1d(np.setdiff1d(np.arange(len(context.problem.train)), tombstoned), forget)
    evidence = gather(context.parent, child, context.problem, forget, live, context.tuning, context.audit)
    statistics = figures(evidence, context.lease.policy.thresholds.seed_sd)
    seconds = {
        "gradients_of_the_rest": ready - begun,
        "update": updated - ready,
        "validate": time.perf_counter() - updated,
    }
    data = artifacts.weights_bytes(result.state)
    judgement = verdict_on(context, result, statistics, artifacts.digest_of(data))
    verdict_id = record(context, result, forget, statistics, judgement, artifacts.digest_of(data), seconds)
    if judgement.decision is not Decision.PUBLISH:
        with transaction() as session:
            runs.escalate(session, context.lease, RUNG, following, judgement.reasons)
        return None
    return publish(context, data, verdict_id, len(forget))


def read_tombstones(context: Context) -> Indices:
    """Ordinals that nothing but the update itself may read any more."""
    with transaction() as session:
        return np.asarray(lineage.tombstoned(session, context.lease.dataset_id), dtype=np.int64)


def settings_of(context: Context) -> IauSettings:
    """The policy's settings; the search may spend half of what MU may cost, so that the audit has room for its interval."""
    body = context.lease.policy
    return IauSettings(**body.update.model_dump(), accuracy_budget=body.thresholds.mu / 2)


def live_gradients(context: Context, forget: Indices, tombstoned: Indices) -> GradientSum:
    """G over the live training set, D_f included: the parent's cached sum and whatever part of D_f it lacks.

    A sum that was never computed, or whose bytes are damaged or gone, is computed again.
    """
    assert context.lease.parent is not None
    digest = context.lease.parent.gradients_digest
    cached = None
    if digest is not None:
        try:
            cached = artifacts.load_gradients(digest, context.device)
        except (Corrupt, Gone) as error:
            log.warning("gradients.unusable", version=context.lease.parent.id, error=error.code)
    if cached is None:
        cached = sum_over_live(context, context.parent, tombstoned)
    lacking = np.intersect1d(forget, cached.excluded)
    if len(lacking) == 0:
        return cached.total
    return cached.total + gradient_sum(context.parent, context.problem, context.problem.train, lacking)


def sum_over_live(context: Context, model: torch.nn.Module, tombstoned: Indices) -> artifacts.CachedGradients:
    """G over all samples that are not tombstoned: one pass over the training set."""
    context.pulse.step(0.0, "gradients of the training set")
    live = np.setdiff1d(np.arange(len(context.problem.train)), tombstoned)
    return artifacts.CachedGradients(gradient_sum(model, context.problem, context.problem.train, live), tombstoned)


def cache_gradients(context: Context, version: Version) -> None:
    """Compute and keep G(D) of a version that was just published, off the path of any ticket."""
    model = restore(context.problem, artifacts.load_weights(version.weights_digest), context.device)
    digest = artifacts.save_gradients(sum_over_live(context, model, read_tombstones(context)))
    with transaction() as session:
        still_current = update(Version).where(Version.id == version.id, Version.superseded_at.is_(None))
        session.execute(still_current.values(gradients_digest=digest))


def figures(evidence: Evidence, seed_sd: float) -> dict[str, dict[str, Any]]:
    """The validator's statistics, and the plain rates that a later retrain is compared with."""
    after = float(evidence.test_after.correct_N.mean())
    before = float(evidence.test_before.correct_N.mean())
    recall = float(evidence.threshold.calls_member(evidence.forget_after).mean())
    plain = (
        ("accuracy", after, len(evidence.test_after), "audit test, updated model"),
        ("accuracy_before", before, len(evidence.test_before), "audit test, parent version"),
        ("recall", recall, len(evidence.forget_after), "share of D_f that the attack calls member, updated model"),
    )
    found = validate(evidence, seed_sd=seed_sd).as_dict()
    for name, rate, n, note in plain:
        low, high = wilson(rate, n, LEVEL)
        found[name] = asdict(Statistic(name, rate, low, high, LEVEL, n, "observed", "Wilson", note))
    return found


def verdict_on(context: Context, result: IauResult, statistics: dict[str, dict[str, Any]], digest: str) -> Judgement:
    """The policy's judgement, and one veto of our own: bytes that did not change have forgotten nothing."""
    assert context.lease.parent is not None
    if digest == context.lease.parent.weights_digest:
        return Judgement(Decision.ESCALATE, ["the update left the weights as they were"])
    return policy.judge(context.lease.policy, statistics, result.n_f)


def record(
    context: Context,
    result: IauResult,
    forget: Indices,
    statistics: dict[str, dict[str, Any]],
    judgement: Judgement,
    digest: str,
    seconds: dict[str, float],
) -> int:
    """Keep the verdict with the method's settings and what the search tried."""
    method = {
        "method": RUNG,
        "settings": asdict(result.settings),
        "eta": result.eta,
        "within_budget": result.within_budget,
        "search": [asdict(trial) for trial in result.trace],
        "update_norm": result.update_norm,
        "parent_norm": result.parent_norm,
        "forget_count": result.n_f,
        "retain_count": result.n_r,
        "forget_sha256": artifacts.save_ordinals(forget),
    }
    with transaction() as session:
        return runs.record_verdict(
            session,
            context.lease,
            rung=RUNG,
            weights_digest=digest,
            judgement=judgement,
            method=method,
            statistics=statistics,
            seconds=seconds,
        )


def publish(context: Context, data: bytes, verdict_id: int, forgotten: int) -> Version:
    """Store the bytes, then publish them."""
    lease = context.lease
    context.pulse.step(1.0, "publishing")
    digest = store.put(data)
    with transaction() as session:
        excluded = lineage.not_held(session, lease.batch_id, lease.model_id, lease.dataset_id)
        candidate = runs.Candidate(
            verdict_id=verdict_id,
            kind=VersionKind.UNLEARNED,
            weights_digest=digest,
            weights_bytes=len(data),
            excluded_digest=lineage.digest(excluded),
            excluded_count=len(excluded),
            forgotten=forgotten,
            environment=context.environment(),
        )
        return runs.publish(session, lease, candidate)
