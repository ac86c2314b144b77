"""A small problem for the engine's tests: noisy blobs in a few classes, an MLP that can memorise them."""

from dataclasses import dataclass, field

import torch
from torch import nn

from unlearning.nets.mlp import MLP
from unlearning.problem import Classification, Recipe, TensorSamples

RECIPE = Recipe("adam", 3e-3, epochs=4, batch_size=16, alpha=0.01, restriction="per-sample", seed=3)


def blobs(name: str, count: int, features: int, classes: int, noise: float, seed: int) -> TensorSamples:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % classes
    centres = torch.eye(classes, features) * 2
    inputs = centres[targets] + noise * torch.randn((count, features), generator=generator)
    return TensorSamples(
        [f"{name}-{i:04d}" for i in range(count)], [f"{name}-{i % 7}" for i in range(count)], inputs, targets
    )


@dataclass(frozen=True)
class Blobs(Classification):
    count: int = 60
    features: int = 6
    classes: int = 3
    noise: float = 1.0
    hidden: tuple[int, ...] = (8,)
    recipe: Recipe = RECIPE
    train: TensorSamples = field(init=False)
    holdout: TensorSamples = field(init=False)
    test: TensorSamples = field(init=False)

    def __post_init__(self) -> None:
        for seed, name in enumerate(("train", "holdout", "test")):
            samples = blobs(name, self.count, self.features, self.classes, self.noise, seed)
            object.__setattr__(self, name, samples)

    def build_model(self) -> nn.Module:
        return MLP(self.features, self.classes, self.hidden)
