"""What the methods that take steps by gradient share: the sets of a job, its seed, its batches, one checked step.

All of it is deterministic: batches are shuffled by numpy from the job's seed over sets in ascending order, and torch's
global random state (initial weights, dropout) is seeded inside `seeded` and put back after.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unlearning import optimizers
from unlearning.gradients import CHUNK, NonFinite, evaluating, losses_of, parameters_of
from unlearning.methods.diagonals import class_probabilities
from unlearning.methods.protocol import Job, Outcome
from unlearning.problem import Indices, Problem, ordered, strata
from unlearning.training import state_of

REPORT_EVERY = 8


def forget_of(job: Job) -> Indices:
    """D_f in ascending order.

    Raises:
        ValueError: D_f is empty, or shares a sample with D_r.
    """
    forget_N = ordered(job.forget, len(job.problem.train))
    if len(forget_N) == 0:
        raise ValueError("the forget set is empty: there is nothing to unlearn")
    if np.isin(forget_N, job.retain).any():
        raise ValueError("a sample is both to be forgotten and retained")
    return forget_N


def sets_of(job: Job) -> tuple[Indices, Indices]:
    """D_f and D_r in ascending order.

    Raises:
        ValueError: one of them is empty, or they share a sample.
    """
    forget_N, retain_N = forget_of(job), ordered(job.retain, len(job.problem.train))
    if len(retain_N) == 0:
        raise ValueError("no samples are retained: retire the model, or name the samples that stay")
    return forget_N, retain_N


def covers_all(job: Job, count: int, what: str) -> None:
    """Refuse a sum over D that was taken over another set. Without retained samples at hand it cannot be told.

    Raises:
        ValueError: `count` is not the size of D_f and D_r together.
    """
    if len(job.retain) and count != len(job.forget) + len(job.retain):
        raise ValueError(
            f"the {what} covers {count} samples; forget and retain set have {len(job.forget) + len(job.retain)}:"
            " it belongs to another training set"
        )


@contextmanager
def seeded(job: Job) -> Iterator[np.random.Generator]:
    """A numpy generator from the job's seed; torch's global state seeded inside and as it was after."""
    device = job.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(job.seed)
        yield np.random.default_rng(job.seed)


def student_of(job: Job) -> nn.Module:
    """A copy of the parent to be changed, in eval mode, on the parent's device."""
    return copy.deepcopy(job.parent).eval()


def batches(indices: Indices, size: int, rng: np.random.Generator) -> list[Indices]:
    """One epoch: the set in a new random order, cut into batches of `size`, the last one as long as it comes."""
    shuffled_N = rng.permutation(indices)
    return [shuffled_N[start : start + size] for start in range(0, len(shuffled_N), size)]


def batch_count(samples: int, size: int) -> int:
    return -(-samples // size)


def load(job: Job, chosen: Indices) -> tuple[Tensor, Tensor]:
    """Inputs and targets of these training samples on the job's device."""
    inputs, targets = job.problem.train.batch(chosen)
    return inputs.to(job.device), targets.to(job.device)


def mean_loss(job: Job, model: nn.Module, chosen: Indices) -> Tensor:
    """The mean loss of these training samples, in the mode the model is in; a scalar with its graph."""
    inputs, targets = load(job, chosen)
    return losses_of(job.problem, model(inputs), targets).mean()


def classes_of(job: Job) -> int:
    """How many classes the parent answers with.

    Raises:
        ValueError: the problem is no classification.
    """
    inputs, targets = load(job, forget_of(job)[:1])
    with evaluating(job.parent), torch.no_grad():
        return class_probabilities(job.parent(inputs), targets).shape[1]


def strata_in(problem: Problem, indices: Indices) -> Indices:
    """The classes that occur among these training samples, ascending; read a chunk at a time."""
    starts = range(0, len(indices), CHUNK)
    found = [np.unique(strata(problem.train.batch(indices[start : start + CHUNK])[1])) for start in starts]
    return np.unique(np.concatenate([*found, np.empty(0, dtype=np.int64)]))


class Descent:
    """An optimizer over a student, its steps counted, checked and reported."""

    def __init__(self, job: Job, student: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        self.job, self.student, self.optimizer, self.steps = job, student, optimizer, max(steps, 1)
        self.done = 0

    def step(self, loss: Tensor, scale: Mapping[str, Tensor] | None = None) -> None:
        """One step down `loss`; `scale` multiplies the gradients of the parameters it names before the optimizer sees them.

        Raises:
            NonFinite: the loss is infinite or NaN.
        """
        if not bool(loss.detach().isfinite()):
            raise NonFinite(f"the loss is not finite in step {self.done + 1}: lower the learning rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        if scale is not None:
            for name, parameter in parameters_of(self.student).items():
                if name in scale and parameter.grad is not None:
                    parameter.grad.mul_(scale[name])
        self.optimizer.step()
        self.done += 1
        if self.done % REPORT_EVERY == 0:
            self.job.progress(min(self.done / self.steps, 1.0), f"step {self.done} of {self.steps}")

    def learning_rate(self, value: float) -> None:
        """Set it for the steps to come."""
        for group in self.optimizer.param_groups:
            group["lr"] = value


def fit(
    job: Job,
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    indices: Indices,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    rate_of: Callable[[int], float] | None = None,
    scale: Mapping[str, Tensor] | None = None,
) -> int:
    """Epochs of plain mean loss over a set, in train mode; returns the steps taken and leaves the student in eval mode.

    `rate_of` gives the learning rate of an epoch, counted from 0; `scale` multiplies gradients by parameter.
    """
    descent = Descent(job, student, optimizer, epochs * batch_count(len(indices), batch_size))
    student.train()
    for epoch in range(epochs):
        if rate_of is not None:
            descent.learning_rate(rate_of(epoch))
        for chosen in batches(indices, batch_size, rng):
            descent.step(mean_loss(job, student, chosen), scale)
    student.eval()
    return descent.done


def sgd(student: nn.Module, learning_rate: float, momentum: float, weight_decay: float) -> torch.optim.Optimizer:
    return optimizers.sgd(parameters_of(student).values(), learning_rate, momentum, weight_decay)


def adam(student: nn.Module, learning_rate: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    return optimizers.adam(parameters_of(student).values(), learning_rate, weight_decay)


def outcome(job: Job, student: nn.Module, **details: Any) -> Outcome:
    """The student's weights and buffers.

    Raises:
        NonFinite: one of them is infinite or NaN.
    """
    state = state_of(student)
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise NonFinite(f"{name} is infinite or NaN: take smaller steps")
    job.progress(1.0, "done")
    return Outcome(state, details)


def positive(**values: float) -> None:
    """Refuse settings that are not positive and finite.

    Raises:
        ValueError: names the setting.
    """
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} is {value}: use a positive number")


def share(**values: float) -> None:
    """Refuse settings that are no share.

    Raises:
        ValueError: names the setting.
    """
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}: use a share between 0 and 1")
