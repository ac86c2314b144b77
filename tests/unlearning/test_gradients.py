"""Gradient sums against the plainest oracle: one sample at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.unlearning.problems import Blobs
from unlearning.gradients import GradientSum, NonFinite, Scores, gradient_sum, scores
from unlearning.problem import TensorSamples


def one_by_one(model: nn.Module, problem: Blobs, inputs: Tensor, targets: Tensor) -> list[list[Tensor]]:
    """The oracle: the gradient of each sample's loss, by batches of one."""
    gradients = []
    for i in range(len(targets)):
        loss = problem.losses(model(inputs[i : i + 1]), targets[i : i + 1]).sum()
        gradients.append(list(torch.autograd.grad(loss, list(model.parameters()))))
    return gradients


def model_of(problem: Blobs, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return problem.build_model().to(dtype)


def in_double(problem: Blobs) -> TensorSamples:
    train = problem.train
    return TensorSamples(train.ids, train.subjects, train.inputs.double(), train.targets)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(count=st.integers(0, 20), batch_size=st.integers(1, 23), features=st.integers(3, 6))
def test_the_sum_is_that_of_the_samples_one_by_one(count: int, batch_size: int, features: int) -> None:
    problem = Blobs(count=20, features=features)
    model, samples = model_of(problem), in_double(problem)
    indices = np.random.default_rng(count).permutation(20)[:count]
    total = gradient_sum(model, problem, samples, indices, batch_size)
    assert total.count == count
    oracle = one_by_one(model, problem, *samples.batch(indices))
    for position, (name, parameter) in enumerate(model.named_parameters()):
        expected = sum((gradient[position] for gradient in oracle), torch.zeros_like(parameter))
        torch.testing.assert_close(total.vector[name], expected.detach(), rtol=1e-10, atol=1e-12)
        assert parameter.grad is None


@settings(max_examples=20, deadline=None, derandomize=True)
@given(cut=st.integers(0, 20), batch_size=st.integers(1, 9))
def test_any_split_gives_the_same_sum(cut: int, batch_size: int) -> None:
    problem = Blobs(count=20)
    model = model_of(problem, torch.float32)
    whole = gradient_sum(model, problem, problem.train, np.arange(20))
    first = gradient_sum(model, problem, problem.train, np.arange(cut), batch_size)
    second = gradient_sum(model, problem, problem.train, np.arange(cut, 20), batch_size)
    for name, value in (first + second).vector.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(value, whole.vector[name], rtol=1e-5, atol=1e-5)
    remaining = whole - first
    assert remaining.count == 20 - cut
    for name, value in remaining.vector.items():
        torch.testing.assert_close(value, second.vector[name], rtol=1e-5, atol=1e-5)


def test_order_of_naming_does_not_matter() -> None:
    problem = Blobs()
    model = model_of(problem, torch.float32)
    one = gradient_sum(model, problem, problem.train, np.array([5, 2, 40]))
    other = gradient_sum(model, problem, problem.train, np.array([40, 5, 2]))
    assert all(torch.equal(one.vector[name], other.vector[name]) for name in one.vector)


def test_eval_mode_inside_and_the_former_mode_after() -> None:
    class WithDropout(Blobs):
        def build_model(self) -> nn.Module:
            return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))

    problem = WithDropout()
    model = model_of(problem, torch.float32).train()
    model[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one = gradient_sum(model, problem, problem.train, np.arange(9), batch_size=4)
    other = gradient_sum(model, problem, problem.train, np.arange(9), batch_size=9)
    torch.testing.assert_close(one.vector, other.vector, rtol=1e-5, atol=1e-6)
    assert [model.training, model[0].training, model[2].training] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_empty_set_has_a_zero_sum_and_no_mean() -> None:
    problem = Blobs()
    total = gradient_sum(model_of(problem, torch.float32), problem, problem.train, np.array([], dtype=np.int64))
    assert total.count == 0
    assert total.norm() == 0
    with pytest.raises(ValueError, match="no mean"):
        total.mean()


@pytest.mark.parametrize(("indices", "why"), [([1, 1], "twice"), ([60], "must lie in"), ([-1], "must lie in")])
def test_faulty_indices_are_refused(indices: list[int], why: str) -> None:
    problem = Blobs()
    with pytest.raises(ValueError, match=why):
        gradient_sum(model_of(problem, torch.float32), problem, problem.train, np.array(indices))


def test_reduced_losses_are_refused() -> None:
    class Reduced(Blobs):
        def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return nn.functional.cross_entropy(outputs, targets)

    problem = Reduced()
    with pytest.raises(ValueError, match="reduction='none'"):
        gradient_sum(model_of(problem, torch.float32), problem, problem.train, np.arange(4))


def test_sums_of_other_networks_and_larger_subsets_are_refused() -> None:
    one, other = GradientSum({"w": torch.zeros(2)}, 1), GradientSum({"w": torch.zeros(3)}, 1)
    with pytest.raises(ValueError, match="different networks"):
        one + other
    with pytest.raises(ValueError, match="cannot take"):
        one - GradientSum({"w": torch.zeros(2)}, 2)


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    problem = Blobs()
    model = model_of(problem, torch.float32)
    with torch.no_grad():
        next(model.parameters()).fill_(float("inf"))
    with pytest.raises(NonFinite):
        gradient_sum(model, problem, problem.train, np.arange(4))
    with pytest.raises(NonFinite):
        scores(model, problem, problem.train)


def test_scores_are_those_of_the_samples_one_by_one() -> None:
    problem = Blobs()
    model = model_of(problem, torch.float32)
    found = scores(model, problem, problem.train, np.array([3, 1, 50]), batch_size=2)
    for position, index in enumerate([1, 3, 50]):
        inputs, targets = problem.train.batch(np.array([index]))
        outputs = model(inputs)
        assert found.losses_N[position] == pytest.approx(float(problem.losses(outputs, targets).detach()), rel=1e-5)
        assert found.correct_N[position] == bool(outputs.argmax() == targets)
        assert found.strata_N[position] == int(targets)
    assert len(scores(model, problem, problem.train, np.array([], dtype=np.int64))) == 0
    with pytest.raises(ValueError, match="one value a sample"):
        Scores(np.zeros(2), np.zeros(1, dtype=bool), np.zeros(2, dtype=np.int64))
