"""Selective synaptic dampening: shrink the weights that matter far more to D_f than to D."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unlearning.gradients import parameters_of
from unlearning.methods.descent import covers_all, forget_of, outcome, positive, sets_of, student_of
from unlearning.methods.diagonals import Importance, importance
from unlearning.methods.protocol import Cost, Job, Need, Outcome, Sizes


@dataclass(frozen=True)
class Ssd:
    """Where I_f > alpha * I_D: w <- w * min(lambda * I_D / I_f, 1). I is the mean over batches of their squared gradient.

    Source: Foster et al. 2024 (arXiv:2308.07707), parameter selection and dampening, and released code, whose defaults
    these are (alpha 10, lambda 1, batches of 128). I_D does not depend on D_f: where the training recorded it, a call costs |D_f|
    gradients. Where we differ: I_D is reused only when it was taken with the same batch size, since a batch's squared
    gradient is no sum over its samples; I is held in float64.

    Eval mode; BatchNorm's running statistics stay the parent's, its weights are dampened like any other.
    """

    name: ClassVar[str] = "ssd"
    source: ClassVar[str] = (
        "Foster et al. 2024 (arXiv:2308.07707), selection and dampening; if-loops/selective-synaptic-dampening"
    )
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RETAIN_DATA_OR_IMPORTANCE})

    alpha: float = 10.0
    dampening: float = 1.0
    batch_size: int = 128

    def __post_init__(self) -> None:
        positive(alpha=self.alpha, dampening=self.dampening, batch_size=self.batch_size)

    def cost(self, sizes: Sizes) -> Cost:
        everything = 0 if sizes.importance_kept else sizes.retain + sizes.forget
        stored = 2 * sizes.vector_bytes if sizes.importance_kept else 0
        return Cost(float(sizes.forget + everything), memory_bytes=5 * sizes.vector_bytes, stored_bytes=stored)

    def unlearn(self, job: Job) -> Outcome:
        forget_N = forget_of(job)
        train = job.problem.train
        whole, kept = self._of_everything(job)
        part = importance(job.parent, job.problem, train, forget_N, self.batch_size, job.seed)
        student = student_of(job)
        dampened = 0
        with torch.no_grad():
            for name, parameter in parameters_of(student).items():
                i_d, i_f = whole.vector[name].to(job.device), part.vector[name]
                chosen = i_f > self.alpha * i_d
                factor = torch.where(chosen, (self.dampening * i_d / i_f).clamp(max=1), 1.0)
                parameter.copy_(parameter.double() * factor)
                dampened += int(chosen.sum())
        return outcome(job, student, dampened=dampened, importance_kept=kept)

    def _of_everything(self, job: Job) -> tuple[Importance, bool]:
        """I_D, and whether it was recorded."""
        recorded = None if job.records is None else job.records.importance
        if recorded is not None and recorded.batch_size == self.batch_size:
            covers_all(job, recorded.count, "recorded importance")
            return recorded, True
        forget_N, retain_N = sets_of(job)
        everything = torch.cat([torch.from_numpy(forget_N), torch.from_numpy(retain_N)]).numpy()
        return importance(job.parent, job.problem, job.problem.train, everything, self.batch_size), False
