"""Judge every update of every forget set, without and with the bank, and put the truth beside it. Resumable by case."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from benchmarks.paper.cells import engine_digest
from benchmarks.verdict.arms import Start, updates
from benchmarks.verdict.cases import ForgetSet, Setting, blocks, forget_sets, problem_of
from benchmarks.verdict.pool import spread
from benchmarks.verdict.zoo import CACHE, Made, make, model, wanted
from unlearning.bank import Bank, assemble, observe
from unlearning.difficulty import fit_difficulty
from unlearning.evidence import Evidence, Standing, gather, stand
from unlearning.gradients import gradient_sum, scores
from unlearning.problem import Problem
from unlearning.splits import AuditData, TuningData, split_unseen
from unlearning.statistics import Statistic
from unlearning.training import restore
from unlearning.validation import SEED_SD, against_a_retrain, forecast, validate

DECIDE, COVER = 0.90, 0.95
FEW = 50  # samples below which no rate is claimed, and one original and the second rung will do
KEPT = (
    "mu", "ue", "ue_before", "forgetting", "exposure_before", "exposure", "exposure_change", "residual", "overshoot",
    "members", "members_before", "strangers", "worst_class", "cumulative_mu", "neighbours", "fair_draw", "support", "kin",
    "attack_tpr", "attack_fpr",
)  # fmt: skip


@dataclass
class Bench:
    """One setting: its models, loaded once, and its bank."""

    setting: Setting
    problem: Problem
    tuning: TuningData
    audit: AuditData
    models: dict[str, Made]
    bank: Bank

    def network(self, name: str) -> nn.Module:
        return restore(self.problem, self.models[name].state)


def bench(setting: Setting, cache: Path = CACHE) -> Bench:
    """Load everything; what is not there is trained."""
    problem = problem_of(setting, 0)
    tuning, audit = split_unseen(problem)
    models: dict[str, Made] = {}
    references = []
    for wish in wanted(setting):
        models[wish.name] = made = model(setting, wish, cache)
        if wish.name.startswith("reference"):
            network = restore(problem, made.state)
            references.append(observe(network, problem, int(wish.name.rpartition("-")[2]), wish.without, audit))
    return Bench(setting, problem, tuning, audit, models, assemble(references, len(problem.train)))


@dataclass(frozen=True)
class Case:
    """A forget set and the original that it is to be forgotten by; the rows of each are one file."""

    original: int
    asked: ForgetSet

    @property
    def name(self) -> str:
        return f"{self.asked.name}-{self.original}"


def cases(setting: Setting) -> list[Case]:
    problem = problem_of(setting, 0)
    return [
        Case(original, asked)
        for block in blocks(setting, problem)
        for asked in forget_sets(block)
        for original in range(setting.originals if len(asked.indices) >= FEW else 1)
    ]


def prepared(found: Bench, original: int) -> tuple[Start, Standing]:
    """What the service prepares with a version."""
    problem = problem_of(found.setting, 100 + original)
    state = found.models[f"original-{original}"].state
    parent, everything = restore(problem, state), np.arange(len(problem.train))
    difficulty = fit_difficulty(parent, problem, everything, found.tuning)
    standing = stand(parent, problem, everything, found.tuning, found.audit, difficulty)
    return Start(
        problem, state, gradient_sum(parent, problem, problem.train, everything), difficulty, found.tuning
    ), standing


def run(setting: Setting, done: Callable[[str], None], cache: Path = CACHE, jobs: int = 1) -> list[dict[str, Any]]:
    """All rows of a setting. `done` is called after each model and each case, made or found."""
    make(setting, done, cache, jobs)
    folder, missing, asked = rows_folder(setting, cache), [], cases(setting)
    for case in asked:
        if (folder / f"{case.name}.json").exists():
            done(case.name)
        else:
            missing.append(case)
    for case in spread(partial(_judge, setting, cache, folder), missing, jobs):
        done(case.name)
    return [row for case in asked for row in json.loads((folder / f"{case.name}.json").read_text())]


def rows_folder(setting: Setting, cache: Path = CACHE) -> Path:
    """Where the rows lie that the present engine made."""
    return cache / setting.name / f"rows-{engine_digest()[:12]}"


@dataclass
class Desk:
    """What one process keeps from case to case: a setting's models, and what was prepared with each original."""

    found: Bench
    ready: dict[int, tuple[Start, Standing]]


DESKS: dict[tuple[str, Path], Desk] = {}


def _judge(setting: Setting, cache: Path, folder: Path, case: Case) -> None:
    key = (setting.name, cache)
    if key not in DESKS:
        DESKS.clear()
        DESKS[key] = Desk(bench(setting, cache), {})
    desk = DESKS[key]
    if case.original not in desk.ready:
        desk.ready[case.original] = prepared(desk.found, case.original)
    made = judged(desk.found, case.original, case.asked, *desk.ready[case.original])
    path = folder / f"{case.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".part-{os.getpid()}")
    part.write_text(json.dumps(made))
    part.replace(path)


def judged(found: Bench, original: int, asked: ForgetSet, start: Start, standing: Standing) -> list[dict[str, Any]]:
    """One row an update and a source: statistics at both levels, the truth, seconds."""
    retrains = [f"retrain-{asked.block}-{number}" for number in range(found.setting.retrains)]
    arms: dict[str, nn.Module | None] = {
        "nothing": found.network(f"original-{original}"),
        "another": found.network(f"original-{(original + 1) % found.setting.originals}"),
        **{f"retrain-{number}": found.network(name) for number, name in enumerate(retrains)},
        **{
            name: None if state is None else restore(found.problem, state)
            for name, state in updates(start, asked, few=len(asked.indices) < FEW).items()
        },
    }
    parent = found.network(f"original-{original}")
    threshold, _ = standing.attack(asked.indices)
    shown = {name: seen(found, asked, threshold.loss, found.network(name)) for name in retrains}
    rows = []
    for arm, network in arms.items():
        if network is None:
            rows.append(_row(found, original, asked, arm, None, {}, {}, {}))
            continue
        own = seen(found, asked, threshold.loss, network)
        others = [shown[name] for number, name in enumerate(retrains) if arm != f"retrain-{number}"]
        truth = {key: [own[key] - other[key] for other in others] for key in ("mu", "ue")}
        begun = time.perf_counter()
        gathered = gather(standing, parent, network, start.problem, asked.indices, found.audit, None, start.difficulty)
        passes = time.perf_counter() - begun
        for bank in (None, found.bank):
            evidence, begun = replace(gathered, bank=bank), time.perf_counter()
            statistics = _statistics(evidence)
            seconds = {"gather": passes, "validate": time.perf_counter() - begun}
            rows.append(_row(found, original, asked, arm, "bank" if bank else "holdout", statistics, truth, seconds))
    return rows


def _statistics(evidence: Evidence) -> dict[str, Any]:
    """What a verdict reads, at the level at which it decides, and what a retrain proves, at the one that coverage is told of."""
    proved = against_a_retrain(evidence, forecast(evidence, COVER, SEED_SD), COVER)
    return {
        "decide": {one.name: _plain(one) for one in validate(evidence, DECIDE) if one.name in KEPT},
        "cover": {one.name: _plain(one) for one in proved if one.name in KEPT},
    }


def _plain(one: Statistic) -> dict[str, Any]:
    return {"estimate": one.estimate, "low": one.low, "high": one.high, "n": one.n, "estimator": one.estimator}


def seen(found: Bench, asked: ForgetSet, loss: float, network: nn.Module) -> dict[str, float]:
    """What MU and UE are differences of."""
    forget = scores(network, found.problem, found.problem.train, asked.indices)
    test = scores(network, found.problem, found.audit.test)
    return {"mu": float(test.correct_N.mean()), "ue": float((forget.losses_N <= loss).mean())}


def _row(
    found: Bench,
    original: int,
    asked: ForgetSet,
    arm: str,
    source: str | None,
    statistics: dict[str, Any],
    truth: dict[str, Any],
    seconds: dict[str, Any],
) -> dict[str, Any]:
    return {
        "setting": found.setting.name,
        "original": original,
        "set": asked.name,
        "label": asked.label,
        "kind": asked.kind,
        "n": len(asked.indices),
        "arm": arm,
        "source": source,
        "statistics": statistics,
        "truth": truth,
        "seconds": seconds,
    }
