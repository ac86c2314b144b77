"""Unseen data in two parts: one to tune with, one to audit with. They are different types, so that mypy keeps them apart.

The step of an update is searched on `TuningData`. A verdict is reached on `AuditData`. A number that was tuned on the
very samples that later judge it would pass by construction.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from unlearning.problem import Indices, Problem, Samples, ordered

SALT = "expunge/tune-audit/1"


@dataclass(frozen=True)
class Subset:
    """Some of the samples of a larger set, in ascending order of their positions there."""

    parent: Samples
    indices: Indices

    @property
    def ids(self) -> Sequence[str]:
        return [self.parent.ids[i] for i in self.indices]

    @property
    def subjects(self) -> Sequence[str | None]:
        return [self.parent.subjects[i] for i in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        return self.parent.batch(self.indices[indices])


@dataclass(frozen=True)
class TuningData:
    """Unseen data for choosing: early stopping, the step eta, the attack's threshold."""

    holdout: Samples
    test: Samples
    salt: str = SALT


@dataclass(frozen=True)
class AuditData:
    """Unseen data for judging. Nothing is ever chosen on it."""

    holdout: Samples
    test: Samples
    salt: str = SALT


def split_unseen(problem: Problem, salt: str = SALT) -> tuple[TuningData, AuditData]:
    """Split holdout and test, each by a salted hash of the sample's id, into about equal halves.

    A sample's side depends on its id and the salt alone, so it never changes sides when others come or go.

    Raises:
        ValueError: a half is empty; the set is too small to be both tuned and judged on.
    """
    holdout, test = _halves(problem.holdout, "holdout", salt), _halves(problem.test, "test", salt)
    return TuningData(holdout[0], test[0], salt), AuditData(holdout[1], test[1], salt)


def _halves(samples: Samples, name: str, salt: str) -> tuple[Subset, Subset]:
    audit_N = np.array([_bucket(sample_id, salt) for sample_id in samples.ids], dtype=bool)
    if not audit_N.any() or audit_N.all():
        raise ValueError(f"{name} has {len(samples)} samples and one half came out empty: give it more samples")
    return Subset(samples, np.flatnonzero(~audit_N)), Subset(samples, np.flatnonzero(audit_N))


def _bucket(sample_id: str, salt: str) -> bool:
    return bool(hashlib.sha256(f"{salt}\0{sample_id}".encode()).digest()[0] & 1)


def retained_sample(problem: Problem, retained: Indices, size: int, salt: str = SALT) -> tuple[Indices, Indices]:
    """Two disjoint subsamples of the retained training samples, at most `size` each: one to fit the attack, one to rate it.

    Drawn by the salted hash of the id, so that they depend on the retained set alone.

    Raises:
        ValueError: fewer than two samples are retained.
    """
    retained_N = ordered(retained, len(problem.train))
    if len(retained_N) < 2:
        raise ValueError("fewer than two training samples are retained: there is nothing to compare with")
    ids = problem.train.ids
    digests = [hashlib.sha256(f"{salt}/retained\0{ids[i]}".encode()).digest() for i in retained_N]
    chosen = retained_N[sorted(range(len(digests)), key=digests.__getitem__)]
    half = min(size, len(chosen) // 2)
    return np.sort(chosen[:half]), np.sort(chosen[half : 2 * half])
