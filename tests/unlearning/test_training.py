"""Training: the same every time, only on what it was given, and clear about why it stopped."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.unlearning.problems import RECIPE, Blobs
from unlearning.gradients import scores
from unlearning.problem import Indices, Recipe, TensorSamples, check
from unlearning.splits import retained_sample, split_unseen
from unlearning.training import Diverged, Stopped, restore, train


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_others() -> None:
    problem = Blobs()
    torch.manual_seed(1)
    ambient = torch.get_rng_state()
    one = train(problem, np.arange(40))
    assert torch.equal(torch.get_rng_state(), ambient)
    torch.manual_seed(2)
    other = train(problem, np.arange(40)[::-1])
    assert all(torch.equal(one.state[name], other.state[name]) for name in one.state)
    reseeded = train(Blobs(recipe=replace(RECIPE, seed=4)), np.arange(40))
    assert not all(torch.equal(one.state[name], reseeded.state[name]) for name in one.state)
    assert [epoch.number for epoch in one.history] == [1, 2, 3, 4]
    assert one.history[-1].train_loss < one.history[0].train_loss


def test_only_the_named_samples_are_read() -> None:
    read: set[int] = set()

    class Watched(TensorSamples):
        def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
            read.update(indices.tolist())
            return super().batch(indices)

    problem = Blobs()
    train_set = problem.train
    watched = Watched(train_set.ids, train_set.subjects, train_set.inputs, train_set.targets)
    object.__setattr__(problem, "train", watched)
    train(problem, np.array([1, 5, 8, 30]))
    assert read == {1, 5, 8, 30}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_learns(optimizer: str) -> None:
    recipe = Recipe(optimizer, 3e-3 if optimizer == "adam" else 0.1, epochs=25, batch_size=16)  # type: ignore[arg-type]  # a parametrised word, not a Literal
    problem = Blobs(noise=0.5, recipe=recipe)
    model = restore(problem, train(problem, np.arange(60)).state)
    assert scores(model, problem, problem.test).correct_N.mean() > 0.9


def test_early_stopping_returns_the_best_epoch_on_tuning_data() -> None:
    problem = Blobs(noise=3.0, hidden=(64,), recipe=Recipe("adam", 0.03, 50, 16, patience=3))
    tuning, _ = split_unseen(problem)
    trained = train(problem, np.arange(60), tuning)
    losses = [epoch.tuning_loss for epoch in trained.history]
    assert 3 < len(losses) < 50
    model = restore(problem, trained.state)
    assert scores(model, problem, tuning.test).losses_N.mean() == pytest.approx(min(x for x in losses if x is not None))
    with pytest.raises(ValueError, match="pass the tuning data"):
        train(problem, np.arange(60))


def test_divergence_says_where() -> None:
    class Exploding(Blobs):
        def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return super().losses(outputs, targets) / 0.0

    with pytest.raises(Diverged, match="epoch 1, step 0") as caught:
        train(Exploding(recipe=Recipe("sgd", 0.1, 2, 16)), np.arange(60))
    assert (caught.value.epoch, caught.value.step) == (1, 0)


def test_it_reports_and_stops_when_told() -> None:
    seen: list[float] = []
    train(Blobs(), np.arange(60), progress=lambda fraction, text: seen.append(fraction))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    with pytest.raises(Stopped):
        train(Blobs(), np.arange(60), should_stop=lambda: True)


@pytest.mark.parametrize("indices", [[], [0, 0], [99]])
def test_faulty_sets_are_refused(indices: list[int]) -> None:
    with pytest.raises(ValueError, match=r"no samples|twice|must lie"):
        train(Blobs(), np.array(indices, dtype=np.int64))


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        restore(Blobs(hidden=(9,)), train(Blobs(), np.arange(9)).state)


@pytest.mark.parametrize(
    "faulty",
    [
        {"optimizer": "lion"},
        {"restriction": "other"},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"epochs": 0},
        {"batch_size": 0},
        {"alpha": -1.0},
        {"alpha": 0.0},
        {"restriction": "none"},
        {"patience": 0},
    ],
)
def test_a_recipe_refuses_what_it_cannot_mean(faulty: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"use|at least|exactly"):
        replace(RECIPE, **faulty)  # type: ignore[arg-type]  # faulty on purpose


def test_the_split_is_by_id_alone_and_disjoint() -> None:
    problem = Blobs()
    tuning, audit = split_unseen(problem)
    for name in ("holdout", "test"):
        ours, theirs = getattr(tuning, name), getattr(audit, name)
        assert sorted([*ours.ids, *theirs.ids]) == sorted(getattr(problem, name).ids)
    fewer, _ = split_unseen(Blobs(count=40))
    assert set(fewer.holdout.ids) == {i for i in tuning.holdout.ids if int(i[-4:]) < 40}
    first = tuning.holdout.ids[0]
    row = problem.holdout.ids.index(first)
    assert torch.equal(tuning.holdout.batch(np.array([0]))[0], problem.holdout.batch(np.array([row]))[0])
    assert tuning.holdout.subjects[0] == problem.holdout.subjects[row]
    with pytest.raises(ValueError, match="give it more samples"):
        split_unseen(Blobs(count=1))


def test_the_retained_subsamples_are_disjoint_and_bounded() -> None:
    problem = Blobs()
    fit, rate = retained_sample(problem, np.arange(5, 60), 10)
    assert len(fit) == len(rate) == 10
    assert not set(fit) & set(rate)
    assert min(*fit, *rate) >= 5
    with pytest.raises(ValueError, match="fewer than two"):
        retained_sample(problem, np.array([1]), 10)


def test_sets_that_overlap_are_refused() -> None:
    check(Blobs())
    problem = Blobs()
    object.__setattr__(problem, "test", problem.holdout)
    with pytest.raises(ValueError, match="already in holdout"):
        check(problem)
