"""Matching by class and hardness: against a slow form, and whether its interval covers where hardness is confounded."""

import numpy as np
import pytest
from scipy.special import expit  # type: ignore[import-untyped]  # scipy has no stubs

from unlearning.intervals import delong
from unlearning.pairing import NEAR, Floats, Pairing, fair_draw, pair
from unlearning.problem import Indices

LEVEL = 0.9


def slowly(ease_N: Floats, strata_N: Indices, ease_M: Floats, strata_M: Indices, near: int) -> list[list[int]]:
    """For each sample the unseen ones around its place by ease, half on either side as far as there are."""
    found = []
    for ease, stratum in zip(ease_N, strata_N, strict=True):
        theirs = [j for j in range(len(ease_M)) if strata_M[j] == stratum]
        if len(theirs) < near:
            theirs = list(range(len(ease_M)))
        if len(set(ease_M)) > 1:
            theirs.sort(key=lambda j: (ease_M[j], j))
            place = (sum(ease_M[j] < ease for j in theirs) + sum(ease_M[j] <= ease for j in theirs)) // 2
            first = min(max(place - near // 2, 0), max(len(theirs) - near, 0))
            theirs = theirs[first : first + near]
        found.append(theirs)
    return found


def drawn(seed: int, levels: int | None = None) -> tuple[Floats, Indices, Floats, Indices]:
    """30 of D_f, also of a class that the 90 unseen have none of; ease in steps where there are `levels`."""
    n, m, classes = 30, 90, 3
    random = np.random.default_rng(seed)
    ease_N, ease_M = random.normal(size=n), random.normal(size=m)
    if levels:
        ease_N, ease_M = np.round(ease_N * levels), np.round(ease_M * levels)
    return ease_N, random.integers(0, classes + 1, n), ease_M, random.integers(0, classes, m)


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("near", [1, 6, 7, 35])
def test_pairs_are_those_of_the_slow_form(levels: int | None, near: int) -> None:
    given = drawn(near, levels=levels)
    found, wanted = pair(*given, "holdout", near), slowly(*given, near)
    assert (np.diff(found.rows_P) >= 0).all()
    for row, columns in enumerate(wanted):
        assert found.columns_P[found.rows_P == row].tolist() == columns
    few = np.bincount(given[3], minlength=4) < near
    assert found.pooled == few[given[1]].sum() > 0  # class 3 has no unseen samples


@pytest.mark.parametrize("ties", [False, True])
def test_placements_and_influence_are_those_of_all_pairs(ties: bool) -> None:
    given = drawn(0)
    random = np.random.default_rng(1)
    own_N, other_M = random.normal(size=30), random.normal(size=90)
    if ties:
        own_N, other_M = np.round(own_N), np.round(other_M)
    found = pair(*given, "holdout", 10)
    placed_N, influence_M = found.placements(own_N, other_M)
    wanted_N, wanted_M = np.zeros(30), np.zeros(90)
    pairs = slowly(*given, 10)
    for i, columns in enumerate(pairs):
        wins = [1.0 if other_M[j] > own_N[i] else 0.5 if other_M[j] == own_N[i] else 0.0 for j in columns]
        wanted_N[i] = np.mean(wins)
        for j, win in zip(columns, wins, strict=True):
            wanted_M[j] += (win - wanted_N[i]) / len(columns) / 30
    np.testing.assert_allclose(placed_N, wanted_N)
    np.testing.assert_allclose(influence_M, wanted_M, atol=1e-15)
    assert influence_M.sum() == pytest.approx(0, abs=1e-12)


def test_weights_add_up_to_one_and_match_means() -> None:
    given = drawn(2, levels=2)
    found = pair(*given, "holdout", 12)
    np.testing.assert_allclose(np.bincount(found.rows_P, found.weights_P), 1)
    assert found.weights_M.sum() == pytest.approx(1)
    values_M = np.random.default_rng(3).normal(size=90)
    wanted_N = [values_M[columns].mean() for columns in slowly(*given, 12)]
    np.testing.assert_allclose(found.matched(values_M), wanted_N)
    assert found.weights_M @ values_M == pytest.approx(np.mean(wanted_N))


def test_where_all_are_as_easy_each_is_held_against_all_of_its_class() -> None:
    strata_N, strata_M = np.array([0, 1, 2]), np.repeat([0, 1, 2], [50, 60, NEAR - 1])
    found = pair(np.zeros(3), strata_N, np.zeros(149), strata_M, "class")
    assert np.bincount(found.rows_P).tolist() == [50, 60, 149]
    assert (found.pooled, found.source) == (1, "class")
    whole = pair(
        np.zeros(2), np.zeros(2, dtype=int), np.zeros(9), np.zeros(9, dtype=int), "class"
    )  # fewer than NEAR in all
    assert np.bincount(whole.rows_P).tolist() == [9, 9]


def test_none_is_refused() -> None:
    none, some = np.array([]), np.zeros(3)
    strata = np.zeros(3, dtype=int)
    for one, other in ((none, some), (some, none)):
        with pytest.raises(ValueError, match="need samples"):
            pair(one, strata[: len(one)], other, strata[: len(other)], "class")


def confounded(random: np.random.Generator) -> tuple[Floats, Floats, Pairing, Pairing]:
    """Losses on a model that saw nobody, and pairs by hardness and by class. The hard are likelier to be forgotten; losses
    spread more where samples are harder."""
    n, m = 150, 2000
    pool, strata_P = random.normal(size=20 * n), random.integers(0, 4, 20 * n)
    keys_P = random.exponential(size=20 * n) / expit(-2 * pool)
    chosen_N = np.argsort(keys_P)[:n]
    ease_N, strata_N = pool[chosen_N], strata_P[chosen_N]
    ease_M, strata_M = random.normal(size=m), random.integers(0, 4, m)

    def losses(ease: Floats, strata: Indices) -> Floats:
        found: Floats = strata - ease + (1 - 0.2 * np.tanh(ease)) * random.normal(size=len(ease))
        return found

    hard = pair(ease_N, strata_N, ease_M, strata_M, "holdout")
    plain = pair(np.zeros(n), strata_N, np.zeros(m), strata_M, "class")
    return losses(ease_N, strata_N), losses(ease_M, strata_M), hard, plain


def covers(pairing: Pairing, forget_N: Floats, unseen_M: Floats) -> bool:
    placed_N, influence_M = pairing.placements(forget_N, unseen_M)
    low, high = delong(placed_N, influence_M, np.zeros(len(influence_M), dtype=np.int64), LEVEL)
    return low <= 0.5 <= high


def test_the_interval_covers_where_the_hard_are_forgotten_and_that_by_class_does_not() -> None:
    random = np.random.default_rng(4)
    hits = np.zeros(2)
    for _ in range(400):
        forget_N, unseen_M, hard, plain = confounded(random)
        hits += covers(hard, forget_N, unseen_M), covers(plain, forget_N, unseen_M)
    assert 0.86 <= hits[0] / 400 <= 0.94
    assert hits[1] / 400 < 0.05


def test_a_fair_draw_is_told_from_one_of_the_hard() -> None:
    random = np.random.default_rng(5)
    hits = 0
    for _ in range(300):
        strata_N, strata_M = random.integers(0, 3, 60), random.integers(0, 3, 600)
        ease_N, ease_M = strata_N + random.normal(size=60), strata_M + random.normal(size=600)
        auc, placed_N, influence_M = fair_draw(ease_N, strata_N, ease_M, strata_M)
        low, high = delong(placed_N - 0.5, influence_M, np.zeros(600, dtype=np.int64), LEVEL)
        hits += low <= 0 <= high
    assert 0.85 <= hits / 300 <= 0.95
    harder, placed_N, _ = fair_draw(ease_N - 1, strata_N, ease_M, strata_M)
    assert harder < auc - 0.1
    assert placed_N.mean() == harder
    mine_N = np.array([np.mean(ease_M[strata_M == c] < e) for e, c in zip(ease_N - 1, strata_N, strict=True)])
    np.testing.assert_allclose(placed_N, mine_N)
