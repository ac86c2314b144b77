import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearning.transport import NEIGHBOURS, Pool

phis = st.lists(st.floats(-20, 20), min_size=20, max_size=60, unique=True)


def level(values: list[float]) -> Pool:
    """All equally hard, all of the same weight."""
    return Pool.of(np.zeros(len(values)), np.array(values), np.ones(len(values)))


@given(phis)
def test_a_place_leads_back_to_its_sample(values: list[float]) -> None:
    """Among themselves: the inverse of the rank is the sample, up to its neighbours."""
    pool, flat = level(values), np.zeros(len(values))
    places = pool.places(flat, np.array(values))
    assert ((places > 0) & (places < 1)).all()
    found, sorted_values, rank = pool.at(flat, places), np.sort(values), np.argsort(np.argsort(values))
    assert (found >= sorted_values[np.maximum(rank - 1, 0)]).all()
    assert (found <= sorted_values[np.minimum(rank + 1, len(values) - 1)]).all()


@given(phis, st.floats(-20, 20))
def test_a_place_is_the_share_of_samples_that_are_less_sure(values: list[float], own: float) -> None:
    slow = (sum(value < own for value in values) + 0.5 * sum(value == own for value in values) + 0.5) / (
        len(values) + 1
    )
    assert level(values).places(np.zeros(1), np.array([own]))[0] == pytest.approx(slow)


def test_a_sample_is_held_against_those_that_are_as_hard() -> None:
    """400 samples whose confidence is ten times their margin: at the middle place one finds one's own kind."""
    margins = np.linspace(-1, 1, 400)
    pool = Pool.of(margins, 10 * margins, np.ones(400))
    asked = np.array([-0.8, 0.0, 0.7])
    assert pool.at(asked, np.full(3, 0.5)) == pytest.approx(10 * asked, abs=0.1)
    assert pool.places(asked, 10 * asked) == pytest.approx(0.5, abs=0.02)
    assert pool.places(asked, 10 * asked + 5) == pytest.approx(1.0, abs=0.02)


def test_beyond_either_end_the_last_neighbours_speak() -> None:
    margins = np.linspace(-1, 1, 400)
    pool = Pool.of(margins, margins, np.ones(400))
    least = pool.at(np.array([-5.0]), np.array([0.5]))[0]
    assert least == pytest.approx(margins[:NEIGHBOURS].mean(), abs=0.01)


def test_weight_decides_where_the_middle_lies() -> None:
    """Twenty samples at 0 with weight one, twenty at 1 with weight nine: the middle and the lower tenth."""
    pool = Pool.of(np.zeros(40), np.repeat([0.0, 1.0], 20), np.repeat([1.0, 9.0], 20))
    assert pool.at(np.zeros(2), np.array([0.5, 0.05])).tolist() == [1.0, 0.0]
    assert pool.places(np.zeros(1), np.array([0.5]))[0] == pytest.approx(0.1, abs=0.02)


def test_the_order_in_which_a_pool_is_given_says_nothing() -> None:
    draw = np.random.default_rng(0)
    margins, phi = draw.normal(size=300), draw.normal(size=300)
    order = draw.permutation(300)
    one, other = Pool.of(margins, phi, np.ones(300)), Pool.of(margins[order], phi[order], np.ones(300))
    asked, places = draw.normal(size=50), draw.uniform(size=50)
    assert one.at(asked, places) == pytest.approx(other.at(asked, places))
