"""A problem by another recipe, or with other samples to train on."""

from dataclasses import dataclass

from torch import Tensor, nn

from unlearning.problem import Problem, Recipe, Samples


@dataclass(frozen=True)
class Variant:
    """`base` with `recipe` and `train` in place of its own."""

    base: Problem
    recipe: Recipe
    train: Samples

    @property
    def holdout(self) -> Samples:
        return self.base.holdout

    @property
    def test(self) -> Samples:
        return self.base.test

    def build_model(self) -> nn.Module:
        return self.base.build_model()

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.base.losses(outputs, targets)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.base.correct(outputs, targets)
