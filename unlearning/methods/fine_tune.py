"""Fine-tune on what stays, and hope that the rest fades."""

from dataclasses import dataclass
from typing import ClassVar

from unlearning.methods.descent import fit, outcome, positive, seeded, sets_of, sgd, student_of
from unlearning.methods.protocol import Cost, Job, Need, Outcome, Sizes


@dataclass(frozen=True)
class FineTune:
    """Further epochs of plain loss on D_r: w <- w - lr grad mean loss(batch of D_r), by SGD with momentum.

    Source: method FT of Jia et al. 2023 (arXiv:2304.04934), released code, whose defaults these are (lr 0.01, 10 epochs,
    momentum 0.9, weight decay 5e-4, batches of 256). No difference in the rule; theirs also augments images, which is
    the problem's to do here. Train mode: dropout on, BatchNorm's running statistics follow D_r.
    """

    name: ClassVar[str] = "fine-tune"
    source: ClassVar[str] = "Jia et al. 2023 (arXiv:2304.04934), FT; OPTML-Group/Unlearn-Sparse"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RETAIN_DATA})

    learning_rate: float = 0.01
    epochs: int = 10
    batch_size: int = 256
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        positive(learning_rate=self.learning_rate, epochs=self.epochs, batch_size=self.batch_size)

    def cost(self, sizes: Sizes) -> Cost:
        return Cost(float(self.epochs * sizes.retain), memory_bytes=3 * sizes.vector_bytes)

    def unlearn(self, job: Job) -> Outcome:
        _, retain_N = sets_of(job)
        with seeded(job) as rng:
            student = student_of(job)
            optimizer = sgd(student, self.learning_rate, self.momentum, self.weight_decay)
            steps = fit(job, student, optimizer, retain_N, self.epochs, self.batch_size, rng)
            return outcome(job, student, steps=steps)
