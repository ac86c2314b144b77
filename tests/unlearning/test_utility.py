"""What happened to utility: zeros where nothing did, signs, slow forms, and how often the intervals hold the truth."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from unlearning.gradients import Scores
from unlearning.intervals import bonett_price
from unlearning.signals import Signals
from unlearning.statistics import Statistic
from unlearning.utility import BINS, RESAMPLES, resampled, utility_statistics, worst_class

LEVEL = 0.9
Floats = NDArray[np.float64]


def simulated(rng: np.random.Generator, n: int, classes: int = 4, confidence: float = 0.0) -> Signals:
    """Answers that are right as often as they say, or less by `confidence`."""
    top_N = 1 - 0.6 * rng.beta(0.6, 2, n)
    strata_N = rng.integers(0, classes, n)
    correct_N = rng.random(n) < top_N - confidence
    predicted_N = np.where(correct_N, strata_N, (strata_N + 1) % classes)
    return Signals(Scores(rng.exponential(size=n), correct_N, strata_N), predicted_N, top_N)


def moved(before: Signals, losses_N: Floats, correct_N: NDArray[np.bool_]) -> Signals:
    return replace(before, scores=Scores(losses_N, correct_N, before.scores.strata_N))


def found_in(before: Signals, after: Signals) -> dict[str, Statistic]:
    found = {statistic.name: statistic for statistic in utility_statistics(before, after, LEVEL)}
    for statistic in found.values():
        assert statistic.low <= statistic.estimate <= statistic.high
    return found


def test_an_update_that_changes_nothing_costs_nothing() -> None:
    same = simulated(np.random.default_rng(0), 500)
    found = found_in(same, same)
    assert list(found) == ["nll", "ece_before", "ece", "churn", "macro_accuracy"]
    assert (found["nll"].low, found["nll"].estimate, found["nll"].high) == (0, 0, 0)
    assert found["churn"].estimate == found["macro_accuracy"].estimate == 0
    assert found["macro_accuracy"].low < 0 < found["macro_accuracy"].high
    assert (found["ece"].low, found["ece"].high) == (found["ece_before"].low, found["ece_before"].high)
    worst = worst_class(same.scores, same.scores, LEVEL)
    assert worst.estimate == 0
    assert worst.low < 0 < worst.high


def test_damage_has_its_signs() -> None:
    rng = np.random.default_rng(1)
    before = simulated(rng, 2000)
    struck_N = before.scores.strata_N == 2
    after = moved(before, before.scores.losses_N + 3 * struck_N, before.scores.correct_N & ~struck_N)
    assert before.predicted_N is not None
    after = replace(after, predicted_N=np.where(struck_N, 0, before.predicted_N))
    found = found_in(before, after)
    assert found["nll"].low > 0
    assert found["macro_accuracy"].high < -0.15
    assert found["churn"].estimate == pytest.approx((before.predicted_N[struck_N] != 0).sum() / 2000)
    assert found["ece"].low > found["ece_before"].high
    worst = worst_class(before.scores, after.scores, LEVEL)
    assert worst.high < -0.5
    assert worst.note.startswith("class 2; the smallest of 4 changes")


def test_the_calibration_error_is_that_of_fifteen_bins_of_equal_mass() -> None:
    signals = simulated(np.random.default_rng(2), 301)
    assert signals.top_N is not None
    order_N = np.argsort(signals.top_N, kind="stable")
    slow = 0.0
    for k in range(BINS):
        rows = [order_N[place] for place in range(301) if place * BINS // 301 == k]
        accuracy, confidence = signals.scores.correct_N[rows].mean(), signals.top_N[rows].mean()
        slow += abs(accuracy - confidence) * len(rows) / 301
    assert found_in(signals, signals)["ece"].estimate == pytest.approx(slow)
    few = found_in(signals.rows(np.arange(3)), signals.rows(np.arange(3)))["ece"]
    assert few.estimate == pytest.approx(np.abs(signals.scores.correct_N[:3] - signals.top_N[:3]).mean())


def test_resamples_are_draws_with_replacement_however_they_are_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_NK = np.column_stack([np.ones(50), np.arange(50.0)])
    sums_BK = resampled(rows_NK)
    np.testing.assert_array_equal(sums_BK[:, 0], 50)
    drawn = np.random.default_rng(0).integers(0, 50, (RESAMPLES, 50))
    np.testing.assert_allclose(sums_BK[:, 1], drawn.sum(axis=1))
    monkeypatch.setattr("unlearning.utility.BLOCK", 120)
    np.testing.assert_array_equal(resampled(rows_NK), sums_BK)


def draw(rng: np.random.Generator, kind: str, n: int) -> tuple[Floats, float]:
    """Changes of the loss, and their true mean: symmetric with heavy tails, or a few of them large."""
    if kind == "symmetric":
        return rng.standard_t(3, n), 0.0
    return 0.01 * rng.normal(size=n) + (rng.random(n) < 0.03) * np.exp(rng.normal(size=n)), 0.03 * np.exp(0.5)


@pytest.mark.parametrize("kind", ["symmetric", "few"])
def test_the_interval_of_the_loss_covers(kind: str) -> None:
    rng, hits = np.random.default_rng(3), 0
    classless = Scores(np.zeros(400), np.ones(400, dtype=bool), np.zeros(400, dtype=np.int64))
    for _ in range(200):
        changes_N, truth = draw(rng, kind, 400)
        (nll,) = utility_statistics(Signals(classless), Signals(replace(classless, losses_N=changes_N)), LEVEL)
        hits += nll.low <= truth <= nll.high
    assert hits / 200 >= 0.86


@pytest.mark.parametrize("confidence", [0.0, 0.05])
def test_the_interval_of_calibration_covers(confidence: float) -> None:
    rng, hits = np.random.default_rng(4), 0
    for _ in range(100):
        signals = simulated(rng, 1000, confidence=confidence)
        ece = found_in(signals, signals)["ece"]
        hits += ece.low <= confidence <= ece.high
    assert hits / 100 >= 0.8


def test_macro_accuracy_is_the_mean_over_classes_and_bonett_price_for_one() -> None:
    rng = np.random.default_rng(5)
    before, after = simulated(rng, 300), simulated(rng, 300)
    after = moved(before, after.scores.losses_N, after.scores.correct_N)
    strata_N = before.scores.strata_N
    changes = [
        after.scores.correct_N[strata_N == c].mean() - before.scores.correct_N[strata_N == c].mean() for c in range(4)
    ]
    assert found_in(before, after)["macro_accuracy"].estimate == pytest.approx(np.mean(changes))
    one = np.zeros(300, dtype=np.int64)
    sides = [replace(side, scores=replace(side.scores, strata_N=one)) for side in (before, after)]
    macro = found_in(*sides)["macro_accuracy"]
    gained = int((after.scores.correct_N & ~before.scores.correct_N).sum())
    lost = int((before.scores.correct_N & ~after.scores.correct_N).sum())
    assert (macro.low, macro.high) == pytest.approx(bonett_price(gained, lost, 300, LEVEL))


def test_macro_accuracy_and_the_worst_class_cover_the_truth() -> None:
    """Ten classes whose true changes differ: the smallest is found by looking, and the interval must bear that."""
    rng, hits = np.random.default_rng(6), {"macro": 0, "worst": 0}
    lost_C = np.linspace(0.02, 0.06, 10)
    strata_N = np.repeat(np.arange(10), [20, 30, 50, 60, 80, 100, 100, 150, 200, 300])
    for _ in range(300):
        was_N = rng.random(len(strata_N)) < 0.8
        is_N = np.where(rng.random(len(strata_N)) < lost_C[strata_N], False, was_N)
        before = Signals(Scores(np.zeros(len(strata_N)), was_N, strata_N), strata_N, None)
        after = moved(before, before.scores.losses_N, is_N)
        macro, worst = found_in(before, after)["macro_accuracy"], worst_class(before.scores, after.scores, LEVEL)
        hits["macro"] += macro.low <= -0.8 * lost_C.mean() <= macro.high
        hits["worst"] += worst.low <= -0.8 * 0.06 <= worst.high
    assert hits["macro"] / 300 >= 0.86, hits
    assert hits["worst"] / 300 >= 0.9, hits


def test_small_classes_are_left_out_of_the_worst() -> None:
    strata_N = np.repeat([0, 1, 2], [40, 30, 3])
    before = Scores(np.zeros(73), np.ones(73, dtype=bool), strata_N)
    after = replace(before, correct_N=strata_N != 2)
    worst = worst_class(before, after, LEVEL)
    assert worst.estimate == 0
    assert "1 classes with fewer than 10 test samples left out" in worst.note
    together = worst_class(before.rows(np.arange(5)), after.rows(np.arange(5)), LEVEL)
    assert together.note.startswith("all classes taken together")
    with pytest.raises(ValueError, match="same test samples"):
        worst_class(before, after.rows(np.arange(5)), LEVEL)


def test_other_problems_have_a_loss_and_one_sample_has_no_interval() -> None:
    rng = np.random.default_rng(7)
    signals = simulated(rng, 40)
    assert list(found_in(Signals(signals.scores), Signals(signals.scores))) == ["nll"]
    one = signals.rows(np.array([0]))
    assert "nll" not in found_in(one, one)
    with pytest.raises(ValueError, match="same test samples"):
        utility_statistics(signals, one, LEVEL)
    with pytest.raises(ValueError, match="between 0 and 1"):
        utility_statistics(signals, signals, 1.0)


def test_it_is_repeatable() -> None:
    rng = np.random.default_rng(8)
    before, after = simulated(rng, 5000, 10), simulated(rng, 5000, 10)
    after = moved(before, after.scores.losses_N, after.scores.correct_N)
    found = utility_statistics(before, after, LEVEL)
    assert utility_statistics(before, after, LEVEL) == found
