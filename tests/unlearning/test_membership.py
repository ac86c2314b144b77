"""Exposure and the loss-threshold attack, against brute force."""

import numpy as np
import pytest
from numpy.typing import NDArray

from unlearning.gradients import Scores
from unlearning.membership import (
    confidence_gap,
    exposure,
    fit_steady_threshold,
    fit_threshold,
    match,
    matched_mean,
    placements,
)


def scored(losses: NDArray[np.float64] | list[float], strata: object = None) -> Scores:
    losses_N = np.asarray(losses, dtype=np.float64)
    strata_N = np.zeros(len(losses_N), dtype=np.int64) if strata is None else np.asarray(strata, dtype=np.int64)
    return Scores(losses_N, np.ones(len(losses_N), dtype=bool), strata_N)


def test_placements_are_those_of_all_pairs_with_ties_counting_half() -> None:
    rng = np.random.default_rng(0)
    forget = scored(rng.integers(0, 5, 40).astype(float), rng.integers(0, 3, 40))
    unseen = scored(rng.integers(0, 5, 90).astype(float), rng.integers(0, 2, 90))  # class 2 has no unseen samples
    matching = match(forget.strata_N, unseen.strata_N)
    placed_N, influence_M = placements(forget.losses_N, unseen.losses_N, matching)
    expected_N, expected_M = np.zeros(40), np.zeros(90)
    for i in range(40):
        same = unseen.strata_N == forget.strata_N[i]
        rows = np.flatnonzero(same) if same.sum() >= 10 else np.arange(90)
        for j in rows:
            wins = float(unseen.losses_N[j] > forget.losses_N[i]) + 0.5 * float(
                unseen.losses_N[j] == forget.losses_N[i]
            )
            expected_N[i] += wins / len(rows)
            expected_M[j] += wins / len(rows) / 40
    np.testing.assert_allclose(placed_N, expected_N)
    np.testing.assert_allclose(influence_M, expected_M)
    assert exposure(forget, unseen) == pytest.approx(expected_N.mean() - 0.5)
    assert matching.pooled == (forget.strata_N == 2).sum()
    assert matching.weights_M.sum() == pytest.approx(1)
    assert matched_mean(np.ones(90), forget.strata_N, unseen.strata_N) == pytest.approx(1)


def test_the_threshold_has_the_best_balanced_accuracy_of_all() -> None:
    rng = np.random.default_rng(1)
    members, unseen = scored(rng.integers(0, 8, 30).astype(float)), scored(rng.integers(2, 10, 50).astype(float))
    found = fit_threshold(members, unseen)
    best = max(((members.losses_N <= t).mean() + (unseen.losses_N > t).mean()) / 2 for t in np.arange(-1, 11))
    assert found.balanced_accuracy == pytest.approx(best)


@pytest.mark.parametrize("seed", range(4))
def test_the_steady_threshold_is_the_best_of_all_by_its_own_measure(seed: int) -> None:
    rng = np.random.default_rng(seed)
    members, unseen = scored(np.round(rng.normal(size=80), 1)), scored(np.round(0.5 + rng.normal(size=120), 1))

    def outstanding(loss: float) -> float:
        tpr, fpr = float((members.losses_N <= loss).mean()), float((unseen.losses_N <= loss).mean())
        if not 0.02 <= fpr <= 0.98:
            return -np.inf
        return (tpr - fpr) / (fpr * (1 - fpr) + tpr * (1 - tpr) + 0.02) ** 0.5

    found = fit_steady_threshold(members, unseen)
    losses = np.unique(np.concatenate([members.losses_N, unseen.losses_N]))
    values = [outstanding(float(loss)) for loss in losses]
    assert outstanding(found.loss) == pytest.approx(max(values))
    assert found.loss == losses[int(np.argmax(values))]  # the lowest on a tie
    tpr, fpr = (float((side.losses_N <= found.loss).mean()) for side in (members, unseen))
    assert found.balanced_accuracy == pytest.approx((tpr + 1 - fpr) / 2)
    assert (found.n_members, found.n_unseen) == (80, 120)


def test_the_steady_threshold_lets_two_in_a_hundred_through_at_least() -> None:
    """Also where members and unseen are wholly apart: none of the unseen is a rate that cannot be relied upon."""
    members, unseen = scored(np.linspace(0.1, 0.3, 100)), scored(np.linspace(5, 6, 100))
    assert fit_steady_threshold(members, unseen).loss == unseen.losses_N[1]
    assert fit_threshold(members, unseen).loss == members.losses_N[-1]
    one = fit_steady_threshold(members, scored([5.0]))  # no rate in between: as members stand out most
    assert one.loss == members.losses_N[-1]


def test_an_attack_needs_both_sides() -> None:
    for fit in (fit_threshold, fit_steady_threshold):
        for one, other in ((scored([]), scored([1.0])), (scored([1.0]), scored([]))):
            with pytest.raises(ValueError, match="both members"):
                fit(one, other)
    with pytest.raises(ValueError, match="both the forget set and the holdout"):
        exposure(scored([]), scored([1.0]))


def test_the_confidence_gap_is_the_matched_difference_of_logits() -> None:
    forget, unseen = scored([0.1, 0.2]), scored([0.5, 1.0, 2.0])
    expected = np.log(1 / np.expm1([0.1, 0.2])).mean() - np.log(1 / np.expm1([0.5, 1.0, 2.0])).mean()
    assert confidence_gap(forget, unseen) == pytest.approx(expected)
    assert confidence_gap(scored([0.0]), scored([0.0])) == 0  # losses of zero are as certain as can be, not infinite
    with pytest.raises(ValueError, match="need samples"):
        confidence_gap(scored([]), unseen)
