"""Three spirals seen by many devices: a whole problem of one's own, data and all, in one file.

A device places readings along three arms of a spiral, slightly off in its own way, and adds channels that say nothing.
The network is to name the arm. Nothing is read from disk: the data are drawn from a fixed seed, the same every time.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from unlearning.problem import Classification, Recipe, TensorSamples

ARMS, READINGS, IDLE_CHANNELS = 3, 100, 14
# The gradient restriction of the paper, per sample: without it an update has a wider gap to close.
RECIPE = Recipe(
    optimizer="adam", learning_rate=3e-3, epochs=25, batch_size=64, alpha=0.05, restriction="per-sample", seed=11
)


@dataclass(frozen=True)
class Spirals(Classification):
    """What Expunge asks of a problem: three sets of samples, a recipe and a network.

    The loss and the right answer come from `Classification`; write `losses` and `correct` yourself for anything else.
    """

    train: TensorSamples
    holdout: TensorSamples
    test: TensorSamples
    recipe: Recipe = RECIPE

    def build_model(self) -> nn.Module:
        """A new network, its weights drawn from torch's random state, which the trainer has seeded."""
        channels = 2 + IDLE_CHANNELS
        return nn.Sequential(
            nn.Linear(channels, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, ARMS)
        )  # fmt: skip


def device(number: int) -> tuple[np.ndarray, np.ndarray]:
    """One device's readings (READINGS, channels) and their arms (READINGS,), from the device's own seed."""
    rng = np.random.default_rng([2025, number])
    arms = rng.integers(0, ARMS, READINGS)
    along = np.sqrt(rng.uniform(0.03, 1, READINGS))
    angle = 2 * np.pi * (arms / ARMS + along) + rng.normal(0, 0.35, READINGS)
    place = 3 * along[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1) + rng.normal(0, 0.1, 2)
    return np.hstack([place, rng.normal(0, 1, (READINGS, IDLE_CHANNELS))]), arms


def readings(first: int, count: int) -> TensorSamples:
    """The samples of `count` devices. Ids and subjects are made of the device's number, so they never change."""
    numbers = range(first, first + count)
    inputs, arms = zip(*(device(number) for number in numbers), strict=True)
    return TensorSamples(
        ids=[f"device-{number:02d}/reading-{i:03d}" for number in numbers for i in range(READINGS)],
        subjects=[f"device-{number:02d}" for number in numbers for _ in range(READINGS)],
        inputs=torch.tensor(np.concatenate(inputs), dtype=torch.float32),
        targets=torch.tensor(np.concatenate(arms)),
    )


def problem() -> Spirals:
    """What the entry point names: 3,000 readings of 30 devices to learn from; other devices to judge by."""
    return Spirals(train=readings(0, 30), holdout=readings(30, 15), test=readings(45, 15))
