"""Gradients of a set of samples: their sum, their per-sample norms; and the scores of a forward pass.

Everything here runs in eval mode (BatchNorm frozen, dropout off) and restores the mode it found. Sum and count stay
apart until a caller asks for the mean.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unlearning.problem import Indices, Problem, Samples, ordered, strata

CHUNK = 512
CPU_CHUNK = 128
"""On a CPU no more samples go through a network at once: their activations stay in the cache, for half of the time."""


class NonFinite(ArithmeticError):
    """A loss or gradient is infinite or NaN; the message says where."""


def euclidean_norm(vector: dict[str, Tensor]) -> float:
    """The Euclidean norm over all tensors together, summed in float64."""
    return sqrt(sum(float(value.detach().double().square().sum()) for value in vector.values()))


@dataclass(frozen=True)
class GradientSum:
    """G(S) = sum over S of grad loss(z), one float64 tensor a parameter, and |S|.

    Immutable by convention: `+` and `-` give new objects. G(D) - G(D_f) is G(D_r) when both were taken at the same
    weights; that is the caller's to know.
    """

    vector: dict[str, Tensor]
    count: int

    def __add__(self, other: "GradientSum") -> "GradientSum":
        """The sum over the disjoint union of both sets."""
        self._check_shapes(other)
        return GradientSum({k: v + other.vector[k] for k, v in self.vector.items()}, self.count + other.count)

    def __sub__(self, other: "GradientSum") -> "GradientSum":
        """The sum over this set without `other`, which must be a subset of it."""
        self._check_shapes(other)
        if other.count > self.count:
            raise ValueError(f"cannot take {other.count} samples out of a sum over {self.count}")
        return GradientSum({k: v - other.vector[k] for k, v in self.vector.items()}, self.count - other.count)

    def mean(self) -> dict[str, Tensor]:
        """G(S) / |S|.

        Raises:
            ValueError: the set is empty, so it has no mean.
        """
        if self.count == 0:
            raise ValueError("an empty set has no mean gradient")
        return {name: value / self.count for name, value in self.vector.items()}

    def norm(self) -> float:
        """Euclidean norm over all parameters together, in loss units per unit of weight."""
        return euclidean_norm(self.vector)

    def _check_shapes(self, other: "GradientSum") -> None:
        if {k: v.shape for k, v in self.vector.items()} != {k: v.shape for k, v in other.vector.items()}:
            raise ValueError("the two gradient sums belong to different networks")


@dataclass(frozen=True)
class Scores:
    """What a forward pass shows of N samples: their losses (not reduced), whether each was right, its stratum."""

    losses_N: NDArray[np.float64]
    correct_N: NDArray[np.bool_]
    strata_N: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not self.losses_N.shape == self.correct_N.shape == self.strata_N.shape or self.losses_N.ndim != 1:
            raise ValueError("losses, correct and strata need one value a sample each")
        if not np.isfinite(self.losses_N).all():
            raise NonFinite("a loss is infinite or NaN: the weights are unusable")

    def __len__(self) -> int:
        return len(self.losses_N)

    def rows(self, chosen: NDArray[np.bool_] | Indices) -> "Scores":
        """Some of the samples, by mask or position."""
        return Scores(self.losses_N[chosen], self.correct_N[chosen], self.strata_N[chosen])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, every module's own mode restored after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by name, shared ones once.

    Raises:
        ValueError: there are none.
    """
    named = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not named:
        raise ValueError("the model has no trainable parameters")
    return named


def chunk_size(size: int, device: torch.device) -> int:
    """How many samples go through a network at once where `size` are asked for: on a CPU at most `CPU_CHUNK`."""
    if size < 1:
        raise ValueError("batch_size is at least 1")
    return min(size, CPU_CHUNK) if device.type == "cpu" else size


def chunks(samples: Samples, indices: Indices, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets in chunks of at most `size`, on a CPU of at most `CPU_CHUNK`, in the order of `indices`, on `device`."""
    size = chunk_size(size, device)
    for start in range(0, len(indices), size):
        inputs, targets = samples.batch(indices[start : start + size])
        yield inputs.to(device), targets.to(device)


def losses_of(problem: Problem, outputs: Tensor, targets: Tensor) -> Tensor:
    """losses_B as the problem defines them, refused when they are not one value a sample.

    Raises:
        ValueError: the problem reduced its losses.
    """
    losses_B = problem.losses(outputs, targets)
    if losses_B.shape != (len(targets),):
        raise ValueError(
            f"losses() gave shape {tuple(losses_B.shape)} for {len(targets)} samples: return one loss a sample"
            " (reduction='none')"
        )
    return losses_B


def gradient_sum(
    model: nn.Module, problem: Problem, samples: Samples, indices: Indices, batch_size: int = CHUNK
) -> GradientSum:
    """G(S): the sum, not the mean, of grad loss(z, theta) over the named samples, at the model's present weights.

    Eval mode, ascending order of indices, streamed in chunks of `batch_size`. A chunk's gradient is taken in the
    model's precision and added up in float64, so splitting the set or changing `batch_size` changes the result only
    by the rounding within a chunk. The empty set gives zeros and count 0. Nothing is left on `.grad`.

    Source: G(D_f) and G(D_r) of Liu et al. 2025 (arXiv:2507.23257), there over one batch of the whole set.

    Raises:
        NonFinite: a chunk's gradient is infinite or NaN.
        ValueError: an index is out of range or named twice; losses are not one a sample.
    """
    indices_N = ordered(indices, len(samples))
    parameters = parameters_of(model)
    total = {name: torch.zeros_like(value, dtype=torch.float64).detach() for name, value in parameters.items()}
    device = next(iter(parameters.values())).device
    with evaluating(model), torch.enable_grad():
        for inputs, targets in chunks(samples, indices_N, batch_size, device):
            loss = losses_of(problem, model(inputs), targets).sum()
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    total[name] += gradient
    for name, value in total.items():
        if not bool(value.isfinite().all()):
            raise NonFinite(f"the gradient of {name} is infinite or NaN over {len(indices_N)} samples")
    return GradientSum(total, len(indices_N))


def scores(
    model: nn.Module, problem: Problem, samples: Samples, indices: Indices | None = None, batch_size: int = CHUNK
) -> Scores:
    """Losses, correctness and strata of the named samples (all, if None), by forward passes in eval mode.

    In ascending order of indices: two calls over one set give rows that belong together.

    Raises:
        NonFinite: a loss is infinite or NaN.
        ValueError: an index is out of range or named twice; losses are not one a sample.
    """
    indices_N = ordered(np.arange(len(samples)) if indices is None else indices, len(samples))
    losses: list[NDArray[np.float64]] = [np.empty(0)]
    correct: list[NDArray[np.bool_]] = [np.empty(0, dtype=bool)]
    groups: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad():
        for inputs, targets in chunks(samples, indices_N, batch_size, device):
            outputs = model(inputs)
            losses.append(losses_of(problem, outputs, targets).double().cpu().numpy())
            correct.append(problem.correct(outputs, targets).bool().cpu().numpy())
            groups.append(strata(targets))
    return Scores(np.concatenate(losses), np.concatenate(correct), np.concatenate(groups))
