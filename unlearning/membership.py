"""What an observer of the losses can tell about membership: the exposure of a set, and a loss-threshold attack.

A sample that was trained on tends to have a lower loss than an unseen sample of its class. Ranks by loss are ranks by
logit-scaled confidence, so per-sample losses are all that is needed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlearning.gradients import Scores
from unlearning.problem import Indices

MINIMUM_CLASS = 10
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Match:
    """Samples of D_f (rows) and the unseen samples (columns) of the same kind that they are held against."""

    forget_rows: Indices
    holdout_rows: Indices


@dataclass(frozen=True)
class Matching:
    """Every sample of D_f is in exactly one match. `pooled` counts those held against the whole holdout, because their
    class has fewer than `MINIMUM_CLASS` unseen samples."""

    matches: list[Match]
    pooled: int
    n_f: int
    n_h: int

    @property
    def weights_M(self) -> Floats:
        """Each unseen sample's weight in a class-matched mean; they sum to one."""
        weights_M = np.zeros(self.n_h)
        for match in self.matches:
            weights_M[match.holdout_rows] += len(match.forget_rows) / (self.n_f * len(match.holdout_rows))
        return weights_M


def match(forget_strata_N: Indices, holdout_strata_M: Indices, minimum: int = MINIMUM_CLASS) -> Matching:
    """Match by class; classes with fewer than `minimum` unseen samples are held against all of the holdout.

    Raises:
        ValueError: either set is empty.
    """
    if len(forget_strata_N) == 0 or len(holdout_strata_M) == 0:
        raise ValueError("membership is a comparison: both the forget set and the holdout need samples")
    matches: list[Match] = []
    pooled: list[Indices] = []
    for stratum in np.unique(forget_strata_N):
        rows, unseen = np.flatnonzero(forget_strata_N == stratum), np.flatnonzero(holdout_strata_M == stratum)
        if len(unseen) >= minimum:
            matches.append(Match(rows, unseen))
        else:
            pooled.append(rows)
    if pooled:
        matches.append(Match(np.sort(np.concatenate(pooled)), np.arange(len(holdout_strata_M))))
    return Matching(matches, sum(map(len, pooled)), len(forget_strata_N), len(holdout_strata_M))


def groups(strata_M: Indices, minimum: int = MINIMUM_CLASS) -> Indices:
    """The holdout's strata, with those of fewer than `minimum` samples taken together (as -1)."""
    values, counts = np.unique(strata_M, return_counts=True)
    groups_M: Indices = np.where(np.isin(strata_M, values[counts >= minimum]), strata_M, -1)
    return groups_M


def placements(forget_losses_N: Floats, holdout_losses_M: Floats, matching: Matching) -> tuple[Floats, Floats]:
    """placements_N and influence_M: both sides of the class-matched AUC, ties counting half.

    placements_N is the share of matched unseen samples with a higher loss than each sample of D_f; its mean is the
    AUC. influence_M is what each unseen sample contributes; its sum is the AUC too. They are the two structural
    components of DeLong, DeLong and Clarke-Pearson (1988), weighted by class.
    """
    placements_N, influence_M = np.zeros(matching.n_f), np.zeros(matching.n_h)
    for part in matching.matches:
        low_F, low_H = forget_losses_N[part.forget_rows], holdout_losses_M[part.holdout_rows]
        placements_N[part.forget_rows] = 1 - share_below(low_F, low_H)
        influence_M[part.holdout_rows] += share_below(low_H, low_F) * len(low_F) / (matching.n_f * len(low_H))
    return placements_N, influence_M


def share_below(points_N: Floats, among_M: Floats) -> Floats:
    """For each point, the share of `among_M` below it, ties counting half."""
    sorted_M = np.sort(among_M)
    below, at_most = np.searchsorted(sorted_M, points_N, "left"), np.searchsorted(sorted_M, points_N, "right")
    shares: Floats = (below + at_most) / (2 * len(sorted_M))
    return shares


def exposure(forget: Scores, holdout: Scores) -> float:
    """Class-matched AUC minus one half, in [-0.5, 0.5]: 0 means D_f ranks as unseen data does, positive that it looks
    trained on.

    Raises:
        ValueError: either set is empty.
    """
    matching = match(forget.strata_N, holdout.strata_N)
    return float(placements(forget.losses_N, holdout.losses_N, matching)[0].mean()) - 0.5


def confidence_gap(forget: Scores, holdout: Scores) -> float:
    """Mean logit-scaled confidence of D_f less the class-matched mean of unseen data, in nats; positive: D_f looks learnt.

    phi = log p - log(1 - p) with p = exp(-loss): the confidence in the target where the loss is cross entropy, a
    monotone transform of any other. Unlike ranks it moves smoothly with a step, also where losses are close to zero.
    Source: phi as in Carlini et al. 2022 (arXiv:2112.03570).

    Raises:
        ValueError: either set is empty.
    """
    unseen = matched_mean(confidence(holdout.losses_N), forget.strata_N, holdout.strata_N)
    return float(confidence(forget.losses_N).mean()) - unseen


def confidence(losses_N: Floats) -> Floats:
    """phi_N, from losses held within [1e-9, 50]: beyond that neither side says more than 'certain'."""
    phi_N: Floats = -np.log(np.expm1(np.clip(losses_N, 1e-9, 50.0)))
    return phi_N


def matched_mean(values_M: Floats, forget_strata_N: Indices, holdout_strata_M: Indices) -> float:
    """The mean of a holdout's values, weighted to the class mix of D_f."""
    return float(values_M @ match(forget_strata_N, holdout_strata_M).weights_M)


@dataclass(frozen=True)
class Threshold:
    """A loss-threshold attack: a sample is called a member when its loss is at most `loss`. Frozen on one model.

    `balanced_accuracy` is what it reached on the samples it was fitted on.
    """

    loss: float
    balanced_accuracy: float
    n_members: int
    n_unseen: int

    def calls_member(self, scores: Scores) -> NDArray[np.bool_]:
        """member_N: what the attack says of each sample."""
        called: NDArray[np.bool_] = scores.losses_N <= self.loss
        return called


def fit_threshold(members: Scores, unseen: Scores) -> Threshold:
    """The loss threshold of highest balanced accuracy between members and unseen samples; the lowest one on a tie.

    Source: the global-threshold attack of Yeom et al. 2018. The paper's own attack is a network trained on shadow
    models and reports recall alone; this one states its false positives.

    Raises:
        ValueError: either set is empty.
    """
    if len(members) == 0 or len(unseen) == 0:
        raise ValueError("an attack needs both members and unseen samples to be fitted on")
    candidates_K = np.unique(np.concatenate([members.losses_N, unseen.losses_N]))
    tpr_K = np.searchsorted(np.sort(members.losses_N), candidates_K, "right") / len(members)
    fpr_K = np.searchsorted(np.sort(unseen.losses_N), candidates_K, "right") / len(unseen)
    balanced_K = (tpr_K + 1 - fpr_K) / 2
    best = int(np.argmax(balanced_K))
    return Threshold(float(candidates_K[best]), float(balanced_K[best]), len(members), len(unseen))


def fit_steady_threshold(members: Scores, unseen: Scores) -> Threshold:
    """The loss threshold at which members stand out most against what chance does to the rates; the lowest one on a tie.

    It maximises (TPR - FPR) / sqrt(FPR (1 - FPR) + TPR (1 - TPR) + 0.02), with FPR in [0.02, 0.98]. Balanced accuracy has
    a flat top where memorisation is weak, so its best threshold is drawn by lot; one in the midst of the losses moves with
    every training (two retrains then differ by more than the update does), one in the tail hardly.

    Raises:
        ValueError: either set is empty.
    """
    if len(members) == 0 or len(unseen) == 0:
        raise ValueError("an attack needs both members and unseen samples to be fitted on")
    candidates_K = np.unique(np.concatenate([members.losses_N, unseen.losses_N]))
    tpr_K = np.searchsorted(np.sort(members.losses_N), candidates_K, "right") / len(members)
    fpr_K = np.searchsorted(np.sort(unseen.losses_N), candidates_K, "right") / len(unseen)
    outstanding_K = (tpr_K - fpr_K) / np.sqrt(fpr_K * (1 - fpr_K) + tpr_K * (1 - tpr_K) + 0.02)
    inside_K = (fpr_K >= 0.02) & (fpr_K <= 0.98)
    best = (
        int(np.argmax(np.where(inside_K, outstanding_K, -np.inf))) if inside_K.any() else int(np.argmax(tpr_K - fpr_K))
    )
    return Threshold(float(candidates_K[best]), float((tpr_K[best] + 1 - fpr_K[best]) / 2), len(members), len(unseen))
