"""Sample by sample: does one of D_f still stand out among unseen samples that are as hard, or by now too far below them?

Conformal p-values: a sample's confidence is measured against the unseen samples it is held against, by their median and
spread, and ranked among all unseen samples measured in the same way. For a sample that the model never saw the rank is
uniform, so the p-value is valid at the level of one sample, whatever the network; for a set, the procedure of Benjamini
and Hochberg (1995) bounds the share of false findings (valid for conformal p-values: Bates et al. 2023,
arXiv:2104.08279). The spread makes samples of different hardness comparable; it is estimated, so the rank is uniform up
to that.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlearning.membership import confidence
from unlearning.pairing import NEAR, Pairing, pair
from unlearning.problem import Indices

Floats = NDArray[np.float64]
DISCOVERY = 0.01  # on each side
MOST = 5000  # unseen samples that the ranks are taken among
STEADY = 0.3  # nats added to the spread: where all are equally certain it must not vanish


@dataclass(frozen=True)
class Tails:
    """`member_N` and `stranger_N`: for each sample of D_f, the chance that one never seen would stand as high, or as low."""

    member_N: Floats
    stranger_N: Floats

    def found(self) -> tuple[int, int]:
        """How many samples stand out as members, and how many below what unseen ones show, at `DISCOVERY` each."""
        return discoveries(self.member_N), discoveries(self.stranger_N)


def discoveries(p_N: Floats) -> int:
    """How many p-values the step-up procedure of Benjamini and Hochberg finds at a false-discovery rate of `DISCOVERY`."""
    within_N = np.sort(p_N) <= DISCOVERY * np.arange(1, len(p_N) + 1) / max(1, len(p_N))
    return int(np.flatnonzero(within_N)[-1]) + 1 if within_N.any() else 0


@dataclass(frozen=True)
class Unseen:
    """The unseen samples, each held against its like as D_f is: the same for both models, so it is made once."""

    chosen_L: Indices
    near_LK: Indices

    @staticmethod
    def of(ease_M: Floats, strata_M: Indices) -> "Unseen":
        """At most `MOST` of them, evenly; none is held against itself, as none of D_f is.

        Raises:
            ValueError: there is one alone.
        """
        if len(ease_M) < 2:
            raise ValueError("one unseen sample alone has no other to be held against")
        chosen_L = np.unique(np.linspace(0, len(ease_M) - 1, min(MOST, len(ease_M))).astype(np.int64))
        if ease_M.min() == ease_M.max():  # nothing tells hardness apart: any of the class will do
            ease_M = np.random.default_rng(0).random(len(ease_M))
        among = pair(ease_M[chosen_L], strata_M[chosen_L], ease_M, strata_M, "class", NEAR + 1)
        near_LK = among.columns_P.reshape(len(chosen_L), -1)
        others_LK = near_LK != chosen_L[:, None]
        others_LK[others_LK.all(axis=1), -1] = False  # among many as easy a sample may not be near itself
        return Unseen(chosen_L, near_LK[others_LK].reshape(len(chosen_L), -1))


def tails(pairing: Pairing, unseen: Unseen, forget_losses_N: Floats, unseen_losses_M: Floats) -> Tails:
    """The p-values of each sample of D_f on one model."""
    shown_N, shown_M = confidence(forget_losses_N), confidence(unseen_losses_M)
    standing_N = np.empty(pairing.n_f)
    sizes_N = np.bincount(pairing.rows_P, minlength=pairing.n_f)
    for size in np.unique(sizes_N):
        rows_S = np.flatnonzero(sizes_N == size)
        windows_SK = shown_M[pairing.columns_P[np.isin(pairing.rows_P, rows_S)]].reshape(len(rows_S), size)
        standing_N[rows_S] = _standing(shown_N[rows_S], windows_SK)
    sorted_L = np.sort(_standing(shown_M[unseen.chosen_L], shown_M[unseen.near_LK]))
    count = len(sorted_L)
    at_least_N = count - np.searchsorted(sorted_L, standing_N, "left")
    at_most_N = np.searchsorted(sorted_L, standing_N, "right")
    return Tails((1 + at_least_N) / (count + 1), (1 + at_most_N) / (count + 1))


def _standing(shown_S: Floats, windows_SK: Floats) -> Floats:
    """standing_S: how far each lies above the median of its window, in spreads of it."""
    low_S, middle_S, high_S = np.quantile(windows_SK, [0.25, 0.5, 0.75], axis=1)
    standing_S: Floats = (shown_S - middle_S) / (high_S - low_S + STEADY)
    return standing_S
