"""The holdout estimator: what an update did to membership and to utility, without a retrained model to compare with.

A model that never saw D_f would score it as it scores unseen data drawn the same way, class by class. That holds when
D_f is a fair draw from the data; for one class, outliers or mislabelled samples it does not, and every statistic that
rests on it says so in its note. All intervals are closed forms at one level; none is a proof of erasure.
"""

from typing import Any

import numpy as np

from unlearning.evidence import Evidence
from unlearning.gradients import Scores
from unlearning.intervals import bonett_price, delong, newcombe, wilson
from unlearning.membership import MINIMUM_CLASS, Matching, Threshold, match, placements
from unlearning.problem import Indices
from unlearning.statistics import LEVEL, Statistic, Statistics

FAIR_DRAW = "assumes D_f is a fair draw within its classes"


def validate(evidence: Evidence, level: float = LEVEL, seed_sd: float = 0.0) -> Statistics:
    """Every statistic that a verdict reads, with its interval. Deterministic.

    Names: `mu`, `ue`, `ue_before`, `forgetting`, `exposure_before`, `exposure`, `residual`,
    `holdout_shift`, `worst_class`, `attack_threshold`,
    `attack_tpr`, `attack_fpr`. `seed_sd` is the standard deviation of test accuracy between trainings, if known; it
    widens `mu`. Where the paper's MU and UE are absolute gaps to one retrained model, these are signed estimates.

    Raises:
        ValueError: a set is empty, or the level is not between 0 and 1.
    """
    matching = match(evidence.forget_before.strata_N, evidence.holdout_before.strata_N)
    values = (
        _mu(evidence, level, seed_sd),
        _ue(evidence, matching, level),
        _ue_before(evidence, matching, level),
        _forgetting(evidence, level),
        *_exposures(evidence, matching, level),
        _holdout_shift(evidence, level),
        _worst_class(evidence, level),
        *_attack(evidence, level),
    )
    return Statistics(values)


def _mu(evidence: Evidence, level: float, seed_sd: float) -> Statistic:
    before, after = evidence.test_before.correct_N, evidence.test_after.correct_N
    note = "change of accuracy on the audit test; what retraining on fewer samples would cost is taken as zero"
    if seed_sd > 0:
        note += f"; widened by the noise between trainings, sd {seed_sd:g}"
    return _paired("mu", before, after, level, "paired with the parent", note, seed_sd**2)


def _paired(
    name: str, before: Any, after: Any, level: float, estimator: str, note: str, extra: float = 0.0
) -> Statistic:
    """The change of a yes-or-no answer on the same samples."""
    gained, lost, n = int((after & ~before).sum()), int((before & ~after).sum()), len(before)
    low, high = bonett_price(gained, lost, n, level, extra)
    estimate = (gained - lost) / n
    interval = "Bonett-Price adjusted Wald, paired"
    return Statistic(name, estimate, min(low, estimate), max(high, estimate), level, n, estimator, interval, note)


def _ue(evidence: Evidence, matching: Matching, level: float) -> Statistic:
    return _excess("ue", evidence, evidence.forget_after, matching, level)


def _ue_before(evidence: Evidence, matching: Matching, level: float) -> Statistic:
    """What there was to forget: the attack's excess on the parent itself."""
    return _excess("ue_before", evidence, evidence.forget_before, matching, level)


def _forgetting(evidence: Evidence, level: float) -> Statistic:
    """The change of the attack's recall on D_f itself, paired: an update that does nothing changes no sample's call."""
    before = evidence.threshold.calls_member(evidence.forget_before)
    after = evidence.threshold.calls_member(evidence.forget_after)
    note = "share of D_f called member, updated model less parent; below zero: the update took members out of sight"
    return _paired("forgetting", before, after, level, "paired with the parent", note)


def _excess(name: str, evidence: Evidence, forget: Scores, matching: Matching, level: float) -> Statistic:
    recall = float(evidence.threshold.calls_member(forget).mean())
    weights_M = matching.weights_M
    expected = float(weights_M @ evidence.threshold.calls_member(evidence.holdout_before))
    effective_n = 1 / float((weights_M**2).sum())
    low, high = newcombe(recall, matching.n_f, min(expected, 1.0), effective_n, level)
    interval = f"Newcombe hybrid score, effective n {effective_n:.1f} of {matching.n_h} unseen"
    note = f"share of D_f called member, less that of unseen samples on the parent; {FAIR_DRAW}{_pooling(matching)}"
    return Statistic(name, recall - expected, low, high, level, matching.n_f, "holdout", interval, note)


def _pooling(matching: Matching) -> str:
    if not matching.pooled:
        return ""
    return (
        f"; {matching.pooled} of D_f compared with all unseen samples, having fewer than {MINIMUM_CLASS} of their class"
    )


def _exposures(evidence: Evidence, matching: Matching, level: float) -> tuple[Statistic, Statistic, Statistic]:
    """Exposure before, exposure after, and what remains beyond half of the former.

    The last is mean((placement_after - 1/2) - (placement_before - 1/2) / 2), sample by sample: an update that does
    nothing has half the exposure before, so it cannot lie below zero where that lies above.
    """
    before_N, before_M = placements(evidence.forget_before.losses_N, evidence.holdout_before.losses_N, matching)
    after_N, after_M = placements(evidence.forget_after.losses_N, evidence.holdout_after.losses_N, matching)
    groups_M = _groups(evidence.holdout_before.strata_N)

    def statistic(name: str, values_N: Any, influence_M: Any, bound: float, text: str) -> Statistic:
        low, high = delong(values_N, influence_M, groups_M, level)
        note = f"{text}; {FAIR_DRAW}{_pooling(matching)}" + ("; one sample has no rate" if matching.n_f == 1 else "")
        low, high = max(low, -bound), min(high, bound)
        estimate = float(values_N.mean())
        return Statistic(name, estimate, low, high, level, matching.n_f, "holdout", "DeLong, class-matched", note)

    text = "class-matched AUC of D_f against unseen samples, by loss, minus one half"
    return (
        statistic("exposure_before", before_N - 0.5, before_M, 0.5, f"{text}; on the parent"),
        statistic("exposure", after_N - 0.5, after_M, 0.5, f"{text}; on the updated model"),
        statistic(
            "residual",
            (after_N - 0.5) - (before_N - 0.5) / 2,
            after_M - before_M / 2,
            0.75,
            "exposure less half the exposure before, paired; below zero: more than half is gone",
        ),
    )


def _groups(strata_M: Indices) -> Indices:
    """The holdout's strata, with those of fewer than `MINIMUM_CLASS` samples taken together (as -1)."""
    values, counts = np.unique(strata_M, return_counts=True)
    groups: Indices = np.where(np.isin(strata_M, values[counts >= MINIMUM_CLASS]), strata_M, -1)
    return groups


def _holdout_shift(evidence: Evidence, level: float) -> Statistic:
    before = evidence.threshold.calls_member(evidence.holdout_before)
    after = evidence.threshold.calls_member(evidence.holdout_after)
    note = "change in the share of unseen samples called member; far below zero: the update damaged the model at large"
    return _paired("holdout_shift", before, after, level, "paired with the parent", note)


def _worst_class(evidence: Evidence, level: float) -> Statistic:
    """The class of the audit test whose accuracy changed for the worst; classes with few samples are left out."""
    before, after, strata_N = (
        evidence.test_before.correct_N,
        evidence.test_after.correct_N,
        evidence.test_before.strata_N,
    )
    classes, counts = np.unique(strata_N, return_counts=True)
    large = classes[counts >= MINIMUM_CLASS]
    if len(large) == 0:
        note = f"no class has {MINIMUM_CLASS} test samples: all taken together"
        return _paired("worst_class", before, after, level, "paired with the parent", note)
    changes = [float(after[strata_N == c].mean() - before[strata_N == c].mean()) for c in large]
    worst = int(large[int(np.argmin(changes))])
    note = f"class {worst}; the smallest of {len(large)} changes, so it lies below zero by chance alone"
    if len(large) < len(classes):
        note += f"; {len(classes) - len(large)} classes with fewer than {MINIMUM_CLASS} test samples left out"
    rows = strata_N == worst
    return _paired("worst_class", before[rows], after[rows], level, "paired with the parent", note)


def _attack(evidence: Evidence, level: float) -> tuple[Statistic, Statistic, Statistic]:
    """How good the attack is on the parent: without that, a low recall means nothing."""
    threshold = evidence.threshold
    tpr = float(threshold.calls_member(evidence.retained).mean())
    fpr = float(threshold.calls_member(evidence.holdout_before).mean())
    fitted = threshold.n_members + threshold.n_unseen
    note = f"loss at or below which the attack says member; balanced accuracy {threshold.balanced_accuracy:.3f} where fitted"
    low, high = wilson(tpr, len(evidence.retained), level)
    low_f, high_f = wilson(fpr, len(evidence.holdout_before), level)
    return (
        Statistic(
            "attack_threshold", threshold.loss, threshold.loss, threshold.loss, level, fitted, "fit", "none", note
        ),
        Statistic(
            "attack_tpr",
            tpr,
            low,
            high,
            level,
            len(evidence.retained),
            "share of retained samples called member",
            "Wilson",
            "on the parent, on samples the attack was not fitted on",
        ),
        Statistic(
            "attack_fpr",
            fpr,
            low_f,
            high_f,
            level,
            len(evidence.holdout_before),
            "share of unseen samples called member",
            "Wilson",
            "on the parent, on the audit holdout",
        ),
    )


def truth(
    threshold: Threshold,
    forget_updated: Scores,
    forget_retrained: Scores,
    test_updated: Scores,
    test_retrained: Scores,
    level: float = LEVEL,
) -> Statistics:
    """True signed `true_mu` and `true_ue`, once a model retrained without D_f exists; with the threshold of the validation.

    The paper's MU and UE are their absolute values. One retrain is one draw: the noise between retrains is in it.

    Raises:
        ValueError: a set is empty, or the scores are not of the same samples.
    """
    for one, other in ((forget_updated, forget_retrained), (test_updated, test_retrained)):
        if len(one) == 0 or not np.array_equal(one.strata_N, other.strata_N):
            raise ValueError("the updated and the retrained model need scores of the same samples, at least one")
    note = "updated model less retrained model"
    called = threshold.calls_member(forget_retrained), threshold.calls_member(forget_updated)
    return Statistics(
        (
            _paired("true_mu", test_retrained.correct_N, test_updated.correct_N, level, "retrain", f"accuracy: {note}"),
            _paired("true_ue", *called, level, "retrain", f"share of D_f called member: {note}"),
        )
    )
