"""Fisher scrubbing: noise on every weight, the more the less it matters to what stays."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from unlearning.gradients import parameters_of
from unlearning.methods.descent import (
    classes_of,
    covers_all,
    forget_of,
    outcome,
    positive,
    sets_of,
    strata_in,
    student_of,
)
from unlearning.methods.diagonals import Vector, fisher_chunk, fisher_sum
from unlearning.methods.protocol import Cost, Job, Need, Outcome, Sizes

DAMPING, CAP, LAST_CAP, BOOST = 1e-8, 1e3, 1e2, 10.0
CLEARED_VARIANCE = 1e-4


@dataclass(frozen=True)
class FisherScrub:
    """w <- w + sqrt(v) * N(0, 1), with v = alpha * min(1 / (F + 1e-8), 1e3), F the diagonal Fisher of D_r.

    F is exact: per sample and per class, p(y|x) (grad loss(x, y))^2, averaged over D_r. v is then averaged over a
    weight's second dimension (its inputs). The last layer (every parameter whose first dimension is the number of
    classes) is capped at 1e2, not 1e3, and it and all vectors (biases, BatchNorm) get 10 v.

    Source: Golatkar et al. 2020 (arXiv:1911.04933), Fisher forgetting, in the form and with the constants of the
    released notebook (alpha 1e-6; sweeps from 1e-8 to 1e-5). The paper scales the noise by F^(-1/4), the notebook by
    F^(-1/2), and so do we. `clear_class` is its class forgetting: the last layer's rows of the classes that
    are in D_f and nowhere in D_r become 0 with v = 1e-4 (times 10). Where we differ: F comes by vectorised gradients,
    the same numbers as its loop of one backward pass a sample and class; and where the training recorded F of D, F of
    D_r is that less F of D_f, which costs |D_f| * C gradients in place of |D_r| * C.

    Eval mode; BatchNorm's running statistics stay the parent's, its weights get noise like other vectors.
    """

    name: ClassVar[str] = "fisher"
    source: ClassVar[str] = (
        "Golatkar et al. 2020 (arXiv:1911.04933), Fisher forgetting, as released; AdityaGolatkar/SelectiveForgetting"
    )
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RETAIN_DATA_OR_FISHER, Need.CLASSIFICATION})

    alpha: float = 1e-6
    clear_class: bool = False

    def __post_init__(self) -> None:
        positive(alpha=self.alpha)

    def cost(self, sizes: Sizes) -> Cost:
        samples = sizes.forget if sizes.fisher_kept else sizes.retain
        memory = (4 + fisher_chunk(sizes.parameters)) * sizes.vector_bytes
        stored = 2 * sizes.vector_bytes if sizes.fisher_kept else 0
        return Cost(float(samples * sizes.classes), float(samples), memory, stored)

    def unlearn(self, job: Job) -> Outcome:
        classes = classes_of(job)
        information, kept = self._information(job)
        cleared = self._whole_classes(job) if self.clear_class else []
        student = student_of(job)
        generator = torch.Generator().manual_seed(job.seed)
        with torch.no_grad():
            for name, parameter in parameters_of(student).items():
                last = parameter.shape[0] == classes if parameter.ndim else False
                variance = self._variance(information[name], last)
                mean = parameter.double()
                if last and cleared:
                    mean = mean.clone()
                    mean[cleared], variance[cleared] = 0.0, CLEARED_VARIANCE
                if last or parameter.ndim == 1:
                    variance = variance * BOOST
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(job.device)
                parameter.copy_(mean + variance.sqrt() * noise)
        return outcome(job, student, fisher_kept=kept, cleared_classes=len(cleared))

    def _variance(self, information: Tensor, last: bool) -> Tensor:
        """v of one parameter, before the tenfold for vectors and the last layer."""
        variance = self.alpha * (1 / (information + DAMPING)).clamp(max=LAST_CAP if last else CAP)
        if variance.ndim > 1:
            variance = variance.mean(dim=1, keepdim=True).expand_as(information).clone()
        return variance

    def _information(self, job: Job) -> tuple[Vector, bool]:
        """The mean diagonal Fisher of D_r, and whether that of D had been recorded."""
        recorded = None if job.records is None else job.records.fisher
        train = job.problem.train
        if recorded is not None:
            covers_all(job, recorded.count, "recorded Fisher information")
            part = fisher_sum(job.parent, job.problem, train, forget_of(job))
            whole = type(recorded)({n: v.to(job.device) for n, v in recorded.vector.items()}, recorded.count)
            return (whole - part).mean(), True
        _, retain_N = sets_of(job)
        return fisher_sum(job.parent, job.problem, train, retain_N).mean(), False

    def _whole_classes(self, job: Job) -> list[int]:
        forget_N, retain_N = sets_of(job)
        gone, stays = strata_in(job.problem, forget_N), strata_in(job.problem, retain_N)
        if np.isin(gone, stays).any():
            raise ValueError("clear_class needs a forget set of whole classes; D_r still has samples of these")
        return [int(label) for label in gone]
