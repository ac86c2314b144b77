"""Slow, obvious forms of what the methods share: one sample at a time, optimizers written out as their papers have them."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlearning.methods.protocol import Job
from unlearning.problem import Indices

Vector = dict[str, Tensor]


def loss_of(job: Job, model: nn.Module, index: int, label: int | None = None) -> Tensor:
    """Cross entropy of one training sample, from the definition; with another label if one is given."""
    inputs, targets = job.problem.train.inputs, job.problem.train.targets  # type: ignore[attr-defined]  # TensorSamples
    logits = model(inputs[index][None])[0]
    return -(logits - logits.exp().sum().log())[int(targets[index]) if label is None else label]


def mean_loss(job: Job, model: nn.Module, chosen: Iterable[int]) -> Tensor:
    losses = [loss_of(job, model, int(index)) for index in chosen]
    return torch.stack(losses).sum() / len(losses)


def gradient_of(model: nn.Module, loss: Tensor) -> Vector:
    named = dict(model.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher/T) || softmax(student/T)) of one sample, summed over classes."""
    p, q = functional.softmax(teacher / temperature, 0), functional.softmax(student / temperature, 0)
    return (p * (p / q).log()).sum()


class Sgd:
    """v <- momentum v + (g + decay w); w <- w - lr v."""

    def __init__(self, model: nn.Module, rate: float, momentum: float, decay: float) -> None:
        self.model, self.rate, self.momentum, self.decay = model, rate, momentum, decay
        self.velocity: Vector = {}

    def step(self, loss: Tensor, change: Callable[[str, Tensor], Tensor] = lambda name, gradient: gradient) -> None:
        gradients = gradient_of(self.model, loss)
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                gradient = change(name, gradients[name]) + self.decay * weight
                self.velocity[name] = self.momentum * self.velocity.get(name, torch.zeros_like(weight)) + gradient
                weight -= self.rate * self.velocity[name]


class Adam:
    """m, v, their corrections for the start, and decay as part of the gradient (Kingma and Ba 2015, algorithm 1)."""

    def __init__(self, model: nn.Module, rate: float, decay: float = 0.0) -> None:
        self.model, self.rate, self.decay, self.count = model, rate, decay, 0
        self.first: Vector = {}
        self.second: Vector = {}

    def step(self, loss: Tensor) -> None:
        gradients = gradient_of(self.model, loss)
        self.count += 1
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                gradient, zero = gradients[name] + self.decay * weight, torch.zeros_like(weight)
                self.first[name] = 0.9 * self.first.get(name, zero) + 0.1 * gradient
                self.second[name] = 0.999 * self.second.get(name, zero) + 0.001 * gradient**2
                m, v = self.first[name] / (1 - 0.9**self.count), self.second[name] / (1 - 0.999**self.count)
                weight -= self.rate * m / (v.sqrt() + 1e-8)


def cut(indices: Indices, size: int) -> list[list[int]]:
    return [[int(i) for i in indices[start : start + size]] for start in range(0, len(indices), size)]


def assert_same(state: Vector, model: nn.Module, tolerance: float = 2e-5) -> None:
    for name, value in model.named_parameters():
        torch.testing.assert_close(state[name], value.detach(), rtol=tolerance, atol=tolerance)
