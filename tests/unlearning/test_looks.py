"""Gradient norms against a loop of single samples, and maps of unseen images: what they hold, and what they must not."""

import json
from dataclasses import asdict, dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from tests.unlearning.problems import RECIPE, Blobs
from unlearning.figures import FEWEST
from unlearning.gradients import gradient_sum
from unlearning.looks import (
    COARSE_NORM_EDGES,
    NORM_EDGES,
    NORMED,
    SHOWN,
    NoLook,
    class_maps,
    digits,
    general_at_once,
    gradient_norms,
)
from unlearning.looks import norms as norms_of
from unlearning.problem import Classification, Recipe, TensorSamples
from unlearning.training import restore, state_of


@dataclass(frozen=True)
class Pictures(Classification):
    """Images whose class is a direction of stripes."""

    recipe: Recipe = RECIPE
    train: TensorSamples = field(init=False)
    holdout: TensorSamples = field(init=False)
    test: TensorSamples = field(init=False)

    def __post_init__(self) -> None:
        for seed, name in enumerate(("train", "holdout", "test")):
            generator = torch.Generator().manual_seed(seed)
            targets = torch.arange(40) % 4
            images = torch.rand((40, 1, 12, 12), generator=generator)
            rows, columns = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
            stripes = torch.stack([rows, columns, rows + columns, rows - columns]) // 2 % 2
            images += 2 * stripes[targets, None]
            ids = [f"{name}-{i}" for i in range(40)]
            samples = TensorSamples(ids, [f"p-{i % 10}" if i % 2 else None for i in range(40)], images, targets)
            object.__setattr__(self, name, samples)

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 12, 4), nn.ReLU(), nn.AvgPool2d(9), nn.Flatten(), nn.Linear(12, 4))


def two(problem: Classification, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    """A network, and one that was moved a little."""
    torch.manual_seed(seed)
    parent = problem.build_model()  # type: ignore[attr-defined]  # every problem of these tests has one
    updated = restore(problem, state_of(parent), torch.device("cpu"))  # type: ignore[arg-type]  # a whole problem
    with torch.no_grad():
        for value in updated.parameters():
            value += 0.05 * torch.randn_like(value)
    return parent, updated


def sure(problem: Pictures) -> tuple[nn.Module, nn.Module]:
    """Two networks that learnt to answer the pictures."""
    parent, updated = two(problem)
    for model in (parent, updated):
        optimizer = torch.optim.Adam(model.parameters(), 0.05)
        for _ in range(60):
            loss = nn.functional.cross_entropy(model(problem.train.inputs), problem.train.targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature
            optimizer.step()
    return parent, updated


def test_norms_are_those_of_single_samples() -> None:
    problem = Blobs()
    parent, _ = two(problem)
    found = norms_of(parent, problem, problem.train, np.arange(40))
    slow = [gradient_sum(parent, problem, problem.train, np.array([i])).norm() for i in range(40)]
    assert found == pytest.approx(slow, rel=1e-4)


def test_a_large_network_s_gradients_are_held_for_few_samples_at_once() -> None:
    """In the general way each is as large as the network: 16 of 100 million weights would be 6 GB."""
    assert [general_at_once(count) for count in (0, 1000, 4_000_000, 20_000_000, 10**9)] == [16, 16, 16, 3, 1]


def test_norms_in_bins() -> None:
    problem = Blobs()
    models = two(problem)
    weights_M = np.zeros(60)
    weights_M[:30] = 1 / 30
    made = gradient_norms(*models, problem, np.arange(50), problem.holdout, weights_M)
    assert (made.quantity, made.n_f, made.n_h, made.seed) == ("gradient norm", 50, 30, 0)
    assert made.edges == NORM_EDGES
    for part, count in ((made.forget_before, 50), (made.forget_after, 50), (made.unseen_before, 30)):
        assert sum(part.counts) == count
    of_parent = norms_of(models[0], problem, problem.train, np.arange(50))
    assert made.forget_before.mean == pytest.approx(of_parent.mean(), rel=1e-3)
    unseen = norms_of(models[1], problem, problem.holdout, np.arange(30))
    inside = np.histogram(unseen, [0.0, *made.edges, np.inf])[0]
    assert made.unseen_after.counts == tuple(inside)


def test_unseen_norms_count_by_their_weights() -> None:
    """Where all are looked at as well: a class that D_f has more of counts for more."""
    problem = Blobs()
    models = two(problem)
    weights_M = np.arange(60) / np.arange(60).sum()
    made = gradient_norms(*models, problem, np.arange(50), problem.holdout, weights_M)
    unseen = norms_of(models[1], problem, problem.holdout, np.arange(60))
    assert made.n_h == 59
    assert made.unseen_after.mean == pytest.approx(unseen @ weights_M, rel=1e-3)
    assert made.unseen_after.mean != pytest.approx(unseen.mean(), rel=1e-3)


def test_norms_of_an_update_that_does_nothing() -> None:
    problem = Blobs()
    parent, _ = two(problem)
    made = gradient_norms(parent, parent, problem, np.arange(FEWEST), problem.holdout, np.full(60, 1 / 60))
    assert made.forget_before == made.forget_after
    assert made.unseen_before == made.unseen_after
    assert made.edges == COARSE_NORM_EDGES


def test_norms_are_of_so_many_at_most_and_of_the_same_ones_again() -> None:
    problem = Blobs(count=300)
    models = two(problem)
    made = [gradient_norms(*models, problem, np.arange(200), problem.holdout, np.full(300, 1 / 300)) for _ in range(2)]
    assert made[0] == made[1]
    assert (made[0].n_f, made[0].n_h) == (NORMED, NORMED)


def test_a_look_leaves_nothing_behind() -> None:
    problem = Pictures()
    parent, updated = two(problem)
    state, random = {k: v.clone() for k, v in state_of(updated).items()}, torch.get_rng_state()
    gradient_norms(parent, updated, problem, np.arange(20), problem.holdout, np.full(40, 1 / 40))
    class_maps(parent, updated, problem, problem.test)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(state[name], value) for name, value in state_of(updated).items())
    assert all(value.grad is None for value in updated.parameters())
    assert (parent.training, updated.training) == (True, False), "each in the mode that it was in"
    assert not any(module._forward_hooks for module in updated.modules())


def test_too_few_have_no_norms() -> None:
    problem = Blobs()
    with pytest.raises(NoLook, match="9 samples"):
        gradient_norms(*two(problem), problem, np.arange(9), problem.holdout, np.full(60, 1 / 60))


def test_a_network_without_gradients_sample_by_sample_says_which_layer() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read = nn.LSTM(6, 3, batch_first=True)

    problem = Blobs()
    with pytest.raises(NoLook, match=r"read is LSTM"):
        gradient_norms(Recurrent(), Recurrent(), problem, np.arange(20), problem.holdout, np.full(60, 1 / 60))


def test_maps_of_unseen_images() -> None:
    problem = Pictures()
    made = class_maps(*sure(problem), problem, problem.test)
    assert (made.layer, made.n, made.seed) == ("0", 40, 0)
    assert [one.label for one in made.shown] == list(range(SHOWN))
    for one in made.shown:
        assert [len(row) for row in one.before] == [len(row) for row in one.after] == [8] * 8
    most = [max(int(cell) for row in one.before for cell in row) for one in made.shown]
    assert set(most) <= {0, 9}, "each by its own scale, or empty"
    assert 9 in most
    assert 0 < made.distance < 1
    assert 0 <= made.empty_before < 1
    text = json.dumps(asdict(made), allow_nan=False)
    assert len(text) < 4000
    assert "test-" not in text


def test_maps_of_an_update_that_does_nothing() -> None:
    problem = Pictures()
    parent, _ = sure(problem)
    made = class_maps(parent, parent, problem, problem.test)
    assert made.distance == 0
    assert all(one.before == one.after for one in made.shown)


def test_no_map_is_of_somebody_who_was_forgotten() -> None:
    problem = Pictures()
    models = sure(problem)
    gone = {"p-1", "p-3"}
    made = class_maps(*models, problem, problem.test, gone)
    assert made.n == 40 - sum(subject in gone for subject in problem.test.subjects) == 32
    only = TensorSamples(["a"], ["p-1"], problem.test.inputs[1:2], problem.test.targets[1:2])
    with pytest.raises(NoLook, match="no test image is left"):
        class_maps(*models, problem, only, gone)


def test_maps_need_images() -> None:
    problem = Blobs()
    with pytest.raises(NoLook, match="no Conv2d"):
        class_maps(*two(problem), problem, problem.test)


def test_a_maps_cells_are_means_of_places() -> None:
    made = digits(torch.cat([torch.zeros(16, 8), torch.full((16, 8), 3.0)], dim=1))
    assert made == ("00009999",) * 8
    assert digits(torch.zeros(2, 3)) == ("000", "000")
