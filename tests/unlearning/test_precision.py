"""What rounding does to gradient sums: networks compute in float32, sums are kept in float64, and this is what that buys."""

import copy
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import nn

from tests.unlearning.problems import Blobs
from unlearning.gradients import GradientSum, euclidean_norm, gradient_sum, losses_of, parameters_of
from unlearning.problem import Recipe, TensorSamples
from unlearning.training import restore, train

COUNT = 20_000
EVERYTHING = np.arange(COUNT)
EPSILON = float(torch.finfo(torch.float32).eps)


@lru_cache
def trained() -> tuple[Blobs, nn.Module]:
    problem = Blobs(count=COUNT, features=10, hidden=(16,), recipe=Recipe("adam", 3e-3, 3, 256, seed=1))
    return problem, restore(problem, train(problem, EVERYTHING[:4000]).state)


@lru_cache
def exact(first: int = 0) -> GradientSum:
    """The same sum with every operation in float64."""
    problem, model = trained()
    double = copy.deepcopy(model).double()
    samples = TensorSamples(
        problem.train.ids, problem.train.subjects, problem.train.inputs.double(), problem.train.targets
    )
    return gradient_sum(double, problem, samples, EVERYTHING[first:], 4096)


def error(found: GradientSum, truth: GradientSum) -> float:
    """Distance over length, in float32's epsilons."""
    return (found - truth).norm() / truth.norm() / EPSILON


def naive(size: int) -> GradientSum:
    """What a plain loop would do: add each chunk's gradient up in float32."""
    problem, model = trained()
    parameters = parameters_of(model)
    total = {name: torch.zeros_like(value).detach() for name, value in parameters.items()}
    for start in range(0, COUNT, size):
        inputs, targets = problem.train.batch(EVERYTHING[start : start + size])
        losses_B = losses_of(problem, model(inputs), targets)
        for name, gradient in zip(total, torch.autograd.grad(losses_B.sum(), list(parameters.values())), strict=True):
            total[name] += gradient
    return GradientSum({name: value.double() for name, value in total.items()}, COUNT)


@pytest.mark.parametrize("size", [16, 512])
def test_a_sum_over_many_samples_is_good_to_a_few_epsilons_and_a_plain_loop_is_not(size: int) -> None:
    """The mean gradient of a trained network is small against its samples' gradients, so their sum nearly cancels."""
    problem, model = trained()
    ours = error(gradient_sum(model, problem, problem.train, EVERYTHING, size), exact())
    assert ours < 4
    if size == 16:
        assert error(naive(size), exact()) > 3 * ours


def test_the_retain_sum_by_subtraction_is_as_good_as_its_own_pass() -> None:
    """G(D_r) = G(D) - G(D_f): the subtraction of two float64 sums adds nothing to what the chunks have lost."""
    problem, model = trained()
    size = COUNT // 2
    whole = gradient_sum(model, problem, problem.train, EVERYTHING)
    forget = gradient_sum(model, problem, problem.train, EVERYTHING[:size])
    direct = gradient_sum(model, problem, problem.train, EVERYTHING[size:])
    assert error(whole - forget, exact(size)) < 3 * max(error(direct, exact(size)), 0.5)


def test_sums_are_float64_whatever_the_network_is() -> None:
    problem, model = trained()
    vector = gradient_sum(model, problem, problem.train, EVERYTHING[:10]).vector
    assert {value.dtype for value in vector.values()} == {torch.float64}
    assert euclidean_norm(vector) > 0
