"""The estimator: against brute force, for coverage at fixed seeds, and on the edges where a rate means little."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unlearning.problems import Blobs
from unlearning.evidence import Evidence, gather, stand
from unlearning.gradients import Scores, scores
from unlearning.intervals import bonett_price, delong, newcombe, wilson
from unlearning.membership import confidence_gap, exposure, fit_threshold, match, matched_mean, placements
from unlearning.problem import Recipe
from unlearning.splits import split_unseen
from unlearning.statistics import Statistic
from unlearning.training import restore, train
from unlearning.validation import truth, validate


def scored(losses: NDArray[np.float64] | list[float], strata: object = None, correct: object = None) -> Scores:
    losses_N = np.asarray(losses, dtype=np.float64)
    strata_N = np.zeros(len(losses_N), dtype=np.int64) if strata is None else np.asarray(strata, dtype=np.int64)
    correct_N = np.ones(len(losses_N), dtype=bool) if correct is None else np.asarray(correct, dtype=bool)
    return Scores(losses_N, correct_N, strata_N)


def simulated(rng: np.random.Generator, n_f: int, n_h: int, gap_before: float, gap_after: float) -> Evidence:
    """Four classes with losses of their own level; D_f lies lower by the gap. Known truth, pairs correlated."""
    classes_F, classes_H = rng.integers(0, 4, n_f), rng.integers(0, 4, n_h)
    base_F, base_H = classes_F + rng.normal(size=n_f), classes_H + rng.normal(size=n_h)
    correct = rng.random(n_h) < 0.9
    moved_F, moved_H = base_F + 0.5 * rng.normal(size=n_f), base_H + 0.5 * rng.normal(size=n_h)
    members = scored(rng.integers(0, 4, n_f) + rng.normal(size=n_f) - gap_before)
    unseen = scored(base_H, classes_H)
    return Evidence(
        threshold=fit_threshold(members, unseen),
        retained=members,
        forget_before=scored(base_F - gap_before, classes_F),
        forget_after=scored(moved_F - gap_after, classes_F),
        holdout_before=unseen,
        holdout_after=scored(moved_H, classes_H),
        test_before=scored(base_H, classes_H, correct),
        test_after=scored(moved_H, classes_H, correct ^ (rng.random(n_h) < 0.03)),
    )


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
    with pytest.raises(ValueError, match="both members"):
        fit_threshold(members, scored([]))


# Textbook values: Wilson for 81 of 263 and Newcombe (1998), table II, 56/70 - 48/80, method 10.
def test_intervals_have_their_published_values() -> None:
    assert wilson(81 / 263, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert newcombe(56 / 70, 70, 48 / 80, 80, 0.95) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_bonett_price_is_its_formula_and_widens_with_noise() -> None:
    low, high = bonett_price(5, 2, 100, 0.90)
    up, down = 6 / 102, 3 / 102
    half = 1.6448536 * ((up + down - (up - down) ** 2) / 102) ** 0.5
    assert (low, high) == pytest.approx((up - down - half, up - down + half))
    wider = bonett_price(5, 2, 100, 0.90, extra_variance=0.01**2)
    assert wider[0] < low < high < wider[1]


@pytest.mark.parametrize(("p_f", "p_h"), [(0.5, 0.5), (0.9, 0.7), (0.98, 0.9)])
@pytest.mark.parametrize("n_f", [10, 100])
def test_newcombe_covers(p_f: float, p_h: float, n_f: int) -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(1000):
        low, high = newcombe(rng.binomial(n_f, p_f) / n_f, n_f, rng.binomial(200, p_h) / 200, 200, 0.90)
        hits += low <= p_f - p_h <= high
    assert hits / 1000 >= 0.87


@pytest.mark.parametrize(("gain", "loss"), [(0.0, 0.0), (0.01, 0.02), (0.1, 0.05)])
def test_bonett_price_covers(gain: float, loss: float) -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(1000):
        up, down, _ = rng.multinomial(200, [gain, loss, 1 - gain - loss])
        low, high = bonett_price(int(up), int(down), 200, 0.90)
        hits += low <= gain - loss <= high
    assert hits / 1000 >= 0.88


@pytest.mark.parametrize("gap_before", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("n_f", [5, 80])
def test_exposure_and_residual_cover(gap_before: float, n_f: int) -> None:
    """The truth of AUC - 1/2 for a normal shift g is Phi(g / sqrt(2)) - 1/2; after the noise the spread is 1.25 x."""
    from scipy.stats import norm

    rng = np.random.default_rng(4)
    gap_after = gap_before / 4
    before = norm.cdf(gap_before / 2**0.5) - 0.5
    after = norm.cdf(gap_after / 2.5**0.5) - 0.5
    hits = {"exposure_before": 0, "exposure": 0, "residual": 0}
    for _ in range(400):
        found = validate(simulated(rng, n_f, 200, gap_before, gap_after))
        for name, value in (("exposure_before", before), ("exposure", after), ("residual", after - before / 2)):
            hits[name] += found[name].low <= value <= found[name].high
    assert min(hits.values()) / 400 >= 0.86, hits


def test_doing_nothing_never_shows_progress() -> None:
    rng = np.random.default_rng(5)
    for gap in (0.3, 1.0, 3.0):
        evidence = simulated(rng, 100, 200, gap, gap)
        idle = replace(
            evidence,
            forget_after=evidence.forget_before,
            holdout_after=evidence.holdout_before,
            test_after=evidence.test_before,
        )
        found = validate(idle)
        assert found["residual"].estimate == pytest.approx(found["exposure_before"].estimate / 2)
        assert not (found["exposure_before"].low > 0 and found["residual"].high < 0)
        assert found["forgetting"].estimate == 0
        assert found["forgetting"].high >= 0
        assert found["ue"].estimate == found["ue_before"].estimate
        assert found["mu"].estimate == found["holdout_shift"].estimate == found["worst_class"].estimate == 0
        assert found["mu"].low < 0 < found["mu"].high


def test_over_forgetting_and_damage_have_their_signs() -> None:
    evidence = simulated(np.random.default_rng(6), 100, 400, 1.0, -4.0)
    damaged = scored(evidence.test_before.losses_N, evidence.test_before.strata_N, np.zeros(400))
    found = validate(
        replace(
            evidence,
            test_after=damaged,
            holdout_after=scored(evidence.holdout_before.losses_N + 9, evidence.holdout_before.strata_N),
        )
    )
    assert found["ue"].high < 0
    assert found["mu"].high < 0
    assert found["worst_class"].high < 0
    assert found["holdout_shift"].high < 0


def test_statistics_are_plain_finite_and_repeatable() -> None:
    evidence = simulated(np.random.default_rng(7), 30, 60, 1.0, 0.5)
    found = validate(evidence)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False)) == found.as_dict()
    assert validate(evidence) == found
    assert [statistic.name for statistic in found] == [
        "mu", "ue", "ue_before", "forgetting", "exposure_before", "exposure", "residual", "holdout_shift", "worst_class",
        "attack_threshold", "attack_tpr", "attack_fpr",
    ]  # fmt: skip
    for statistic in found:
        assert statistic.low <= statistic.estimate <= statistic.high
    assert validate(evidence, seed_sd=0.02)["mu"].high > found["mu"].high
    assert "sd 0.02" in validate(evidence, seed_sd=0.02)["mu"].note
    with pytest.raises(KeyError):
        found["other"]
    with pytest.raises(ValueError, match="not finite"):
        Statistic("mu", float("nan"), 0, 0, 0.9, 1, "", "", "")
    with pytest.raises(ValueError, match="between 0 and 1"):
        validate(evidence, level=1.0)


def test_one_sample_has_no_rate() -> None:
    found = validate(simulated(np.random.default_rng(8), 1, 60, 1.0, 0.5))
    assert (found["exposure_before"].low, found["exposure_before"].high) == (-0.5, 0.5)
    assert (found["residual"].low, found["residual"].high) == (-0.75, 0.75)
    assert "one sample has no rate" in found["residual"].note
    assert found["ue"].high - found["ue"].low > 0.5


def test_none_is_refused() -> None:
    evidence = simulated(np.random.default_rng(9), 3, 60, 1.0, 0.5)
    with pytest.raises(ValueError, match="forget is empty"):
        replace(evidence, forget_before=scored([]), forget_after=scored([]))
    with pytest.raises(ValueError, match="not of the same samples"):
        replace(evidence, test_after=evidence.forget_after)
    with pytest.raises(ValueError, match="no samples"):
        delong(np.array([]), np.array([]), np.array([]), 0.9)
    with pytest.raises(ValueError, match="both the forget set and the holdout"):
        exposure(scored([]), scored([1.0]))


def test_one_class_all_ties_and_perfect_separation() -> None:
    ties, levels = scored(np.ones(20)), scored(np.ones(30))
    evidence = Evidence(fit_threshold(ties, levels), ties, ties, ties, levels, levels, levels, levels)
    found = validate(evidence)
    assert found["exposure"].estimate == 0
    assert found["exposure"].low < 0 < found["exposure"].high
    apart = Evidence(fit_threshold(ties, levels), ties, ties, ties, *[scored(np.ones(30) * 5)] * 4)
    separate = validate(apart)["exposure"]
    assert separate.estimate == 0.5
    assert separate.low < 0.49


def test_small_classes_are_pooled_and_the_note_says_so() -> None:
    rng = np.random.default_rng(10)
    evidence = simulated(rng, 20, 60, 1.0, 0.5)
    strata_H = np.arange(60) // 15
    strata_H[:15] = np.repeat([0, 5, 6], 5)
    unseen = scored(evidence.holdout_before.losses_N, strata_H)
    forget = scored(evidence.forget_before.losses_N, np.zeros(20))
    small = replace(
        evidence, forget_before=forget, forget_after=forget, holdout_before=unseen, holdout_after=unseen,
        test_before=unseen, test_after=unseen,
    )  # fmt: skip
    found = validate(small)
    assert "20 of D_f compared with all unseen samples" in found["exposure"].note
    assert "3 classes with fewer than 10 test samples left out" in found["worst_class"].note
    single = validate(replace(small, test_before=forget, test_after=forget))
    assert "class 0" in single["worst_class"].note


def test_truth_is_the_signed_difference_to_the_retrain() -> None:
    evidence = simulated(np.random.default_rng(11), 50, 200, 1.0, 0.2)
    updated, retrained = evidence.forget_before, evidence.forget_after
    found = truth(evidence.threshold, updated, retrained, evidence.test_after, evidence.test_before)
    limit = evidence.threshold.loss
    assert found["true_ue"].estimate == pytest.approx(
        (updated.losses_N <= limit).mean() - (retrained.losses_N <= limit).mean()
    )
    assert found["true_mu"].estimate == pytest.approx(
        evidence.test_after.correct_N.mean() - evidence.test_before.correct_N.mean()
    )
    with pytest.raises(ValueError, match="same samples"):
        truth(evidence.threshold, updated, retrained, evidence.test_after, updated)


def test_gather_scores_what_it_says() -> None:
    problem = Blobs(noise=2.0, hidden=(32,), recipe=Recipe("adam", 0.01, 30, 16))
    tuning, audit = split_unseen(problem)
    live, forget = np.arange(5, 60), np.arange(10, 20)
    parent = restore(problem, train(problem, live).state)
    standing = stand(parent, problem, live, tuning, audit)
    evidence = gather(standing, parent, parent, problem, forget, audit)
    assert len(evidence.forget_before) == 10
    assert len(evidence.holdout_before) == len(audit.holdout)
    assert np.array_equal(evidence.holdout_before.losses_N, evidence.holdout_after.losses_N)
    assert validate(evidence)["attack_tpr"].estimate > validate(evidence)["attack_fpr"].estimate


def test_the_attack_reads_no_sample_that_is_to_be_forgotten_or_that_others_asked_to_forget() -> None:
    problem = Blobs(noise=2.0, hidden=(32,), recipe=Recipe("adam", 0.01, 30, 16))
    tuning, audit = split_unseen(problem)
    live, forget, others = np.arange(5, 60), np.arange(10, 20), np.arange(30, 40)
    parent = restore(problem, train(problem, live).state)
    standing = stand(parent, problem, live, tuning, audit)
    threshold, rating = standing.attack(np.union1d(forget, others))
    kept = np.setdiff1d(live, np.union1d(forget, others))
    assert threshold.n_members == np.isin(standing.fitting_N, kept).sum()
    assert np.array_equal(
        rating.losses_N, scores(parent, problem, problem.train, np.intersect1d(standing.rating_N, kept)).losses_N
    )
    evidence = gather(standing, parent, parent, problem, forget, audit, others)
    assert (evidence.threshold, len(evidence.retained)) == (threshold, len(rating))
    with pytest.raises(ValueError, match="no retained training sample is left"):
        standing.attack(live)


def test_the_confidence_gap_is_the_matched_difference_of_logits() -> None:
    forget, unseen = scored([0.1, 0.2]), scored([0.5, 1.0, 2.0])
    expected = np.log(1 / np.expm1([0.1, 0.2])).mean() - np.log(1 / np.expm1([0.5, 1.0, 2.0])).mean()
    assert confidence_gap(forget, unseen) == pytest.approx(expected)
    assert confidence_gap(scored([0.0]), scored([0.0])) == 0  # losses of zero are as certain as can be, not infinite
    with pytest.raises(ValueError, match="need samples"):
        confidence_gap(scored([]), unseen)
