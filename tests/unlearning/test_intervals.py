"""Closed-form intervals: their published values, and whether they cover."""

import numpy as np
import pytest

from unlearning.intervals import bonett_price, delong, newcombe, wider, wilson


# Textbook values: Wilson for 81 of 263 and Newcombe (1998), table II, 56/70 - 48/80, method 10.
def test_intervals_have_their_published_values() -> None:
    assert wilson(81 / 263, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert newcombe(56 / 70, 70, 48 / 80, 80, 0.95) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.94, 0.999])
def test_wilson_holds_the_share_itself_also_at_the_ends(level: float) -> None:
    for n in (1, 3, 7.5, 30, 97, 5000):
        for share in (0.0, 1 / 3, 1.0):
            low, high = wilson(share, n, level)
            assert 0 <= low <= share <= high <= 1


def test_bonett_price_is_its_formula_and_widens_with_noise() -> None:
    low, high = bonett_price(5, 2, 100, 0.90)
    up, down = 6 / 102, 3 / 102
    half = 1.6448536 * ((up + down - (up - down) ** 2) / 102) ** 0.5
    assert (low, high) == pytest.approx((up - down - half, up - down + half))
    noisy = bonett_price(5, 2, 100, 0.90, extra_variance=0.01**2)
    assert noisy[0] < low < high < noisy[1]


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


def test_two_errors_are_added_in_squares_on_each_side() -> None:
    assert wider(0.1, (0.07, 0.14), 0.0) == pytest.approx((0.07, 0.14))
    assert wider(0.1, (0.07, 0.13), 0.04) == pytest.approx((0.05, 0.15))
    assert wider(0.1, (0.12, 0.13), 0.04)[0] == pytest.approx(0.06)  # an end on the wrong side adds nothing
    assert wider(0.9, (0.8, 1.0), 0.5)[1] == 1.0
    assert wider(-0.9, (-1.0, -0.8), 0.5)[0] == -1.0


def test_two_errors_cover_together() -> None:
    """A rate's change from 300 pairs, and the noise of a training on top."""
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(1000):
        up, down, _ = rng.multinomial(300, [0.05, 0.03, 0.92])
        found = wider((up - down) / 300, bonett_price(int(up), int(down), 300, 0.9), 1.6449 * 0.02)
        hits += found[0] <= 0.02 + 0.02 * rng.normal() <= found[1]
    assert 0.87 <= hits / 1000 <= 0.95


def test_the_mean_of_none_has_no_interval() -> None:
    with pytest.raises(ValueError, match="no samples"):
        delong(np.array([]), np.array([]), np.array([]), 0.9)
    assert delong(np.array([0.4]), np.array([0.1]), np.array([0]), 0.9) == (float("-inf"), float("inf"))
