"""The restricted losses against their formulas, and the random part of a batch that stands for the whole."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.unlearning.problems import RECIPE, Blobs
from unlearning.problem import Recipe
from unlearning.restriction import drawn, restricted_loss
from unlearning.sample_norms import per_sample_squared_norms
from unlearning.training import train

PROBLEM = Blobs()


def in_double(model: nn.Module, count: int) -> tuple[nn.Module, Tensor, Tensor]:
    inputs, targets = PROBLEM.train.batch(np.arange(count))
    return model.double(), inputs.double(), targets


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return PROBLEM.build_model()


def with_batch_norm() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).train()


def flat_gradient(loss: Tensor, model: nn.Module) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def test_the_released_restriction_is_another_quantity() -> None:
    """Pins it: alpha times the sum over tensors of the norm of the batch's mean gradient, not squared."""
    model, inputs, targets = in_double(mlp(), 5)
    loss = PROBLEM.losses(model(inputs), targets).mean()
    gradients = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    expected = loss + 0.5 * torch.stack([g.norm() for g in gradients]).sum()
    torch.testing.assert_close(restricted_loss(model, PROBLEM, inputs, targets, "batch-norm", 0.5), expected)
    torch.testing.assert_close(restricted_loss(model, PROBLEM, inputs, targets, "none", 0.5), loss)


@pytest.mark.parametrize("size", [1, 2, 4, 5])
@pytest.mark.parametrize("build", [mlp, with_batch_norm])
def test_the_mean_over_all_parts_is_the_whole_restriction(build: type, size: int) -> None:
    """Unbiased: every subset of a size is as likely, and their losses and gradients average to those of the whole."""
    model, inputs, targets = in_double(build(), 5)
    model(inputs)
    if build is with_batch_norm:
        model[1].momentum = 0.0  # the same running statistics for every subset
    whole = restricted_loss(model, PROBLEM, inputs, targets, "per-sample", 0.3)
    parts = [np.array(part) for part in combinations(range(5), size)]
    losses = [restricted_loss(model, PROBLEM, inputs, targets, "per-sample", 0.3, part) for part in parts]
    mean = torch.stack(losses).mean()
    torch.testing.assert_close(mean, whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(flat_gradient(mean, model), flat_gradient(whole, model), rtol=1e-10, atol=1e-12)
    if size < 5:
        assert max(abs(float((loss - whole).detach())) for loss in losses) > 1e-4


def test_every_part_is_drawn_as_often() -> None:
    order = np.random.default_rng(0)
    seen: dict[tuple[int, ...], int] = {}
    for _ in range(3000):
        part = drawn(0.4, 5, order)
        assert part is not None
        seen[tuple(part.tolist())] = seen.get(tuple(part.tolist()), 0) + 1
    assert set(seen) == set(combinations(range(5), 2))
    assert max(abs(count - 300) for count in seen.values()) < 75
    assert drawn(1.0, 5, order) is None
    assert [len(part) for part in (drawn(0.25, 64, order), drawn(0.01, 7, order)) if part is not None] == [16, 1]
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        drawn(0.0, 5, order)


def test_batch_norm_trains_by_the_batch_and_is_restricted_by_running_statistics() -> None:
    model, inputs, targets = in_double(with_batch_norm(), 8)
    twin = with_batch_norm().double()
    loss = restricted_loss(model, PROBLEM, inputs, targets, "per-sample", 0.3)
    plain = PROBLEM.losses(twin(inputs), targets).mean()  # updates the twin's statistics once, as one step does
    squared_B = per_sample_squared_norms(twin.eval(), PROBLEM, inputs, targets, create_graph=True)
    expected = plain + 0.3 * squared_B.mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(flat_gradient(loss, model), flat_gradient(expected, twin))
    assert all(module.training for module in model.modules())
    torch.testing.assert_close(model.state_dict(), twin.state_dict())
    assert int(model[1].num_batches_tracked) == 1


def test_training_on_a_part_repeats_and_differs_from_training_on_the_whole() -> None:
    def weights(recipe: Recipe) -> Tensor:
        state = train(replace_recipe(recipe), np.arange(40)).state
        return torch.cat([value.flatten() for value in state.values()])

    quarter = replace(RECIPE, alpha=0.1, restriction_share=0.25)
    assert torch.equal(weights(quarter), weights(quarter))
    assert not torch.equal(weights(quarter), weights(replace(quarter, restriction_share=1.0)))


def replace_recipe(recipe: Recipe) -> Blobs:
    return Blobs(recipe=recipe)


def test_faulty_calls_are_refused() -> None:
    model, inputs, targets = in_double(mlp(), 3)
    with pytest.raises(ValueError, match="use 'per-sample'"):
        restricted_loss(model, PROBLEM, inputs, targets, "other", 0.1)  # type: ignore[arg-type]  # the fault under test
    with pytest.raises(ValueError, match="empty batch"):
        restricted_loss(model, PROBLEM, inputs[:0], targets[:0], "none", 0.0)
    for restriction, part in (("none", np.array([0])), ("per-sample", np.array([], dtype=np.int64))):
        with pytest.raises(ValueError, match="a part of the batch"):
            restricted_loss(model, PROBLEM, inputs, targets, restriction, 0.1, part)  # type: ignore[arg-type]  # a str here
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="restriction_share"):
            replace(RECIPE, restriction_share=share)
    with pytest.raises(ValueError, match="restriction 'per-sample'"):
        replace(RECIPE, restriction="batch-norm", restriction_share=0.5)
