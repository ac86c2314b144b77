"""How close `iau-calibrated` comes to a retrain (`benchmarks/closeness.py`), and how fast both rungs are.

`python -m benchmarks.unlearn [--part closeness|speed]`. Speed, on 48,000 images with early stopping: against the retrain,
and against the floor, which is gradients on D_f and the new weights' forward passes over D_f and the audit's data.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from benchmarks.closeness import ORIGINALS, closeness
from benchmarks.results import Row, finish, in_turns, ratios
from unlearning.calibrated import CalibratedResult, CalibratedSettings, unlearn_calibrated
from unlearning.difficulty import Difficulty, fit_difficulty
from unlearning.evidence import Standing, gather, stand
from unlearning.gradients import GradientSum, gradient_sum, scores
from unlearning.iau import IauSettings, unlearn
from unlearning.problem import Indices, Problem, Recipe
from unlearning.splits import split_unseen
from unlearning.training import restore, train
from unlearning.validation import validate
from workers.bundled import fashion_mnist

STOPPING = Recipe("adam", 1e-3, epochs=60, batch_size=64, patience=9)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=["closeness", "speed", "all"], default="all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=48_000, help="training samples of the speed part")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    missed = 0
    if options.part != "speed":
        missed |= finish("unlearn-closeness", closeness(), vars(options) | {"originals": list(ORIGINALS)})
    if options.part != "closeness":
        rows, facts = speed(options.samples, options.rounds)
        missed |= finish("unlearn-speed", rows, vars(options) | facts)
    return missed


@dataclass(frozen=True)
class Line:
    """A version as the service would hold it when a ticket comes."""

    problem: Problem
    parent: nn.Module
    live: Indices
    total: GradientSum
    standing: Standing
    difficulty: Difficulty | None
    retrain_seconds: float


def speed(samples: int, rounds: int) -> tuple[list[Row], dict[str, float]]:
    problem = fashion_mnist(train_size=samples, holdout_size=60_000 - samples, recipe=STOPPING)
    tuning, audit = split_unseen(problem)
    live = np.arange(samples)
    begun = time.perf_counter()
    trained = train(problem, live, tuning)
    seconds = time.perf_counter() - begun
    parent = restore(problem, trained.state)
    total = gradient_sum(parent, problem, problem.train, live)
    difficulty = fit_difficulty(parent, problem, live, tuning)
    standing = stand(parent, problem, live, tuning, audit, difficulty)
    line = Line(problem, parent, live, total, standing, difficulty, seconds)
    five = samples // 20
    rows = [
        *one_shot(line, 1, rounds, alone=10_000, validated=None),
        *one_shot(line, five, rounds, alone=None, validated=100),
        calibrated(line, five, rounds),
        doubled(line, five, rounds),
    ]
    return rows, {"retrain_seconds": seconds, "epochs": len(trained.history)}


def chosen(line: Line, count: int) -> Indices:
    return np.sort(np.random.default_rng(count).permutation(line.live)[:count])


def one_shot(line: Line, count: int, rounds: int, alone: float | None, validated: float | None) -> list[Row]:
    """The paper's step with a given eta: by itself against the retrain, with its validation against the floor."""
    forget = chosen(line, count)
    tuning, audit = split_unseen(line.problem)
    settings = IauSettings(eta=1e-3)

    def update() -> None:
        unlearn(line.parent, line.problem, forget, line.total, tuning, settings)

    def whole() -> None:
        result = unlearn(line.parent, line.problem, forget, line.total, tuning, settings)
        child = restore(line.problem, result.state)
        validate(gather(line.standing, line.parent, child, line.problem, forget, audit, None, line.difficulty))

    def floor() -> None:
        gradient_sum(line.parent, line.problem, line.problem.train, forget)
        scores(line.parent, line.problem, line.problem.train, forget)
        scores(line.parent, line.problem, audit.holdout)
        scores(line.parent, line.problem, audit.test)

    bare, full, least = in_turns(*(lambda f=f: timed(f) for f in (update, whole, floor)), rounds=rounds)
    ratio, ratio_spread = ratios(full, least)
    name = f"{count} sample{'s' if count > 1 else ''} of {len(line.live):,}"
    return [
        against_retrain(f"{name}: one-shot update alone", line, bare, alone),
        against_retrain(f"{name}: one-shot update with its validation", line, full, validated),
        Row(
            f"{name}: the same against the floor",
            f"{1000 * statistics.median(full):.0f} ms",
            f"{1000 * statistics.median(least):.0f} ms",
            ratio,
            1.5,
            True,
            ratio_spread,
        ),
    ]


def bounded(line: Line, forget: Indices, retain: Indices) -> CalibratedResult:
    tuning, _ = split_unseen(line.problem)
    settings = CalibratedSettings()
    return unlearn_calibrated(line.parent, line.problem, forget, retain, tuning, settings, difficulty=line.difficulty)


def calibrated(line: Line, count: int, rounds: int) -> Row:
    """The second rung with its validation, against the retrain."""
    forget = chosen(line, count)
    retain = np.setdiff1d(line.live, forget)
    _, audit = split_unseen(line.problem)

    def whole() -> None:
        result = bounded(line, forget, retain)
        child = restore(line.problem, result.state)
        validate(gather(line.standing, line.parent, child, line.problem, forget, audit, None, line.difficulty))

    (found,) = in_turns(lambda: timed(whole), rounds=rounds)
    return against_retrain(
        f"{count} samples of {len(line.live):,}: iau-calibrated with its validation", line, found, 50
    )


def doubled(line: Line, count: int, rounds: int) -> Row:
    """One-shot and calibrated update of the same D_f, within half of D and within all of it."""
    forget = chosen(line, count)
    tuning, _ = split_unseen(line.problem)
    half = np.union1d(forget, np.setdiff1d(line.live, forget)[: len(line.live) // 2 - count])
    total = gradient_sum(line.parent, line.problem, line.problem.train, half)

    def within(live: Indices, whole: GradientSum) -> float:
        retain = np.setdiff1d(live, forget)

        def both() -> None:
            unlearn(line.parent, line.problem, forget, whole, tuning, IauSettings(eta=1e-3))
            bounded(line, forget, retain)

        return timed(both)

    all_of_it, part = in_turns(lambda: within(line.live, line.total), lambda: within(half, total), rounds=rounds)
    ratio, ratio_spread = ratios(all_of_it, part)
    seconds = f"{statistics.median(all_of_it):.2f} s", f"{statistics.median(part):.2f} s"
    return Row("both updates, twice the training set", *seconds, ratio, 1.1, True, ratio_spread)


def against_retrain(name: str, line: Line, seconds: list[float], aim: float | None) -> Row:
    middle = statistics.median(seconds)
    faster = sorted(line.retrain_seconds / each for each in seconds)
    return Row(
        f"{name}, times faster than a retrain",
        f"{middle:.3f} s" if middle > 0.1 else f"{1000 * middle:.2f} ms",
        f"{line.retrain_seconds:.1f} s",
        line.retrain_seconds / middle,
        aim,
        False,
        f"{faster[0]:.0f}–{faster[-1]:.0f}",
    )


def timed(subject: Callable[[], None]) -> float:
    begun = time.perf_counter()
    subject()
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
