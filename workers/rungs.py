"""The rungs below a retrain: each turns the parent's weights into weights that shall have forgotten D_f.

What they and their validation need of the parent, whatever is to be forgotten, was prepared when it was published.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from sqlalchemy import update

from app import lineage, versions
from app.db import transaction
from app.errors import Corrupt, Gone
from app.tables import Version, VersionKind
from unlearning.calibrated import CalibratedSettings, unlearn_calibrated
from unlearning.difficulty import fit_difficulty
from unlearning.evidence import stand
from unlearning.gradients import gradient_sum, scores
from unlearning.iau import IauSettings, unlearn
from unlearning.problem import Indices
from unlearning.training import State, restore
from workers import artifacts, torchrun
from workers.context import Context

log = structlog.get_logger()
Answers = NDArray[np.bool_]


@dataclass(frozen=True)
class Task:
    """What a rung is to forget, and what was prepared for it. `tombstoned` may be read by nothing but the update itself;
    `seconds` is how long it took to get here."""

    forget: Indices
    tombstoned: Indices
    prepared: artifacts.Prepared
    seconds: float

    def retained(self, count: int) -> Indices:
        """D_r of a training set of `count`: what neither D_f holds nor anybody else has asked to forget."""
        return np.setdiff1d(np.arange(count), np.union1d(self.tombstoned, self.forget))


@dataclass(frozen=True)
class Updated:
    """A rung's answer: weights, and what the audit says of how they came about."""

    state: State
    method: dict[str, Any]
    seconds: float
    journal_undone: bool = False
    """Whether the change of every step that learned from D_f was taken back out of the weights."""


class Inapplicable(Exception):
    """A rung has no answer for this version and forget set, and the message says why: the next one must try."""


def by_iau(context: Context, task: Task) -> Updated:
    """One step: `unlearning.iau`. The search for its length may spend half of what MU may cost, so that the audit has room
    for its interval."""
    body = context.lease.policy
    chosen = IauSettings(**body.update.model_dump(), accuracy_budget=body.thresholds.mu / 2)
    begun = time.perf_counter()
    result = unlearn(
        context.parent,
        context.problem,
        task.forget,
        task.prepared.total,
        context.tuning,
        chosen,
        progress=context.pulse.step,
    )
    method = {
        "settings": asdict(result.settings),
        "eta": result.eta,
        "within_budget": result.within_budget,
        "search": [asdict(trial) for trial in result.trace],
        "update_norm": result.update_norm,
        "parent_norm": result.parent_norm,
        "forget_count": result.n_f,
        "retain_count": result.n_r,
    }
    return Updated(result.state, method, time.perf_counter() - begun)


def by_calibrated(context: Context, task: Task) -> Updated:
    """A few dozen bounded steps: `unlearning.calibrated`."""
    chosen = CalibratedSettings(**context.lease.policy.calibrated.model_dump())
    begun = time.perf_counter()
    result = unlearn_calibrated(
        context.parent,
        context.problem,
        task.forget,
        task.retained(len(context.problem.train)),
        context.tuning,
        chosen,
        seed=context.problem.recipe.seed,
        progress=context.pulse.step,
        difficulty=task.prepared.difficulty,
    )
    method = {
        "settings": asdict(result.settings),
        "steps": result.steps,
        "stopped": result.stopped,
        "layer": result.layer,
        "looks": [asdict(look) for look in result.trace],
        "update_norm": result.update_norm,
        "parent_norm": result.parent_norm,
        "forget_count": result.n_f,
        "retain_count": result.n_r,
    }
    return Updated(result.state, method, time.perf_counter() - begun)


RUNGS: dict[str, Callable[[Context, Task], Updated]] = {"iau": by_iau, "iau-calibrated": by_calibrated}
"""The rungs that the default ladder names, but for the last. Others are methods of the registry: workers/methods.py."""


def task_for(context: Context, forget: Indices) -> Task:
    """Read the tombstones, and what was prepared: G over the live training set, D_f included, and the parent's standing.

    What was never prepared, or whose bytes are damaged or gone, is prepared now. A sum that left samples of D_f out,
    because they were tombstoned when it was made, is completed.
    """
    begun = time.perf_counter()
    tombstoned = read_tombstones(context)
    assert context.lease.parent is not None
    prepared = kept(context) or prepare(
        context, context.parent, tombstoned, trained_answers(context, context.lease.parent.number)
    )
    lacking = np.intersect1d(forget, prepared.excluded)
    if len(lacking):
        rest = gradient_sum(context.parent, context.problem, context.problem.train, lacking)
        prepared = replace(prepared, total=prepared.total + rest)
    return Task(forget, tombstoned, prepared, time.perf_counter() - begun)


def read_tombstones(context: Context) -> Indices:
    """Ordinals that nothing but the update itself may read any more."""
    with transaction() as session:
        return np.asarray(lineage.tombstoned(session, context.lease.dataset_id), dtype=np.int64)


def kept(context: Context) -> artifacts.Prepared | None:
    """What was prepared for the parent, if it is there and sound."""
    assert context.lease.parent is not None
    digest = context.lease.parent.gradients_digest
    if digest is None:
        return None
    try:
        return artifacts.load_prepared(digest, context.device)
    except (Corrupt, Gone) as error:
        log.warning("prepared.unusable", version=context.lease.parent.id, error=error.code)
        return None


def prepare(
    context: Context, model: torch.nn.Module, tombstoned: Indices, anchor_T: Answers | None = None
) -> artifacts.Prepared:
    """One pass over the training set, one over a bounded part of it, and one over all unseen data.

    `anchor_T` says which audit test samples the last version that was trained answers right; None where that is `model`.
    """
    context.pulse.step(0.0, "gradients of the training set")
    problem = context.problem
    live = np.setdiff1d(np.arange(len(problem.train)), tombstoned)
    total = torchrun.summed(context.asker, model, problem, live)
    difficulty = fit_difficulty(model, problem, live, context.tuning)
    standing = stand(model, problem, live, context.tuning, context.audit, difficulty, anchor_T)
    return artifacts.Prepared(total, tombstoned, standing, difficulty)


def anchor(context: Context, version: Version) -> Answers | None:
    """Which audit test samples the version answers right that `version` descends from by updates alone: of the parent's
    standing, or else by that version's weights. None where it is `version` itself, or nothing tells any more."""
    if version.kind is not VersionKind.UNLEARNED:
        return None
    parent = kept(context)
    return parent.standing.anchor_T if parent is not None else trained_answers(context, version.number)


def trained_answers(context: Context, number: int) -> Answers | None:
    """The same by weights alone; None where version `number` was trained, or the weights are not kept any more."""
    with transaction() as session:
        trained = versions.anchor(session, context.lease.model_id, number)
        if trained.number == number or trained.weights_purged_at is not None:
            return None
        digest = trained.weights_digest
    try:
        model = restore(context.problem, artifacts.load_weights(digest), context.device)
    except (Corrupt, Gone) as error:
        log.warning("anchor.unusable", version=number, error=error.code)
        return None
    return scores(model, context.problem, context.audit.test).correct_N


def prepare_next(context: Context, version: Version, anchor_T: Answers | None) -> None:
    """Prepare the version that was just published for its own updates, off the path of any ticket."""
    model = restore(context.problem, artifacts.load_weights(version.weights_digest), context.device)
    digest = artifacts.save_prepared(prepare(context, model, read_tombstones(context), anchor_T))
    with transaction() as session:
        still_current = update(Version).where(Version.id == version.id, Version.superseded_at.is_(None))
        session.execute(still_current.values(gradients_digest=digest))
