"""The rung that always has an answer: train from scratch on what the tombstones leave, and measure what was estimated."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import structlog
from torch import nn

from app import coverage, lineage, policy, runs, store
from app.banks import held
from app.db import transaction
from app.tables import BatchKind, Decision, Verdict, Version, VersionKind
from app.tracing import span
from unlearning.gradients import Scores, scores
from unlearning.intervals import wilson
from unlearning.problem import Indices
from unlearning.statistics import LEVEL, Statistic
from unlearning.step_cost import StepCost, step_cost
from unlearning.training import Epoch, restore
from workers import artifacts, banks, records, torchrun
from workers import figures as drawings
from workers.context import Context
from workers.problems import Refused

log = structlog.get_logger()
RUNG = "retrain"


@dataclass(frozen=True)
class Trained:
    """A trained network, also as the bytes that a version will have."""

    model: nn.Module
    data: bytes
    digest: str
    seconds: float
    history: list[Epoch]
    cost: StepCost | None
    samples: int
    keeper: records.Keeper | None
    layout: torchrun.Layout


def retrain(context: Context) -> Version | None:
    """Take over all that the model owes, train without any tombstoned sample, and publish with the truth it reveals; None
    where that waits for a second person's consent."""
    lease = context.lease
    context.pulse.enter(RUNG)
    with transaction() as session:
        if not runs.absorb(session, lease):
            return None
        excluded = lineage.tombstoned(session, lease.dataset_id)
        forgotten = len(lineage.forget_set(session, lease.batch_id, lease.model_id)) if lease.parent else 0
    with span("train"):
        trained = train_without(context, np.asarray(excluded, dtype=np.int64))
    test = scores(trained.model, context.problem, context.audit.test)
    with span("validate", rung=RUNG):
        verdict_id = judge(context, trained, test)
    truths = measure(context, trained.model, test)
    context.pulse.step(1.0, "publishing")
    store.put(trained.data)
    candidate = runs.Candidate(
        verdict_id=verdict_id,
        kind=VersionKind.TRAINED if lease.kind is BatchKind.TRAIN else VersionKind.RETRAINED,
        weights_digest=trained.digest,
        weights_bytes=len(trained.data),
        excluded_digest=lineage.digest(excluded),
        excluded_count=len(excluded),
        forgotten=forgotten,
        environment=context.environment() | trained.layout.told(),
        kept=records.of_training(context, trained.keeper),
    )
    with span("publish", rung=RUNG), transaction() as session:
        ended = held(session, lease.model_id)
        version = runs.publish(session, lease, candidate)
        if lease.parent:
            runs.backfill(session, lease, truths, version)
            coverage.check(session, lease.model_id)
    banks.discard(ended)
    return version


def train_without(context: Context, excluded: Indices) -> Trained:
    """Train by the problem's recipe on all samples but the excluded ones."""
    problem = context.problem
    live = np.setdiff1d(np.arange(len(problem.train)), excluded)
    if len(live) == 0:
        raise Refused("Every sample of the dataset is tombstoned: there is nothing to train on. Retire the model.")
    keeper = records.Keeper(context, live) if context.lease.policy.recorder.asked else None
    begun = time.perf_counter()
    result, chosen = torchrun.trained(context.asker, problem, live, context.tuning, keeper)
    seconds = time.perf_counter() - begun
    data = artifacts.weights_bytes(result.state)
    model = restore(problem, result.state, context.device)
    cost = measured_cost(context, model, live, chosen.processes)
    return Trained(model, data, artifacts.digest_of(data), seconds, result.history, cost, len(live), keeper, chosen)


def measured_cost(context: Context, model: nn.Module, live: Indices, processes: int) -> StepCost | None:
    """What its restriction costs a step. Whatever goes wrong with that, the training stands."""
    try:
        return step_cost(context.problem, model, live, context.device, processes)
    except Exception as error:  # noqa: BLE001 - hours of training are not lost to a stop-watch
        log.warning("step_cost.missing", error=type(error).__name__)
        return None


def judge(context: Context, trained: Trained, test: Scores) -> int:
    """Record the verdict on a training. One that is no use as a model is held for an operator, not published."""
    begun = time.perf_counter()
    figures = {"accuracy": share("accuracy", test, "audit test")}
    before = earlier = None
    if context.lease.parent:
        earlier = scores(context.parent, context.problem, context.audit.test)
        figures["accuracy_before"] = share("accuracy_before", earlier, "audit test, parent version")
        before = float(earlier.correct_N.mean())
    judgement = policy.judge_retrain(context.lease.policy, float(test.correct_N.mean()), before)
    with transaction() as session:
        verdict_id, _ = runs.record_verdict(
            session,
            context.lease,
            rung=RUNG,
            weights_digest=trained.digest,
            judgement=judgement,
            method={
                "method": RUNG,
                "epochs": len(trained.history),
                "samples": trained.samples,
                "curve": [asdict(epoch) for epoch in trained.history],
                "seconds_a_step": None if trained.cost is None else asdict(trained.cost),
            },
            statistics=figures,
            seconds={"train": trained.seconds, "validate": time.perf_counter() - begun},
            figures=drawings.of_training(earlier, test),
        )
    if judgement.decision is not Decision.PUBLISH:
        raise Refused("; ".join(judgement.reasons))
    return verdict_id


def share(name: str, seen: Scores, note: str) -> dict[str, Any]:
    """The share of samples answered right, with its Wilson interval."""
    rate = float(seen.correct_N.mean())
    low, high = wilson(rate, len(seen), LEVEL)
    return asdict(Statistic(name, rate, low, high, LEVEL, len(seen), "share answered right", "Wilson", note))


def measure(context: Context, model: nn.Module, test: Scores) -> dict[int, dict[str, Any]]:
    """True MU and UE of every approximate update since the last training, against the network that was just trained.

    MU and UE are defined on the audit test and on D_f themselves, so against this retrain they are plain differences;
    another retrain would give others.
    """
    with transaction() as session:
        open_verdicts = runs.unmeasured(session, context.lease.model_id)
    accuracy = float(test.correct_N.mean())
    return {verdict.id: truth_of(context, model, accuracy, verdict) for verdict in open_verdicts}


def truth_of(context: Context, model: nn.Module, accuracy: float, verdict: Verdict) -> dict[str, Any]:
    """One verdict's truth. UE is null, with the reason, when the raw samples are no longer there to be scored."""
    figures = verdict.statistics
    truth: dict[str, Any] = {
        "mu": figures["accuracy"]["estimate"] - accuracy,
        "estimated_mu": figures["mu"]["estimate"],
        "estimated_ue": figures["ue"]["estimate"],
        "retrained_accuracy": accuracy,
    }
    try:
        forget = scores(
            model, context.problem, context.problem.train, artifacts.load_ordinals(verdict.method["forget_sha256"])
        )
    except Exception as error:  # noqa: BLE001 - whatever a user's data source raises for a destroyed sample
        return truth | {"ue": None, "why_no_ue": f"the samples could not be read again ({type(error).__name__})"}
    recall = float((forget.losses_N <= figures["attack_threshold"]["estimate"]).mean())
    return truth | {"ue": figures["recall"]["estimate"] - recall, "retrained_recall": recall}
