"""How well several attacks tell D_f from unseen data, on the parent and on the updated model.

An attack that finds nothing on the parent says nothing by finding nothing afterwards: so each figure comes twice. All are
class-matched, and rest on D_f being a fair draw within its classes.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from unlearning.bank import Bank
from unlearning.forecast import unseen_confidence
from unlearning.gradients import Scores
from unlearning.intervals import Interval, delong, wilson
from unlearning.membership import Floats, Matching, confidence, groups, match, placements
from unlearning.problem import Indices
from unlearning.signals import Signals
from unlearning.statistics import Statistic

RATES = (0.01, 0.05)
TAIL = 2  # unseen samples, at least, that a false-positive rate must let through
FAIR_DRAW = "assumes D_f is a fair draw within its classes"
ATTACKS = {
    "loss": "the loss, lower for a member",
    "network": "the paper's attack network, by its logit",
    "distance": "the distance to the own class in the penultimate layer, smaller for a member",
    "reference": "the logit-scaled confidence, held against references that never saw the sample",
}
ON_SIGNALS = ("loss", "network", "distance")
PRIOR = 4  # references more that the spread over all samples counts for


@dataclass(frozen=True)
class Pair:
    """One attack on one model: values of D_f and of unseen samples, smaller for a member."""

    forget_N: Floats
    unseen_M: Floats
    matching: Matching
    groups_M: Indices


def attack_statistics(
    forget_before: Signals,
    forget_after: Signals,
    unseen_before: Signals,
    unseen_after: Signals,
    fitted_N: NDArray[np.bool_],
    level: float,
) -> list[Statistic]:
    """Each attack's power over D_f, as `<figure>_before` on the parent and `<figure>` on the updated model.

    `auc_loss`, `auc_network`, `auc_distance`: the class-matched AUC, 1/2 where D_f ranks as unseen data does.
    `recall_<attack>_fpr1`, `..._fpr5`: the share of D_f called member where 1 % or 5 % of unseen samples of the same model
    are. `paper_recall`, `paper_fpr`: the shares of D_f and of unseen samples that the paper's attack calls members at its
    own threshold of 1/2. What the signals have no values of is left out, a rate that too few unseen samples can show as
    well, and the note of the AUC says so.

    `fitted_N` marks the samples of D_f that the network and the distance were fitted on (`Attacks.knows`): they count for
    the loss alone.

    Raises:
        ValueError: a set is empty, rows do not correspond, or the level is not between 0 and 1.
    """
    for before, after in ((forget_before, forget_after), (unseen_before, unseen_after)):
        if not np.array_equal(before.scores.strata_N, after.scores.strata_N):
            raise ValueError("the signals before and after are not of the same samples")
    if fitted_N.shape != (len(forget_before),):
        raise ValueError("fitted_N needs one value a sample of D_f")
    found: list[Statistic] = []
    models = (("_before", forget_before, unseen_before), ("", forget_after, unseen_after))
    for attack in ON_SIGNALS:
        left_out = int(fitted_N.sum()) if attack != "loss" else 0
        for suffix, forget, unseen in models:
            pair = signal_pair(attack, forget, unseen, fitted_N)
            if pair is not None:
                found += _of_attack(attack, suffix, pair, _note(attack, suffix, pair.matching, left_out), level)
    return found


def reference_statistics(
    bank: Bank, indices: Indices, before: tuple[Scores, Scores], after: tuple[Scores, Scores], level: float
) -> list[Statistic]:
    """`auc_reference`, `recall_reference_fpr1`, `..._fpr5`, and the same as `<figure>_before`: the likelihood-ratio attack.

    A sample's confidence is measured in deviations from what the bank's references that never saw it show of it; of an
    unseen sample as many references are taken. `before` and `after` hold the scores of D_f, at `indices` in the training
    set, and of the unseen samples. Samples that the bank does not know are left out.

    Source: offline LiRA (Carlini et al. 2022, arXiv:2112.03570), with the variance of a few references moderated by that
    over all samples, as their low-shadow variant fixes it. Ranks serve for their tail probability: it is a monotone
    transform.

    Raises:
        ValueError: the bank knows none of D_f.
    """
    left_out = int((~bank.known(indices)).sum())
    found: list[Statistic] = []
    for suffix, pair in zip(("_before", ""), reference_pairs(bank, indices, before, after), strict=True):
        note = _note("reference", suffix, pair.matching, 0)
        note += f"; without {left_out} of D_f that the bank does not know" if left_out else ""
        found += _of_attack("reference", suffix, pair, note, level)
    return found


def reference_pairs(
    bank: Bank, indices: Indices, before: tuple[Scores, Scores], after: tuple[Scores, Scores]
) -> tuple[Pair, Pair]:
    """What the likelihood-ratio attack goes by, before and after: see `reference_statistics`.

    Raises:
        ValueError: the bank knows none of D_f.
    """
    known_N = np.flatnonzero(bank.known(indices))
    if not len(known_N):
        raise ValueError("the bank knows no sample of D_f")
    expected_N, spread_N = _expected(confidence(bank.losses_GN[:, indices[known_N]].astype(np.float64)))
    expected_M, spread_M = _expected(unseen_confidence(bank))

    def pair(forget: Scores, unseen: Scores) -> Pair:
        forget = forget.rows(known_N)
        return Pair(
            (expected_N - confidence(forget.losses_N)) / spread_N,
            (expected_M - confidence(unseen.losses_N)) / spread_M,
            match(forget.strata_N, unseen.strata_N),
            groups(unseen.strata_N),
        )

    return pair(*before), pair(*after)


def _expected(confidence_GN: Floats) -> tuple[Floats, Floats]:
    """What a model that never saw them shows of samples, and how far it strays: mean and moderated deviation, in nats."""
    count = len(confidence_GN) - 1
    squares_N = np.square(confidence_GN - confidence_GN.mean(axis=0)).sum(axis=0)
    whole = float(squares_N.mean()) / count if count else 1.0
    spread_N: Floats = np.sqrt((PRIOR * whole + squares_N) / (PRIOR + count)) + 1e-9
    expected_N: Floats = confidence_GN.mean(axis=0)
    return expected_N, spread_N


def signal_pair(attack: str, forget: Signals, unseen: Signals, fitted_N: NDArray[np.bool_]) -> Pair | None:
    """What one of `ON_SIGNALS` goes by, without the samples that it was fitted on. None where there is no such signal, or
    nobody is left to ask it of."""
    if attack != "loss" and fitted_N.any():
        forget = forget.rows(~fitted_N)
    values = [_values(attack, signals) for signals in (forget, unseen)]
    if values[0] is None or values[1] is None or (len(forget) == 0 and attack != "loss"):
        return None
    matching = match(forget.scores.strata_N, unseen.scores.strata_N)
    return Pair(values[0], values[1], matching, groups(unseen.scores.strata_N))


def _values(attack: str, signals: Signals) -> Floats | None:
    if attack == "loss":
        return signals.scores.losses_N
    if attack == "distance":
        return signals.distance_N
    return None if signals.network_N is None else -signals.network_N


def _note(attack: str, suffix: str, matching: Matching, left_out: int) -> str:
    note = f"{ATTACKS[attack]}; on the {'parent' if suffix else 'updated model'}; {FAIR_DRAW}"
    if left_out:
        note += f"; without {left_out} of D_f that the attack was fitted on"
    if matching.pooled:
        note += f"; {matching.pooled} of D_f compared with all unseen samples, for want of their class"
    return note


def _of_attack(attack: str, suffix: str, pair: Pair, note: str, level: float) -> list[Statistic]:
    effective = 1 / float((pair.matching.weights_M**2).sum())
    shown = [rate for rate in RATES if effective >= TAIL / rate * (1 - 1e-9)]
    missing = "".join(
        f"; no recall at {rate:.0%} false positives, which needs {TAIL / rate:.0f} unseen samples like D_f: there are"
        f" effectively {effective:.0f}"
        for rate in RATES
        if rate not in shown
    )
    found = [_auc(f"auc_{attack}{suffix}", pair, note + missing, level)]
    found += [
        _recall(f"recall_{attack}_fpr{rate * 100:.0f}{suffix}", pair, rate, effective, note, level) for rate in shown
    ]
    if attack == "network":
        found += _paper(suffix, pair, effective, note, level)
    return found


def _auc(name: str, pair: Pair, note: str, level: float) -> Statistic:
    placed_N, influence_M = placements(pair.forget_N, pair.unseen_M, pair.matching)
    low, high = delong(placed_N, influence_M, pair.groups_M, level)
    auc, n = float(placed_N.mean()), len(placed_N)
    note = f"share of pairs of D_f and unseen samples ranked rightly by {note}"
    return Statistic(name, auc, max(low, 0.0), min(high, 1.0), level, n, "holdout", "DeLong, class-matched", note)


def _recall(name: str, pair: Pair, rate: float, effective: float, note: str, level: float) -> Statistic:
    """Recall at a false-positive rate, the threshold being a quantile of the unseen samples of the same model.

    Interval: Newcombe's square-and-add (1998; Zou and Donner 2008) of two errors: Wilson's of the share of D_f below the
    threshold, and what recall becomes as the threshold's own rate moves over its Wilson interval.
    """
    recall = recall_at(pair.forget_N, pair.unseen_M, pair.matching.weights_M, rate)
    low, high = _square_and_add(pair, recall, rate, effective, level)
    interval = (
        f"square-and-add of Wilson, for D_f and for the threshold; effective n {effective:.1f} of {len(pair.unseen_M)}"
    )
    note = f"share of D_f called member where {rate:.0%} of unseen samples like it are, by {note}"
    return Statistic(name, recall, low, high, level, len(pair.forget_N), "holdout", interval, note)


def _square_and_add(pair: Pair, recall: float, rate: float, effective: float, level: float) -> Interval:
    weights_M = pair.matching.weights_M
    low, high = wilson(recall, len(pair.forget_N), level)
    low_t, high_t = (recall_at(pair.forget_N, pair.unseen_M, weights_M, end) for end in wilson(rate, effective, level))
    return (
        max(0.0, recall - sqrt((recall - low) ** 2 + (recall - low_t) ** 2)),
        min(1.0, recall + sqrt((high - recall) ** 2 + (high_t - recall) ** 2)),
    )


def recall_at(forget_N: Floats, unseen_M: Floats, weights_M: Floats, rate: float) -> float:
    """The share of `forget_N` that is called member where a share `rate` of the weighted unseen values is, smallest first.

    Samples that tie with the threshold are called by lot, as many as make up the rate: the ROC curve, joined by straight
    lines (Fawcett 2006). So an attack that gives everybody one value has a recall of `rate`.
    """
    levels_K, places_M = np.unique(unseen_M, return_inverse=True)
    upto_K = np.cumsum(np.bincount(places_M, weights=weights_M))
    k = min(int(np.searchsorted(upto_K, rate - 1e-12)), len(levels_K) - 1)
    before = float(upto_K[k - 1]) if k else 0.0
    lot = min(1.0, (rate - before) / (float(upto_K[k]) - before))
    surely, with_ties = float((forget_N < levels_K[k]).mean()), float((forget_N <= levels_K[k]).mean())
    return surely + lot * (with_ties - surely)


def _paper(suffix: str, pair: Pair, effective: float, note: str, level: float) -> list[Statistic]:
    """The paper's own figure, and the false positives that it does not give."""
    recall = float((pair.forget_N < 0).mean())
    rate = min(1.0, float(pair.matching.weights_M @ (pair.unseen_M < 0)))

    def statistic(name: str, share: float, n: float, count: int, interval: str, text: str) -> Statistic:
        low, high = wilson(share, n, level)
        low, high = min(low, share), max(high, share)  # at 0 and 1 they differ by rounding
        text = f"share of {text}, called member at the threshold of 1/2 by {note}"
        return Statistic(f"{name}{suffix}", share, low, high, level, count, "the paper's attack", interval, text)

    n_f, n_h = len(pair.forget_N), len(pair.unseen_M)
    return [
        statistic("paper_recall", recall, n_f, n_f, "Wilson", "D_f"),
        statistic("paper_fpr", rate, effective, n_h, f"Wilson, effective n {effective:.1f}", "unseen samples like D_f"),
    ]
