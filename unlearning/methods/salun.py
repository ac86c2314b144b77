"""SalUn: relabel D_f at random and train on, but move only the weights that D_f's gradient singles out."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearning.gradients import GradientSum, gradient_sum, losses_of, parameters_of
from unlearning.methods.descent import (
    Descent,
    batch_count,
    batches,
    classes_of,
    load,
    mean_loss,
    outcome,
    positive,
    seeded,
    sets_of,
    sgd,
    share,
    student_of,
)
from unlearning.methods.protocol import Cost, Job, Need, Outcome, Sizes


@dataclass(frozen=True)
class SalUn:
    """Each epoch: a pass over D_f with labels drawn uniformly from all classes, then a pass over D_r with its own; both
    by SGD that moves only the `share` of weights with the largest |sum of D_f's gradients|, over all layers together.

    Source: Fan et al. 2024 (arXiv:2310.12508), the hard saliency mask, with random labelling (RL) as the base method; released
    code, whose defaults these are (share 0.5, lr 0.013, 10 epochs, momentum 0.9, weight decay 5e-4, batches of 256).
    Labels are drawn anew at every visit and may be the true one. As in its present state, weights
    outside the mask are put back after every step, so that weight decay does not move them. Where we differ: the mask
    is taken at the parent's weights, while the script that makes masks also steps while it sums; and it sums over
    samples, where a shorter last batch of the script's weighs more.

    Train mode, as there: dropout on, BatchNorm's running statistics follow the batches of both passes.
    """

    name: ClassVar[str] = "salun"
    source: ClassVar[str] = "Fan et al. 2024 (arXiv:2310.12508), saliency mask with RL; OPTML-Group/Unlearn-Saliency"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RETAIN_DATA, Need.CLASSIFICATION})

    share: float = 0.5
    learning_rate: float = 0.013
    epochs: int = 10
    batch_size: int = 256
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        share(share=self.share)
        positive(learning_rate=self.learning_rate, epochs=self.epochs, batch_size=self.batch_size)

    def cost(self, sizes: Sizes) -> Cost:
        seen = sizes.forget + self.epochs * (sizes.forget + sizes.retain)
        return Cost(float(seen), memory_bytes=6 * sizes.vector_bytes)

    def unlearn(self, job: Job) -> Outcome:
        forget_N, retain_N = sets_of(job)
        classes = classes_of(job)
        masks = saliency(gradient_sum(job.parent, job.problem, job.problem.train, forget_N), self.share)
        with seeded(job) as rng:
            student = student_of(job)
            optimizer = sgd(student, self.learning_rate, self.momentum, self.weight_decay)
            per_epoch = batch_count(len(forget_N), self.batch_size) + batch_count(len(retain_N), self.batch_size)
            descent = Descent(job, student, optimizer, self.epochs * per_epoch)
            start = {name: value.detach().clone() for name, value in parameters_of(student).items()}
            masks = {name: mask.to(start[name].dtype) for name, mask in masks.items()}
            student.train()
            for _ in range(self.epochs):
                for chosen in batches(forget_N, self.batch_size, rng):
                    inputs, targets = load(job, chosen)
                    labels_B = torch.from_numpy(rng.integers(0, classes, len(chosen))).to(targets)
                    self._step(descent, losses_of(job.problem, student(inputs), labels_B).mean(), masks, start)
                for chosen in batches(retain_N, self.batch_size, rng):
                    self._step(descent, mean_loss(job, student, chosen), masks, start)
            student.eval()
            moved = sum(int(mask.sum()) for mask in masks.values())
            return outcome(job, student, steps=descent.done, salient=moved)

    def _step(self, descent: Descent, loss: Tensor, masks: dict[str, Tensor], start: dict[str, Tensor]) -> None:
        descent.step(loss, masks)
        with torch.no_grad():
            for name, parameter in parameters_of(descent.student).items():
                parameter.copy_(torch.where(masks[name] > 0, parameter, start[name]))


def saliency(gradient: GradientSum, part: float) -> dict[str, Tensor]:
    """Masks (bool, one a parameter): the `part` of all weights with the largest |gradient|; of equals, the first."""
    sizes_M = torch.cat([value.abs().flatten() for value in gradient.vector.values()])
    chosen_M = torch.zeros_like(sizes_M, dtype=torch.bool)
    chosen_M[torch.sort(sizes_M, descending=True, stable=True).indices[: int(part * len(sizes_M))]] = True
    flat = torch.split(chosen_M, [value.numel() for value in gradient.vector.values()])
    return {name: mask.view_as(value) for (name, value), mask in zip(gradient.vector.items(), flat, strict=True)}
