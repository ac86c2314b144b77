"""What an update did to membership and to utility, estimated while no retrained model exists.

Two sources say what a retrain would show: the reference bank, sample by sample, where the version has one; and unseen
data that is as hard, always. Where they can be had, both are told; the verdict rests on the bank. Each statistic names
its estimator, interval and assumption in its own words, and none is a proof of erasure. Everything is deterministic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]  # scipy has no stubs

from unlearning.attack_statistics import attack_statistics, reference_statistics
from unlearning.bank import Bank
from unlearning.calibration import calibrated, simulate
from unlearning.evidence import Evidence
from unlearning.forecast import (
    CLASS_NOISE,
    KNOWN,
    MANY,
    Forecast,
    by_bank,
    by_holdout,
    concentration,
    ease_of,
    unseen_ease,
)
from unlearning.gradients import Scores
from unlearning.intervals import bonett_price, delong, normal_quantile, wider, wilson
from unlearning.membership import Floats
from unlearning.pairing import Pairing, Source, fair_draw, pair
from unlearning.problem import Indices
from unlearning.sequence import beside, cumulative_mu, exposure_of_neighbours, neighbours
from unlearning.statistics import LEVEL, Statistic, Statistics
from unlearning.tails import Tails, Unseen, tails
from unlearning.utility import utility_statistics, worst_class

SEED_SD = 0.005
"""What test accuracy and the rates of an attack differ by between trainings, as a standard deviation, where neither a bank
nor an operator has said so. LeNet-5 and a multilayer perceptron on tens of thousands of samples show 0.004 to 0.006."""
PRIOR = 4  # trainings that an assumed deviation counts for
FEW = 50  # samples below which no rate is claimed
HOW: dict[Source, str] = {
    "bank": "as hard, by the references that never saw them, and of the same class",
    "holdout": "as hard, by early features, and of the same class",
    "class": "of the same class",
}


@dataclass(frozen=True)
class Compared:
    """D_f held against unseen data: which of its rows, and the pairs."""

    rows_N: Indices
    pairing: Pairing
    ease_N: Floats
    ease_M: Floats


def validate(evidence: Evidence, level: float = LEVEL, seed_sd: float | None = None) -> Statistics:
    """Every statistic that a verdict reads or an audit shows, with its interval.

    Those that decide: `mu`, `ue`, `ue_before`, `forgetting`, `exposure_before`, `exposure`, `exposure_change`,
    `residual`, `overshoot`, `members`, `strangers`, `worst_class`, `cumulative_mu`, `neighbours`, `fair_draw`,
    `attack_tpr`, `attack_fpr`. The intervals of `mu` and `ue` are for one retrain that may still come, not for the
    mean of many. `seed_sd` is the standard deviation of test accuracy between trainings as far as it is known; a
    bank's own figure goes before it. Where the paper's MU and UE are absolute gaps to one retrained model, these are
    signed estimates.

    Raises:
        ValueError: a set is empty, or the level is not between 0 and 1.
    """
    normal_quantile(level)
    bank = evidence.bank
    compared = compare(evidence)
    forecasts = forecast(evidence, level, SEED_SD if seed_sd is None else seed_sd)
    found = [
        *against_a_retrain(evidence, forecasts, level, seed_sd),
        _forgetting(evidence, forecasts[0], level),
        *_exposures(evidence, compared, level),
        *_standing_out(evidence, compared, level),
        _fair_draw(evidence, level),
        _support(compared, level),
        _kin(evidence, compared, level),
        _holdout_shift(evidence, level),
        worst_class(evidence.test_before.scores, evidence.test_after.scores, level, class_noise(evidence)),
        cumulative_mu(evidence.anchor_T, evidence.test_after.scores.correct_N, level),
        *_neighbours(evidence, level),
        *utility_statistics(evidence.test_before, evidence.test_after, level),
        *attack_statistics(
            evidence.forget_before,
            evidence.forget_after,
            evidence.holdout_before,
            evidence.holdout_after,
            evidence.fitted_N,
            level,
        ),
        *_attack(evidence, level),
    ]
    if bank is not None:
        found.append(_lesson(evidence, bank, level))
    if bank is not None and compared.pairing.source == "bank":
        before, after = (
            (evidence.forget_before, evidence.holdout_before),
            (evidence.forget_after, evidence.holdout_after),
        )
        scored = [(forget.scores, unseen.scores) for forget, unseen in (before, after)]
        found += reference_statistics(bank, evidence.forget_N, scored[0], scored[1], level)
    return Statistics(tuple(found))


def against_a_retrain(
    evidence: Evidence, forecasts: list[Forecast], level: float, seed_sd: float | None = None
) -> list[Statistic]:
    """`mu`, `ue`, `ue_before`, and `ue_<source>` where several can say: the figures that a later retrain proves right or
    wrong."""
    return [
        _mu(evidence, level, SEED_SD if seed_sd is None else seed_sd),
        *_excesses(evidence, forecasts, level),
    ]


def compare(evidence: Evidence) -> Compared:
    """Hold D_f against unseen samples that are as hard: by the bank where it knows D_f, else by early features, else by
    class alone."""
    strata_N, strata_M = evidence.forget_before.scores.strata_N, evidence.holdout_before.scores.strata_N
    everything_N = np.arange(len(strata_N))
    if evidence.bank is not None:
        known_N = np.flatnonzero(evidence.bank.known(evidence.forget_N))
        if len(known_N) >= KNOWN * len(everything_N):
            ease_N, ease_M = ease_of(evidence.bank, evidence.forget_N[known_N]), unseen_ease(evidence.bank)
            return Compared(known_N, pair(ease_N, strata_N[known_N], ease_M, strata_M, "bank"), ease_N, ease_M)
    if evidence.ease_N is not None and evidence.ease_M is not None:
        by_features = pair(evidence.ease_N, strata_N, evidence.ease_M, strata_M, "holdout")
        return Compared(everything_N, by_features, evidence.ease_N, evidence.ease_M)
    zeros_N, zeros_M = np.zeros(len(strata_N)), np.zeros(len(strata_M))
    return Compared(everything_N, pair(zeros_N, strata_N, zeros_M, strata_M, "class"), zeros_N, zeros_M)


def forecast(evidence: Evidence, level: float, common_sd: float) -> list[Forecast]:
    """The recall that a retrain is due, from each source that can say, the one to go by first."""
    threshold, bank = evidence.threshold, evidence.bank
    calls_M = threshold.calls_member(evidence.holdout_before.scores)
    unbanked = compare(Evidence(**vars(evidence) | {"bank": None}))
    crowded = concentration(evidence.forget_before.scores.strata_N, evidence.holdout_before.scores.strata_N)
    found = [by_holdout(unbanked.pairing, calls_M, common_sd, crowded)]
    if bank is None:
        return found
    of_bank = by_bank(bank, evidence.forget_N, threshold, calls_M)
    if of_bank is None:
        return found
    size = len(of_bank.rows_N)
    simulation = simulate(bank, threshold, evidence.forget_N, size) if size >= FEW else None
    return [calibrated(of_bank, simulation, level), *found]


def _mu(evidence: Evidence, level: float, common_sd: float) -> Statistic:
    """Accuracy of the update less that of a retrain, for which the parent's stands in.

    On these very test samples the update's change is exact, so the interval holds what two trainings differ by, the
    parent's luck and the retrain's; and, for the samples to come, that of a paired change.
    """
    before, after = evidence.test_before.scores.correct_N, evidence.test_after.scores.correct_N
    gained, lost, n = int((after & ~before).sum()), int((before & ~after).sum()), len(before)
    sd, degrees = seed_noise(evidence.bank, common_sd)
    whence = (
        "assumed"
        if evidence.bank is None
        else f"of {evidence.bank.references} references, tempered by what was assumed"
    )
    low, high = bonett_price(gained, lost, n, level)
    estimate = (gained - lost) / n
    noise = sqrt(2) * sd * float(stdtrit(degrees, (1 + level) / 2))
    note = f"change of accuracy on the audit test; noise between trainings: sd {sd:.4f}, {whence}"
    interval = "Bonett-Price, paired, and the noise of two trainings, added in squares"
    low, high = wider(estimate, (low, high), noise)
    return Statistic("mu", estimate, low, high, level, n, "paired with the parent", interval, note)


def seed_noise(bank: Bank | None, common_sd: float) -> tuple[float, float]:
    """The standard deviation of test accuracy between trainings, and its degrees of freedom.

    That of a few references is itself uncertain, so it is moderated: `common_sd` counts for `PRIOR` trainings more (the
    posterior mean of a variance under a scaled inverse chi-square prior; Smyth 2004).
    """
    if bank is None or bank.references < 2:
        return common_sd, MANY
    accuracy_K = bank.test_correct_KT.mean(axis=1)
    squares = float(np.square(accuracy_K - accuracy_K.mean()).sum())
    degrees = PRIOR + bank.references - 1
    return sqrt((PRIOR * common_sd**2 + squares) / degrees), degrees


def class_noise(evidence: Evidence) -> dict[int, Callable[[float], float]]:
    """For each class, what its accuracy differs by between two trainings: half the width of an interval at a level.

    Of the bank's references, or else `CLASS_NOISE` of the deviation of a single answer.
    """
    bank, before = evidence.bank, evidence.test_before.scores
    if bank is not None and bank.references > 1:
        answers, strata, degrees = bank.test_correct_KT, bank.test_strata_T, float(bank.references - 1)
        sds = {int(c): float(np.std(answers[:, strata == c].mean(axis=1), ddof=1)) for c in np.unique(strata)}
    else:
        rates = {int(c): float(before.correct_N[before.strata_N == c].mean()) for c in np.unique(before.strata_N)}
        sds, degrees = {c: CLASS_NOISE * sqrt(rate * (1 - rate)) for c, rate in rates.items()}, MANY

    def margin(sd: float) -> Callable[[float], float]:
        return lambda level: sqrt(2) * sd * float(stdtrit(degrees, (1 + level) / 2))

    return {c: margin(sd) for c, sd in sds.items()}


def _paired(name: str, before: Any, after: Any, level: float, estimator: str, note: str) -> Statistic:
    """The change of a yes-or-no answer on the same samples."""
    gained, lost, n = int((after & ~before).sum()), int((before & ~after).sum()), len(before)
    low, high = bonett_price(gained, lost, n, level)
    estimate = (gained - lost) / n
    interval = "Bonett-Price adjusted Wald, paired"
    return Statistic(name, estimate, min(low, estimate), max(high, estimate), level, n, estimator, interval, note)


def _excesses(evidence: Evidence, forecasts: list[Forecast], level: float) -> list[Statistic]:
    """`ue` and `ue_before` by the source to go by, and `ue_<source>` by each where there are two."""
    chosen = forecasts[0]
    found = [
        _excess("ue", evidence, evidence.forget_after.scores, chosen, level),
        _excess("ue_before", evidence, evidence.forget_before.scores, chosen, level),
    ]
    if len(forecasts) > 1:
        after = evidence.forget_after.scores
        found += [_excess(f"ue_{each.source}", evidence, after, each, level) for each in forecasts]
    return found


def _excess(name: str, evidence: Evidence, forget: Scores, due: Forecast, level: float) -> Statistic:
    """The attack's recall on D_f less what a retrain is due. The recall is exact: D_f is all there is of it."""
    recall = float(evidence.threshold.calls_member(forget)[due.rows_N].mean())
    margin = due.margin(level)
    estimate = recall - due.recall
    note = f"share of D_f called member, {recall:.3f}, less what a retrain is due, {due.recall:.3f}: {due.note}"
    if len(due.rows_N) < FEW:
        note += f"; so few samples have no rate: below {FEW} this decides nothing"
    kind = "Student's t" if due.degrees < 1e5 else "normal"
    interval = f"{kind} interval for one retrain, sd {due.sd:.4f}"
    if due.stretch > 1:
        interval += f", stretched {due.stretch:.2f} times by simulated tickets"
    low, high = max(-1.0, estimate - margin), min(1.0, estimate + margin)
    return Statistic(
        name, estimate, min(low, estimate), max(high, estimate), level, len(due.rows_N), due.source, interval, note
    )


def _forgetting(evidence: Evidence, due: Forecast, level: float) -> Statistic:
    """The change of the attack's recall on D_f itself, paired: an update that does nothing changes no sample's call."""
    before = evidence.threshold.calls_member(evidence.forget_before.scores)[due.rows_N]
    after = evidence.threshold.calls_member(evidence.forget_after.scores)[due.rows_N]
    note = "share of D_f called member, updated model less parent; below zero: the update took members out of sight"
    return _paired("forgetting", before, after, level, "paired with the parent", note)


def _exposures(evidence: Evidence, compared: Compared, level: float) -> list[Statistic]:
    """Exposure before and after, its change, and by how much what is left exceeds half of what there was, on either side.

    `residual` is mean((after - 1/2) - (before - 1/2) / 2) of the placements, sample by sample; below zero, less than half
    is left. `overshoot` is mean((after - 1/2) + (before - 1/2) / 2); above zero, D_f does not stand out below unseen data
    by half of what it stood out above. An update that does nothing has a residual of half the exposure: it cannot lie
    below zero where that lies above.
    """
    rows_N, pairing = compared.rows_N, compared.pairing
    forget_before, forget_after = (
        one.scores.losses_N[rows_N] for one in (evidence.forget_before, evidence.forget_after)
    )
    before_N, before_M = pairing.placements(forget_before, evidence.holdout_before.scores.losses_N)
    after_N, after_M = pairing.placements(forget_after, evidence.holdout_after.scores.losses_N)
    whole_M = np.zeros(pairing.n_h, dtype=np.int64)
    how = f"against unseen samples {HOW[pairing.source]}"
    if pairing.pooled:
        how += f"; {pairing.pooled} of D_f held against all classes, having too few unseen samples of their own"
    if len(rows_N) < len(evidence.forget_N):
        how += f"; without {len(evidence.forget_N) - len(rows_N)} of D_f that the bank does not know"
    how += "; one sample has no rate" if pairing.n_f == 1 else ""

    def statistic(name: str, values_N: Floats, influence_M: Floats, bound: float, text: str) -> Statistic:
        low, high = delong(values_N, influence_M, whole_M, level)
        estimate, note = float(values_N.mean()), f"{text}; {how}"
        low, high = max(low, -bound), min(high, bound)
        return Statistic(name, estimate, low, high, level, pairing.n_f, pairing.source, "DeLong, matched", note)

    text = "AUC of D_f by loss, each sample among its like, minus one half"
    left, more = "exposure less half the exposure before, paired", "exposure plus half the exposure before, paired"
    return [
        statistic("exposure_before", before_N - 0.5, before_M, 0.5, f"{text}; on the parent"),
        statistic("exposure", after_N - 0.5, after_M, 0.5, f"{text}; on the updated model"),
        statistic(
            "exposure_change",
            after_N - before_N,
            after_M - before_M,
            1.0,
            "exposure less the exposure before, paired; below zero: it fell",
        ),
        statistic(
            "residual",
            (after_N - 0.5) - (before_N - 0.5) / 2,
            after_M - before_M / 2,
            0.75,
            f"{left}; below zero: more than half is gone",
        ),
        statistic(
            "overshoot",
            (after_N - 0.5) + (before_N - 0.5) / 2,
            after_M + before_M / 2,
            0.75,
            f"{more}; above zero: D_f does not stand out the other way instead",
        ),
    ]


def _standing_out(evidence: Evidence, compared: Compared, level: float) -> list[Statistic]:
    """How many samples of D_f stand out one by one: `members_before`, `members` and `strangers`, as shares of D_f."""
    rows_N, pairing = compared.rows_N, compared.pairing
    unseen = Unseen.of(compared.ease_M, evidence.holdout_before.scores.strata_N)

    def of(forget: Scores, holdout: Scores) -> Tails:
        return tails(pairing, unseen, forget.losses_N[rows_N], holdout.losses_N)

    before = of(evidence.forget_before.scores, evidence.holdout_before.scores)
    after = of(evidence.forget_after.scores, evidence.holdout_after.scores)
    few = pairing.n_f < FEW

    def statistic(name: str, count: int, p_N: Floats, text: str) -> Statistic:
        low, high = wilson(count / pairing.n_f, pairing.n_f, level)
        note = f"{text} (Benjamini-Hochberg at 1 %); unseen samples {HOW[pairing.source]}"
        if few:
            note += "; p, ascending: " + ", ".join(f"{p:.3f}" for p in np.sort(p_N))
        return Statistic(
            name, count / pairing.n_f, low, high, level, pairing.n_f, pairing.source, "Wilson; conformal p", note
        )

    members = "share of D_f that stands out above unseen samples, one by one"
    strangers = "share of D_f that stands out below unseen samples, one by one, on the updated model"
    return [
        statistic("members_before", before.found()[0], before.member_N, f"{members}, on the parent"),
        statistic("members", after.found()[0], after.member_N, f"{members}, on the updated model"),
        statistic("strangers", after.found()[1], after.stranger_N, strangers),
    ]


def _fair_draw(evidence: Evidence, level: float) -> Statistic:
    """Is D_f as hard as unseen data of its classes? What the holdout's word rests on."""
    strata_N, strata_M = evidence.forget_before.scores.strata_N, evidence.holdout_before.scores.strata_N
    estimator = "class-matched AUC of hardness, minus one half"
    bank = evidence.bank
    known_N = np.flatnonzero(bank.known(evidence.forget_N)) if bank is not None else np.empty(0, dtype=np.int64)
    if bank is not None and len(known_N) >= KNOWN * len(strata_N):
        ease_N, ease_M, by = ease_of(bank, evidence.forget_N[known_N]), unseen_ease(bank), "the references"
        strata_N = strata_N[known_N]
    elif evidence.ease_N is not None and evidence.ease_M is not None:
        ease_N, ease_M, by = evidence.ease_N, evidence.ease_M, "early features"
    else:
        note = "cannot be tested: nothing tells how hard a sample is"
        return Statistic("fair_draw", 0.0, -0.5, 0.5, level, len(strata_N), estimator, "none", note)
    auc, placements_N, influence_M = fair_draw(ease_N, strata_N, ease_M, strata_M)
    low, high = delong(placements_N - 0.5, influence_M, np.zeros(len(influence_M), dtype=np.int64), level)
    low, high = max(low, -0.5), min(high, 0.5)
    broken = (low > 0 or high < 0) and abs(auc - 0.5) > 0.05
    note = f"D_f against unseen data of its classes, by {by}; below zero: harder; "
    note += "it is not a fair draw" if broken else "a fair draw is not contradicted"
    return Statistic("fair_draw", auc - 0.5, low, high, level, len(strata_N), estimator, "DeLong", note)


def _support(compared: Compared, level: float) -> Statistic:
    """Are there unseen samples as hard as D_f at all? What its exposure rests on."""
    pairing = compared.pairing
    starts_N = np.flatnonzero(np.diff(pairing.rows_P, prepend=-1))
    ease_P = compared.ease_M[pairing.columns_P]
    low_N, high_N = np.minimum.reduceat(ease_P, starts_N), np.maximum.reduceat(ease_P, starts_N)
    inside = int(((compared.ease_N >= low_N) & (compared.ease_N <= high_N)).sum())
    note = f"share of D_f that lies among unseen samples {HOW[pairing.source]}, not beyond them"
    low, high = wilson(inside / pairing.n_f, pairing.n_f, level)
    return Statistic("support", inside / pairing.n_f, low, high, level, pairing.n_f, pairing.source, "Wilson", note)


def _kin(evidence: Evidence, compared: Compared, level: float) -> Statistic:
    """How much of its own kind D_f takes along. References have seen three quarters of that kind, and unseen data is answered
    by a model that saw all of it: neither says what a retrain shows that will have seen hardly any.

    By the bank, kind is class and hardness; else it is class, by its share among retained samples.
    """
    strata_N = evidence.forget_before.scores.strata_N
    if evidence.bank is not None and compared.pairing.source == "bank":
        known_L = np.flatnonzero(evidence.bank.known(np.arange(evidence.bank.losses_GN.shape[1])))
        strata_L = evidence.bank.strata_N[known_L]
        near = pair(compared.ease_N, strata_N[compared.rows_N], ease_of(evidence.bank, known_L), strata_L, "bank")
        share_N = near.matched(np.isin(known_L, evidence.forget_N).astype(np.float64))
        how = "the nearest training samples of its class in hardness"
    else:
        retained, count = evidence.retained, evidence.count or len(evidence.retained)
        classes, theirs_N, own_C = np.unique(strata_N, return_inverse=True, return_counts=True)
        others_C = np.array([int((retained.strata_N == stratum).sum()) + 1 for stratum in classes])
        others_N = (others_C / (len(retained) + 1) * max(0, count - len(strata_N)))[theirs_N]
        own_N = own_C[theirs_N]
        share_N, how = own_N / (own_N + others_N), "the training samples of its class"
    share, n = float(share_N.mean()), len(share_N)
    low, high = wilson(min(1.0, share), n, level)
    note = f"share of D_f among {how}, mean over D_f"
    return Statistic("kin", share, min(low, share), max(high, share), level, n, compared.pairing.source, "Wilson", note)


def _holdout_shift(evidence: Evidence, level: float) -> Statistic:
    before = evidence.threshold.calls_member(evidence.holdout_before.scores)
    after = evidence.threshold.calls_member(evidence.holdout_after.scores)
    note = "change in the share of unseen samples called member; far below zero: the update damaged the model at large"
    return _paired("holdout_shift", before, after, level, "paired with the parent", note)


def _neighbours(evidence: Evidence, level: float) -> list[Statistic]:
    """Retained samples near D_f, beside the other retained ones: nothing where the network has no features to be near in, or
    nobody is left to watch."""
    forget_FD, retained_ND = evidence.forget_before.features_ND, evidence.neighbours_before.features_ND
    if forget_FD is None or retained_ND is None:
        return []
    near_N = neighbours(forget_FD, retained_ND) if len(retained_ND) else np.empty(0, dtype=np.int64)
    far_N = np.setdiff1d(np.arange(len(retained_ND)), near_N)
    if not len(near_N) or not len(far_N):
        return []
    near, far = (
        exposure_of_neighbours(
            evidence.neighbours_before.scores.rows(rows_N),
            evidence.neighbours_after.scores.rows(rows_N),
            evidence.holdout_before.scores,
            evidence.holdout_after.scores,
            level,
        )
        for rows_N in (near_N, far_N)
    )
    return [beside(near, far)]


def _lesson(evidence: Evidence, bank: Bank, level: float) -> Statistic:
    """How the references differ from the version on data that none has seen."""
    parent = float(evidence.threshold.calls_member(evidence.holdout_before.scores).mean())
    recalls_K = (bank.holdout_KM <= evidence.threshold.loss).mean(axis=1)
    sd = float(np.std(recalls_K, ddof=1)) * sqrt(1 + 1 / bank.references)
    margin = float(stdtrit(bank.references - 1, (1 + level) / 2)) * sd
    estimate = parent - float(recalls_K.mean())
    note = (
        "share of unseen samples that the attack calls member: the parent less the references, which learnt from fewer"
    )
    interval = "Student's t, for one training more"
    return Statistic(
        "reference_shift",
        estimate,
        estimate - margin,
        estimate + margin,
        level,
        bank.references,
        "bank",
        interval,
        note,
    )


def _attack(evidence: Evidence, level: float) -> tuple[Statistic, ...]:
    """How good the attack is on the parent: without that, a low recall means nothing."""
    threshold, holdout = evidence.threshold, evidence.holdout_before.scores
    tpr = float(threshold.calls_member(evidence.retained).mean())
    fpr = float(threshold.calls_member(holdout).mean())
    fitted = threshold.n_members + threshold.n_unseen
    note = f"loss at or below which the attack says member; balanced accuracy {threshold.balanced_accuracy:.3f} where fitted"
    rates = (
        ("attack_tpr", tpr, len(evidence.retained), "retained", "on samples the attack was not fitted on"),
        ("attack_fpr", fpr, len(holdout), "unseen", "on the audit holdout"),
    )
    return (
        Statistic(
            "attack_threshold", threshold.loss, threshold.loss, threshold.loss, level, fitted, "fit", "none", note
        ),
        *(
            Statistic(
                name,
                rate,
                *wilson(rate, n, level),
                level,
                n,
                f"share of {who} samples called member",
                "Wilson",
                f"on the parent, {where}",
            )
            for name, rate, n, who, where in rates
        ),
    )
