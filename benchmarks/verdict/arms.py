"""What is judged: updates whose truth is known. Each takes the original of a case and gives weights, or None.

`nothing` is the original itself; `another` an original of another seed, which learnt D_f as well, so that it differs as
much as a retrain does and has forgotten nothing; `retrain-0`, `retrain-1`, ... never saw D_f. `iau` and `iau-calibrated`
are the service's rungs, as it runs them; `ten-times` is the step of `iau`, ten times as long.
"""

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.verdict.cases import ForgetSet
from unlearning.calibrated import CalibratedSettings, unlearn_calibrated
from unlearning.difficulty import Difficulty
from unlearning.gradients import GradientSum, NonFinite
from unlearning.iau import IauSettings, unlearn
from unlearning.problem import Problem
from unlearning.splits import TuningData
from unlearning.training import State, restore

UPDATES = ("iau", "iau-calibrated", "ten-times")
TRUE = ("retrain",)
IDLE = ("nothing", "another")
BUDGET = 0.015  # of accuracy: half of the default policy's MU, as the service gives the search


@dataclass(frozen=True)
class Start:
    """An original, and what was prepared with it."""

    problem: Problem
    state: State
    total: GradientSum
    difficulty: Difficulty | None
    tuning: TuningData


def updates(start: Start, asked: ForgetSet, *, few: bool) -> dict[str, State | None]:
    """The weights of each update; None where a loss was no longer finite, so that there is nothing to judge. Of a `few`
    samples the second rung's alone."""
    found = {} if few else one_shot(start, asked)
    problem = start.problem
    retained = np.setdiff1d(np.arange(len(problem.train)), asked.indices)
    found["iau-calibrated"] = unlearn_calibrated(
        restore(problem, start.state),
        problem,
        asked.indices,
        retained,
        start.tuning,
        CalibratedSettings(),
        seed=problem.recipe.seed,
        difficulty=start.difficulty,
    ).state
    return found


def one_shot(start: Start, asked: ForgetSet) -> dict[str, State | None]:
    """The first rung's, and ten times its step."""
    problem, parent = start.problem, restore(start.problem, start.state)
    settings = IauSettings(accuracy_budget=BUDGET)
    found: dict[str, State | None] = {}
    step = unlearn(parent, problem, asked.indices, start.total, start.tuning, settings)
    found["iau"] = step.state
    further = replace(settings, eta=min(10 * step.eta, 1e6))
    try:
        found["ten-times"] = unlearn(parent, problem, asked.indices, start.total, start.tuning, further).state
    except NonFinite:
        found["ten-times"] = None
    return found
