"""Which training samples have outlying gradients at a version's weights: those that one step of training would follow furthest.

They are named for a person to look at, and nothing is done about them here. The word says nothing of a verdict's `exposure`,
which is about samples that were forgotten.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from unlearning.looks import NORM_EDGES, NoLook, norms, own_gradients
from unlearning.membership import Floats
from unlearning.problem import Indices, Problem, ordered

SEED = 0
LOOKED = 20_000
"""Samples whose gradients are taken, at most: of more, so many are drawn."""
FEWEST = 30
"""Of fewer, no spread is claimed."""
NORMAL = 1.4826022185056018
"""1 / the 0.75 quantile of the standard normal: so many times the MAD is the standard deviation of a normal law."""
TIED = 1e-5
"""A MAD of logarithms below this is the rounding of single-precision gradients, not a spread."""
STEP = 2048

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Outlier:
    """A sample by its position in the training set, its gradient's norm, and how far that lies from the others'."""

    position: int
    norm: float
    z: float


@dataclass(frozen=True)
class Exposure:
    """Gradient norms of `n` of the `of` live training samples, and those that are outlying, most outlying first.

    `seed` is that of the draw; None where all were looked at. `median` is of the norms and `spread` of their natural logarithms:
    1.4826 times the median absolute deviation. Both are None where `unjudged` says why none could be called outlying. `zeros`
    had no gradient at all. `counts` are of norms between the `edges`, below the first and above the last. `found` were
    outlying, of which `outliers` holds `most` at most.
    """

    n: int
    of: int
    seed: int | None
    zeros: int
    median: float | None
    spread: float | None
    unjudged: str | None
    z: float
    most: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    found: int
    outliers: tuple[Outlier, ...]


def expose(
    model: nn.Module,
    problem: Problem,
    live: Indices,
    z: float,
    most: int,
    progress: Progress = lambda *_: None,
    at_most: int = LOOKED,
) -> Exposure:
    """The norm of each live sample's own gradient over all trainable parameters, in eval mode, and which are outlying.

    Of more than `at_most` samples as many are drawn, by their number and `SEED` alone. The model is left as it was.

    Raises:
        NoLook: fewer than `FEWEST` samples, or a layer gives no sample a gradient of its own.
        NonFinite: a gradient is infinite or NaN.
        ValueError: an index is out of range or named twice, or the network has no gradients sample by sample.
    """
    live_N = ordered(live, len(problem.train))
    if len(live_N) < FEWEST:
        raise NoLook(f"{len(live_N)} training samples are too few to say which stand out: {FEWEST} are the least")
    own_gradients(model)
    drawn_N, seed = live_N, None
    if len(live_N) > at_most:
        drawn_N, seed = np.sort(np.random.default_rng(SEED).choice(live_N, at_most, replace=False)), SEED
    found: list[Floats] = []
    for start in range(0, len(drawn_N), STEP):
        progress(start / len(drawn_N), "gradients of single samples")
        found.append(norms(model, problem, problem.train, drawn_N[start : start + STEP]))
    return outlying(np.concatenate(found), drawn_N, len(live_N), seed, z, most)


def outlying(norms_N: Floats, positions_N: Indices, of: int, seed: int | None, z: float, most: int) -> Exposure:
    """Judge norms by how far their logarithms lie above the median, in units of the MAD made comparable to a standard deviation.

    The logarithm, since norms spread over decades; so a factor common to all changes nothing. Median and MAD, since up to half
    of the samples may be anything without moving the rule. A norm of zero lies below all others.

    Source: Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers", the modified z-score, here of the logarithm and
    one-sided: a sample that moves the weights less than others do is exposed by nothing.

    Raises:
        ValueError: there is no norm, one is negative or not finite, or positions are not as many.
    """
    if not len(norms_N) or norms_N.shape != positions_N.shape or not np.isfinite(norms_N).all() or (norms_N < 0).any():
        raise ValueError("norms are finite, not negative, at least one, and each has its position")
    logs_N = np.full(len(norms_N), -np.inf)
    np.log(norms_N, out=logs_N, where=norms_N > 0)
    centre = float(np.median(logs_N))
    deviation = float(np.median(np.abs(logs_N - centre))) if np.isfinite(centre) else 0.0
    unjudged = why_not(centre, deviation)
    z_N = np.full(len(norms_N), -np.inf) if unjudged else (logs_N - centre) / (NORMAL * deviation)
    chosen_M = np.lexsort((positions_N, -z_N))[: int(np.count_nonzero(z_N > z))]
    places_N = np.searchsorted(np.asarray(NORM_EDGES), norms_N, side="right")
    return Exposure(
        n=len(norms_N),
        of=of,
        seed=seed,
        zeros=int(np.count_nonzero(norms_N == 0)),
        median=None if unjudged else float(np.exp(centre)),
        spread=None if unjudged else NORMAL * deviation,
        unjudged=unjudged,
        z=z,
        most=most,
        edges=NORM_EDGES,
        counts=tuple(map(int, np.bincount(places_N, minlength=len(NORM_EDGES) + 1))),
        found=len(chosen_M),
        outliers=tuple(Outlier(int(positions_N[i]), float(norms_N[i]), float(z_N[i])) for i in chosen_M[:most]),
    )


def why_not(centre: float, deviation: float) -> str | None:
    """Why no norm can be called outlying, in a sentence; None where one can."""
    if not np.isfinite(centre):
        return "half of the gradients or more are zero: there is no usual norm to stand out from"
    if deviation < TIED:
        return "more than half of the norms are equal to five digits: without a spread nothing can be said to stand out"
    return None
