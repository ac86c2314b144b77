"""What one deletion does to those that follow: do retained samples near D_f stand out more, and how far has it all drifted.

Taking some outliers away can make others the new outliers: the onion effect (Carlini et al. 2022, arXiv:2206.10469).
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from unlearning.gradients import Scores
from unlearning.intervals import bonett_price, delong
from unlearning.membership import groups, match, placements
from unlearning.problem import Indices
from unlearning.statistics import Statistic

NEIGHBOURS = 100
BLOCK = 1024  # samples of D_f compared at once


def neighbours(forget_FD: Tensor, retained_ND: Tensor, k: int = NEIGHBOURS) -> Indices:
    """Rows of the `k` retained samples that lie nearest to any sample of D_f, ascending; all rows if there are fewer.

    By the cosine between features of one layer on one model (`Signals.features_ND` of the parent): the direction says
    what a sample is taken for, the length how surely. The lower row wins a tie. O(F N D).

    Raises:
        ValueError: there is no sample on one side, features differ in width, or k is below 1.
    """
    if forget_FD.ndim != 2 or retained_ND.ndim != 2 or forget_FD.shape[1] != retained_ND.shape[1]:
        raise ValueError("features of both sides are (N, D), of one layer")
    if len(forget_FD) == 0 or len(retained_ND) == 0 or k < 1:
        raise ValueError("neighbours need samples to forget, samples that stay, and k of at least 1")
    lengths_ND = functional.normalize(retained_ND.double(), dim=1)
    nearest_N = torch.full((len(retained_ND),), -torch.inf, dtype=torch.float64, device=retained_ND.device)
    for start in range(0, len(forget_FD), BLOCK):
        some_BD = functional.normalize(forget_FD[start : start + BLOCK].to(retained_ND.device).double(), dim=1)
        nearest_N = torch.maximum(nearest_N, (lengths_ND @ some_BD.T).amax(dim=1))
    order_N: Indices = np.argsort(-nearest_N.cpu().numpy(), kind="stable")
    return np.sort(order_N[:k])


def exposure_of_neighbours(
    before: Scores, after: Scores, unseen_before: Scores, unseen_after: Scores, level: float
) -> Statistic:
    """`neighbours`: how much more the retained neighbours of D_f look trained on since it went; positive: more exposed.

    The mean over them of the share of class-matched unseen samples with a higher loss, on the updated model less on the
    parent, paired on both sides; DeLong's interval of such a difference (1988). In [-1, 1].

    Raises:
        ValueError: a set is empty, or rows do not correspond.
    """
    for one, other in ((before, after), (unseen_before, unseen_after)):
        if not np.array_equal(one.strata_N, other.strata_N):
            raise ValueError("the scores before and after are not of the same samples")
    matching = match(before.strata_N, unseen_before.strata_N)
    before_N, before_M = placements(before.losses_N, unseen_before.losses_N, matching)
    after_N, after_M = placements(after.losses_N, unseen_after.losses_N, matching)
    low, high = delong(after_N - before_N, after_M - before_M, groups(unseen_before.strata_N), level)
    estimate, n = float((after_N - before_N).mean()), matching.n_f
    note = (
        "change of the class-matched AUC, by loss, of the retained samples nearest to D_f against unseen samples;"
        " above zero: the update exposed them"
    )
    if matching.pooled:
        note += f"; {matching.pooled} of them compared with all unseen samples, for want of their class"
    interval = "DeLong, class-matched, paired"
    return Statistic("neighbours", estimate, max(low, -1.0), min(high, 1.0), level, n, "holdout", interval, note)


def beside(near: Statistic, far: Statistic) -> Statistic:
    """`neighbours`: the change of the near ones less that of the far ones. What an update, or a retrain, does to all that
    stays is not the doing of who left.

    The limits of both, from their estimates, added in squares (Zou and Donner 2008).
    """
    estimate = near.estimate - far.estimate
    low = estimate - np.hypot(near.estimate - near.low, far.high - far.estimate)
    high = estimate + np.hypot(near.high - near.estimate, far.estimate - far.low)
    note = f"{near.note}; less the same of the other retained samples looked at, {far.estimate:+.4f}"
    return replace(near, estimate=estimate, low=max(float(low), -2.0), high=min(float(high), 2.0), note=note)


def cumulative_mu(
    anchor_test_correct_N: NDArray[np.bool_], after_test_correct_N: NDArray[np.bool_], level: float
) -> Statistic:
    """`cumulative_mu`: the change of accuracy on the audit test since the last training, through all updates in between.

    Interval: Bonett and Price (2012), paired. An update that costs little on its parent may be the last of many.

    Raises:
        ValueError: there are no samples, or they are not the same.
    """
    if anchor_test_correct_N.shape != after_test_correct_N.shape or anchor_test_correct_N.size == 0:
        raise ValueError("answers to the same test samples are needed, at least one")
    n = len(after_test_correct_N)
    gained = int((after_test_correct_N & ~anchor_test_correct_N).sum())
    lost = int((anchor_test_correct_N & ~after_test_correct_N).sum())
    low, high = bonett_price(gained, lost, n, level)
    estimate = (gained - lost) / n
    note = "change of accuracy on the audit test since the last training; what retraining would cost is taken as zero"
    estimator, interval = "paired with the last training", "Bonett-Price adjusted Wald, paired"
    return Statistic(
        "cumulative_mu", estimate, min(low, estimate), max(high, estimate), level, n, estimator, interval, note
    )
