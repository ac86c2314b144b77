"""What the engine needs to know of a user's model, data and training: the `Problem` protocol and its small parts.

The engine knows no dataset, no label and no loss; it asks the problem. Write a class with these attributes (deriving
from `Classification` gives two of them) and name it in the entry-point group `expunge.problems`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Indices = NDArray[np.int64]
Restriction = Literal["per-sample", "batch-norm", "none"]
Optimizer = Literal["adam", "sgd"]


class Samples(Protocol):
    """An ordered set of samples. Position is meaning: index i is always the sample named `ids[i]`."""

    @property
    def ids(self) -> Sequence[str]:
        """Stable, unique names; a deletion request uses them."""

    @property
    def subjects(self) -> Sequence[str | None]:
        """Whom each sample belongs to, or None where the data does not say. As long as `ids`."""

    def __len__(self) -> int: ...

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Inputs and targets of these samples, in the order of `indices`; first dimension `len(indices)`."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, in full: the same recipe and the same samples give the same weights.

    `alpha` weighs the gradient restriction (GR) named by `restriction`; see `unlearning.restriction`. `patience` stops
    the training after that many epochs without a lower loss on tuning data; None trains for all `epochs`.
    `restriction_share` below 1 takes a `per-sample` restriction over a random part of each batch: cheaper, and the same
    in expectation.
    """

    optimizer: Optimizer
    learning_rate: float
    epochs: int
    batch_size: int
    alpha: float = 0.0
    restriction: Restriction = "none"
    seed: int = 0
    patience: int | None = None
    restriction_share: float = 1.0

    def __post_init__(self) -> None:
        if self.optimizer not in ("adam", "sgd"):
            raise ValueError(f"optimizer is {self.optimizer!r}: use 'adam' or 'sgd'")
        if self.restriction not in ("per-sample", "batch-norm", "none"):
            raise ValueError(f"restriction is {self.restriction!r}: use 'per-sample', 'batch-norm' or 'none'")
        if not self.learning_rate > 0 or not np.isfinite(self.learning_rate):
            raise ValueError(f"learning_rate is {self.learning_rate}: use a positive number")
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError("epochs and batch_size are at least 1")
        if not self.alpha >= 0 or not np.isfinite(self.alpha):
            raise ValueError(f"alpha is {self.alpha}: use zero or a positive number")
        if (self.alpha > 0) != (self.restriction != "none"):
            raise ValueError("alpha is positive exactly when a restriction is named: give both or neither")
        if not 0 < self.restriction_share <= 1:
            raise ValueError(f"restriction_share is {self.restriction_share}: use a number above 0 and at most 1")
        if self.restriction_share < 1 and self.restriction != "per-sample":
            raise ValueError("restriction_share below 1 is for restriction 'per-sample'")
        if self.patience is not None and self.patience < 1:
            raise ValueError("patience is at least 1 epoch, or None for no early stopping")


class Problem(Protocol):
    """A model, its data and its recipe. `holdout` and `test` are never trained on.

    `holdout` is drawn as `train` is drawn: it tells what the model shows on data it has not seen. `test` measures
    utility only.
    """

    @property
    def train(self) -> Samples: ...

    @property
    def holdout(self) -> Samples: ...

    @property
    def test(self) -> Samples: ...

    @property
    def recipe(self) -> Recipe: ...

    def build_model(self) -> nn.Module:
        """A new network. Its initial weights come from torch's global random state, which the trainer seeds."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """losses_B: one loss a sample, not reduced, each a function of that sample alone."""

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """correct_B: bool, whether each sample is answered right."""


class Classification:
    """Cross entropy and argmax for integer targets of shape (B,) and logits of shape (B, C)."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """losses_B in nats: -log softmax(outputs)[target], not reduced."""
        return functional.cross_entropy(outputs, targets, reduction="none")

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """correct_B: the largest logit is the target's; the lowest class index wins a tie."""
        return outputs.argmax(dim=1) == targets


@dataclass(frozen=True)
class Reseeded:
    """A problem as it is, but for the seed of its recipe."""

    problem: Problem
    recipe: Recipe

    @property
    def train(self) -> Samples:
        return self.problem.train

    @property
    def holdout(self) -> Samples:
        return self.problem.holdout

    @property
    def test(self) -> Samples:
        return self.problem.test

    def build_model(self) -> nn.Module:
        return self.problem.build_model()

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.problem.losses(outputs, targets)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.problem.correct(outputs, targets)


@dataclass(frozen=True)
class TensorSamples:
    """Samples that are already in memory. `inputs` and `targets` share their first dimension with `ids`."""

    ids: Sequence[str]
    subjects: Sequence[str | None]
    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.subjects), len(self.inputs), len(self.targets)}
        if len(lengths) != 1:
            raise ValueError(f"ids, subjects, inputs and targets differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Copies of the named rows, in the order given."""
        positions = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        return self.inputs[positions], self.targets[positions]


def ordered(indices: Indices, length: int) -> Indices:
    """The indices in ascending order, so that no result depends on the order in which a set was named.

    Raises:
        ValueError: an index is named twice or lies outside [0, length).
    """
    sorted_N = np.sort(np.asarray(indices, dtype=np.int64).reshape(-1))
    if sorted_N.size and (sorted_N[0] < 0 or sorted_N[-1] >= length):
        raise ValueError(f"indices must lie in [0, {length}); got {sorted_N[0]} to {sorted_N[-1]}")
    if (np.diff(sorted_N) == 0).any():
        raise ValueError("an index is named twice: a set of samples holds each sample once")
    return sorted_N


def strata(targets: Tensor) -> NDArray[np.int64]:
    """strata_N: the class of each sample when targets are integers of shape (N,); otherwise all zeros (one stratum)."""
    if targets.ndim == 1 and not targets.is_floating_point() and not targets.is_complex():
        return targets.detach().cpu().numpy().astype(np.int64)
    return np.zeros(len(targets), dtype=np.int64)


def check(problem: Problem) -> None:
    """Refuse a problem whose sets overlap or whose ids are not unique: every later estimate rests on that.

    Raises:
        ValueError: names the set at fault, never the samples.
    """
    sets = {"train": problem.train, "holdout": problem.holdout, "test": problem.test}
    seen: dict[str, str] = {}
    for name, samples in sets.items():
        if not len(samples) == len(samples.ids) == len(samples.subjects):
            raise ValueError(f"{name}: len(), ids and subjects differ in length")
        if len(samples) == 0:
            raise ValueError(f"{name} is empty: each of train, holdout and test needs samples")
        for sample_id in samples.ids:
            if sample_id in seen:
                raise ValueError(f"an id of {name} is already in {seen[sample_id]}: ids are unique over all three sets")
            seen[sample_id] = name
