"""Jobs for the tests of methods: a small trained network, what its training left, and who read what.

Of 60 training samples the last four are tombstones: no method may read them.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.unlearning.problems import Blobs
from unlearning.gradients import gradient_sum
from unlearning.methods.protocol import Job
from unlearning.problem import Indices, Recipe, TensorSamples
from unlearning.recorder import Recorder, RecorderSettings
from unlearning.splits import split_unseen
from unlearning.training import restore, train

RECIPE = Recipe("sgd", 0.1, epochs=4, batch_size=16, seed=3)
LIVE = np.arange(56)
FORGET = np.array([4, 9, 10, 23, 30])
RETAIN = np.setdiff1d(LIVE, FORGET)
KEPT = RecorderSettings(initial=True, journal="all", fisher=True, importance=True)

SHORT: dict[str, dict[str, Any]] = {
    "iau": {"eta": 0.05},
    "ia": {"eta": 0.05},
    "bad-teaching": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3},
    "amnesiac": {"healing_epochs": 1, "batch_size": 16},
    "amnesiac-relabel": {"epochs": 2, "batch_size": 16},
    "fine-tune": {"epochs": 2, "batch_size": 16},
    "neggrad+": {"epochs": 2, "batch_size": 16},
    "scrub": {"epochs": 3, "batch_size": 16, "forget_batch_size": 4, "ascents": 2},
    "salun": {"epochs": 2, "batch_size": 16},
    "ssd": {"alpha": 1.0},
    "msg": {"epochs": 2, "batch_size": 16, "layers": "all"},
    "ct": {"epochs": 2, "batch_size": 16},
}
"""Settings that keep a test short and make every method move; those not named keep their defaults."""


@dataclass(frozen=True)
class Watched(TensorSamples):
    """Samples that note which of them were read."""

    read: set[int] = field(default_factory=set)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        self.read.update(np.asarray(indices).tolist())
        return super().batch(indices)


@dataclass(frozen=True)
class Images(Blobs):
    """Blobs seen as 4x4 images by a network with a convolution, BatchNorm and dropout."""

    features: int = 16

    def build_model(self) -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, (1, 4, 4)),
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(64, self.classes),
        )


def job_of(problem: Blobs) -> Job:
    """A trained parent with everything recorded. Readings of its samples are noted from here on."""
    for name in ("train", "holdout", "test"):
        plain = getattr(problem, name)
        object.__setattr__(problem, name, Watched(plain.ids, plain.subjects, plain.inputs, plain.targets))
    tuning, _ = split_unseen(problem)
    recorder = Recorder(KEPT, problem, LIVE)
    parent = restore(problem, train(problem, LIVE, tuning, observer=recorder).state)
    total = gradient_sum(parent, problem, problem.train, LIVE)
    return Job(problem, parent, FORGET, RETAIN, tuning, seed=7, total=total, records=recorder.records)


def vectors() -> Job:
    return job_of(Blobs(noise=1.5, recipe=RECIPE))


def images() -> Job:
    return job_of(Images(noise=1.5, recipe=RECIPE))


def fresh(job: Job) -> Job:
    """The same job with nothing read so far."""
    for name in ("train", "holdout", "test"):
        getattr(job.problem, name).read.clear()
    return job


def without_records(job: Job) -> Job:
    return replace(job, records=None)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)
