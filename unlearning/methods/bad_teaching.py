"""Bad Teaching: a student that learns D_f from an untrained teacher and D_r from the parent."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from unlearning.methods.descent import (
    Descent,
    adam,
    batch_count,
    batches,
    classes_of,
    load,
    outcome,
    positive,
    seeded,
    sets_of,
    share,
    student_of,
)
from unlearning.methods.protocol import Cost, Job, Need, Outcome, Sizes


@dataclass(frozen=True)
class BadTeaching:
    """w <- Adam down KL(teacher(x) || student(x)), the teacher a network with new random weights where x is in D_f and
    the parent where x is in D_r. Batches mix D_f with a random `retain_share` of D_r.

    The KL is between softmaxes at `temperature` and averaged over samples *and* classes, as the released code's
    `kl_div` does by default: C times smaller than a mean over samples (which Adam
    hardly notices), and not scaled by T^2.

    Source: Chundawat et al. 2023 (arXiv:2205.08096), the student's loss; the defaults are those of the released notebook (1
    epoch, Adam 1e-4, 30 % of D_r, batches of 256, T 1); its function's own are 10 epochs at 1e-2. Direction and
    scale of the KL are those that the code computes. The code leaves the student in whatever
    mode its last evaluation set; here it is eval mode: dropout off, BatchNorm's running statistics stay the parent's.
    """

    name: ClassVar[str] = "bad-teaching"
    source: ClassVar[str] = (
        "Chundawat et al. 2023 (arXiv:2205.08096), the student's loss; vikram2000b/bad-teaching-unlearning"
    )
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RETAIN_DATA, Need.CLASSIFICATION})

    learning_rate: float = 1e-4
    epochs: int = 1
    batch_size: int = 256
    retain_share: float = 0.3
    temperature: float = 1.0

    def __post_init__(self) -> None:
        positive(learning_rate=self.learning_rate, epochs=self.epochs, batch_size=self.batch_size)
        positive(temperature=self.temperature)
        share(retain_share=self.retain_share)

    def cost(self, sizes: Sizes) -> Cost:
        seen = self.epochs * (sizes.forget + int(self.retain_share * sizes.retain))
        return Cost(float(seen), 2.0 * seen, memory_bytes=6 * sizes.vector_bytes)

    def unlearn(self, job: Job) -> Outcome:
        forget_N, retain_N = sets_of(job)
        classes_of(job)
        with seeded(job) as rng:
            student, able = student_of(job), student_of(job)
            unable = job.problem.build_model().to(job.device).eval()
            kept_N = np.sort(rng.choice(retain_N, int(self.retain_share * len(retain_N)), replace=False))
            mixed_N = np.concatenate([forget_N, kept_N])
            steps = self.epochs * batch_count(len(mixed_N), self.batch_size)
            descent = Descent(job, student, adam(student, self.learning_rate), steps)
            for _ in range(self.epochs):
                for chosen in batches(mixed_N, self.batch_size, rng):
                    inputs, _ = load(job, chosen)
                    forgotten_B = torch.from_numpy(np.isin(chosen, forget_N)).to(job.device)
                    target_BC = self._taught(able, unable, inputs, forgotten_B)
                    answer_BC = (student(inputs) / self.temperature).log_softmax(1)
                    descent.step((torch.xlogy(target_BC, target_BC) - target_BC * answer_BC).mean())
            return outcome(job, student, steps=descent.done, retain_read=len(kept_N))

    def _taught(self, able: nn.Module, unable: nn.Module, inputs: Tensor, forgotten_B: Tensor) -> Tensor:
        with torch.no_grad():
            able_BC = (able(inputs) / self.temperature).softmax(1)
            unable_BC = (unable(inputs) / self.temperature).softmax(1)
        return torch.where(forgotten_B[:, None], unable_BC, able_BC)
