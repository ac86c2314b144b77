"""Every method against the retrains, for one setting and several seeds: the paper's tables, with their noise floor."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.paper.case import Case
from benchmarks.paper.figures import FIGURES, against, average_ranks, retrain_against_retrain, spread
from benchmarks.paper.tuning import Trial, trials
from unlearning.gradients import NonFinite
from unlearning.methods.nothing import Nothing
from unlearning.methods.planner import available_for, plan, sizes_for
from unlearning.methods.protocol import Method

Cell = dict[str, Any]


@dataclass(frozen=True)
class Seed:
    """What one seed gave: figures by row, those of the authors' defaults, the chosen factors, why a row is missing."""

    rows: dict[str, dict[str, float]]
    defaults: dict[str, dict[str, float]]
    factors: dict[str, float]
    missing: dict[str, str]
    false_positives: dict[str, float]
    originals: dict[str, float]


def run_seed(case: Case, methods: Sequence[str]) -> Seed:
    """Train, retrain and run what is not there yet; then hold everything against the retrains.

    A method whose every trial diverged, or that does not apply, is left out and the reason kept.
    """
    nothing = run_trial(case, Trial(Nothing(), "", 1.0))
    rows = {"nothing": against(nothing, case.retrains), "retrain": retrain_against_retrain(case.retrains)}
    defaults: dict[str, dict[str, float]] = {}
    factors: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name in methods:
        finite, reason = finite_trials(case, name)
        if not finite:
            missing[name] = reason
            continue
        trial, cell = best(finite)
        rows[name], factors[name] = against(cell, case.retrains), trial.factor
        if finite[0][0].factor == 1:
            defaults[name] = against(finite[0][1], case.retrains)
    originals = {"accuracy": nothing["accuracy"], "epochs": case.original["epochs"]}
    false_positives = {f"{name}_unseen": nothing[f"{name}_unseen"] for name in ("attack", "threshold")}
    recalls = {f"{name}_recall": nothing[f"{name}_forget"] for name in ("attack", "threshold")}
    return Seed(rows, defaults, factors, missing, false_positives | recalls, originals)


def finite_trials(case: Case, name: str) -> tuple[list[tuple[Trial, Cell]], str]:
    """The trials of a method that did not diverge, the authors' defaults first; where there is none, the reason."""
    tried = trials(name, case.problem.recipe)
    reason = not_for(case, tried[0].method)
    if reason:
        return [], reason
    found = [(trial, run_trial(case, trial)) for trial in tried]
    finite = [(trial, cell) for trial, cell in found if "diverged" not in cell]
    return finite, "" if finite else str(found[0][1]["diverged"])


def best(finite: Sequence[tuple[Trial, Cell]]) -> tuple[Trial, Cell]:
    """The trial with the lowest score on tuning data, the first of those that share it."""
    return min(finite, key=lambda pair: float(pair[1]["tuning_score"]))


def run_trial(case: Case, trial: Trial) -> Cell:
    """What a method's weights show, the seconds it took, its score on tuning data, and its step where it names an `eta`;
    or that it diverged."""

    def make() -> Cell:
        job = case.job
        begun = time.perf_counter()
        try:
            outcome = trial.method.unlearn(job)
        except NonFinite as error:
            return {"diverged": str(error)}
        seconds = time.perf_counter() - begun
        try:
            shown = case.shown(outcome.state)
            step = {"eta": outcome.details["eta"]} if "eta" in outcome.details else {}
            return shown | step | {"seconds": seconds, "tuning_score": case.tuning_score(outcome.state)}
        except NonFinite as error:
            return {"diverged": str(error)}

    return case.cells.table(trial.label, make)


def not_for(case: Case, method: Method) -> str:
    """Why a method does not apply here, in a sentence; empty where it does."""
    [entry] = plan([method], available_for(case.job, [method]), sizes_for(case.job, 0))
    return entry.reason


def summary(seeds: Sequence[Seed]) -> Cell:
    """Mean and range over seeds of every row that every seed has; ranks among the methods, seed by seed."""
    names = [name for name in seeds[0].rows if all(name in seed.rows for seed in seeds)]
    ranked = [name for name in names if name not in ("nothing", "retrain")]
    ranks = [average_ranks({name: seed.rows[name] for name in ranked}) for seed in seeds]
    rows = []
    for name in names:
        figures = {figure: spread([seed.rows[name][figure] for seed in seeds]) for figure in FIGURES}
        by_default = [seed.defaults[name] for seed in seeds if name in seed.defaults]
        rows.append(
            {
                "name": name,
                "figures": figures,
                "rank": spread([rank[name] for rank in ranks]) if name in ranked else None,
                "factors": [seed.factors[name] for seed in seeds if name in seed.factors],
                "defaults": {f: spread([one[f] for one in by_default]) for f in FIGURES} if by_default else None,
            }
        )
    gone = {name: reason for seed in seeds for name, reason in seed.missing.items()}
    attacks = {k: spread([seed.false_positives[k] for seed in seeds]) for k in seeds[0].false_positives}
    originals = {k: spread([seed.originals[k] for seed in seeds]) for k in seeds[0].originals}
    return {"rows": rows, "missing": gone, "original": attacks | originals}
