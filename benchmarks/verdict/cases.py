"""The settings on which the verdict is qualified, and what is asked of each to be forgotten.

The samples of a set are drawn from a superset of 1 % or 5 % of the training set; a retrain leaves the whole superset
out and serves as truth for every set in it, so that a set of one sample needs no retrain of its own. What the rest of
the superset does to it is at most what deleting 1 % of the data does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from benchmarks.paper.forget import classes_of
from benchmarks.problems import (
    OutlierProblem,
    lenet_fashion_10k,
    lenet_fashion_outliers,
    lenet_fashion_stopped,
    mlp_flights,
)
from unlearning.problem import Indices, Problem

Mode = Literal["quick", "full"]
Kind = Literal["random", "class", "subjects", "spoiled"]


@dataclass(frozen=True)
class Setting:
    """`build` takes the seed of the training. `blocks` are the supersets by kind and share: how many of each; `retrains`
    how many models are trained without each of them, `originals` how many with all samples."""

    name: str
    says: str
    build: Callable[..., Problem]
    sizes: dict[str, int]
    blocks: tuple[tuple[Kind, float, int], ...]
    retrains: int = 2
    originals: int = 2
    references: int = 8


@dataclass(frozen=True)
class ForgetSet:
    """Samples to forget, ascending, and the block that the retrains leave out."""

    name: str
    label: str
    kind: Kind
    indices: Indices
    block: str


@dataclass(frozen=True)
class Block:
    name: str
    kind: Kind
    share: float
    indices: Indices


FULL = (
    Setting(
        "lenet-fashion-10k",
        "LeNet5, 10,000 images of Fashion-MNIST, 40 epochs: strong memorisation",
        lenet_fashion_10k,
        {},
        (("random", 0.05, 4), ("random", 0.01, 4), ("class", 0.02, 2)),
    ),
    Setting(
        "mlp-flights",
        "MLP, 20,000 flights, 105 destinations; what is forgotten are whole aircraft",
        mlp_flights,
        {},
        (("subjects", 0.05, 4), ("subjects", 0.01, 4)),
    ),
    Setting(
        "lenet-fashion-outliers",
        "LeNet5, 10,000 images of Fashion-MNIST, 300 of them mislabelled and 200 blurred by noise",
        lenet_fashion_outliers,
        {},
        (("spoiled", 0.05, 1), ("spoiled", 0.01, 3)),
        retrains=3,
    ),
    Setting(
        "lenet-fashion",
        "LeNet5, 48,000 images of Fashion-MNIST, early stopping: weak memorisation",
        lenet_fashion_stopped,
        {},
        (("random", 0.05, 3), ("random", 0.01, 3)),
    ),
)
QUICK = (
    Setting(
        "lenet-fashion-4k",
        "LeNet5, 4,000 images of Fashion-MNIST, 30 epochs",
        lenet_fashion_10k,
        {"train_size": 4_000, "holdout_size": 6_000, "epochs": 30},
        (("random", 0.05, 3),),
    ),
    Setting(
        "mlp-flights-5k",
        "MLP, 5,000 flights; what is forgotten are whole aircraft",
        mlp_flights,
        {"train_size": 5_000, "holdout_size": 10_000, "test_size": 10_000, "epochs": 20},
        (("subjects", 0.05, 3),),
    ),
)
SETTINGS: dict[Mode, tuple[Setting, ...]] = {"quick": QUICK, "full": FULL}


def problem_of(setting: Setting, seed: int) -> Problem:
    return setting.build(seed=seed, **setting.sizes)


def blocks(setting: Setting, problem: Problem) -> list[Block]:
    """The supersets, the same for every seed of the training."""
    found: list[Block] = []
    for kind, share, count in setting.blocks:
        for number in range(count):
            random = np.random.default_rng([round(share * 1000), number])
            name = f"{kind}-{share:g}-{number}"
            found.append(Block(name, kind, share, np.sort(_block(problem, kind, share, random))))
    return found


def _block(problem: Problem, kind: Kind, share: float, random: np.random.Generator) -> Indices:
    size = round(share * len(problem.train))
    if kind == "random":
        return random.permutation(len(problem.train))[:size].astype(np.int64)
    if kind == "class":
        classes_N = classes_of(problem)
        return random.permutation(np.flatnonzero(classes_N == random.choice(np.unique(classes_N))))[:size]
    if kind == "subjects":
        return whole_subjects(problem, random, size)
    assert isinstance(problem, OutlierProblem)
    return random.permutation(problem.forget)[:size]


def whole_subjects(problem: Problem, random: np.random.Generator, size: int) -> Indices:
    """The samples of whole subjects, drawn until there are `size` or a few more."""
    rows: dict[str, list[int]] = {}
    for row, subject in enumerate(problem.train.subjects):
        if subject is not None:
            rows.setdefault(subject, []).append(row)
    chosen: list[int] = []
    for subject in random.permutation(sorted(rows)):
        chosen += rows[subject]
        if len(chosen) >= size:
            break
    return np.array(chosen, dtype=np.int64)


def forget_sets(block: Block, repeats: int = 2) -> list[ForgetSet]:
    """What is asked to be forgotten out of a block: all of it and, where it is a small one, some tens and single ones."""
    label = f"{block.share:.0%}"
    found = [ForgetSet(f"{block.name}-all", label, block.kind, block.indices, block.name)]
    if block.share > 0.02:
        return found
    random = np.random.default_rng([len(block.indices), 1])
    for size in (100, 10, 1):
        for number in range(1 if size == 100 else repeats):
            if size < len(block.indices):
                indices = np.sort(random.permutation(block.indices)[:size])
                found.append(ForgetSet(f"{block.name}-{size}-{number}", str(size), block.kind, indices, block.name))
    return found


def settings_named(mode: Mode, names: list[str] | None) -> list[Setting]:
    """Those of a mode, or some of them.

    Raises:
        ValueError: no setting of that name.
    """
    by_name: dict[str, Any] = {setting.name: setting for setting in SETTINGS[mode]}
    unknown = [name for name in names or [] if name not in by_name]
    if unknown:
        raise ValueError(f"no setting {unknown[0]!r} in {mode} mode; there are {', '.join(by_name)}")
    return [by_name[name] for name in names or by_name]
