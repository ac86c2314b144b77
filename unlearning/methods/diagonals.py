"""Squared gradients, one number a parameter: the exact diagonal Fisher, and SSD's importance.

They are two different quantities. The Fisher squares the gradient of every sample for every class and weighs it with
the model's own probability of that class; it is a sum over samples, so what D_r has is what D has less what D_f has.
The importance squares the gradients of whole batches; it depends on their size and cannot be taken apart again.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from unlearning.gradients import NonFinite, chunks, evaluating, losses_of, parameters_of
from unlearning.methods.fisher_layers import add_by_layer
from unlearning.problem import Indices, Problem, Samples, ordered

FISHER_BYTES = 256 * 1024**2
Vector = dict[str, Tensor]


@dataclass(frozen=True)
class FisherSum:
    """F(S) = sum over S, over classes y, of p(y|x) (grad loss(x, y))^2; float64, one tensor a parameter; and |S|."""

    vector: Vector
    count: int

    def __sub__(self, other: "FisherSum") -> "FisherSum":
        """Over this set without `other`, a subset of it taken at the same weights. Rounding below zero is cut off."""
        if {k: v.shape for k, v in self.vector.items()} != {k: v.shape for k, v in other.vector.items()}:
            raise ValueError("the two Fisher sums belong to different networks")
        if other.count > self.count:
            raise ValueError(f"cannot take {other.count} samples out of a sum over {self.count}")
        vector = {name: (value - other.vector[name]).clamp(min=0) for name, value in self.vector.items()}
        return FisherSum(vector, self.count - other.count)

    def cpu(self) -> "FisherSum":
        return FisherSum({name: value.cpu() for name, value in self.vector.items()}, self.count)

    def mean(self) -> Vector:
        """F(S) / |S|, in (loss per unit of weight)^2.

        Raises:
            ValueError: the set is empty.
        """
        if self.count == 0:
            raise ValueError("an empty set has no mean Fisher information")
        return {name: value / self.count for name, value in self.vector.items()}


@dataclass(frozen=True)
class Importance:
    """The mean over a set's batches of (gradient of the batch's mean loss)^2; float64. `batch_size` is part of its meaning."""

    vector: Vector
    batch_size: int
    count: int

    def cpu(self) -> "Importance":
        return Importance({name: value.cpu() for name, value in self.vector.items()}, self.batch_size, self.count)


def fisher_sum(
    model: nn.Module, problem: Problem, samples: Samples, indices: Indices, chunk: int | None = None
) -> FisherSum:
    """F(S): exact, per sample and per class, in eval mode, vectorised over `chunk` samples at once.

    Memory is chunk * parameters, and `chunk` None keeps that to `FISHER_BYTES`; time |S| * classes gradients. In the
    model's precision, added up in float64, so that the chunk changes the result by rounding alone. Source: the diagonal
    Fisher of Golatkar et al. 2020 (arXiv:1911.04933) as its notebook takes it, one backward pass a sample and class.

    Raises:
        NonFinite: a gradient is infinite or NaN.
        ValueError: targets are not class numbers or outputs not one logit a class; an index is out of range or twice.
    """
    indices_N = ordered(indices, len(samples))
    parameters: Vector = {**parameters_of(model)}
    total = {name: torch.zeros_like(value, dtype=torch.float64).detach() for name, value in parameters.items()}
    device = next(iter(parameters.values())).device
    size = fisher_chunk(sum(value.numel() for value in parameters.values())) if chunk is None else chunk
    with evaluating(model):
        for inputs, targets in chunks(samples, indices_N, size, device):
            _add_fisher(total, model, problem, parameters, inputs, targets)
    _finite(total, "Fisher information")
    return FisherSum(total, len(indices_N))


def fisher_chunk(parameters: int) -> int:
    """How many samples' float32 gradients fit `FISHER_BYTES`; 1 to 256."""
    return max(1, min(256, FISHER_BYTES // (4 * parameters)))


def _add_fisher(
    total: Vector, model: nn.Module, problem: Problem, parameters: Vector, inputs: Tensor, targets: Tensor
) -> None:
    """Add a chunk's share to `total`, class after class: layer by layer where the network allows it, else by torch.func."""
    with torch.no_grad():
        probabilities_BC = class_probabilities(model(inputs), targets)
    if add_by_layer(total, model, problem, inputs, targets, probabilities_BC):
        return
    fixed = dict(model.named_buffers())
    trainable = {name: value.detach() for name, value in parameters.items()}

    def loss(weights: Vector, one_input: Tensor, label: Tensor) -> Tensor:
        outputs = functional_call(model, {**fixed, **weights}, (one_input.unsqueeze(0),))
        return losses_of(problem, outputs, label.unsqueeze(0)).squeeze(0)

    per_sample = vmap(grad(loss), in_dims=(None, 0, None), randomness="different")
    for label in range(probabilities_BC.shape[1]):
        gradients = per_sample(trainable, inputs, targets.new_tensor(label))
        for name, value in gradients.items():
            squared = torch.einsum("b,bp->p", probabilities_BC[:, label], value.flatten(1).square())
            total[name] += squared.view_as(total[name])


def class_probabilities(outputs: Tensor, targets: Tensor) -> Tensor:
    """probabilities_BC = softmax(outputs_BC), for problems whose targets are class numbers.

    Raises:
        ValueError: the targets are not integers of shape (B,), or the outputs not of shape (B, C).
    """
    if outputs.ndim != 2 or targets.ndim != 1 or targets.is_floating_point():
        raise ValueError(
            f"outputs of shape {tuple(outputs.shape)} and targets of shape {tuple(targets.shape)} are no classification:"
            " this method needs one logit a class and targets that are class numbers"
        )
    return outputs.softmax(1)


def importance(
    model: nn.Module, problem: Problem, samples: Samples, indices: Indices, batch_size: int, seed: int = 0
) -> Importance:
    """SSD's importance of every parameter for a set: the mean over batches of the squared gradient of their mean loss.

    Eval mode. The set is shuffled by `seed` and cut into batches of `batch_size`, the last one as long as it comes.
    Source: Foster et al. 2024 (arXiv:2308.07707), as its released code takes it; the diagonal of the empirical
    Fisher, an expectation over single samples, is `batch_size` 1.

    Raises:
        NonFinite: a gradient is infinite or NaN.
        ValueError: the set is empty; an index is out of range or named twice.
    """
    indices_N = np.random.default_rng(seed).permutation(ordered(indices, len(samples)))
    if len(indices_N) == 0:
        raise ValueError("an empty set has no importance")
    parameters = parameters_of(model)
    total = {name: torch.zeros_like(value, dtype=torch.float64).detach() for name, value in parameters.items()}
    device = next(iter(parameters.values())).device
    batches = 0
    with evaluating(model), torch.enable_grad():
        for inputs, targets in chunks(samples, indices_N, batch_size, device):
            loss = losses_of(problem, model(inputs), targets).mean()
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            batches += 1
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    total[name] += gradient.double().square()
    _finite(total, "importance")
    return Importance({name: value / batches for name, value in total.items()}, batch_size, len(indices_N))


def _finite(vector: Vector, what: str) -> None:
    for name, value in vector.items():
        if not bool(value.isfinite().all()):
            raise NonFinite(f"the {what} of {name} is infinite or NaN")
