"""The reference bank: what models that never saw a sample show of it, for every sample of the training set.

K models are trained by the version's own recipe, each without a random quarter of the subjects (`unlearning.division`),
with seeds of their own. Each then scores what it never saw: its quarter of the training set, and the unseen data. Only
that table is kept. For a forget set it gives, sample by sample, what a retrain would say, also for one subject, one
class or outliers, and how far two trainings differ by chance.

Source: the out-of-sample models of membership inference (offline LiRA, Carlini et al. 2022, arXiv:2112.03570; RMIA,
Zarifzadeh et al. 2024, arXiv:2312.03262), there to attack; here they stand for the retrain that does not exist yet. By
subjects, not samples, so that a whole subject was unseen too.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unlearning.division import GROUP, SALT
from unlearning.gradients import Scores, scores
from unlearning.problem import Indices, Problem, Reseeded
from unlearning.splits import AuditData

NEVER = -1  # no reference of the group has scored the sample


@dataclass(frozen=True)
class Reference:
    """What one reference shows of what it never saw: its quarter of the training set, and the audit's unseen data."""

    number: int
    out_N: Indices
    train: Scores
    holdout: Scores
    test: Scores

    def without(self, indices: Indices) -> "Reference":
        """The scores without those of these samples of the training set."""
        kept_N = ~np.isin(self.out_N, indices)
        train = Scores(*(values[kept_N] for values in vars(self.train).values()))
        return replace(self, out_N=self.out_N[kept_N], train=train)

    def tensors(self) -> dict[str, Tensor]:
        """As named tensors, for safetensors."""
        found = {"number": torch.tensor(self.number), "out": torch.from_numpy(self.out_N.astype(np.int64))}
        for name in ("train", "holdout", "test"):
            for part, values in vars(getattr(self, name)).items():
                found[f"{name}.{part}"] = torch.from_numpy(np.ascontiguousarray(values))
        return found

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> "Reference":
        """Raises `ValueError` where a tensor is missing."""
        try:
            parts = {
                name: Scores(*(tensors[f"{name}.{part}"].numpy() for part in ("losses_N", "correct_N", "strata_N")))
                for name in ("train", "holdout", "test")
            }
            return Reference(int(tensors["number"]), tensors["out"].numpy(), **parts)
        except KeyError as error:
            raise ValueError(f"these are no scores of a reference: {error} is missing") from None


def reseeded(problem: Problem, number: int) -> Problem:
    """The problem that the reference of this number is trained on: with a seed of its own, 32 bits of a hash of the
    recipe's seed and the number, so that no two references, nor one and its original, begin alike by design."""
    seed = hashlib.sha256(f"{SALT}/seed\0{problem.recipe.seed}\0{number}".encode()).digest()[:4]
    return Reseeded(problem, replace(problem.recipe, seed=int.from_bytes(seed, "big")))


def observe(model: nn.Module, problem: Problem, number: int, out: Indices, audit: AuditData) -> Reference:
    """Run a reference over the samples that were left out of its training, and over the audit's unseen data.

    Raises:
        NonFinite: the reference gives a loss that is infinite or NaN.
    """
    return Reference(
        number,
        np.sort(out),
        scores(model, problem, problem.train, out),
        scores(model, problem, audit.holdout),
        scores(model, problem, audit.test),
    )


@dataclass(frozen=True)
class Bank:
    """The table. G groups of references, K = 4 G references, N training samples, M unseen, T test samples.

    `reference_GN` names, by position among the K, the reference of each group that never saw the sample; `NEVER` where
    there is none, because the sample was gone when the references were trained or has been forgotten since. `losses_GN`
    are NaN there. Losses in loss units, as float32.
    """

    reference_GN: NDArray[np.int8]
    losses_GN: NDArray[np.float32]
    strata_N: Indices
    holdout_KM: NDArray[np.float32]
    holdout_strata_M: Indices
    test_losses_KT: NDArray[np.float32]
    test_correct_KT: NDArray[np.bool_]
    test_strata_T: Indices

    @property
    def references(self) -> int:
        return len(self.holdout_KM)

    def without(self, indices: Indices) -> "Bank":
        """The table without the rows of these samples: what a deletion leaves of it."""
        reference_GN, losses_GN, strata_N = self.reference_GN.copy(), self.losses_GN.copy(), self.strata_N.copy()
        reference_GN[:, indices], losses_GN[:, indices], strata_N[indices] = NEVER, np.nan, NEVER
        return replace(self, reference_GN=reference_GN, losses_GN=losses_GN, strata_N=strata_N)

    def extended(self, references: Sequence[Reference]) -> "Bank":
        """The table with all whole groups among further references, placed after those it has, whose rows stay.

        Raises:
            ValueError: no group is whole, or they scored other unseen data, or give a sample another class.
        """
        more = assemble(references, len(self.strata_N))
        for name in ("holdout_strata_M", "test_strata_T"):
            if not np.array_equal(getattr(self, name), getattr(more, name)):
                raise ValueError("the references scored other unseen data than the table holds")
        both_N = (self.strata_N != NEVER) & (more.strata_N != NEVER)
        if not np.array_equal(self.strata_N[both_N], more.strata_N[both_N]):
            raise ValueError("the references give training samples other classes than the table holds")
        shifted_GN = np.where(more.reference_GN == NEVER, NEVER, more.reference_GN + self.references).astype(np.int8)
        return Bank(
            np.concatenate([self.reference_GN, shifted_GN]),
            np.concatenate([self.losses_GN, more.losses_GN]),
            np.where(self.strata_N == NEVER, more.strata_N, self.strata_N),
            np.concatenate([self.holdout_KM, more.holdout_KM]),
            self.holdout_strata_M,
            np.concatenate([self.test_losses_KT, more.test_losses_KT]),
            np.concatenate([self.test_correct_KT, more.test_correct_KT]),
            self.test_strata_T,
        )

    def known(self, indices: Indices) -> NDArray[np.bool_]:
        """known_N: whether every group has a reference that never saw the sample."""
        known_N: NDArray[np.bool_] = (self.reference_GN[:, indices] != NEVER).all(axis=0)
        return known_N

    def tensors(self) -> dict[str, Tensor]:
        """As named tensors, for safetensors."""
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in vars(self).items()}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> "Bank":
        """Raises `ValueError` where a tensor is missing."""
        try:
            return Bank(**{name: tensors[name].numpy() for name in Bank.__dataclass_fields__})
        except KeyError as error:
            raise ValueError(f"this is no reference bank: {error} is missing") from None


def assemble(references: Sequence[Reference], count: int) -> Bank:
    """The table of some references over a training set of `count`: of all whole groups among them, in order of number.

    Raises:
        ValueError: no group is whole, or the references scored different unseen data.
    """
    by_number = {reference.number: reference for reference in references}
    groups = [
        g
        for g in range(max(by_number, default=-1) // GROUP + 1)
        if all(GROUP * g + i in by_number for i in range(GROUP))
    ]
    if not groups:
        raise ValueError(f"a bank needs a group of {GROUP} references at least")
    chosen = [by_number[GROUP * group + part] for group in groups for part in range(GROUP)]
    first = chosen[0]
    for other in chosen[1:]:
        for name in ("holdout", "test"):
            if not np.array_equal(getattr(first, name).strata_N, getattr(other, name).strata_N):
                raise ValueError(f"references {first.number} and {other.number} scored different unseen data")
    reference_GN = np.full((len(groups), count), NEVER, dtype=np.int8)
    losses_GN = np.full((len(groups), count), np.nan, dtype=np.float32)
    strata_N = np.full(count, NEVER, dtype=np.int64)
    for place, reference in enumerate(chosen):
        group = place // GROUP
        reference_GN[group, reference.out_N] = place
        losses_GN[group, reference.out_N] = reference.train.losses_N
        strata_N[reference.out_N] = reference.train.strata_N
    return Bank(
        reference_GN,
        losses_GN,
        strata_N,
        np.stack([reference.holdout.losses_N for reference in chosen]).astype(np.float32),
        first.holdout.strata_N,
        np.stack([reference.test.losses_N for reference in chosen]).astype(np.float32),
        np.stack([reference.test.correct_N for reference in chosen]),
        first.test.strata_N,
    )
