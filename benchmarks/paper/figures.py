"""From what weights show to the figures of a table: distances to retrains, ranks, mean and range over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import ks_2samp, rankdata  # type: ignore[import-untyped]  # has no stubs

from unlearning.membership import match as match_by_class
from unlearning.membership import placements

Shown = Mapping[str, Any]
FIGURES = ("mu", "ue", "ue_threshold", "ks", "auc", "seconds", "speedup")
RANKED = ("mu", "ue", "seconds")


def against(shown: Shown, retrains: Sequence[Shown]) -> dict[str, float]:
    """The figures of some weights, each a mean over the retrains that they are held against.

    mu: |test accuracy - theirs|; ue, ue_threshold: |share of D_f called member - theirs|, by the paper's attack and by a
    loss threshold; ks: Kolmogorov-Smirnov distance of logit-scaled confidence on D_f; auc: how well a sample of
    D_f is told from unseen samples by its confidence less the mean of the retrains' on that very sample (1/2: not at
    all). All are shares; seconds as measured, speedup the retrains' mean seconds over it.

    Raises:
        ValueError: there is no retrain.
    """
    if not retrains:
        raise ValueError("figures are distances to retrains: at least one is needed")

    def gap(name: str) -> float:
        return float(np.mean([abs(shown[name] - other[name]) for other in retrains]))

    return {
        "mu": gap("accuracy"),
        "ue": gap("attack_forget"),
        "ue_threshold": gap("threshold_forget"),
        "ks": float(np.mean([ks_2samp(shown["phi_forget"], o["phi_forget"]).statistic for o in retrains])),
        "auc": _sample_auc(shown, retrains),
        "seconds": float(shown["seconds"]),
        "speedup": float(np.mean([o["seconds"] for o in retrains]) / max(shown["seconds"], 1e-9)),
    }


def retrain_against_retrain(retrains: Sequence[Shown]) -> dict[str, float]:
    """The noise floor: each retrain against the others, averaged.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(retrains) < 2:
        raise ValueError("a retrain is held against others: at least two are needed")
    found = [against(one, [o for o in retrains if o is not one]) for one in retrains]
    return {name: float(np.mean([figures[name] for figures in found])) for name in FIGURES}


def average_ranks(by_method: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean of a method's ranks by MU, UE and seconds; 1 is best, ties share the mean of their ranks."""
    names = list(by_method)
    ranks = [rankdata([by_method[name][figure] for name in names]) for figure in RANKED]
    return {name: float(mean) for name, mean in zip(names, np.mean(ranks, axis=0), strict=True)}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, lowest and highest over seeds."""
    return {"mean": float(np.mean(values)), "low": float(min(values)), "high": float(max(values))}


def _sample_auc(shown: Shown, retrains: Sequence[Shown]) -> float:
    """P(excess of a sample of D_f > excess of an unseen one), ties counting half."""
    excess = [np.array(shown[k]) - np.mean([o[k] for o in retrains], axis=0) for k in ("phi_forget", "phi_unseen")]
    forget_N, unseen_M = excess
    one_group = match_by_class(np.zeros(len(forget_N), np.int64), np.zeros(len(unseen_M), np.int64), minimum=1)
    return float(placements(-forget_N, -unseen_M, one_group)[0].mean())
