"""A small network that has learnt its training set by heart, and its attacks: what a strong attack must see."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from torch import Tensor, nn
from typing_extensions import override

from tests.unlearning.problems import Blobs
from unlearning.attacks import Attacks, fit_attacks
from unlearning.problem import Indices, Recipe
from unlearning.signals import Signals, observe
from unlearning.splits import AuditData, TuningData, split_unseen
from unlearning.training import restore, train

LEARNT = 300


@dataclass(frozen=True)
class Memorised:
    """A model trained on the first `LEARNT` of its samples, the attacks fitted on every third of those."""

    problem: Blobs
    tuning: TuningData
    audit: AuditData
    model: nn.Module
    attacks: Attacks

    def shown(self, indices: Indices) -> Signals:
        return observe(self.model, self.problem, self.problem.train, indices, self.attacks)

    @property
    def unseen(self) -> Signals:
        return observe(self.model, self.problem, self.audit.holdout, None, self.attacks)


@cache
def memorised() -> Memorised:
    problem = Blobs(
        count=800,
        features=20,
        classes=4,
        noise=1.5,
        hidden=(48, 16),
        recipe=Recipe("adam", 0.01, epochs=30, batch_size=32),
    )
    tuning, audit = split_unseen(problem)
    model = restore(problem, train(problem, np.arange(LEARNT)).state)
    return Memorised(problem, tuning, audit, model, fit_attacks(model, problem, np.arange(0, LEARNT, 3), tuning))


class Squares(Blobs):
    """The same inputs and network, but no classes: the first output is to be the target, as a number."""

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train", "holdout", "test"):
            samples = getattr(self, name)
            object.__setattr__(self, name, replace(samples, targets=samples.targets.float()))

    @override
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - targets).square()

    @override
    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - targets).abs() < 0.5
