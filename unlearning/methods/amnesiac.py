"""Amnesiac unlearning: take back what the steps that saw D_f changed; and the relabelling that goes by the same name."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from unlearning.gradients import losses_of, parameters_of
from unlearning.methods.descent import (
    Descent,
    adam,
    batch_count,
    batches,
    classes_of,
    fit,
    forget_of,
    load,
    outcome,
    positive,
    seeded,
    sets_of,
    student_of,
)
from unlearning.methods.protocol import Cost, Job, Need, Outcome, Sizes


@dataclass(frozen=True)
class Amnesiac:
    """w <- w - sum over the steps that learned from D_f of (weights after - weights before); then epochs on D_r.

    Source: Graves et al. 2021 (arXiv:2010.10981), amnesiac unlearning, and the MNIST notebook, whose defaults these
    are (Adam 1e-3, batches of 64, up to 10 healing epochs). As there, parameters are taken back and nothing else:
    BatchNorm's running statistics stay the parent's until healing (train mode) moves them; the optimizer's moments,
    which carry D_f into later steps, are not undone. Where we differ: `healing_epochs` 0 leaves the subtraction
    alone, and then no retain data is read.

    At random, a few hundred samples touch almost every step (1 - 0.95^64 = 96 % at a share of 5 % and batches of 64), and
    the subtraction undoes most of the training. It is for few samples, or for subjects that were batched together.
    """

    name: ClassVar[str] = "amnesiac"
    source: ClassVar[str] = "Graves et al. 2021 (arXiv:2010.10981), amnesiac unlearning; lmgraves/AmnesiacML"

    learning_rate: float = 1e-3
    healing_epochs: int = 10
    batch_size: int = 64

    def __post_init__(self) -> None:
        positive(learning_rate=self.learning_rate, batch_size=self.batch_size)
        if self.healing_epochs < 0:
            raise ValueError(f"healing_epochs is {self.healing_epochs}: use 0 or more")

    @property
    def needs(self) -> frozenset[Need]:
        healing = {Need.RETAIN_DATA} if self.healing_epochs else set()
        return frozenset({Need.UPDATE_JOURNAL, *healing})

    def cost(self, sizes: Sizes) -> Cost:
        """`stored_bytes` bounds the journal that D_f alone needs: one delta for each step that can have seen it."""
        steps = sizes.epochs * min(sizes.forget, batch_count(sizes.forget + sizes.retain, sizes.batch_size))
        held = 4 * sizes.vector_bytes
        return Cost(float(self.healing_epochs * sizes.retain), 0.0, held, steps * sizes.vector_bytes)

    def unlearn(self, job: Job) -> Outcome:
        forget_N = forget_of(job)
        if job.records is None or job.records.journal is None or not job.records.covers(forget_N):
            raise ValueError("the journal does not hold every step that learned from the forget set")
        touched = job.records.touched(forget_N)
        student = student_of(job)
        with torch.no_grad():
            for name, parameter in parameters_of(student).items():
                change = torch.zeros_like(parameter, dtype=torch.float64)
                for number in touched:
                    change += job.records.journal[number][name].to(job.device)
                parameter.copy_(parameter.double() - change)
        steps = 0
        if self.healing_epochs:
            _, retain_N = sets_of(job)
            with seeded(job) as rng:
                optimizer = adam(student, self.learning_rate)
                steps = fit(job, student, optimizer, retain_N, self.healing_epochs, self.batch_size, rng)
        return replace(outcome(job, student, undone=len(touched), steps=steps), journal_undone=True)


@dataclass(frozen=True)
class AmnesiacRelabel:
    """Give each sample of D_f one random wrong label, fixed from then on, and train on D_r with D_f so labelled.

    Source: the second method of the repository of Graves et al. 2021 (arXiv:2010.10981), there called unlearning; it is
    what most re-implementations of Amnesiac are. Defaults of the notebooks: Adam 1e-3, batches of 64, up to 10 epochs.
    There the set is a whole class and the wrong labels are all others; here the set is any, and a label is wrong for
    the sample it is given to. Train mode: dropout on, BatchNorm's running statistics follow D_r and D_f.
    """

    name: ClassVar[str] = "amnesiac-relabel"
    source: ClassVar[str] = "Graves et al. 2021 (arXiv:2010.10981), relabelling; lmgraves/AmnesiacML"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RETAIN_DATA, Need.CLASSIFICATION})

    learning_rate: float = 1e-3
    epochs: int = 10
    batch_size: int = 64

    def __post_init__(self) -> None:
        positive(learning_rate=self.learning_rate, epochs=self.epochs, batch_size=self.batch_size)

    def cost(self, sizes: Sizes) -> Cost:
        return Cost(float(self.epochs * (sizes.forget + sizes.retain)), memory_bytes=4 * sizes.vector_bytes)

    def unlearn(self, job: Job) -> Outcome:
        forget_N, retain_N = sets_of(job)
        classes = classes_of(job)
        if classes < 2:
            raise ValueError("with one class no label is wrong")
        everything_N = np.sort(np.concatenate([forget_N, retain_N]))
        with seeded(job) as rng:
            shift_F = rng.integers(1, classes, len(forget_N))
            student = student_of(job)
            steps = self.epochs * batch_count(len(everything_N), self.batch_size)
            descent = Descent(job, student, adam(student, self.learning_rate), steps)
            student.train()
            for _ in range(self.epochs):
                for chosen in batches(everything_N, self.batch_size, rng):
                    inputs, targets = load(job, chosen)
                    shift_B = np.zeros(len(chosen), dtype=np.int64)
                    wrong_B = np.isin(chosen, forget_N)
                    shift_B[wrong_B] = shift_F[np.searchsorted(forget_N, chosen[wrong_B])]
                    labels_B = (targets + torch.from_numpy(shift_B).to(targets)) % classes
                    descent.step(losses_of(job.problem, student(inputs), labels_B).mean())
            student.eval()
            return outcome(job, student, steps=descent.done)
