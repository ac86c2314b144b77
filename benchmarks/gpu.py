"""Full-size ResNet18 and VGG19 on one CUDA device: both rungs against the retrain. `python -m benchmarks.gpu`.

Without a device it says so and does nothing. Fashion-MNIST, padded to 32x32, stands in for CIFAR, which cannot be
fetched; sizes and costs of the networks are CIFAR's.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from benchmarks.problems import resnet_fashion, vgg_fashion
from benchmarks.results import Row, finish, in_turns
from unlearning.calibrated import CalibratedSettings, unlearn_calibrated
from unlearning.difficulty import fit_difficulty
from unlearning.evidence import gather, stand
from unlearning.gradients import gradient_sum
from unlearning.iau import IauSettings, unlearn
from unlearning.problem import Problem
from unlearning.splits import split_unseen
from unlearning.training import State, restore, train
from unlearning.validation import validate

FULL_WIDTH = 64
T = TypeVar("T")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--samples", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return 0
    sizes = {"train_size": options.samples, "holdout_size": 10_000, "test_size": 10_000, "width": FULL_WIDTH}
    rows = []
    for name, build in (("ResNet18", resnet_fashion), ("VGG19", vgg_fashion)):
        rows += measure(name, build(**sizes, epochs=options.epochs), options.rounds)
    return finish("gpu", rows, vars(options) | {"device": torch.cuda.get_device_name()})


def measure(name: str, problem: Problem, rounds: int) -> list[Row]:
    """Train once, prepare the version, then time both rungs with their validation on 5 %."""
    tuning, audit = split_unseen(problem)
    live = np.arange(len(problem.train))
    forget = np.sort(np.random.default_rng(0).permutation(live)[: len(live) // 20])
    retain = np.setdiff1d(live, forget)
    trained, retrain_seconds = timed(lambda: train(problem, live, tuning, device="cuda"))
    parent = restore(problem, trained.state, "cuda")
    total, sum_seconds = timed(lambda: gradient_sum(parent, problem, problem.train, live))
    standing = stand(parent, problem, live, tuning, audit)
    difficulty = fit_difficulty(parent, problem, live, tuning)

    def with_validation(update: Callable[[], State]) -> float:
        def whole() -> None:
            child = restore(problem, update(), "cuda")
            validate(gather(standing, parent, child, problem, forget, audit))

        return timed(whole)[1]

    def one_shot() -> State:
        return unlearn(parent, problem, forget, total, tuning, IauSettings(eta=1e-3)).state

    def bounded() -> State:
        settings = CalibratedSettings()
        return unlearn_calibrated(parent, problem, forget, retain, tuning, settings, difficulty=difficulty).state

    one, several = in_turns(lambda: with_validation(one_shot), lambda: with_validation(bounded), rounds=rounds)
    return [
        Row(
            f"{name}, {len(forget)} of {len(live):,}: {way}, times faster than a retrain",
            f"{statistics.median(seconds):.2f} s",
            f"{retrain_seconds:.1f} s",
            retrain_seconds / statistics.median(seconds),
            aim,
            False,
            f"G(D) in {sum_seconds:.1f} s, off the path",
        )
        for way, seconds, aim in (
            ("one-shot update with its validation", one, 100),
            ("iau-calibrated with its validation", several, 50),
        )
    ]


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """What the call gives, and its seconds, the device's queue drained before and after."""
    torch.cuda.synchronize()
    begun = time.perf_counter()
    made = call()
    torch.cuda.synchronize()
    return made, time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
