"""How close `iau-calibrated` comes to a retrain, on LeNet-5 and 10,000 images of Fashion-MNIST trained for 40 epochs by
plain cross entropy, so that it memorises.

Five retrains without D_f (three for the smaller sets) give the spread that no answer can be asked to undercut. Three
originals, of seeds that no retrain has, are updated once each. Each figure of an update is held against the worst of the
retrains, each of those against the others: |accuracy - theirs|, |recall on D_f - theirs| of a loss-threshold attack
fitted on the original, the mean Kolmogorov-Smirnov distance of the logit-scaled confidence on D_f, and one less the mean
rank correlation, sample by sample. Medians over the originals. Beside them stands how far the original is from the
retrains on data that neither has seen: an update that leaves the rest of the model alone cannot be asked to undercut it.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import ks_2samp, spearmanr  # type: ignore[import-untyped]  # has no stubs
from torch import nn

from benchmarks.results import Row
from unlearning.calibrated import CalibratedSettings, unlearn_calibrated
from unlearning.difficulty import fit_difficulty
from unlearning.evidence import stand
from unlearning.gradients import scores
from unlearning.membership import confidence
from unlearning.problem import Indices, Recipe
from unlearning.splits import split_unseen
from unlearning.training import restore, train
from workers.bundled import ImageProblem, fashion_mnist

MEMORISING = Recipe("adam", 1e-3, epochs=40, batch_size=64)
ORIGINALS = (100, 101, 102)


@dataclass(frozen=True)
class Case:
    """A forget set, and how many retrains tell what it should look like."""

    name: str
    problem: ImageProblem
    forget: Indices
    retrains: int


@dataclass(frozen=True)
class View:
    """What one model shows: accuracy on the whole test set, recall on D_f, confidence on D_f and on unseen data, and the
    share of the latter that the attack calls members."""

    accuracy: float
    recall: float
    confidence_N: np.ndarray
    unseen_recall: float
    unseen_M: np.ndarray


@dataclass(frozen=True)
class Compared:
    """One original: before its update, after it, and the retrains, by an attack fitted on it."""

    before: View
    after: View
    retrained: list[View]


def cases() -> list[Case]:
    plain = fashion_mnist(recipe=MEMORISING)
    random, targets = np.random.default_rng(100), plain.train.targets.numpy()
    wrong, mislabelled = mislabel(plain, 200)
    shirts = np.flatnonzero(targets == 6)
    subject = np.flatnonzero(np.array(plain.train.subjects) == "group-0042")
    return [
        Case("5 % at random", plain, np.sort(random.permutation(len(targets))[:500]), 5),
        Case("200 of one class", plain, np.sort(random.permutation(shirts)[:200]), 3),
        Case("one subject, 20 samples", plain, subject, 3),
        Case("200 mislabelled", wrong, mislabelled, 3),
    ]


def mislabel(problem: ImageProblem, count: int) -> tuple[ImageProblem, Indices]:
    """The same problem with `count` training labels moved to another class; and which."""
    random = np.random.default_rng(7)
    chosen = np.sort(random.permutation(len(problem.train))[:count])
    targets = problem.train.targets.clone()
    targets[chosen] = (targets[chosen] + torch.from_numpy(random.integers(1, 10, count))) % 10
    return replace(problem, train=replace(problem.train, targets=targets)), chosen


def closeness() -> list[Row]:
    rows = []
    originals: dict[int, list[nn.Module]] = {}
    for case in cases():
        everything = np.arange(len(case.problem.train))
        key = id(case.problem)
        if key not in originals:
            originals[key] = [trained(case.problem, everything, seed) for seed in ORIGINALS]
        rows += compare(case, originals[key], np.setdiff1d(everything, case.forget))
    return rows


def trained(problem: ImageProblem, samples: Indices, seed: int) -> nn.Module:
    seeded = replace(problem, recipe=replace(problem.recipe, seed=seed))
    return restore(problem, train(seeded, samples).state)


def compare(case: Case, originals: list[nn.Module], retain: Indices) -> list[Row]:
    """The update's figures against the retrains' own, one row a figure, and its time against theirs."""
    tuning, audit = split_unseen(case.problem)
    everything = np.union1d(retain, case.forget)
    retrained, seconds = [], []
    for seed in range(case.retrains):
        begun = time.perf_counter()
        retrained.append(trained(case.problem, retain, seed))
        seconds.append(time.perf_counter() - begun)

    def compared(parent: nn.Module) -> tuple[Compared, float]:
        threshold, _ = stand(parent, case.problem, everything, tuning, audit).attack(case.forget)
        difficulty = fit_difficulty(parent, case.problem, everything, tuning)

        def view(model: nn.Module) -> View:
            forget = scores(model, case.problem, case.problem.train, case.forget)
            unseen = scores(model, case.problem, audit.holdout)
            return View(
                float(scores(model, case.problem, case.problem.test).correct_N.mean()),
                float(threshold.calls_member(forget).mean()),
                confidence(forget.losses_N),
                float(threshold.calls_member(unseen).mean()),
                confidence(unseen.losses_N),
            )

        begun = time.perf_counter()
        found = unlearn_calibrated(
            parent, case.problem, case.forget, retain, tuning, CalibratedSettings(), difficulty=difficulty
        )
        taken = time.perf_counter() - begun
        after = view(restore(case.problem, found.state))
        return Compared(view(parent), after, [view(model) for model in retrained]), taken

    pairs = [compared(parent) for parent in originals]
    taken = [each for _, each in pairs]
    faster = statistics.median(seconds) / statistics.median(taken)
    return [
        *spread(case, [one for one, _ in pairs]),
        Row(
            f"{case.name}: times faster than a retrain",
            f"{statistics.median(taken):.2f} s",
            f"{statistics.median(seconds):.1f} s",
            faster,
            50,
            False,
            f"{min(seconds) / max(taken):.0f}–{max(seconds) / min(taken):.0f}",
        ),
    ]


FIGURES: dict[str, Callable[[View, list[View]], float]] = {
    "distance of accuracy to retrains'": lambda one, others: abs(
        one.accuracy - statistics.mean(o.accuracy for o in others)
    ),
    "distance of recall to retrains'": lambda one, others: abs(one.recall - statistics.mean(o.recall for o in others)),
    "KS distance to retrains": lambda one, others: statistics.mean(
        float(ks_2samp(one.confidence_N, o.confidence_N).statistic) for o in others
    ),
    "1 - rank correlation with retrains": lambda one, others: (
        1 - statistics.mean(float(spearmanr(one.confidence_N, o.confidence_N).statistic) for o in others)
    ),
}


UNSEEN: dict[str, Callable[[View, list[View]], float]] = {
    "distance of recall to retrains'": lambda one, others: abs(
        one.unseen_recall - statistics.mean(o.unseen_recall for o in others)
    ),
    "KS distance to retrains": lambda one, others: statistics.mean(
        float(ks_2samp(one.unseen_M, o.unseen_M).statistic) for o in others
    ),
}
"""The same figures of the original, on data that neither it nor a retrain has seen."""


def spread(case: Case, originals: list[Compared]) -> list[Row]:
    """Each figure as the median over originals, against the worst retrain; doing nothing stands in the spread."""
    rows = []
    for name, figure in FIGURES.items():
        own = [[figure(r, [o for o in one.retrained if o is not r]) for r in one.retrained] for one in originals]
        found = [figure(one.after, one.retrained) for one in originals]
        middle, limit = statistics.median(found), statistics.median(max(each) for each in own)
        nothing = statistics.median(figure(one.before, one.retrained) for one in originals)
        said = f"{min(found):.3f}–{max(found):.3f}; retrains {min(map(min, own)):.3f}–{max(map(max, own)):.3f}"
        said += f"; nothing {nothing:.3f}"
        if name in UNSEEN:
            unseen = statistics.median(UNSEEN[name](one.before, one.retrained) for one in originals)
            said += f"; the original on unseen data {unseen:.3f}"
        rows.append(Row(f"{case.name}: {name}", f"{middle:.3f}", f"{limit:.3f}", middle / limit, 1, True, said))
    return rows
