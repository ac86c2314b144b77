"""What a validation saw behind its statistics, for a reader's eye: distributions, ROC curves, utility by class.

Of D_f there are counts in bins whose edges do not depend on it, means, and curves on a fixed grid; no single sample's value,
so no quantile either, which is one or lies between two. Under `FEWEST` samples even those would be some sample's own, so there
are none; under `FEW` they are coarse. Everything is made of scores that the validation has at hand anyway, and deterministic.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlearning.attack_statistics import ON_SIGNALS, Pair, reference_pairs, signal_pair
from unlearning.evidence import Evidence
from unlearning.gradients import Scores
from unlearning.membership import Floats
from unlearning.problem import Indices
from unlearning.signals import Signals
from unlearning.validation import FEW, compare

FEWEST = 10
"""Samples of D_f, and people that they are of, below which nothing of it is drawn: a bin or a step would be one of them."""
MOST_CLASSES = 100
PROBABILITIES = (
    0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 0.997, 0.999, 0.9997, 0.9999, 0.99997, 0.99999,
    0.999997, 0.999999,
)  # fmt: skip
"""About evenly apart in log odds: a network that learnt by heart is sure to the fourth decimal, and one that did not is not."""
COARSE_PROBABILITIES = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
LOSS_BINS, COARSE_LOSS_BINS = 18, 6
RATES = (0.0, 0.01, 0.02, 0.03, 0.04, *(n / 20 for n in range(1, 21)))
COARSE_RATES = tuple(n / 10 for n in range(11))
SAME = 1e-4  # by which two ways to a probability in single precision may differ
Quantity = Literal["probability", "loss", "gradient norm"]


@dataclass(frozen=True)
class Binned:
    """How one quantity spreads over some samples on one model. Bin k holds the values from edge k-1 up to, but without,
    edge k; the first and the last are open. `mean` is weighted as the shares are."""

    counts: tuple[int, ...]
    shares: tuple[float, ...]
    mean: float


@dataclass(frozen=True)
class Spread:
    """One quantity of D_f and of the unseen samples that it is held against, before and after the update.

    The unseen samples' `shares` are weighted as the comparison weighs them: alike in class, and in hardness where that is
    known; their `counts` are not weighted.
    """

    quantity: Quantity
    edges: tuple[float, ...]
    n_f: int
    n_h: int
    forget_before: Binned
    forget_after: Binned
    unseen_before: Binned
    unseen_after: Binned
    seed: int | None = None


@dataclass(frozen=True)
class Roc:
    """One attack on D_f before and after: its recall at some false-positive `rates`, and the area under the whole curve.

    The rate is that among unseen samples of a sample's own class, so each class has a threshold of its own: the
    covariate-adjusted curve of Janes and Pepe (2009). Its area is the verdict's class-matched AUC.
    """

    attack: str
    rates: tuple[float, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    auc_before: float
    auc_after: float
    n_f: int
    n_h: int


@dataclass(frozen=True)
class Classes:
    """Right answers on the audit's test by class; `before` is None where there is no version before. Above `MOST_CLASSES`
    those whose accuracy changed least are left out."""

    labels: tuple[int, ...]
    n: tuple[int, ...]
    before: tuple[int, ...] | None
    after: tuple[int, ...]
    left_out: int


@dataclass(frozen=True)
class Figures:
    """All figures that cost no pass. `withheld` says why D_f has none, where it has none."""

    n_f: int
    coarse: bool
    withheld: str | None
    confidence: Spread | None
    source: str
    roc: tuple[Roc, ...]
    classes: Classes


def figures_of(evidence: Evidence, whose_N: Sequence[Hashable] | None = None) -> Figures:
    """Everything that the scores of a validation show.

    `source` says how the unseen samples that D_f is held against were found, as `pairing.Source`; `whose_N` says of whom each
    sample of D_f is, each of somebody else where it is left out.
    """
    compared = compare(evidence)
    n_f = len(compared.rows_N)
    classes = classes_of(evidence.test_before.scores, evidence.test_after.scores)
    source = compared.pairing.source
    people = n_f if whose_N is None else len({whose_N[row] for row in compared.rows_N.tolist()})
    if min(n_f, people) < FEWEST:
        withheld = too_few(n_f) if n_f < FEWEST else too_few_people(n_f, people)
        return Figures(n_f, n_f < FEW, withheld, None, source, (), classes)
    spread = confidence_spread(evidence, compared.rows_N, compared.pairing.weights_M)
    return Figures(n_f, n_f < FEW, None, spread, source, tuple(rocs(evidence)), classes)


def too_few(n_f: int) -> str:
    samples = "1 sample" if n_f == 1 else f"{n_f} samples"
    return (
        f"{samples} of the forget set can be compared: below {FEWEST} no distribution and no curve is drawn, as each bin or"
        " step would be a single sample's own value"
    )


def too_few_people(n_f: int, people: int) -> str:
    of = "1 person" if people == 1 else f"{people} people"
    return (
        f"the {n_f} samples of the forget set are of {of}: below {FEWEST} no distribution and no curve is drawn, as it would be"
        " theirs"
    )


def confidence_spread(evidence: Evidence, rows_N: Indices, weights_M: Floats) -> Spread:
    """How sure the models are of the true class: its probability, or the loss where that is not what the loss tells."""
    scored = (
        evidence.forget_before.scores.rows(rows_N),
        evidence.forget_after.scores.rows(rows_N),
        evidence.holdout_before.scores,
        evidence.holdout_after.scores,
    )
    losses = [one.losses_N for one in scored]
    coarse = len(rows_N) < FEW
    unseen = (evidence.holdout_before, evidence.holdout_after)
    edges: tuple[float, ...] = COARSE_PROBABILITIES if coarse else PROBABILITIES
    if all(map(tells_probability, unseen)):
        return spread("probability", [np.exp(-one) for one in losses], weights_M, edges)
    edges = even_edges(np.concatenate(losses[2:]), COARSE_LOSS_BINS if coarse else LOSS_BINS)
    return spread("loss", losses, weights_M, edges)


def tells_probability(signals: Signals) -> bool:
    """Whether exp(-loss) is the softmax probability of the true class: seen on samples that are answered right, whose top
    probability is that of the true class."""
    if signals.predicted_N is None or signals.top_N is None:
        return False
    right_N = signals.predicted_N == signals.scores.strata_N
    told_N = np.exp(-signals.scores.losses_N[right_N])
    return bool(right_N.any()) and bool(np.abs(told_N - signals.top_N[right_N]).max() <= SAME)


def even_edges(values: Floats, bins: int) -> tuple[float, ...]:
    """Inner edges of `bins` bins, evenly apart over all but the outermost hundredths of the values; four digits each."""
    low, high = np.quantile(values, [0.01, 0.99])
    return tuple(dict.fromkeys(float(f"{edge:.4g}") for edge in np.linspace(low, high, bins - 1)))


def spread(
    quantity: Quantity, values: list[Floats], weights_M: Floats, edges: tuple[float, ...], seed: int | None = None
) -> Spread:
    """From four lists of values: of D_f before and after, of unseen samples before and after.

    Raises:
        ValueError: D_f has fewer than `FEWEST` samples.
    """
    forget_before, forget_after, unseen_before, unseen_after = values
    if len(forget_before) < FEWEST:
        raise ValueError(too_few(len(forget_before)))
    even_N = np.full(len(forget_before), 1 / len(forget_before))
    return Spread(
        quantity=quantity,
        edges=edges,
        n_f=len(forget_before),
        n_h=len(unseen_before),
        forget_before=binned(forget_before, even_N, edges),
        forget_after=binned(forget_after, even_N, edges),
        unseen_before=binned(unseen_before, weights_M, edges),
        unseen_after=binned(unseen_after, weights_M, edges),
        seed=seed,
    )


def binned(values_N: Floats, weights_N: Floats, edges: tuple[float, ...]) -> Binned:
    """Counts, weighted shares and mean; the weights add up to one."""
    places_N = np.searchsorted(np.asarray(edges), values_N, side="right")
    counts_K = np.bincount(places_N, minlength=len(edges) + 1)
    shares_K = np.bincount(places_N, weights=weights_N, minlength=len(edges) + 1)
    shares = tuple(round(float(share), 6) for share in shares_K)
    return Binned(tuple(map(int, counts_K)), shares, rounded(float(values_N @ weights_N)))


def rounded(value: float) -> float:
    """Four digits; of a probability near one, of what it lacks of one."""
    if 0.5 < value < 1:
        return round(1 - float(f"{1 - value:.4g}"), 12)
    return float(f"{value:.4g}")


def rocs(evidence: Evidence) -> list[Roc]:
    """One curve an attack that has enough of D_f to ask, the one behind UE first."""
    found: list[Roc] = []
    for attack in ON_SIGNALS:
        pairs = [
            signal_pair(attack, forget, unseen, evidence.fitted_N)
            for forget, unseen in (
                (evidence.forget_before, evidence.holdout_before),
                (evidence.forget_after, evidence.holdout_after),
            )
        ]
        if pairs[0] is not None and pairs[1] is not None:
            found.append(roc(attack, pairs[0], pairs[1]))
    if evidence.bank is not None and evidence.bank.known(evidence.forget_N).any():
        before = (evidence.forget_before.scores, evidence.holdout_before.scores)
        after = (evidence.forget_after.scores, evidence.holdout_after.scores)
        found.append(roc("reference", *reference_pairs(evidence.bank, evidence.forget_N, before, after)))
    return [one for one in found if one.n_f >= FEWEST]


def roc(attack: str, before: Pair, after: Pair) -> Roc:
    """Both curves of one attack."""
    n_f, n_h = len(before.forget_N), len(before.unseen_M)
    rates = COARSE_RATES if n_f < FEW else RATES
    (recalls_before, auc_before), (recalls_after, auc_after) = (curve(pair, rates) for pair in (before, after))
    return Roc(attack, rates, recalls_before, recalls_after, auc_before, auc_after, n_f, n_h)


def curve(pair: Pair, rates: tuple[float, ...]) -> tuple[tuple[float, ...], float]:
    """Recall at each rate, and the area under the whole curve.

    A sample is called a member at the rates from the share of its class's unseen samples that lie below it on; from where
    they lie below or tie, surely, and by lot in between.
    """
    least_N, most_N = np.zeros(len(pair.forget_N)), np.zeros(len(pair.forget_N))
    for part in pair.matching.matches:
        unseen_H = np.sort(pair.unseen_M[part.holdout_rows])
        mine_F = pair.forget_N[part.forget_rows]
        least_N[part.forget_rows] = np.searchsorted(unseen_H, mine_F, "left") / len(unseen_H)
        most_N[part.forget_rows] = np.searchsorted(unseen_H, mine_F, "right") / len(unseen_H)
    ties_N = most_N > least_N
    width_N = np.where(ties_N, most_N - least_N, 1.0)
    recalls = []
    for rate in rates:
        lot_N = np.clip((rate - least_N) / width_N, 0.0, 1.0)
        recalls.append(round(float(np.where(ties_N, lot_N, rate >= least_N).mean()), 6))
    return tuple(recalls), round(float(1 - ((least_N + most_N) / 2).mean()), 6)


def classes_of(before: Scores | None, after: Scores) -> Classes:
    """Right answers by class, of the same test samples before and after.

    Raises:
        ValueError: they are not the same.
    """
    if before is not None and not np.array_equal(before.strata_N, after.strata_N):
        raise ValueError("classes are compared on the same test samples")
    labels_C, places_N, counts_C = np.unique(after.strata_N, return_inverse=True, return_counts=True)
    right_C = np.bincount(places_N[after.correct_N], minlength=len(labels_C))
    was_C = right_C if before is None else np.bincount(places_N[before.correct_N], minlength=len(labels_C))
    moved_C = np.abs(right_C - was_C) / counts_C
    kept_C = np.sort(np.argsort(-moved_C, kind="stable")[:MOST_CLASSES])
    return Classes(
        labels=tuple(labels_C[kept_C].tolist()),
        n=tuple(counts_C[kept_C].tolist()),
        before=None if before is None else tuple(was_C[kept_C].tolist()),
        after=tuple(right_C[kept_C].tolist()),
        left_out=len(labels_C) - len(kept_C),
    )
