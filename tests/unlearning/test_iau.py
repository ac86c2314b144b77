"""The update against its formulas, term by term; the search for eta; determinism."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unlearning.problems import Blobs
from unlearning.eta import Evaluation, search_eta
from unlearning.gradients import GradientSum, NonFinite, gradient_sum
from unlearning.iau import IauSettings, spread, unlearn, update_direction
from unlearning.splits import split_unseen
from unlearning.training import restore, train

PROBLEM = Blobs(noise=1.5)
TUNING, AUDIT = split_unseen(PROBLEM)
LIVE = np.arange(len(PROBLEM.train))
FORGET = np.array([4, 9, 30])


@pytest.fixture(scope="module")
def parent() -> torch.nn.Module:
    return restore(PROBLEM, train(PROBLEM, LIVE).state)


@pytest.fixture(scope="module")
def total(parent: torch.nn.Module) -> GradientSum:
    return gradient_sum(parent, PROBLEM, PROBLEM.train, LIVE)


def test_ia_adds_the_forget_gradient(parent: torch.nn.Module, total: GradientSum) -> None:
    forget = gradient_sum(parent, PROBLEM, PROBLEM.train, FORGET)
    result = unlearn(parent, PROBLEM, FORGET, total, TUNING, IauSettings("ia", "sums", eta=0.01))
    for name, parameter in parent.named_parameters():
        expected = (parameter.detach().double() + 0.01 * forget.vector[name]).float()
        assert torch.equal(result.state[name], expected)
    assert result.within_budget is None
    assert (result.n_f, result.n_r, result.trace) == (3, 57, [])


@pytest.mark.parametrize("weights", ["sums", "means"])
def test_gradient_correction_subtracts_both(parent: torch.nn.Module, total: GradientSum, weights: str) -> None:
    """With G(D_r) taken from the retained samples themselves, not by subtraction."""
    forget = gradient_sum(parent, PROBLEM, PROBLEM.train, FORGET)
    retain = gradient_sum(parent, PROBLEM, PROBLEM.train, np.setdiff1d(LIVE, FORGET))
    f, r = (forget.vector, retain.vector) if weights == "sums" else (forget.mean(), retain.mean())
    result = unlearn(parent, PROBLEM, FORGET, total, TUNING, IauSettings("ia+gc", weights, eta=0.01))  # type: ignore[arg-type]  # a drawn str
    for name, parameter in parent.named_parameters():
        expected = parameter.detach().double() - 0.01 * (r[name] - f[name])
        torch.testing.assert_close(result.state[name].double(), expected, rtol=1e-6, atol=1e-7)


def test_the_released_step_is_one_step_of_a_fresh_adam(parent: torch.nn.Module, total: GradientSum) -> None:
    settings = IauSettings("ia+gc", "means", "adam", eta=1e-3)
    result = unlearn(parent, PROBLEM, FORGET, total, TUNING, settings)
    forget = gradient_sum(parent, PROBLEM, PROBLEM.train, FORGET)
    direction = update_direction(replace(settings, step="sgd"), total, forget)
    copy = restore(PROBLEM, parent.state_dict()).double()
    for name, parameter in copy.named_parameters():
        parameter.grad = direction[name].clone()
    torch.optim.Adam(copy.parameters(), lr=1e-3).step()
    for name, parameter in copy.named_parameters():
        torch.testing.assert_close(result.state[name].double(), parameter.detach(), rtol=1e-6, atol=1e-7)


def test_same_inputs_same_bytes_and_the_parent_is_left_alone(parent: torch.nn.Module, total: GradientSum) -> None:
    before = {name: value.clone() for name, value in parent.state_dict().items()}
    one = unlearn(parent, PROBLEM, FORGET, total, TUNING, IauSettings())
    other = unlearn(parent, PROBLEM, FORGET[::-1], total, TUNING, IauSettings())
    assert one.eta == other.eta
    assert one.trace == other.trace
    assert all(one.state[name].numpy().tobytes() == other.state[name].numpy().tobytes() for name in one.state)
    assert all(torch.equal(value, before[name]) for name, value in parent.state_dict().items())
    assert 1 <= len(one.trace) <= 12
    assert one.eta in [trial.eta for trial in one.trace]
    moved = sum(float((one.state[name].double() - before[name].double()).square().sum()) for name in before) ** 0.5
    assert one.update_norm == pytest.approx(moved, rel=1e-4)
    assert one.parent_norm == pytest.approx(sum(float(v.double().square().sum()) for v in before.values()) ** 0.5)


def test_what_cannot_be_updated_is_refused(parent: torch.nn.Module, total: GradientSum) -> None:
    given = IauSettings(eta=0.1)
    with pytest.raises(ValueError, match="forget set is empty"):
        unlearn(parent, PROBLEM, np.array([], dtype=np.int64), total, TUNING, given)
    with pytest.raises(ValueError, match="whole training set"):
        unlearn(parent, PROBLEM, LIVE, total, TUNING, given)
    with pytest.raises(NonFinite, match="take a smaller one"):
        unlearn(parent, PROBLEM, FORGET, total, TUNING, IauSettings(eta=1e300))
    for field in ("variant", "weights", "step"):
        with pytest.raises(ValueError, match=f"{field} is 'other'"):
            unlearn(parent, PROBLEM, FORGET, total, TUNING, replace(given, **{field: "other"}))
    for eta in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="use a positive number"):
            IauSettings(eta=eta)


def test_progress_may_abort(parent: torch.nn.Module, total: GradientSum) -> None:
    class LeaseLost(Exception):
        pass

    def progress(fraction: float, text: str) -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        unlearn(parent, PROBLEM, FORGET, total, TUNING, IauSettings(), progress=progress)


@pytest.mark.parametrize("start", [1e-6, 0.3, 5.0, 1000.0])
def test_the_search_finds_the_zero_of_a_falling_gap(start: float) -> None:
    found = search_eta(lambda eta: Evaluation(eta, 0.4 - eta, 0.9, True), start, 10.0, 40)
    assert found.eta == pytest.approx(0.4, rel=0.03)
    assert found.within_budget


def test_the_search_stays_within_the_budget_the_bound_and_the_number_of_trials() -> None:
    found = search_eta(lambda eta: Evaluation(eta, 0.4 - eta, 0.9 - eta, eta <= 0.1), 0.3, 10.0, 20)
    assert found.within_budget
    assert found.eta == pytest.approx(0.1, rel=0.03)
    assert found.eta <= 0.1
    bounded = search_eta(lambda eta: Evaluation(eta, 0.4, 0.9, True), 1.0, 6.0, 20)
    assert [trial.eta for trial in bounded.trace] == [1.0, 2.0, 4.0, 6.0]
    assert bounded.eta == 1.0  # none is better than another: the smallest
    assert len(search_eta(lambda eta: Evaluation(eta, 0.4, 0.9, True), 1e-9, 6.0, 5).trace) == 5


def test_the_search_says_when_no_step_keeps_the_budget() -> None:
    found = search_eta(lambda eta: Evaluation(eta, 0.0, 0.5 - eta, False), 1.0, 10.0, 4)
    assert not found.within_budget
    assert found.eta == 0.125
    broken = search_eta(lambda eta: Evaluation(eta, None, None, False), 1.0, 10.0, 3)
    assert (broken.within_budget, broken.eta) == (False, 0.25)


@pytest.mark.parametrize(("start", "eta_max", "count"), [(0.0, 1.0, 3), (1.0, float("inf"), 3), (1.0, 1.0, 0)])
def test_the_search_refuses_bounds_that_are_none(start: float, eta_max: float, count: int) -> None:
    with pytest.raises(ValueError, match=r"positive|at least one"):
        search_eta(lambda eta: Evaluation(eta, 0.0, 0.5, True), start, eta_max, count)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (7, 7), (1000, 1000), (1001, 1000), (50_000, 1000)])
def test_the_search_looks_at_a_spread_of_the_tuning_data(count: int, size: int) -> None:
    chosen = spread(count)
    assert len(chosen) == size
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert (np.diff(chosen) > 0).all()
