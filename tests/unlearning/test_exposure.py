"""Which gradients are outlying: by hand, by properties of the rule, and on a network against single samples."""

import json
from dataclasses import asdict, replace
from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.unlearning.problems import Blobs
from unlearning.exposure import FEWEST, NORMAL, SEED, Exposure, expose, outlying
from unlearning.gradients import NonFinite, gradient_sum
from unlearning.looks import NORM_EDGES, NoLook
from unlearning.training import state_of


def judged(norms: list[float], z: float = 6.0, most: int = 50) -> Exposure:
    return outlying(np.array(norms), np.arange(len(norms)) + 100, len(norms), None, z, most)


def clean(count: int, seed: int) -> list[float]:
    """Norms whose logarithms are a normal law's."""
    found: list[float] = np.exp(np.random.default_rng(seed).normal(-2, 1.5, count)).tolist()
    return found


def test_by_hand() -> None:
    """Logarithms 0, 1, 2, 3, 40: the median is 2, the deviations 2, 1, 0, 1, 38, and their median 1."""
    made = judged([exp(value) for value in (40, 0, 1, 2, 3)])
    assert made.median == pytest.approx(exp(2))
    assert made.spread == pytest.approx(NORMAL)
    (one,) = made.outliers
    assert (one.position, made.found, made.unjudged) == (100, 1, None)
    assert one.norm == pytest.approx(exp(40))
    assert one.z == pytest.approx(38 / NORMAL)
    assert judged([exp(value) for value in (40, 0, 1, 2, 3)], z=38 / NORMAL + 0.01).found == 0


def test_the_constant_makes_the_mad_a_standard_deviation() -> None:
    logs = np.random.default_rng(0).normal(0, 2, 200_000)
    spread = outlying(np.exp(logs), np.arange(len(logs)), len(logs), None, 6, 1).spread
    assert spread == pytest.approx(2, rel=0.01)


def test_a_norm_below_the_others_is_no_outlier() -> None:
    assert judged([exp(value) for value in (-40, 0, 1, 2, 3)]).found == 0


def test_bins_hold_each_norm_once() -> None:
    made = judged([0.0, 1e-9, 1e-8, 0.5, 5.0, 1e6, 2.0])
    assert made.edges == NORM_EDGES
    assert sum(made.counts) == 7
    assert (made.counts[0], made.counts[1], made.counts[-1], made.zeros) == (2, 1, 1, 1)


@given(st.integers(0, 1000), st.floats(-20, 20), st.sampled_from([3.0, 4.0, 6.0]))
def test_a_common_factor_changes_nothing(seed: int, exponent: float, z: float) -> None:
    norms = clean(200, seed)
    before, after = judged(norms, z), judged([value * exp(exponent) for value in norms], z)
    if min(abs(log(value / (before.median or 1)) / (before.spread or 1) - z) for value in norms) < 1e-9:
        return  # at the limit itself, rounding decides
    assert [one.position for one in before.outliers] == [one.position for one in after.outliers]
    assert [one.z for one in before.outliers] == pytest.approx([one.z for one in after.outliers])
    assert before.spread == pytest.approx(after.spread)


@given(st.integers(0, 1000), st.sets(st.integers(0, 299), min_size=1, max_size=40), st.floats(8, 12))
def test_what_is_planted_is_found(seed: int, planted: set[int], height: float) -> None:
    norms = clean(300, seed)
    for place in planted:
        norms[place] = exp(-2 + 1.5 * 1.7 * height)  # more than the height itself: planting widens the spread a little
    made = judged(norms, z=6.0)
    assert planted <= {one.position - 100 for one in made.outliers}
    assert made.found == len(made.outliers) == len(planted)


def test_nearly_half_may_be_planted() -> None:
    norms = clean(301, 0)
    norms[:100] = [exp(60)] * 100
    assert {one.position - 100 for one in judged(norms, most=200).outliers} == set(range(100))


@pytest.mark.parametrize("seed", range(10))
def test_of_a_normal_law_no_more_stand_out_than_must(seed: int) -> None:
    norms = clean(20_000, seed)
    assert judged(norms, z=6.0).found == 0, "1e-9 of them are expected"
    assert 10 <= judged(norms, z=3.0).found <= 48, "27 are expected"


def test_the_most_outlying_come_first_and_ties_by_position() -> None:
    norms = [*clean(100, 1), exp(30), exp(40), exp(30), exp(50)]
    made = judged(norms, most=3)
    assert [one.position for one in made.outliers] == [203, 201, 200]
    assert (made.found, made.most) == (4, 3)


@pytest.mark.parametrize("norms", [[1.0] * 6 + [50.0, 2.0, 3.0], [1.0, 1.0 + 1e-7, 1.0 - 1e-7] * 3 + [1.1]])
def test_ties_leave_no_spread_and_it_is_said(norms: list[float]) -> None:
    made = judged(norms)
    assert (made.median, made.spread, made.outliers, made.found) == (None, None, (), 0)
    assert "equal" in (made.unjudged or "")


def test_zeros() -> None:
    """Fewer than half are below all others; of half or more nothing is usual."""
    few = judged([0.0] * 4 + [exp(value) for value in (0, 1, 2, 3, 40)])
    assert (few.zeros, few.unjudged) == (4, None)
    assert few.median == pytest.approx(1)
    for count in (5, 6):
        many = judged([0.0] * count + [exp(value) for value in (0, 1, 2, 3, 40)])
        assert (many.zeros, many.found, many.spread) == (count, 0, None)
        assert "zero" in (many.unjudged or "")
        assert json.dumps([asdict(few), asdict(many)], allow_nan=False)


@pytest.mark.parametrize("norms", [[], [1.0, -1.0], [1.0, np.nan], [np.inf, 1.0]])
def test_what_is_no_norm_is_refused(norms: list[float]) -> None:
    with pytest.raises(ValueError, match="norms are finite"):
        judged(norms)


def network(problem: Blobs) -> nn.Module:
    torch.manual_seed(0)
    return problem.build_model()


def test_a_network_s_outliers_are_those_of_single_samples() -> None:
    problem = Blobs(noise=0.2)
    model = network(problem)
    problem.train.inputs[[7, 31]] *= 1e3
    problem.train.targets[[7, 31]] = model(problem.train.inputs[[7, 31]]).argmin(1)  # surely taught the wrong answer
    live = np.setdiff1d(np.arange(60), [3])
    made = expose(model, problem, live, 6.0, 50)
    slow = {int(i): gradient_sum(model, problem, problem.train, np.array([i])).norm() for i in live}
    assert {one.position for one in made.outliers} == {7, 31}
    assert [one.norm for one in made.outliers] == pytest.approx([slow[one.position] for one in made.outliers], rel=1e-4)
    assert made.median == pytest.approx(float(np.median(list(slow.values()))), rel=1e-4)
    assert (made.n, made.of, made.seed) == (59, 59, None)


def test_so_many_at_most_are_looked_at_and_the_same_ones_again() -> None:
    problem, said = Blobs(), list[float]()
    model = network(problem)
    made = [
        expose(model, problem, np.arange(60), 3.0, 50, lambda share, _: said.append(share), at_most=40)
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert (made[0].n, made[0].of, made[0].seed, sum(made[0].counts)) == (40, 60, SEED, 40)
    assert said == [0.0, 0.0]


def test_a_look_leaves_nothing_behind() -> None:
    problem = Blobs()
    model = network(problem)
    state, random = {k: v.clone() for k, v in state_of(model).items()}, torch.get_rng_state()
    expose(model, problem, np.arange(60), 6.0, 50)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(state[name], value) for name, value in state_of(model).items())
    assert model.training
    assert all(value.grad is None for value in model.parameters())


def test_what_cannot_be_looked_at_says_why() -> None:
    problem = Blobs()
    with pytest.raises(NoLook, match=f"{FEWEST - 1} training samples are too few"):
        expose(network(problem), problem, np.arange(FEWEST - 1), 6.0, 50)
    recurrent = nn.Sequential(nn.LSTM(6, 3))
    with pytest.raises(NoLook, match="0 is LSTM"):
        expose(recurrent, problem, np.arange(60), 6.0, 50)
    with pytest.raises(ValueError, match="named twice"):
        expose(network(problem), problem, np.array([0, *range(40)]), 6.0, 50)
    with torch.no_grad():
        broken = network(problem)
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(NonFinite):
        expose(broken, problem, np.arange(60), 6.0, 50)


def test_a_batch_norm_in_training_mode_is_judged_in_eval_mode() -> None:
    problem = Blobs()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    assert expose(model, problem, np.arange(60), 6.0, 50).n == 60
    assert model.training


def test_it_is_plain_json() -> None:
    made = replace(judged(clean(50, 0)), seed=SEED)
    assert json.loads(json.dumps(asdict(made), allow_nan=False))["counts"] == list(made.counts)
