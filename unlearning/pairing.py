"""Which unseen samples a forgotten one is held against: those of its class that are as hard as it.

A set of hard samples looks less learnt than unseen data at large even to a model that learnt it by heart, and a set of
easy ones more. Held against its like, each sample has one rank, and the mean of the ranks is an AUC whose expectation is
one half for a model that never saw the set, whatever the set is like. Matching by class too takes out what a training
does to a class as a whole.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unlearning.membership import share_below
from unlearning.problem import Indices

Floats = NDArray[np.float64]
Source = Literal["bank", "holdout", "class"]
NEAR = 40
"""Unseen samples that each is held against. Fewer rank coarsely, more are less alike; between 30 and 80 the rank of a
retrain strays as little."""


@dataclass(frozen=True)
class Pairing:
    """Pairs of a sample of D_f (`rows_P`) and an unseen one (`columns_P`), every row's pairs together, in order.

    `source` says what told how hard they are: the reference bank, a classifier on early features, or nothing but the
    class. `pooled` counts the samples of D_f whose class has too few unseen samples: they are held against all classes.
    """

    rows_P: Indices
    columns_P: Indices
    n_f: int
    n_h: int
    source: Source
    pooled: int

    @cached_property
    def weights_P(self) -> Floats:
        """Of each pair, so that those of one sample of D_f add up to one."""
        counts_N = np.bincount(self.rows_P, minlength=self.n_f)
        weights_P: Floats = 1.0 / counts_N[self.rows_P]
        return weights_P

    @property
    def weights_M(self) -> Floats:
        """Of each unseen sample in a mean that is matched to D_f; they add up to one."""
        weights_M: Floats = np.bincount(self.columns_P, weights=self.weights_P, minlength=self.n_h) / self.n_f
        return weights_M

    def matched(self, values_M: Floats) -> Floats:
        """matched_N: for each sample of D_f the mean of a quantity over the unseen samples it is held against."""
        return _sums(self.rows_P, self.weights_P * values_M[self.columns_P], self.n_f)

    def placements(self, forget_losses_N: Floats, unseen_losses_M: Floats) -> tuple[Floats, Floats]:
        """placements_N and influence_M: both sides of the matched AUC, ties counting half.

        placements_N is the share of its unseen samples with a higher loss than each sample of D_f; their mean is the AUC.
        influence_M is by how much each unseen sample moves that mean from what the others say; it adds up to zero. They
        are the structural components of DeLong, DeLong and Clarke-Pearson (1988), over the pairs that are compared.
        """
        own_P, other_P = forget_losses_N[self.rows_P], unseen_losses_M[self.columns_P]
        above_P = (other_P > own_P) + 0.5 * (other_P == own_P)
        placements_N = _sums(self.rows_P, self.weights_P * above_P, self.n_f)
        moved_P = self.weights_P * (above_P - placements_N[self.rows_P]) / self.n_f
        return placements_N, _sums(self.columns_P, moved_P, self.n_h)


def _sums(places_P: Indices, values_P: Floats, count: int) -> Floats:
    """sums_N: the values added up by place."""
    sums_N: Floats = np.bincount(places_P, weights=values_P, minlength=count).astype(np.float64)
    return sums_N


def pair(
    ease_N: Floats, strata_N: Indices, ease_M: Floats, strata_M: Indices, source: Source, near: int = NEAR
) -> Pairing:
    """Hold each sample of D_f (N) against the `near` unseen samples (M) of its class around its place in order of ease, half
    of them easier as far as there are; or against all of the class where the ease of all is the same.

    Ease is any figure that grows with how well a model that never saw the sample would know it, the same for both sides.

    Raises:
        ValueError: either side is empty.
    """
    if len(ease_N) == 0 or len(ease_M) == 0:
        raise ValueError("membership is a comparison: both the forget set and the unseen data need samples")
    flat = ease_M.min() == ease_M.max()
    rows: list[Indices] = []
    columns: list[Indices] = []
    pooled = 0
    for stratum in np.unique(strata_N):
        mine_S, theirs_H = np.flatnonzero(strata_N == stratum), np.flatnonzero(strata_M == stratum)
        if len(theirs_H) < near:
            theirs_H = np.arange(len(strata_M))
            pooled += len(mine_S)
        theirs_H = theirs_H[np.argsort(ease_M[theirs_H], kind="stable")]
        size = len(theirs_H) if flat else min(near, len(theirs_H))
        middle_S = (
            np.searchsorted(ease_M[theirs_H], ease_N[mine_S], "left")
            + np.searchsorted(ease_M[theirs_H], ease_N[mine_S], "right")
        ) // 2
        first_S = (middle_S - size // 2).clip(0, len(theirs_H) - size)
        rows.append(np.repeat(mine_S, size))
        columns.append(theirs_H[first_S[:, None] + np.arange(size)].ravel())
    rows_P, columns_P = np.concatenate(rows), np.concatenate(columns)
    order_P = np.argsort(rows_P, kind="stable")
    return Pairing(rows_P[order_P], columns_P[order_P], len(ease_N), len(ease_M), source, pooled)


def fair_draw(ease_N: Floats, strata_N: Indices, ease_M: Floats, strata_M: Indices) -> tuple[float, Floats, Floats]:
    """Is D_f as hard as unseen data of its classes? The class-matched AUC of ease, D_f above, and its two components.

    One half where D_f is a fair draw within its classes; the components are as in `Pairing.placements`.
    """
    placements_N, influence_M = np.zeros(len(ease_N)), np.zeros(len(ease_M))
    for stratum in np.unique(strata_N):
        mine_S, theirs_H = np.flatnonzero(strata_N == stratum), np.flatnonzero(strata_M == stratum)
        if len(theirs_H) < NEAR:
            theirs_H = np.arange(len(ease_M))
        placements_N[mine_S] = share_below(ease_N[mine_S], ease_M[theirs_H])
        above_H = 1 - share_below(ease_M[theirs_H], ease_N[mine_S])
        moved_H = (above_H - placements_N[mine_S].mean()) * len(mine_S) / (len(ease_N) * len(theirs_H))
        influence_M[theirs_H] += moved_H
    return float(placements_N.mean()), placements_N, influence_M
