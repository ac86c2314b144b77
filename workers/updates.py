"""A rung of the ladder, taken: update, judge without a retrained model, publish or hand on."""

import time
from dataclasses import asdict
from typing import Any

from torch import nn

from app import lineage, policy, runs, store
from app.banks import Changed
from app.db import transaction
from app.policy import Judgement
from app.tables import Decision, Version, VersionKind
from app.tracing import span
from unlearning.evidence import Evidence, gather
from unlearning.intervals import wilson
from unlearning.problem import Indices
from unlearning.statistics import LEVEL, Statistic
from unlearning.training import restore
from unlearning.validation import validate
from workers import artifacts, banks, records
from workers import figures as drawings
from workers.context import Context
from workers.methods import by_method
from workers.rungs import RUNGS, Inapplicable, Task


def approximate(context: Context, rung: str, task: Task) -> Version | Judgement:
    """Update, judge, publish; where that comes to no version, the judgement says why."""
    context.pulse.enter(rung)
    with transaction() as session:
        barred = runs.barred(session, context.lease, rung)
    if barred is not None:
        return Judgement(Decision.INCONCLUSIVE, [barred])
    try:
        with span("unlearn", rung=rung):
            updated = RUNGS[rung](context, task) if rung in RUNGS else by_method(context, task, rung)
    except Inapplicable as error:
        return Judgement(Decision.ESCALATE, [str(error)])
    context.pulse.step(1.0, "validating")
    begun = time.perf_counter()
    data = artifacts.weights_bytes(updated.state)
    digest = artifacts.digest_of(data)
    with transaction() as session:
        number = runs.attempt(session, context.lease, rung, digest)
    if number is None:
        return Judgement(Decision.INCONCLUSIVE, [runs.SPENT])
    table = banks.load_bank(context)
    level = 1 - 2 * policy.attempt_error(context.lease.policy, number)
    model = restore(context.problem, updated.state, context.device)
    with span("validate", rung=rung):
        evidence = observe(context, task, model, table)
        statistics = figures(evidence, level, context.lease.policy.thresholds.seed_sd)
    seconds = {"update": updated.seconds, "validate": time.perf_counter() - begun}
    if rung == context.lease.policy.ladder[0]:
        seconds["prepare"] = task.seconds  # shared by all rungs, so told once
    judgement = verdict_on(context, task, statistics, digest, table)
    drawn = None
    if judgement.decision is Decision.PUBLISH:
        begun = time.perf_counter()
        with span("figures", rung=rung):
            drawn = drawings.of_update(context, task, model, evidence)
        seconds["figures"] = time.perf_counter() - begun
    method = updated.method | {"method": rung, "forget_sha256": artifacts.save_ordinals(task.forget)}
    method["bank"] = None if table is None else {"sha256": table.digest} | table.facts
    with transaction() as session:
        verdict_id, judgement = runs.record_verdict(
            session,
            context.lease,
            rung=rung,
            weights_digest=digest,
            judgement=judgement,
            method=method,
            statistics=statistics,
            seconds=seconds,
            figures=drawn,
        )
    if judgement.decision is not Decision.PUBLISH:
        return judgement
    try:
        with span("publish", rung=rung):
            return publish(context, data, verdict_id, task.forget, journal_undone=updated.journal_undone)
    except runs.Stopped as stopped:
        return Judgement(Decision.INCONCLUSIVE, [str(stopped)])


def observe(context: Context, task: Task, updated: nn.Module, table: banks.Table | None) -> Evidence:
    """Run the new weights over D_f and the audit's data."""
    return gather(
        task.prepared.standing,
        context.parent,
        updated,
        context.problem,
        task.forget,
        context.audit,
        left_out=task.tombstoned,
        difficulty=task.prepared.difficulty,
        bank=table.bank if table is not None else None,
    )


def figures(evidence: Evidence, level: float, seed_sd: float) -> dict[str, dict[str, Any]]:
    """The validator's statistics, and the plain rates that a later retrain is compared with."""
    after = float(evidence.test_after.scores.correct_N.mean())
    before = float(evidence.test_before.scores.correct_N.mean())
    recall = float(evidence.threshold.calls_member(evidence.forget_after.scores).mean())
    plain = (
        ("accuracy", after, len(evidence.test_after), "audit test, updated model"),
        ("accuracy_before", before, len(evidence.test_before), "audit test, parent version"),
        ("recall", recall, len(evidence.forget_after), "share of D_f that the attack calls member, updated model"),
    )
    found = validate(evidence, level, seed_sd).as_dict()
    for name, rate, n, note in plain:
        low, high = wilson(rate, n, LEVEL)
        found[name] = asdict(Statistic(name, rate, low, high, LEVEL, n, "observed", "Wilson", note))
    return found


def verdict_on(
    context: Context, task: Task, statistics: dict[str, dict[str, Any]], digest: str, table: banks.Table | None
) -> Judgement:
    """The policy's judgement on these bytes."""
    assert context.lease.parent is not None
    return policy.judge_update(
        context.lease.policy,
        statistics,
        len(task.forget),
        unchanged=digest == context.lease.parent.weights_digest,
        bank=table.facts if table is not None else None,
    )


def publish(context: Context, data: bytes, verdict_id: int, forget: Indices, *, journal_undone: bool) -> Version:
    """Store the bytes, and what the version keeps of its line's training, then publish them.

    What is forgotten leaves the reference bank in the same commit. Where another worker has changed the bank meanwhile, it
    is purged anew.
    """
    lease = context.lease
    context.pulse.step(1.0, "publishing")
    digest = store.put(data)
    kept = records.of_update(context, forget, undone=journal_undone)
    while True:
        purge = banks.without(lease.model_id, forget)
        try:
            with transaction() as session:
                excluded = lineage.not_held(session, lease.batch_id, lease.model_id, lease.dataset_id)
                candidate = runs.Candidate(
                    verdict_id=verdict_id,
                    kind=VersionKind.UNLEARNED,
                    weights_digest=digest,
                    weights_bytes=len(data),
                    excluded_digest=lineage.digest(excluded),
                    excluded_count=len(excluded),
                    forgotten=len(forget),
                    environment=context.environment(),
                    kept=kept,
                )
                version = runs.publish(session, lease, candidate, purge)
        except Changed:
            continue
        banks.discard(purge.seen if purge else None)
        return version
