"""A closer look at two models, which costs some passes: gradient norms sample by sample, and where an image's class comes from.

Norms are of some samples of D_f and of unseen ones, in bins; maps of unseen test images only, and without the images. Neither
leaves a trace in a model or takes from torch's random state.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unlearning.activation import activation_maps, in_levels, last_convolution, map_distances
from unlearning.figures import FEWEST, Spread, spread, too_few
from unlearning.gradients import NonFinite, chunks, evaluating
from unlearning.membership import Floats
from unlearning.problem import Indices, Problem, Samples, strata
from unlearning.sample_norms import layerwise_applies, per_sample_squared_norms, refuse
from unlearning.validation import FEW

SEED = 0
NORMED = 64
"""Samples of each set whose gradients are taken, at most."""
AT_ONCE = 64
AT_ONCE_GENERAL, GENERAL_FLOATS = 16, 2**26
"""In the general way a network's whole gradient is held for each sample: so many at most, and no more floats than these, but
for one sample's."""
NORM_EDGES = tuple(float(f"{10 ** (half / 2):.4g}") for half in range(-16, 7))  # 1e-8 to 1e3, two bins a decade
COARSE_NORM_EDGES = NORM_EDGES[::2]
MAPPED = 64
SHOWN = 4
SIDE = 8
"""Cells along a map's side, at most."""
SHADES = 10


class NoLook(ValueError):
    """This network, or so few samples, cannot be looked at in this way; the message says why and names no sample."""


@dataclass(frozen=True)
class Map:
    """A test image's maps before and after: rows of digits, from 0 to 9 where the score of its class comes from most, each
    map by its own scale. The image itself is not kept."""

    label: int
    before: tuple[str, ...]
    after: tuple[str, ...]
    distance: float


@dataclass(frozen=True)
class Maps:
    """How far the maps of `n` unseen images moved: the mean cosine distance, and the share of maps that are zero everywhere.
    `shown` are some that the version before answered right, one a class."""

    layer: str
    n: int
    seed: int
    distance: float
    empty_before: float
    empty_after: float
    shown: tuple[Map, ...]


def gradient_norms(
    parent: nn.Module, updated: nn.Module, problem: Problem, forget: Indices, holdout: Samples, weights_M: Floats
) -> Spread:
    """||grad loss(z, theta)|| over all trainable parameters, of at most `NORMED` samples of D_f and of the holdout, on both
    models; in loss units per unit of weight. Eval mode.

    Of the holdout those that count in the comparison with D_f are drawn alike, and counted by their weights in it.

    Raises:
        NoLook: D_f has fewer than `FEWEST` samples, or a layer gives no sample a gradient of its own.
        ValueError: the network has no gradients sample by sample for another reason.
        NonFinite: a gradient is infinite or NaN.
    """
    if len(forget) < FEWEST:
        raise NoLook(too_few(len(forget)))
    own_gradients(updated)
    generator = np.random.default_rng(SEED)
    forget_N = np.sort(generator.permutation(np.sort(forget))[:NORMED])
    unseen = np.sort(generator.permutation(np.flatnonzero(weights_M))[:NORMED])
    sets = ((problem.train, forget_N), (holdout, unseen))
    values = [norms(model, problem, *one) for one in sets for model in (parent, updated)]
    edges = COARSE_NORM_EDGES if len(forget) < FEW else NORM_EDGES
    return spread("gradient norm", values, weights_M[unseen] / weights_M[unseen].sum(), edges, SEED)


def own_gradients(model: nn.Module) -> None:
    """Raises `NoLook` where a layer, in eval mode, gives no sample a gradient of its own; the message names the layer."""
    try:
        with evaluating(model):
            for name, module in model.named_modules():
                refuse(name or "the model", module)
    except ValueError as error:
        raise NoLook(str(error)) from None


def norms(model: nn.Module, problem: Problem, samples: Samples, indices: Indices) -> Floats:
    """norms_N of the gradient of each sample's loss, in the order of `indices`.

    Raises:
        ValueError: the network has no gradients sample by sample; the message names the layer.
        NonFinite: a gradient is infinite or NaN.
    """
    device = next(model.parameters()).device
    size = AT_ONCE if layerwise_applies(model) else general_at_once(sum(value.numel() for value in model.parameters()))
    found: list[Tensor] = []
    with evaluating(model):
        for inputs, targets in chunks(samples, indices, size, device):
            found.append(per_sample_squared_norms(model, problem, inputs, targets).double().cpu())
    norms_N: Floats = torch.cat(found).sqrt().numpy()
    if not np.isfinite(norms_N).all():
        raise NonFinite("a sample's gradient is infinite or NaN: the weights are unusable")
    return norms_N


def general_at_once(parameters: int) -> int:
    return max(1, min(AT_ONCE_GENERAL, GENERAL_FLOATS // max(1, parameters)))


def class_maps(
    parent: nn.Module, updated: nn.Module, problem: Problem, test: Samples, without: Collection[str | None] = ()
) -> Maps:
    """Maps of the last convolution for at most `MAPPED` images of the audit's test, none of a subject in `without`.

    See `unlearning.activation` for what a map is. Which images are taken depends on their number alone.

    Raises:
        NoLook: no image is left, these are no images, or the network has no convolution.
        ValueError: a convolution, but none whose maps could be had.
        NonFinite: a map is infinite or NaN.
    """
    try:
        layer = last_convolution(parent)
    except ValueError as error:
        raise NoLook(str(error)) from None
    barred = frozenset(without)
    drawn_N = np.random.default_rng(SEED).permutation(len(test))
    chosen_N = np.array([i for i in drawn_N if test.subjects[i] not in barred][:MAPPED], dtype=np.int64)
    if not len(chosen_N):
        raise NoLook("no test image is left to look at")
    inputs, targets = test.batch(chosen_N)
    if inputs.ndim != 4:
        raise NoLook(f"a sample has shape {tuple(inputs.shape[1:])}: maps need images (C, H, W)")
    before, after = (activation_maps(model, inputs, targets, layer) for model in (parent, updated))
    distance_N, _ = map_distances(before, after)
    shown = [
        Map(int(strata(targets)[i]), digits(before[i]), digits(after[i]), round(float(distance_N[i]), 4))
        for i in one_a_class(parent, problem, inputs, targets)
    ]
    return Maps(
        layer=layer,
        n=len(chosen_N),
        seed=SEED,
        distance=round(float(distance_N.mean()), 4),
        empty_before=share_empty(before),
        empty_after=share_empty(after),
        shown=tuple(shown),
    )


def one_a_class(model: nn.Module, problem: Problem, inputs: Tensor, targets: Tensor) -> list[int]:
    """The places of the first images that the model answers right, one for each of `SHOWN` classes."""
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad():
        right_N = problem.correct(model(inputs.to(device)), targets.to(device)).bool().cpu().numpy()
    firsts: dict[int, int] = {}
    for place, label in enumerate(strata(targets).tolist()):
        if right_N[place]:
            firsts.setdefault(label, place)
    return [firsts[label] for label in sorted(firsts)[:SHOWN]]


def digits(map_hw: Tensor) -> tuple[str, ...]:
    """Rows of digits from 0 to `SHADES` - 1, of the map averaged down to at most `SIDE` cells a side."""
    height, width = (min(SIDE, side) for side in map_hw.shape)
    cells = functional.adaptive_avg_pool2d(map_hw.detach().double().cpu()[None, None], (height, width))[0, 0]
    return tuple("".join(map(str, row)) for row in in_levels(cells, SHADES - 1).tolist())


def share_empty(maps_Nhw: Tensor) -> float:
    return round(float((maps_Nhw.sum(dim=(1, 2)) == 0).double().mean()), 4)
