"""NegGrad+: descend on what stays and ascend on what goes, in one step."""

from dataclasses import dataclass
from itertools import cycle
from typing import ClassVar

from unlearning.methods.descent import (
    Descent,
    batch_count,
    batches,
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
class NegGradPlus:
    """w <- w - lr grad [ a mean loss(batch of D_r) - (1 - a) mean loss(batch of D_f) ], D_f cycled along an epoch of D_r.

    Source: Kurmanji et al. 2023 (arXiv:2302.09880), the baseline NegGrad+; released notebook, whose defaults these are
    (a 0.95, lr 0.01, 10 epochs; momentum and batches as ported by DeepUnlearn). The notebook's penalty on the distance
    to the parent has weight 0 there and is left out here. Eval mode, as there: dropout off, BatchNorm's running
    statistics stay the parent's. D_f's loss has no bound: a small `alpha` diverges.
    """

    name: ClassVar[str] = "neggrad+"
    source: ClassVar[str] = "Kurmanji et al. 2023 (arXiv:2302.09880), NegGrad+; meghdadk/SCRUB"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RETAIN_DATA})

    alpha: float = 0.95
    learning_rate: float = 0.01
    epochs: int = 10
    batch_size: int = 256
    momentum: float = 0.9

    def __post_init__(self) -> None:
        share(alpha=self.alpha)
        positive(learning_rate=self.learning_rate, epochs=self.epochs, batch_size=self.batch_size)

    def cost(self, sizes: Sizes) -> Cost:
        per_step = min(sizes.forget, self.batch_size)
        forget = batch_count(sizes.retain, self.batch_size) * per_step
        return Cost(float(self.epochs * (sizes.retain + forget)), memory_bytes=3 * sizes.vector_bytes)

    def unlearn(self, job: Job) -> Outcome:
        forget_N, retain_N = sets_of(job)
        with seeded(job) as rng:
            student = student_of(job)
            optimizer = sgd(student, self.learning_rate, self.momentum, 0.0)
            descent = Descent(job, student, optimizer, self.epochs * batch_count(len(retain_N), self.batch_size))
            for _ in range(self.epochs):
                forgotten = cycle(batches(forget_N, self.batch_size, rng))
                for retained in batches(retain_N, self.batch_size, rng):
                    stay = mean_loss(job, student, retained)
                    go = mean_loss(job, student, next(forgotten))
                    descent.step(self.alpha * stay - (1 - self.alpha) * go)
            return outcome(job, student, steps=descent.done)
