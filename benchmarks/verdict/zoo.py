"""The models that a qualification needs: originals, references of the bank, retrains; each trained once and kept on disk.

A model's file is named by what it depends on, the code that trains included, and written under another name first: a run
that was stopped, or killed, goes on where it was.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file

from benchmarks.paper.cells import ROOT, digest_of
from benchmarks.verdict.cases import Setting, blocks, problem_of
from benchmarks.verdict.pool import spread
from unlearning.division import left_out
from unlearning.problem import Indices
from unlearning.splits import split_unseen
from unlearning.training import State, train

CACHE = ROOT / ".cache" / "bench-verdict"
TRAINING = (
    "unlearning/training.py",
    "unlearning/restriction.py",
    "unlearning/nets",
    "unlearning/splits.py",
    "benchmarks/problems.py",
)
ORIGINAL, REFERENCE, RETRAIN = 100, 200, 300  # first seeds


@dataclass(frozen=True)
class Wanted:
    """A model to be trained: on all samples but `without`."""

    name: str
    seed: int
    without: Indices


@dataclass(frozen=True)
class Made:
    state: State
    seconds: float


def wanted(setting: Setting) -> Iterator[Wanted]:
    """All models of a setting: the bank first, since it alone says something already."""
    problem = problem_of(setting, 0)
    everything = np.arange(len(problem.train))
    for number in range(setting.originals):
        yield Wanted(f"original-{number}", ORIGINAL + number, everything[:0])
    for number in range(setting.references):
        yield Wanted(f"reference-{number}", REFERENCE + number, left_out(problem.train, everything, number))
    for place, block in enumerate(blocks(setting, problem)):
        for number in range(setting.retrains):
            yield Wanted(f"retrain-{block.name}-{number}", RETRAIN + 10 * place + number, block.indices)


def make(setting: Setting, done: Callable[[str], None], cache: Path = CACHE, jobs: int = 1) -> None:
    """Train what is not there yet, in `jobs` processes; `done` is called after each model, made or found."""
    missing = []
    for wish in wanted(setting):
        if path_of(setting, wish, cache).exists():
            done(wish.name)
        else:
            missing.append(wish)
    for wish in spread(partial(_make, setting, cache), missing, jobs):
        done(wish.name)


def model(setting: Setting, wish: Wanted, cache: Path = CACHE) -> Made:
    """The model, trained now or earlier."""
    path = path_of(setting, wish, cache)
    if not path.exists():
        _train(setting, wish, path)
    return Made(load_file(path), float(path.with_suffix(".seconds").read_text()))


def path_of(setting: Setting, wish: Wanted, cache: Path = CACHE) -> Path:
    return cache / setting.name / f"{wish.name}-{_key(setting, wish)}.safetensors"


def _make(setting: Setting, cache: Path, wish: Wanted) -> None:
    _train(setting, wish, path_of(setting, wish, cache))


def _train(setting: Setting, wish: Wanted, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    problem = problem_of(setting, wish.seed)
    tuning, _ = split_unseen(problem)
    stays = np.setdiff1d(np.arange(len(problem.train)), wish.without)
    begun = time.perf_counter()
    state = train(problem, stays, tuning).state
    path.with_suffix(".seconds").write_text(f"{time.perf_counter() - begun:.3f}")
    part = path.with_suffix(f".part-{os.getpid()}")
    save_file({name: value.contiguous() for name, value in state.items()}, part)
    part.replace(path)


def _key(setting: Setting, wish: Wanted) -> str:
    depends = {
        "setting": setting.name,
        "sizes": setting.sizes,
        "seed": wish.seed,
        "without": hashlib.sha256(wish.without.astype("<i8").tobytes()).hexdigest(),
        "code": _code(),
    }
    return digest_of(depends)[:16]


def _code() -> str:
    """SHA-256 of the code that trains. What is forgotten, and how it is judged, may change without a new training."""
    seen = hashlib.sha256()
    for name in TRAINING:
        path = ROOT / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            seen.update(file.read_bytes())
    return seen.hexdigest()
