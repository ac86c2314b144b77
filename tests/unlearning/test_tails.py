"""One by one: p-values of samples that nobody saw are uniform, planted members and strangers are found, findings are few."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit  # type: ignore[import-untyped]  # scipy has no stubs
from scipy.stats import false_discovery_control, kstest  # type: ignore[import-untyped]  # scipy has no stubs

from tests.unlearning.worlds import Floats, loss
from unlearning.pairing import NEAR, pair
from unlearning.tails import DISCOVERY, Tails, Unseen, discoveries, tails

UNSEEN = 3000


def made(
    random: np.random.Generator, count: int, tilt: float, members: int = 0, strangers: int = 0, shift: float = 12.0
) -> Tails:
    """What a model shows of `count` samples, the hard likelier with `tilt`; the first `members` were learnt, the next were
    driven below what unseen ones show."""
    pool = random.normal(size=10 * count)
    ability_N = pool[np.argsort(random.exponential(size=len(pool)) / expit(-tilt * pool))[:count]]
    ability_M = random.normal(size=UNSEEN)
    strata_N, strata_M = random.integers(0, 3, count), random.integers(0, 3, UNSEEN)

    def shown(ability: Floats) -> Floats:
        return 2 * ability + (1 + expit(2 * ability)) * random.normal(size=len(ability))

    shown_N, shown_M = shown(ability_N), shown(ability_M)
    shown_N[:members] += shift
    shown_N[members : members + strangers] -= shift
    ease_N, ease_M = (a + 0.2 * random.normal(size=len(a)) for a in (ability_N, ability_M))
    found = pair(ease_N, strata_N, ease_M, strata_M, "holdout")
    return tails(found, Unseen.of(ease_M, strata_M), loss(shown_N), loss(shown_M))


@pytest.mark.parametrize("tilt", [0.0, 2.0])
def test_of_samples_that_nobody_saw_they_are_uniform_also_where_the_hard_are_forgotten(tilt: float) -> None:
    random = np.random.default_rng(0)
    found = [made(random, 400, tilt) for _ in range(15)]
    for p_N in (np.concatenate([t.member_N for t in found]), np.concatenate([t.stranger_N for t in found])):
        assert kstest(p_N, "uniform").statistic < 0.03
        for least in (0.01, 0.002):  # where findings are made: no more than promised, but for chance
            assert (p_N < least).mean() < least * 1.15 + 2 * (least / len(p_N)) ** 0.5


def test_false_findings_are_rare_where_there_is_nothing_to_find() -> None:
    random = np.random.default_rng(1)
    counts = [made(random, 60, 1.0).found() for _ in range(60)]
    assert sum(members > 0 for members, _ in counts) <= 3
    assert sum(strangers > 0 for _, strangers in counts) <= 3


def test_planted_members_and_strangers_are_found_and_hardly_any_other() -> None:
    random = np.random.default_rng(2)
    for members, strangers in ((20, 0), (0, 20), (15, 25)):
        found = made(random, 200, 1.0, members, strangers)
        counts = found.found()
        assert members - 1 <= counts[0] <= members + 2
        assert strangers - 1 <= counts[1] <= strangers + 2
        assert found.member_N[:members].max(initial=0) < 0.01
        assert found.stranger_N[members : members + strangers].max(initial=0) < 0.01


def test_findings_are_those_of_benjamini_and_hochberg() -> None:
    """All up to the largest k with p_(k) <= k / n of the rate."""
    assert DISCOVERY == 0.01
    spread = np.array([0.5, 0.0001, 0.0065, 0.0035, 0.9])
    assert Tails(spread, np.ones(5)).found() == (2, 0)  # 0.0065 is below 0.01, but above three fifths of it
    stepped = np.array([0.0059, 0.0055, 0.9, 0.0001, 0.5])
    assert Tails(np.ones(5), stepped).found() == (0, 3)  # 0.0055 is above two fifths: the third takes it along


def test_the_least_of_all_has_the_least_p_there_can_be() -> None:
    found = made(np.random.default_rng(3), 50, 0.0, 1, 1, shift=40.0)
    assert found.member_N[0] == found.stranger_N[1] == 1 / (UNSEEN + 1)
    assert found.stranger_N[0] == found.member_N[1] == 1


def test_a_surer_sample_never_looks_less_like_a_member() -> None:
    random = np.random.default_rng(4)
    ease_M, strata_M = random.normal(size=500), np.zeros(500, dtype=np.int64)
    shown = np.linspace(-5, 5, 30)
    same = pair(np.zeros(30), np.zeros(30, dtype=np.int64), ease_M, strata_M, "holdout")
    found = tails(same, Unseen.of(ease_M, strata_M), loss(shown), loss(random.normal(size=500)))
    assert all(one >= other for one, other in pairwise(found.member_N))
    assert all(one <= other for one, other in pairwise(found.stranger_N))


@pytest.mark.parametrize("count", [30, NEAR, 400, 6000])
@pytest.mark.parametrize("flat", [False, True])
def test_no_unseen_sample_is_held_against_itself(count: int, flat: bool) -> None:
    random = np.random.default_rng(5)
    ease_M = np.zeros(count) if flat else np.round(random.normal(size=count), 1)
    unseen = Unseen.of(ease_M, np.zeros(count, dtype=np.int64))
    assert len(unseen.chosen_L) == min(count, 5000)
    assert unseen.near_LK.shape[1] == min(count - 1, NEAR)
    assert not (unseen.near_LK == unseen.chosen_L[:, None]).any()
    assert all(len(set(row)) == len(row) for row in unseen.near_LK.tolist())


def test_one_unseen_sample_is_no_company() -> None:
    with pytest.raises(ValueError, match="no other"):
        Unseen.of(np.zeros(1), np.zeros(1, dtype=np.int64))


@given(st.lists(st.sampled_from([0.0, 0.001, 0.002, 0.0055, 0.0065, 0.009, 0.02, 0.5, 1.0]), min_size=1, max_size=20))
def test_findings_are_counted_as_scipy_adjusts_them(values: list[float]) -> None:
    p_N = np.array(values)
    assert discoveries(p_N) == int((false_discovery_control(p_N) <= DISCOVERY).sum())
