"""Any method of the registry as a rung: whether it applies, what it is given, and what the audit says of its answer."""

import time
from dataclasses import asdict, is_dataclass, replace
from typing import Any

import numpy as np

from unlearning.gradients import GradientSum, NonFinite, gradient_sum
from unlearning.methods import registry
from unlearning.methods.planner import available_for, lacking
from unlearning.methods.protocol import Job, Method, Need
from unlearning.records import Records
from unlearning.training import Diverged
from workers.context import Context
from workers.rungs import Inapplicable, Task, Updated

OWN = "own:"


def by_method(context: Context, task: Task, rung: str) -> Updated:
    """Forget by the method that the rung names, with the policy's settings.

    Raises:
        Inapplicable: it is not installed, does not take these settings, does not apply, or led to no weights.
    """
    method = made(rung, dict(context.lease.policy.methods.get(rung, {})))
    job = job_for(context, task, method)
    lack = lacking(method, available_for(job, [method]))
    if lack:
        raise Inapplicable(f"{rung} does not apply: {lack}")
    begun = time.perf_counter()
    try:
        outcome = method.unlearn(job)
    except (NonFinite, Diverged) as error:
        raise Inapplicable(f"{rung} led to no weights: {error}") from error
    told = {
        "settings": settings_of(method),
        "source": method.source,
        "forget_count": len(job.forget),
        "retain_count": len(job.retain),
        "journal_undone": outcome.journal_undone,
        "details": dict(outcome.details),
    }
    return Updated(outcome.state, told, time.perf_counter() - begun, outcome.journal_undone)


def made(rung: str, settings: dict[str, Any]) -> Method:
    """The method, with these settings. What a stranger's package says of them is not repeated."""
    try:
        return registry.make(rung.removeprefix(OWN), **settings)
    except registry.Unavailable as error:
        raise Inapplicable(str(error)) from error
    except ValueError as error:
        why = f"{rung} does not take the policy's settings ({', '.join(settings)})"
        raise Inapplicable(why if rung.startswith(OWN) else f"{why}: {error}") from error


def settings_of(method: Any) -> dict[str, Any]:
    """Of a method that is no dataclass, nothing is known."""
    return asdict(method) if is_dataclass(method) and not isinstance(method, type) else {}


def job_for(context: Context, task: Task, method: Method) -> Job:
    """What the method is given. D_r leaves out what others have asked to forget, and every sum is over D_f and D_r alone."""
    retain = task.retained(len(context.problem.train))
    records = context.records
    return Job(
        context.problem,
        context.parent,
        task.forget,
        retain,
        context.tuning,
        seed=context.problem.recipe.seed,
        total=total_of(context, task, len(retain)) if Need.GRADIENT_SUM in method.needs else None,
        records=None if records is None else fitting(records, len(task.forget) + len(retain)),
        difficulty=task.prepared.difficulty,
        progress=context.pulse.step,
    )


def total_of(context: Context, task: Task, retained: int) -> GradientSum:
    """G over D_f and D_r: what was prepared, unless others' samples are in it."""
    if task.prepared.total.count == len(task.forget) + retained:
        return task.prepared.total
    live = np.union1d(task.forget, task.retained(len(context.problem.train)))
    return gradient_sum(context.parent, context.problem, context.problem.train, live)


def fitting(records: Records, samples: int) -> Records:
    """The records without sums that others' samples are in: a method that can do without takes its own."""
    fisher, importance = records.fisher, records.importance
    return replace(
        records,
        fisher=fisher if fisher is not None and fisher.count == samples else None,
        importance=importance if importance is not None and importance.count == samples else None,
    )
