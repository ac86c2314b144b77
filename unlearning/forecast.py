"""What a retrain without D_f will show of it, before there is one: the recall of the attack, and how far it may stray.

By the reference bank: the mean over references that never saw the sample, sample by sample. By the holdout: what the
parent shows of unseen samples that are as hard. Both forecast one retrain, not the mean of many, so the interval holds
the noise of a training as well: of each sample by itself, and of the model as a whole.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # type: ignore[import-untyped]  # scipy has no stubs

from unlearning.bank import Bank
from unlearning.division import GROUP
from unlearning.membership import Threshold, confidence
from unlearning.pairing import Pairing, Source
from unlearning.problem import Indices

Floats = NDArray[np.float64]
KNOWN = 0.8  # the share of D_f that a bank must know to speak for it
OUT = 1 / GROUP  # the share of the data that a reference lacks
CLASS_NOISE = 0.1  # LeNet-5 shows 0.02 to 0.14 of a class, both of its accuracy and of an attack's rate
MANY = 1e6  # degrees of freedom of a deviation that was not estimated from a few trainings


@dataclass(frozen=True)
class Forecast:
    """The recall that one retrain is expected to have on the samples at `rows_N` of D_f, and its standard deviation around
    that, with the degrees of freedom of the latter. `stretch` is by how much simulated tickets found the intervals of
    Student's t too short: 1 where they were not, or where there was nothing to simulate with."""

    source: Source
    recall: float
    sd: float
    degrees: float
    rows_N: Indices
    note: str
    stretch: float = 1.0

    def margin(self, level: float) -> float:
        """Half the width of the interval of that level around the forecast."""
        return self.stretch * float(stdtrit(self.degrees, (1 + level) / 2)) * self.sd


def by_bank(bank: Bank, forget: Indices, threshold: Threshold, parent_calls_M: NDArray[np.bool_]) -> Forecast | None:
    """The references' own answers on D_f; None where the bank knows less than `KNOWN` of it.

    Each sample's share is the mean over the references that never saw it (one a group). Its noise is estimated from
    their disagreement on D_f itself, that of a model as a whole from the references' recalls on unseen data, which all of
    them never saw. A reference learnt from three quarters of the data: what that does to the recall is read off unseen
    data, where the parent's calls are `parent_calls_M`, as far as it exceeds what two trainings differ by anyway.
    """
    rows_N = np.flatnonzero(bank.known(forget))
    groups = len(bank.losses_GN)
    if len(rows_N) < KNOWN * len(forget) or not len(rows_N):
        return None
    calls_GN = (bank.losses_GN[:, forget[rows_N]] <= threshold.loss).astype(np.float64)
    own = within(bank, calls_GN, forget[rows_N], threshold)
    common = common_variance(bank, threshold)
    shift, of_shift = lesson(bank, threshold, parent_calls_M, common, len(forget) / bank.losses_GN.shape[1])
    of_classes = common_variance(bank, threshold, bank.strata_N[forget[rows_N]])
    variance = (1 + 1 / groups) * own / len(rows_N) + (1 + 1 / bank.references) * of_classes + of_shift
    note = f"{bank.references} references, {groups} of which never saw each sample"
    if len(rows_N) < len(forget):
        note += f"; {len(forget) - len(rows_N)} samples of D_f that the bank does not know are left out"
    if shift:
        note += f"; {shift:+.3f} because they learnt from fewer samples"
    return Forecast("bank", float(calls_GN.mean()) + shift, sqrt(variance), bank.references - 1, rows_N, note)


def lesson(
    bank: Bank, threshold: Threshold, parent_calls_M: NDArray[np.bool_], common: float, share: float
) -> tuple[float, float]:
    """What the samples that a reference lacks would have taught it, as a shift of the recall, and the variance of that.

    The difference on unseen data is shrunk by the positive-part rule of James and Stein (1961), for it also holds the luck
    of the parent's own training. A retrain lacks the `share` that is forgotten, so it is due that much less of it.
    """
    seen = float(parent_calls_M.mean()) - float((bank.holdout_KM <= threshold.loss).mean())
    luck = (1 + 1 / bank.references) * common
    trust = max(0.0, 1 - luck / seen**2) if seen else 0.0
    due: float = trust * max(0.0, 1 - share / OUT)
    return due * seen, due * due * luck


def within(bank: Bank, calls_GN: Floats, indices: Indices, threshold: Threshold) -> float:
    """The variance of a training's answer on one sample, mean over the samples; at least that of a single doubtful one."""
    if len(calls_GN) > 1:
        own = float(np.mean(np.var(calls_GN, axis=0, ddof=1)))
    else:  # one group: what the references show of unseen samples of these classes, answered by several of them
        strata_N = bank.strata_N[indices]
        calls_KM = bank.holdout_KM[:, np.isin(bank.holdout_strata_M, strata_N)] <= threshold.loss
        own = float(np.mean(calls_KM.var(axis=0, ddof=1))) if calls_KM.size else 0.25
    return max(own, 0.25 / (len(indices) + 1))


def common_variance(bank: Bank, threshold: Threshold, strata_N: Indices | None = None) -> float:
    """The variance between references of their recall on unseen data: what a training does to the model as a whole.

    With `strata_N`, on unseen data of that mix of classes: what a training does to one class averages out over many and does
    not in a set of one class. Samples whose class is not among the unseen ones count for all classes.
    """
    return Common.of(bank, threshold).variance(strata_N)


@dataclass(frozen=True)
class Common:
    """The references' recalls on unseen data, of each class and of all."""

    classes_C: Indices
    recalls_KC: Floats
    recalls_K: Floats

    @staticmethod
    def of(bank: Bank, threshold: Threshold) -> "Common":
        calls_KM = bank.holdout_KM <= threshold.loss
        classes_C, theirs_M = np.unique(bank.holdout_strata_M, return_inverse=True)
        own_MC = np.eye(len(classes_C), dtype=np.float32)[theirs_M]
        recalls_KC = (calls_KM.astype(np.float32) @ own_MC) / own_MC.sum(axis=0)
        return Common(classes_C, recalls_KC.astype(np.float64), calls_KM.mean(axis=1))

    def variance(self, strata_N: Indices | None = None) -> float:
        """As `common_variance` has it."""
        recalls_K = self.recalls_K
        if strata_N is not None and len(strata_N):
            found, counts = np.unique(strata_N, return_counts=True)
            shares_C = np.zeros(len(self.classes_C))
            there = np.isin(found, self.classes_C)
            shares_C[np.searchsorted(self.classes_C, found[there])] = counts[there] / len(strata_N)
            recalls_K = self.recalls_KC @ shares_C + (1 - shares_C.sum()) * recalls_K
        return float(np.square(recalls_K - recalls_K.mean()).sum()) / (len(recalls_K) - 1)


def concentration(strata_N: Indices, strata_M: Indices) -> float:
    """By how much D_f's classes are fewer than the unseen data's: the sum of squared shares less theirs, from 0 to 1."""

    def squares(strata: Indices) -> float:
        shares = np.unique(strata, return_counts=True)[1] / len(strata)
        return float(np.square(shares).sum())

    return max(0.0, squares(strata_N) - squares(strata_M))


def by_holdout(pairing: Pairing, calls_M: NDArray[np.bool_], common_sd: float, crowded: float = 0.0) -> Forecast:
    """What the parent shows of unseen samples that are as hard as D_f.

    `common_sd` is the standard deviation of a recall between trainings; a holdout cannot tell it. Nor can it tell that of
    one class, which is several times larger: `CLASS_NOISE` of the deviation of a single answer, as far as D_f is `crowded`
    into few classes (`concentration`). Both count twice: the parent, who speaks here, is one training, and the retrain
    another.
    """
    shares_N = pairing.matched(calls_M.astype(np.float64))
    weights_M = pairing.weights_M
    own = (float((shares_N * (1 - shares_N)).sum()) + 0.25) / pairing.n_f**2
    around_M = calls_M - _smooth(pairing, shares_N)
    of_unseen = float((weights_M**2 * around_M**2).sum())
    recall = float(shares_N.mean())
    of_class = crowded * CLASS_NOISE**2 * recall * (1 - recall)
    sd = sqrt(own + of_unseen + 2 * (common_sd**2 + of_class))
    how = {
        "holdout": "as hard, by early features, and of the same class",
        "class": "of the same class",
        "bank": "as hard, by the bank",
    }
    note = f"the parent on unseen samples {how[pairing.source]}"
    if pairing.pooled:
        note += f"; {pairing.pooled} of D_f compared across classes, having too few unseen samples of their own"
    return Forecast("holdout", recall, sd, MANY, np.arange(pairing.n_f), note)


def _smooth(pairing: Pairing, shares_N: Floats) -> Floats:
    """smooth_M: for each unseen sample the mean share of those of D_f that are held against it."""
    sums_M = np.bincount(pairing.columns_P, shares_N[pairing.rows_P], pairing.n_h)
    counts_M = np.bincount(pairing.columns_P, minlength=pairing.n_h)
    smooth_M: Floats = sums_M / np.maximum(counts_M, 1)
    return smooth_M


def ease_of(bank: Bank, indices: Indices) -> Floats:
    """ease_N by the bank, in nats: the mean confidence of the references that never saw the sample. NaN where the bank does
    not know it."""
    ease_N: Floats = confidence(bank.losses_GN[:, indices].astype(np.float64)).mean(axis=0)
    return ease_N


def unseen_ease(bank: Bank) -> Floats:
    """ease_M in nats: for each unseen sample the mean over one reference a group."""
    ease_M: Floats = unseen_confidence(bank).mean(axis=0)
    return ease_M


def unseen_confidence(bank: Bank) -> Floats:
    """confidence_GM in nats of unseen samples, by one reference a group, drawn once and for all.

    No reference ever saw them, but as many are taken as for a training sample, so that the means of both stray alike.
    """
    groups, size = len(bank.losses_GN), bank.references // len(bank.losses_GN)
    count = bank.holdout_KM.shape[1]
    drawn_GM = np.random.default_rng(0).integers(0, size, (groups, count)) + size * np.arange(groups)[:, None]
    return confidence(np.take_along_axis(bank.holdout_KM, drawn_GM, axis=0).astype(np.float64))
