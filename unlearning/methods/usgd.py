"""Unrolling SGD, single-gradient unlearning: put back what D_f's gradients took, as if all were taken at the start."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from unlearning.gradients import gradient_sum, parameters_of
from unlearning.methods.descent import batch_count, forget_of, outcome, positive, student_of
from unlearning.methods.protocol import Cost, Job, Need, Outcome, Sizes
from unlearning.training import restore

Scale = Literal["paper", "released"]


@dataclass(frozen=True)
class Usgd:
    """w <- w + lr * (m / b) * sum over D_f of grad loss(z) at the *initial* weights; m the epochs that saw z, b the batch.

    Source: Thudi et al. 2022 (arXiv:2109.13398), single-gradient unlearning: unrolling plain SGD to first
    order. `scale` "released" is the code's form, lr times the sum of the *mean* gradients of batches of D_f (32 there),
    once each. It has no setting of its own: lr, m and b are those of the training. Where we differ: b is the recipe's
    batch also where an epoch's last batch was shorter; m is the recorded number of epochs.

    The derivation is for plain SGD. A recipe by another optimizer has no lr of that meaning: then `learning_rate` must
    be given, and the rule is a heuristic. The gradient is that of the problem's loss, without a gradient restriction.
    The name USGD is that of the IAU paper's table, which does not define it; this is the only method of that family
    with released code. Its companion, training with the SD loss, is not a setting here, as it is not a way to forget:
    let the problem's `losses` return `sd_losses`.

    Eval mode; BatchNorm's running statistics stay the parent's, and the gradient is taken with the initial ones.
    """

    name: ClassVar[str] = "usgd"
    source: ClassVar[str] = "Thudi et al. 2022 (arXiv:2109.13398), single-gradient; cleverhans-lab/unrolling-sgd"

    scale: Scale = "paper"
    learning_rate: float | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.scale not in ("paper", "released"):
            raise ValueError(f"scale is {self.scale!r}: use 'paper' or 'released'")
        positive(batch_size=self.batch_size)
        if self.learning_rate is not None:
            positive(learning_rate=self.learning_rate)

    @property
    def needs(self) -> frozenset[Need]:
        rate = {Need.SGD_TRAINING} if self.learning_rate is None else set()
        return frozenset({Need.INITIAL_WEIGHTS, *rate})

    def cost(self, sizes: Sizes) -> Cost:
        return Cost(float(sizes.forget), memory_bytes=4 * sizes.vector_bytes, stored_bytes=sizes.vector_bytes)

    def unlearn(self, job: Job) -> Outcome:
        forget_N = forget_of(job)
        if job.records is None or job.records.initial is None:
            raise ValueError("the initial weights were not recorded when this model was trained")
        rate = self._rate(job)
        initial = restore(job.problem, job.records.initial, job.device)
        train = job.problem.train
        vector = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in parameters_of(initial).items()}
        if self.scale == "paper":
            found = gradient_sum(initial, job.problem, train, forget_N)
            factor = rate * job.records.epochs / job.records.batch_size
            vector = {name: factor * value for name, value in found.vector.items()}
        else:
            for number in range(batch_count(len(forget_N), self.batch_size)):
                batch_N = forget_N[number * self.batch_size : (number + 1) * self.batch_size]
                mean = gradient_sum(initial, job.problem, train, batch_N).mean()
                vector = {name: value + rate * mean[name] for name, value in vector.items()}
        student = student_of(job)
        with torch.no_grad():
            for name, parameter in parameters_of(student).items():
                parameter.copy_(parameter.double() + vector[name])
        return outcome(job, student, learning_rate=rate, epochs=job.records.epochs)

    def _rate(self, job: Job) -> float:
        recipe = job.problem.recipe
        if self.learning_rate is not None:
            return self.learning_rate
        if recipe.optimizer != "sgd":
            raise ValueError(
                f"the recipe's optimizer is {recipe.optimizer!r} and the rule is derived for 'sgd': give learning_rate"
            )
        return recipe.learning_rate


def sd_losses(outputs: Tensor, targets: Tensor, strength: float = 0.1) -> Tensor:
    """losses_B: cross entropy in nats plus strength * (standard deviation of the sample's logits) / C.

    What Thudi et al. 2022 train with, so that unrolling errs less; the released code averages it over the batch and has
    `strength` 0.1 in pretraining. The standard deviation is over the C classes, with C - 1 below it. A problem that
    returns these from `losses` is also scored by them.
    """
    spread_B = outputs.std(dim=1) / outputs.shape[1]
    return functional.cross_entropy(outputs, targets, reduction="none") + strength * spread_B
