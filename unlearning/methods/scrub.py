"""SCRUB: a student that leaves its teacher on what goes and stays with it on what stays; +R rewinds an overshoot."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unlearning.gradients import losses_of, scores
from unlearning.membership import matched_mean
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
    student_of,
)
from unlearning.methods.protocol import Cost, Job, Need, Outcome, Sizes
from unlearning.problem import Indices
from unlearning.training import State, state_of

DECAY_AT = (0.5, 0.8, 0.9)
DECAY = 0.1


@dataclass(frozen=True)
class Scrub:
    """Epochs 1 to `ascents`: one pass up KL(teacher || student) on D_f; every epoch: one pass down
    gamma * mean loss + alpha * KL(teacher || student) on D_r. The teacher is the parent.

    KL is between softmaxes at `temperature`, averaged over the batch, times temperature^2.

    Source: Kurmanji et al. 2023 (arXiv:2302.09880), the min-max objective, and SCRUB+R. The defaults are the
    released notebook's: gamma 1, alpha 0.5, 3 ascents, T 2, 10 epochs, Adam 5e-4 with weight decay 0.1, times 0.1 after
    half, 0.8 and 0.9 of the epochs; its beta is 0 and left out; batches (32, forget 64) as ported by DeepUnlearn.

    `rewind` (SCRUB+R): of the checkpoints after each epoch, take the one whose error on D_f is nearest to what the last
    one shows on unseen data of the same classes. Where we differ: that unseen data is tuning holdout, matched by class,
    where the paper builds a validation set distributed as D_f; a tie goes to the later epoch.

    Train mode, as there: dropout on, BatchNorm's running statistics follow the batches of both passes.
    """

    name: ClassVar[str] = "scrub"
    source: ClassVar[str] = "Kurmanji et al. 2023 (arXiv:2302.09880), min-max objective and SCRUB+R; meghdadk/SCRUB"

    gamma: float = 1.0
    alpha: float = 0.5
    ascents: int = 3
    temperature: float = 2.0
    learning_rate: float = 5e-4
    epochs: int = 10
    weight_decay: float = 0.1
    batch_size: int = 32
    forget_batch_size: int = 64
    rewind: bool = False

    def __post_init__(self) -> None:
        positive(temperature=self.temperature, learning_rate=self.learning_rate, epochs=self.epochs)
        positive(batch_size=self.batch_size, forget_batch_size=self.forget_batch_size)

    @property
    def needs(self) -> frozenset[Need]:
        unseen = {Need.TUNING_DATA} if self.rewind else set()
        return frozenset({Need.RETAIN_DATA, Need.CLASSIFICATION, *unseen})

    def cost(self, sizes: Sizes) -> Cost:
        seen = float(self.epochs * sizes.retain + min(self.ascents, self.epochs) * sizes.forget)
        looked = float(self.epochs * sizes.forget + sizes.tuning) if self.rewind else 0.0
        held = 5 + (self.epochs if self.rewind else 0)
        return Cost(seen, seen + looked, memory_bytes=held * sizes.vector_bytes)

    def unlearn(self, job: Job) -> Outcome:
        forget_N, retain_N = sets_of(job)
        classes_of(job)
        with seeded(job) as rng:
            student, teacher = student_of(job), student_of(job)
            steps = self.epochs * batch_count(len(retain_N), self.batch_size)
            steps += min(self.ascents, self.epochs) * batch_count(len(forget_N), self.forget_batch_size)
            descent = Descent(job, student, adam(student, self.learning_rate, self.weight_decay), steps)
            checkpoints: list[tuple[float, State]] = []
            for epoch in range(1, self.epochs + 1):
                descent.learning_rate(self._rate(epoch))
                student.train()
                if epoch <= self.ascents:
                    for chosen in batches(forget_N, self.forget_batch_size, rng):
                        inputs, _ = load(job, chosen)
                        descent.step(-divergence(student(inputs), _answers(teacher, inputs), self.temperature))
                for chosen in batches(retain_N, self.batch_size, rng):
                    descent.step(self._stay(job, student, teacher, chosen))
                student.eval()
                if self.rewind:
                    seen = scores(student, job.problem, job.problem.train, forget_N)
                    checkpoints.append((1 - float(seen.correct_N.mean()), state_of(student)))
            details: dict[str, Any] = {"steps": descent.done}
            if self.rewind:
                details |= _rewind(job, student, forget_N, checkpoints)
            return outcome(job, student, **details)

    def _rate(self, epoch: int) -> float:
        passed = sum(epoch > int(share * self.epochs) for share in DECAY_AT)
        return float(self.learning_rate * DECAY**passed)

    def _stay(self, job: Job, student: nn.Module, teacher: nn.Module, chosen: Indices) -> Tensor:
        inputs, targets = load(job, chosen)
        outputs = student(inputs)
        loss = losses_of(job.problem, outputs, targets).mean()
        return self.gamma * loss + self.alpha * divergence(outputs, _answers(teacher, inputs), self.temperature)


def divergence(student_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher/T) || softmax(student/T)) in nats, averaged over the batch, times T^2."""
    target_BC = (teacher_BC / temperature).log_softmax(1)
    answer_BC = (student_BC / temperature).log_softmax(1)
    return (target_BC.exp() * (target_BC - answer_BC)).sum(1).mean() * temperature**2


def _answers(teacher: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        answers_BC: Tensor = teacher(inputs)
    return answers_BC


def _rewind(job: Job, student: nn.Module, forget_N: Indices, checkpoints: list[tuple[float, State]]) -> dict[str, Any]:
    """Put the student back to the checkpoint whose error on D_f is nearest to the reference; say which."""
    unseen = scores(student, job.problem, job.tuning.holdout)
    forget = scores(student, job.problem, job.problem.train, forget_N)
    right = matched_mean(unseen.correct_N.astype(float), forget.strata_N, unseen.strata_N)
    reference = 1 - right
    best = min(range(len(checkpoints)), key=lambda i: (abs(checkpoints[i][0] - reference), -i))
    student.load_state_dict(checkpoints[best][1])
    errors = [error for error, _ in checkpoints]
    return {"epoch": best + 1, "forget_errors": errors, "reference_error": reference}
