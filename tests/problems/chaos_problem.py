"""The problem of the chaos harness: small, watched, and able to fail, hang or run out of memory while it runs.

The control folder's file `problem.json` says how: `{"what": "raise" | "memory" | "hang", "ordinals": [...]}`, for any read
of training samples that meets one of the ordinals; without ordinals, for every one.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from test_problems import TRAIN, Clusters, samples
from torch import Tensor

from tests.faults import evidence
from unlearning.problem import Indices, Recipe, TensorSamples


@dataclass(frozen=True)
class Hurt(TensorSamples):
    """Training samples that note who reads them, and may hurt whoever does."""

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        ordinals = np.asarray(indices).tolist()
        evidence.read(ordinals)
        misbehave(set(ordinals))
        return super().batch(indices)


def misbehave(ordinals: set[int]) -> None:
    control = Path(os.environ["EXPUNGE_FAULTS"], "problem.json")
    while (told := content(control)) is not None and ordinals & set(told["ordinals"] or ordinals):
        if told["what"] == "raise":
            raise RuntimeError("subject-4711-secret has no image")
        if told["what"] == "memory":
            raise MemoryError
        time.sleep(0.02)


def content(control: Path) -> dict[str, list[int]] | None:
    try:
        found: dict[str, list[int]] = json.loads(control.read_text())
    except FileNotFoundError:
        return None
    return found


def chaos() -> Clusters:
    """Trained in a moment."""
    recipe = Recipe("adam", 0.01, epochs=2, batch_size=50, seed=3)
    train = samples("train", TRAIN, 1, Hurt)
    return Clusters(train, samples("unseen", 200, 2), samples("test", 200, 3), recipe)
