"""Where the networks look: activation maps of deleted and retained images after every method, against the retrains'.

Two images are shown because two can be seen; the distances are over many, because two are an anecdote.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.paper.case import Case
from benchmarks.paper.figures import spread
from benchmarks.paper.forget import classes_of
from benchmarks.paper.table import best, finite_trials
from benchmarks.paper.tuning import Trial
from unlearning.activation import activation_maps, in_levels, last_convolution, map_distances, normalised
from unlearning.gradients import scores
from unlearning.methods.retrain import Retrain
from unlearning.problem import Indices, Problem
from unlearning.training import State, restore

IMAGES = 100
STREAM = 3  # what is drawn here is drawn apart from the forget set, which has the same seed
DISTANCES = ("cosine", "l2")
SETS = ("deleted", "retained")
MEAN = "retrains' mean"
SAME_SEED = "retrain, same seed"
Rows = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Images:
    """Positions in the training set: the two that are shown, both of one class, and those that are averaged over."""

    shown: tuple[int, int]
    label: int
    deleted: Indices
    retained: Indices

    @property
    def all(self) -> Indices:
        """In the order of a cell's maps: the two that are shown, the deleted, the retained."""
        return np.concatenate([np.array(self.shown), self.deleted, self.retained])

    def parts(self, rows: Tensor) -> dict[str, Tensor]:
        """The rows of the deleted and of the retained images, without the two that are shown."""
        return {"deleted": rows[2 : 2 + len(self.deleted)], "retained": rows[2 + len(self.deleted) :]}


@dataclass(frozen=True)
class Seed:
    """What one seed gave: figures by row, the factor of each method's setting, why a row is missing, how many images were
    averaged over, and the two that are shown."""

    rows: Rows
    factors: dict[str, float]
    missing: dict[str, str]
    averaged: dict[str, int]
    shown: dict[str, Any]


def check(problem: Problem, retrains: int) -> str:
    """The layer whose maps are compared.

    Raises:
        ValueError: no images, a network without convolution, or fewer than two retrains.
    """
    if retrains < 2:
        raise ValueError("a retrain's maps are held against the others': at least two retrains are needed")
    with torch.random.fork_rng(devices=[]):
        layer = last_convolution(problem.build_model())
    inputs, _ = problem.train.batch(np.arange(1))
    if inputs.ndim != 4:
        raise ValueError(f"a sample has shape {tuple(inputs.shape[1:])}: maps need images (C, H, W)")
    return layer


def run(cases: Sequence[Case], methods: Sequence[str]) -> dict[str, Any]:
    """Mean and range over seeds of every row that every seed has; the two images of the first seed."""
    layer = check(cases[0].problem, cases[0].retrain_count)
    seeds = [run_seed(case, methods) for case in cases]
    names = [name for name in seeds[0].rows if all(name in seed.rows for seed in seeds)]
    return {
        "maps": [
            {
                "name": name,
                "figures": {key: spread([seed.rows[name][key] for seed in seeds]) for key in seeds[0].rows[name]},
                "factors": [seed.factors[name] for seed in seeds if name in seed.factors],
            }
            for name in names
        ],
        "missing": {name: reason for seed in seeds for name, reason in seed.missing.items()},
        "layer": layer,
        "averaged": seeds[0].averaged,
        "shown": seeds[0].shown,
    }


def run_seed(case: Case, methods: Sequence[str]) -> Seed:
    """The maps of the original, of the retrains and of every method, by the trial that the table of methods chooses."""
    images = images_of(case)
    retrains = [_maps(case, images, f"retrain-{k}", partial(case.retrained, k)) for k in range(case.retrain_count)]
    original = _maps(case, images, "nothing", lambda: case.original["state"])
    found = {"nothing": original, SAME_SEED: _maps(case, images, "retrain-same-seed", partial(_retrained_alike, case))}
    factors: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name in methods:
        finite, reason = finite_trials(case, name)
        if not finite:
            missing[name] = reason
            continue
        trial, _ = best(finite)
        factors[name] = trial.factor
        found[name] = _maps(case, images, trial.label, partial(_again, case, trial))
    rows = {name: figures(images, maps, retrains, original) for name, maps in found.items()}
    rows |= {"retrain": floor(images, retrains, original)}
    averaged = {"deleted": len(images.deleted), "retained": len(images.retained)}
    return Seed(rows, factors, missing, averaged, shown(case, images, found, retrains))


def images_of(case: Case) -> Images:
    """Drawn by the seed: a deleted and a retained image of one class that the original answers both right, and at most
    `IMAGES` of each set, right or not.

    Raises:
        ValueError: no class has such a pair.
    """
    drawn = np.random.default_rng([case.seed, STREAM])
    right_N = scores(case.parent, case.problem, case.problem.train).correct_N
    classes_N = classes_of(case.problem)
    forget_F, retain_R = drawn.permutation(case.forget), drawn.permutation(case.retain)
    for deleted in forget_F[right_N[forget_F]]:
        same = retain_R[right_N[retain_R] & (classes_N[retain_R] == classes_N[deleted])]
        if len(same):
            pair = int(deleted), int(same[0])
            return Images(pair, int(classes_N[deleted]), np.sort(forget_F[:IMAGES]), np.sort(retain_R[:IMAGES]))
    raise ValueError("the original answers no deleted and retained image of one class right: there is no pair to show")


def figures(images: Images, maps_Nhw: Tensor, retrains: Sequence[Tensor], original_Nhw: Tensor) -> dict[str, float]:
    """How far maps lie from the retrains' mean map, and how far they moved from the original's.

    Each mean is over all retrains but one, and the distances are averaged over which one is left out: so every row is
    held against as many as `floor`. `deleted_cosine` and the like are means over images, `shown_...` those of the two
    that are shown, `moved_...` the cosine distance to the original's; `empty` is the share of maps, over both sets, that
    are zero everywhere.
    """
    found = [_distances(images, maps_Nhw, _mean(_without(retrains, out))) for out in retrains]
    return _average(found) | _moved(images, [maps_Nhw], original_Nhw)


def floor(images: Images, retrains: Sequence[Tensor], original_Nhw: Tensor) -> dict[str, float]:
    """Retrain against retrain: each one's maps against the mean of the others'."""
    found = [_distances(images, one, _mean(_without(retrains, one))) for one in retrains]
    return _average(found) | _moved(images, retrains, original_Nhw)


def shown(case: Case, images: Images, found: dict[str, Tensor], retrains: Sequence[Tensor]) -> dict[str, Any]:
    """The two images and their maps by row, as bytes from 0 to 255 in hexadecimal, and the distances of the two maps."""
    inputs_2CHW, _ = case.problem.train.batch(np.array(images.shown))
    pictures = inputs_2CHW if inputs_2CHW.shape[1] == 3 else inputs_2CHW[:, :1]
    named = {f"retrain {number + 1}": maps for number, maps in enumerate(retrains)}
    original_Nhw = found["nothing"]
    rows = {name: figures(images, maps, retrains, original_Nhw) for name, maps in found.items()}
    rows |= {name: _distances(images, one, _mean(_without(retrains, one))) for name, one in named.items()}
    return {
        "seed": case.seed,
        "class": images.label,
        "image_shape": list(pictures.shape[1:]),
        "images": [_bytes(one, float(one.min())) for one in pictures],
        "map_shape": list(retrains[0].shape[1:]),
        "maps": {n: [_bytes(one, 0.0) for one in m[:2]] for n, m in {**found, **named, MEAN: _mean(retrains)}.items()},
        "cosine": {name: [row[f"shown_{part}_cosine"] for part in SETS] for name, row in rows.items()},
    }


def _maps(case: Case, images: Images, label: str, weights: Callable[[], State]) -> Tensor:
    """maps_Nhw of all images under some weights, on the CPU: a cell, whose name says which images."""

    def make() -> dict[str, Tensor]:
        model = restore(case.problem, weights(), case.device)
        inputs, targets = case.problem.train.batch(images.all)
        return {"maps": activation_maps(model, inputs, targets).cpu()}

    which = hashlib.sha256(images.all.tobytes()).hexdigest()[:8]
    maps_Nhw: Tensor = case.cells.tensors(f"maps-{which}-{label}", make)["maps"]
    return maps_Nhw


def _again(case: Case, trial: Trial) -> State:
    """A trial's weights, which its cell does not keep: the same call with the same seed."""
    return dict(trial.method.unlearn(case.job).state)


def _retrained_alike(case: Case) -> State:
    """A retrain with the original's own seed: the same initial weights, another order of samples."""
    return dict(Retrain().unlearn(replace(case.job, seed=0)).state)  # it adds the job's seed to the recipe's


def _without(retrains: Sequence[Tensor], out: Tensor) -> list[Tensor]:
    return [one for one in retrains if one is not out]


def _mean(maps: Sequence[Tensor]) -> Tensor:
    """mean_Nhw of the maps of several networks, each map over its sum first: none outweighs another by its scale."""
    return torch.stack([normalised(one) for one in maps]).mean(0)


def _distances(images: Images, maps_Nhw: Tensor, reference_Nhw: Tensor) -> dict[str, float]:
    by_kind = dict(zip(DISTANCES, map_distances(maps_Nhw, reference_Nhw), strict=True))
    found: dict[str, float] = {}
    for kind, distances_N in by_kind.items():
        found |= {f"{part}_{kind}": float(some.mean()) for part, some in images.parts(distances_N).items()}
        found |= {f"shown_{part}_{kind}": float(one) for part, one in zip(SETS, distances_N[:2], strict=True)}
    return found


def _average(found: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([one[key] for one in found])) for key in found[0]}


def _moved(images: Images, maps: Sequence[Tensor], original_Nhw: Tensor) -> dict[str, float]:
    """How far some maps lie from the original's, and how many are zero: means over several networks."""
    found = [_distances(images, one, original_Nhw) for one in maps]
    zero = [(torch.cat(list(images.parts(one).values())).sum(dim=(1, 2)) == 0).double().mean() for one in maps]
    moved = {f"moved_{part}": float(np.mean([one[f"{part}_cosine"] for one in found])) for part in SETS}
    return moved | {"empty": float(np.mean(zero))}


def _bytes(values: Tensor, lowest: float) -> str:
    """From `lowest` to the largest value as 0 to 255, in hexadecimal, in the order of the tensor's elements."""
    return in_levels(values, 255, lowest).numpy().tobytes().hex()
