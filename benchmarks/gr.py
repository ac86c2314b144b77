"""What gradient restriction costs: a training step of LeNet-5 with it, in turns with a plain one; and its two forms of norm.

`python -m benchmarks.gr`. Every row is a ratio to the plain step (forward, backward, Adam) of the same net on the same
batch, on one thread. Then a small ResNet, with BatchNorm (restricted by running statistics) and with GroupNorm: the
cost of a step, and on data with a tenth of wrong labels what the restriction leaves of the gap between seen and unseen.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.results import Row, finish, in_turns, ratios
from unlearning.gradients import evaluating, scores
from unlearning.nets.lenet import LeNet5
from unlearning.nets.norms import Norm
from unlearning.nets.resnet import ResNet18
from unlearning.problem import Classification, Problem, Recipe, Restriction, TensorSamples
from unlearning.restriction import drawn, restricted_loss
from unlearning.sample_norms import general_losses_and_squared_norms, per_sample_squared_norms
from unlearning.training import restore, train

ALPHA, BATCH, SEED = 0.005, 64, 0
RESNET_ALPHA = 2e-4  # of 5e-3 it learns nothing, of 2e-5 nothing is seen: its squared norms are in the thousands
SEEDS = (0, 1, 2)
STEPS = 5
CROSS = cast(Problem, Classification())
"""Its loss is all that is asked of it: there is no data."""
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--width", type=int, default=8, help="of the small ResNet")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--samples", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = lenet(options.rounds)
    norms: tuple[Norm, ...] = ("batch", "group")
    for norm in norms:
        rows += resnet(norm, options.width, options.rounds)
        rows += effect(norm, options.width, options.samples, options.epochs)
    return finish(
        "gr",
        rows,
        vars(options)
        | {
            "alpha": ALPHA,
            "resnet_alpha": RESNET_ALPHA,
            "batch": BATCH,
            "seed": SEED,
            "effect_seeds": SEEDS,
            "threads": 1,
        },
    )


def by(restriction: Restriction, share: float = 1.0) -> Loss:
    order = np.random.default_rng(SEED)

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        part = drawn(share, len(inputs), order) if restriction == "per-sample" else None
        return restricted_loss(model, CROSS, inputs, targets, restriction, ALPHA, part)

    return loss


def by_torch_func(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The way of nets that no formula covers, here on one that they do."""
    losses_B, squared_B = general_losses_and_squared_norms(model, CROSS, inputs, targets, create_graph=True)
    return losses_B.mean() + ALPHA * squared_B.mean()


def step_of(build: Callable[[], nn.Module], loss_of: Loss, inputs: Tensor) -> Callable[[], float]:
    """Milliseconds of one training step, the mean of a few; the net and its optimizer are its own."""
    torch.manual_seed(SEED)
    model = build().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    targets = torch.arange(len(inputs)) % 10

    def steps() -> float:
        before = time.perf_counter()
        for _ in range(STEPS):
            loss = loss_of(model, inputs, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
        return (time.perf_counter() - before) / STEPS * 1000

    steps()
    return steps


def timed(
    build: Callable[[], nn.Module], ways: dict[str, tuple[Loss, float | None]], side: int, rounds: int
) -> list[Row]:
    inputs = torch.randn(BATCH, 1, side, side, generator=torch.Generator().manual_seed(SEED))
    plain, *others = in_turns(
        step_of(build, by("none"), inputs), *(step_of(build, loss, inputs) for loss, _ in ways.values()), rounds=rounds
    )
    rows = []
    for (name, (_, aim)), figures in zip(ways.items(), others, strict=True):
        ratio, spread = ratios(figures, plain)
        measured, floor = (f"{statistics.median(times):.1f} ms" for times in (figures, plain))
        rows.append(Row(name, measured, floor, ratio, aim, at_most=True, spread=spread))
    return rows


def lenet(rounds: int) -> list[Row]:
    ways: dict[str, tuple[Loss, float | None]] = {
        "LeNet-5 step, per-sample": (by("per-sample"), 3.0),
        "LeNet-5 step, per-sample on a quarter": (by("per-sample", 0.25), 1.7),
        "LeNet-5 step, per-sample by torch.func": (by_torch_func, None),
        "LeNet-5 step, batch-norm as released": (by("batch-norm"), None),
    }
    return timed(LeNet5, ways, 28, rounds)


def resnet(norm: Norm, width: int, rounds: int) -> list[Row]:
    ways: dict[str, tuple[Loss, float | None]] = {
        f"ResNet with {norm} norm, step, per-sample": (by("per-sample"), None),
        f"ResNet with {norm} norm, step, on a quarter": (by("per-sample", 0.25), None),
    }
    return timed(lambda: ResNet18(1, 10, width, norm), ways, 8, max(3, rounds // 5))


@dataclass(frozen=True)
class Drawings(Classification):
    """scikit-learn's 8x8 digits, a tenth of the training labels wrong, on a small ResNet."""

    train: TensorSamples
    holdout: TensorSamples
    recipe: Recipe
    width: int
    norm: Norm

    @property
    def test(self) -> TensorSamples:
        return self.holdout

    def build_model(self) -> nn.Module:
        return ResNet18(1, 10, self.width, self.norm)


def effect(norm: Norm, width: int, count: int, epochs: int) -> list[Row]:
    """Trained without and with the restriction, a few seeds: medians, and the range of the ratios seed by seed."""
    plain = [outcome(norm, width, count, Recipe("adam", 1e-3, epochs, BATCH, seed=seed)) for seed in SEEDS]
    restricted = [
        outcome(norm, width, count, Recipe("adam", 1e-3, epochs, BATCH, RESNET_ALPHA, "per-sample", seed))
        for seed in SEEDS
    ]
    rows = []
    labels = ("mean squared gradient norm", "loss unseen - seen", "accuracy on unseen")
    for label, with_it, without in zip(labels, zip(*restricted, strict=True), zip(*plain, strict=True), strict=True):
        ratio, spread = ratios(list(with_it), list(without))
        figure, floor = (f"{statistics.median(values):.3g}" for values in (with_it, without))
        rows.append(Row(f"ResNet with {norm} norm, {label}", figure, floor, ratio, None, at_most=True, spread=spread))
    return rows


def outcome(norm: Norm, width: int, count: int, recipe: Recipe) -> tuple[float, float, float]:
    """After training: mean squared gradient norm of the training set, loss on unseen less on seen, accuracy on unseen."""
    seen, unseen = digits(count)
    problem = Drawings(seen, unseen, recipe, width, norm)
    model = restore(problem, train(problem, np.arange(count)).state)
    with evaluating(model):
        squared_N = per_sample_squared_norms(model, problem, seen.inputs, seen.targets)
    on_seen, on_unseen = (scores(model, problem, samples) for samples in (seen, unseen))
    gap = on_unseen.losses_N.mean() - on_seen.losses_N.mean()
    return float(squared_N.mean()), float(gap), float(on_unseen.correct_N.mean())


def digits(count: int) -> tuple[TensorSamples, TensorSamples]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(images))
    inputs = torch.from_numpy(images[order]).float().view(-1, 1, 8, 8) / 8 - 1
    targets = torch.from_numpy(labels[order]).long()
    wrong = targets.clone()
    wrong[: count // 10] = (wrong[: count // 10] + 1) % 10
    parts = (("seen", slice(0, count), wrong), ("unseen", slice(count, None), targets))
    seen, unseen = (
        TensorSamples([f"{name}-{i}" for i in range(len(y[s]))], [None] * len(y[s]), inputs[s], y[s])
        for name, s, y in parts
    )
    return seen, unseen


if __name__ == "__main__":
    sys.exit(main())
