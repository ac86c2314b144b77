"""Many deletions in a row: D_f in parts, each taken out of the version that the deletion before it left."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.paper.case import Case
from benchmarks.paper.figures import Shown, against, retrain_against_retrain, spread
from benchmarks.paper.table import run_trial
from benchmarks.paper.tuning import Trial
from unlearning.difficulty import fit_difficulty
from unlearning.gradients import gradient_sum
from unlearning.membership import confidence
from unlearning.methods.nothing import Nothing
from unlearning.methods.registry import make
from unlearning.problem import Indices
from unlearning.training import State, restore

METHODS = ("iau", "iau-calibrated")
DRAWN = ("mu", "ue_threshold", "ks", "auc")


def run(cases: Sequence[Case], parts: int) -> dict[str, Any]:
    """Figures after each deletion, on everything forgotten so far, against retrains without all of D_f.

    Such a retrain has seen no sample that was forgotten so far, and lacks the few that are still to come; the lines
    meet their true reference at the last deletion. `seconds` are those of one update; What is prepared with each
    version is computed off the critical path and not counted.

    Raises:
        ValueError: fewer than one part, or more than there are samples to forget.
    """
    lines: dict[str, list[list[dict[str, float]]]] = {name: [] for name in ("nothing", "retrain", *METHODS)}
    for case in cases:
        if not 1 <= parts <= len(case.forget):
            raise ValueError(f"{len(case.forget)} samples cannot be deleted in {parts} parts")
        order = np.random.default_rng(case.seed).permutation(case.forget)
        gone = [np.sort(np.concatenate(chunk)) for chunk in _growing(np.array_split(order, parts))]
        nothing = run_trial(case, Trial(Nothing(), "", 1.0))
        seen = [[_on(case, one, forgotten) for one in case.retrains] for forgotten in gone]
        lines["nothing"].append([against(_on(case, nothing, g), s) for g, s in zip(gone, seen, strict=True)])
        lines["retrain"].append([retrain_against_retrain(s) for s in seen])
        for name in METHODS:
            shown = _chain(case, name, gone)
            lines[name].append([against(a, s) for a, s in zip(shown, seen, strict=True)])
    drawn = (*DRAWN, "seconds")
    return {
        "deletions": parts,
        "per_deletion": len(cases[0].forget) / parts,
        "lines": {
            name: {f: [spread([one[i][f] for one in seeds]) for i in range(parts)] for f in drawn}
            for name, seeds in lines.items()
        },
    }


def _growing(parts: list[Indices]) -> list[list[Indices]]:
    return [parts[: number + 1] for number in range(len(parts))]


def _on(case: Case, shown: Shown, forgotten: Indices) -> dict[str, Any]:
    """What some weights show of a part of D_f: the rows of that part, and the threshold's share over them."""
    phi_N = np.array(shown["phi_forget"])[np.isin(case.forget, forgotten)]
    least = round(float(confidence(np.array([case.threshold]))[0]), 5)
    return dict(shown) | {"phi_forget": phi_N.tolist(), "threshold_forget": float((phi_N >= least).mean())}


def _chain(case: Case, name: str, gone: list[Indices]) -> list[dict[str, Any]]:
    """What the versions of one chain of deletions show, each of all that was forgotten before it and by it."""
    state: State = case.original["state"]
    shown = []
    for number, forgotten in enumerate(gone):
        before = gone[number - 1] if number else np.empty(0, dtype=np.int64)
        parent_state, seed = state, case.seed + number

        def make_step(
            parent_state: State = parent_state, before: Indices = before, now: Indices = forgotten, seed: int = seed
        ) -> dict[str, Any]:
            return _step(case, name, parent_state, before, now, seed)

        cell = case.cells.tensors(f"sequence-{name}-{len(gone)}-{number}", make_step)
        state = cell["state"]
        shown.append(cell["shown"])
    return shown


def _step(case: Case, name: str, parent_state: State, before: Indices, now: Indices, seed: int) -> dict[str, Any]:
    parent = restore(case.problem, parent_state, case.device)
    live = np.setdiff1d(np.arange(len(case.problem.train)), before)
    total = gradient_sum(parent, case.problem, case.problem.train, live)
    forget, retain = np.setdiff1d(now, before), np.setdiff1d(live, now)
    difficulty = fit_difficulty(parent, case.problem, live, case.job.tuning)
    job = replace(case.job, parent=parent, forget=forget, retain=retain, seed=seed)
    job = replace(job, total=total, difficulty=difficulty, records=None)
    begun = time.perf_counter()
    outcome = make(name).unlearn(job)
    seconds = time.perf_counter() - begun
    shown = _on(case, case.shown(outcome.state) | {"seconds": seconds}, now)
    return {"state": dict(outcome.state), "shown": shown}
