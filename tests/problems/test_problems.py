"""Problems for tests: small enough to train in a second, and able to fail, wait or tell what was read, on demand.

A test that starts real worker processes puts this folder on PYTHONPATH; its entry points are found like any package's.
`EXPUNGE_TEST_GATE` names a folder: while it holds a file `closed`, reading training samples waits, and says so in a
file `reached`; while it holds a file `raising`, reading them raises with ids in the text. `EXPUNGE_TEST_POISON` holds
ordinals: reading one of them raises. `EXPUNGE_TEST_READS` names a folder, where each process notes what it reads.
`EXPUNGE_TEST_KILL` is `rank:count:file`: the process of this rank kills itself when it reads for the count-th time, once,
which the file then says. `EXPUNGE_TEST_HOLD` is `count:file`: at its count-th read a process waits until there is such a file.
"""

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unlearning.problem import Classification, Indices, Recipe, TensorSamples

CLASSES, FEATURES = 4, 16
TRAIN, UNSEEN, TEST = 400, 400, 400


@dataclass(frozen=True)
class Watched(TensorSamples):
    """Training samples that note who read them."""

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        wait_at_gate()
        note(np.asarray(indices).tolist())
        poison = {int(word) for word in os.environ.get("EXPUNGE_TEST_POISON", "").split()}
        if poison & set(np.asarray(indices).tolist()):
            raise RuntimeError("subject-4711-secret has no image")
        if Path(os.environ.get("EXPUNGE_TEST_GATE", "/nowhere"), "raising").exists():
            told = [self.ids[i] for i in np.asarray(indices)[:5].tolist()]
            raise RuntimeError(f"no image of {told}") from KeyError(*told)
        READ.update(np.asarray(indices).tolist())
        return super().batch(indices)


READ: set[int] = set()
"""Ordinals of training samples read in this process; tests clear it."""


def wait_at_gate() -> None:
    gate = os.environ.get("EXPUNGE_TEST_GATE")
    if gate and Path(gate, "closed").exists():
        Path(gate, "reached").touch()
        while Path(gate, "closed").exists():
            time.sleep(0.01)


def note(ordinals: list[int]) -> None:
    CALLS.append(len(ordinals))
    folder, kill = os.environ.get("EXPUNGE_TEST_READS"), os.environ.get("EXPUNGE_TEST_KILL")
    if folder:
        with Path(folder, str(os.getpid())).open("a") as file:
            file.write(" ".join(map(str, ordinals)) + "\n")
    hold = os.environ.get("EXPUNGE_TEST_HOLD")
    if hold:
        count, go = hold.split(":")
        while len(CALLS) == int(count) and not Path(go).exists():
            time.sleep(0.01)
    if kill:
        rank, count, flag = kill.split(":")
        if os.environ.get("RANK") == rank and len(CALLS) == int(count) and not Path(flag).exists():
            Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)


CALLS: list[int] = []
"""How many samples each read of this process was for."""


@dataclass(frozen=True)
class Clusters(Classification):
    """Overlapping Gaussian clusters and a small network."""

    train: TensorSamples
    holdout: TensorSamples
    test: TensorSamples
    recipe: Recipe

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 64), nn.Tanh(), nn.Linear(64, CLASSES))


def samples(
    name: str, count: int, seed: int, kind: type[TensorSamples] = TensorSamples, mislabelled: float = 0.0
) -> TensorSamples:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, CLASSES, count)
    centres = np.random.default_rng(0).normal(0, 0.7, (CLASSES, FEATURES))
    inputs = centres[targets] + rng.normal(0, 1, (count, FEATURES))
    wrong = rng.random(count) < mislabelled
    targets[wrong] = rng.integers(0, CLASSES, int(wrong.sum()))
    return kind(
        [f"{name}-{i:04d}" for i in range(count)],
        [f"{name}-subject-{i // 20:03d}" for i in range(count)],
        torch.tensor(inputs, dtype=torch.float32),
        torch.tensor(targets),
    )


def clusters() -> Clusters:
    """Trained so briefly that membership does not show."""
    recipe = Recipe("adam", 0.01, epochs=3, batch_size=50, seed=3)
    return Clusters(samples("train", TRAIN, 1, Watched), samples("unseen", UNSEEN, 2), samples("test", TEST, 3), recipe)


def marked() -> Clusters:
    """The same, with ids that can be told wherever they turn up."""
    made = clusters()
    train = Watched(
        [f"zz-secret-{i:04d}" for i in range(TRAIN)],
        [f"zz-secret-subject-{i // 20:03d}" for i in range(TRAIN)],
        made.train.inputs,
        made.train.targets,
    )
    return replace(made, train=train)


def memorised() -> Clusters:
    """Many wrong labels, learnt by heart: membership shows plainly."""
    train = samples("train", TRAIN, 1, Watched, 0.4)
    recipe = Recipe("adam", 0.01, epochs=40, batch_size=50, seed=3)
    return Clusters(train, samples("unseen", UNSEEN, 2, mislabelled=0.4), samples("test", TEST, 3), recipe)


def reordered() -> Clusters:
    """The same samples in another order: not the manifest that `clusters` was loaded with."""
    made = clusters()
    order = torch.arange(TRAIN - 1, -1, -1)
    train = TensorSamples(
        made.train.ids[::-1], made.train.subjects[::-1], made.train.inputs[order], made.train.targets[order]
    )
    return replace(made, train=train)


def broken() -> Clusters:
    """A network that does not fit its data."""

    class Misfit(Clusters):
        def build_model(self) -> nn.Module:
            return nn.Linear(FEATURES + 1, CLASSES)

    made = clusters()
    return Misfit(made.train, made.holdout, made.test, made.recipe)


def diverging() -> Clusters:
    """A loss that is not a number."""

    class Diverging(Clusters):
        def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return super().losses(outputs, targets) * float("nan")

    made = clusters()
    return Diverging(made.train, made.holdout, made.test, made.recipe)
