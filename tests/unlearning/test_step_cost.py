"""What a restricted step costs: measured, and without a trace in the model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.unlearning.problems import RECIPE, Blobs
from unlearning.step_cost import step_cost
from unlearning.training import state_of


class Normed(Blobs):
    """With statistics that follow each pass in training mode."""

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(self.features), super().build_model())


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("kind", [Blobs, Normed])
def test_it_is_measured_and_leaves_the_model_as_it_was(kind: type[Blobs], share: float) -> None:
    problem = kind(recipe=replace(RECIPE, restriction_share=share))
    torch.manual_seed(5)
    model = problem.build_model().eval()
    before, ambient = state_of(model), torch.get_rng_state()
    found = step_cost(problem, model, np.arange(40), "cpu")
    assert found is not None
    assert found.restricted > 0
    assert found.plain > 0
    assert all(torch.equal(value, before[name]) for name, value in state_of(model).items())
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), ambient)


def test_a_recipe_that_restricts_nothing_costs_nothing() -> None:
    problem = Blobs(recipe=replace(RECIPE, restriction="none", alpha=0.0))
    assert step_cost(problem, problem.build_model(), np.arange(40), "cpu") is None


def test_a_device_without_the_memory_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("of the device")

    problem = Blobs()
    model = problem.build_model().eval()
    monkeypatch.setattr("unlearning.step_cost.restricted_loss", full)
    assert step_cost(problem, model, np.arange(40), "cpu") is None
    assert not model.training


def test_of_several_processes_each_is_measured_on_its_part() -> None:
    read: list[int] = []

    class Watched(Blobs):
        pass

    problem = Watched()
    whole = problem.train.batch

    def batch(indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        read.append(len(indices))
        return whole(indices)

    object.__setattr__(problem.train, "batch", batch)
    step_cost(problem, problem.build_model(), np.arange(40), "cpu", processes=3)
    assert read == [6]
