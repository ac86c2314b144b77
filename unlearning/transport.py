"""Places among samples of like difficulty, and what is found at a place."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlearning.problem import Indices

Floats = NDArray[np.float64]

NEIGHBOURS = 60


@dataclass(frozen=True)
class Pool:
    """Samples in ascending order of `margins_P`, their confidence in nats and their weight."""

    margins_P: Floats
    confidence_P: Floats
    weights_P: Floats

    @staticmethod
    def of(margins: Floats, confidence: Floats, weights: Floats) -> "Pool":
        """The same in any order."""
        order = np.argsort(margins, kind="stable")
        return Pool(margins[order], confidence[order], weights[order])

    def places(self, margins_N: Floats, confidence_N: Floats) -> Floats:
        """places_N in (0, 1): the share, by weight, of the `NEIGHBOURS` nearest in difficulty that are less sure. Ties
        count half."""
        near_NK = self._near(margins_N)
        weights_NK, found_NK = self.weights_P[near_NK], self.confidence_P[near_NK]
        less_NK = (found_NK < confidence_N[:, None]) + 0.5 * (found_NK == confidence_N[:, None])
        sum_N, one_N = weights_NK.sum(axis=1), weights_NK.mean(axis=1)
        places_N: Floats = ((weights_NK * less_NK).sum(axis=1) + one_N / 2) / (sum_N + one_N)
        return places_N

    def at(self, margins_N: Floats, places_N: Floats) -> Floats:
        """confidence_N, in nats, at each place among the nearest in difficulty: the inverse of `places`, up to their spacing."""
        near_NK = self._near(margins_N)
        found_NK = self.confidence_P[near_NK]
        order_NK = np.argsort(found_NK, axis=1, kind="stable")
        weights_NK = np.take_along_axis(self.weights_P[near_NK], order_NK, axis=1)
        upto_NK = (np.cumsum(weights_NK, axis=1) - weights_NK / 2) / weights_NK.sum(axis=1, keepdims=True)
        rows_N: Indices = (upto_NK < places_N[:, None]).sum(axis=1).clip(max=found_NK.shape[1] - 1)
        chosen_N1 = np.take_along_axis(order_NK, rows_N[:, None], axis=1)
        found_N: Floats = np.take_along_axis(found_NK, chosen_N1, axis=1)[:, 0]
        return found_N

    def _near(self, margins_N: Floats) -> Indices:
        """near_NK: positions of the nearest by rank of difficulty; all of them where difficulty tells nothing apart."""
        count = len(self.margins_P)
        flat = count == 0 or self.margins_P[0] == self.margins_P[-1]
        size = count if flat else min(NEIGHBOURS, max(10, count // 4), count)
        first_N = (np.searchsorted(self.margins_P, margins_N) - size // 2).clip(0, count - size)
        near_NK: Indices = first_N[:, None] + np.arange(size)
        return near_NK
