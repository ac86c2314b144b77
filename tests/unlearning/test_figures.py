"""What is drawn of a validation, against counts by hand, ranks by a loop, and the statistics of the verdict itself."""

import json
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unlearning.test_validation import banked, evidence_of, idle, signals, simulated
from unlearning.attack_statistics import Pair
from unlearning.evidence import Evidence
from unlearning.figures import (
    COARSE_RATES,
    FEWEST,
    MOST_CLASSES,
    PROBABILITIES,
    RATES,
    Spread,
    binned,
    classes_of,
    curve,
    even_edges,
    figures_of,
    rounded,
    spread,
    tells_probability,
)
from unlearning.gradients import Scores
from unlearning.membership import groups, match
from unlearning.signals import Signals
from unlearning.validation import FEW, compare, validate

LOSSES = st.integers(0, 12).map(float)  # with many ties


def pair_of(forget: list[float], unseen: list[float], classes: int = 1) -> Pair:
    strata_N, strata_M = np.arange(len(forget)) % classes, np.arange(len(unseen)) % classes
    return Pair(np.array(forget), np.array(unseen), match(strata_N, strata_M), groups(strata_M))


def area_by_a_loop(pair: Pair) -> float:
    """The share of pairs ranked rightly, each sample of D_f among its own: obviously right, but slow."""
    total = 0.0
    for part in pair.matching.matches:
        for row in part.forget_rows:
            others = pair.unseen_M[part.holdout_rows]
            mine = pair.forget_N[row]
            total += float(np.mean([1.0 if other > mine else 0.5 if other == mine else 0.0 for other in others]))
    return total / len(pair.forget_N)


@settings(deadline=None)  # a slow machine is no defect
@given(st.lists(LOSSES, min_size=1, max_size=40), st.lists(LOSSES, min_size=1, max_size=60), st.integers(1, 3))
def test_a_curve_rises_from_its_corner_to_the_other_and_its_area_is_the_rank_statistic(
    forget: list[float], unseen: list[float], classes: int
) -> None:
    pair = pair_of(forget, unseen, classes)
    fine = tuple(np.linspace(0, 1, 401))
    recalls, area = curve(pair, fine)
    assert area == pytest.approx(area_by_a_loop(pair), abs=1e-6)
    assert list(recalls) == sorted(recalls)
    assert 0 <= recalls[0] <= recalls[-1] == 1
    by_trapezoids = float(np.trapezoid(recalls, fine))
    assert by_trapezoids == pytest.approx(area, abs=1 / 400)


def test_a_curve_by_hand() -> None:
    """Unseen 1, 2, 3, 4. A sample of 0 is called at every rate, one of 2.5 from 1/2 on, one of 4 by lot from 3/4 on."""
    recalls, area = curve(pair_of([0.0, 2.5, 4.0], [1.0, 2.0, 3.0, 4.0]), (0.0, 0.25, 0.5, 0.75, 0.875, 1.0))
    assert recalls == pytest.approx((1 / 3, 1 / 3, 2 / 3, 2 / 3, 2.5 / 3, 1.0), abs=1e-6)
    assert area == pytest.approx((1 + 0.5 + 0.125) / 3, abs=1e-6)


def test_an_attack_that_gives_everybody_one_value_is_chance() -> None:
    recalls, area = curve(pair_of([5.0] * 20, [5.0] * 30), RATES)
    assert recalls == pytest.approx(RATES)
    assert area == 0.5


@pytest.mark.parametrize("n_f", [FEWEST, FEW - 1, FEW, 200])
def test_the_area_of_the_loss_is_the_verdicts_own(n_f: int) -> None:
    evidence = simulated(np.random.default_rng(n_f), n_f, 400, 1.0, 0.2)
    made, statistics = figures_of(evidence), validate(evidence)
    loss = made.roc[0]
    assert loss.attack == "loss"
    assert loss.auc_before == pytest.approx(statistics["auc_loss_before"].estimate, abs=1e-6)
    assert loss.auc_after == pytest.approx(statistics["auc_loss"].estimate, abs=1e-6)
    assert (loss.n_f, loss.n_h, len(loss.before)) == (n_f, 400, len(loss.rates))
    assert loss.rates == (COARSE_RATES if n_f < FEW else RATES)


def test_a_bank_has_a_curve_and_a_comparison_of_its_own() -> None:
    evidence = banked(3, n_f=60)
    made, statistics = figures_of(evidence), validate(evidence)
    assert made.source == "bank"
    assert [one.attack for one in made.roc] == ["loss", "reference"]
    reference = made.roc[1]
    assert reference.auc_before == pytest.approx(statistics["auc_reference_before"].estimate, abs=1e-6)
    assert reference.auc_after == pytest.approx(statistics["auc_reference"].estimate, abs=1e-6)


@pytest.mark.parametrize("n_f", [FEWEST, 60])
def test_every_sample_is_in_one_bin(n_f: int) -> None:
    made = figures_of(simulated(np.random.default_rng(0), n_f, 400, 1.0, 0.2))
    assert made.confidence is not None
    for name in ("forget_before", "forget_after"):
        assert sum(getattr(made.confidence, name).counts) == n_f == made.confidence.n_f
    for name in ("unseen_before", "unseen_after"):
        assert sum(getattr(made.confidence, name).counts) == 400 == made.confidence.n_h
    for name in ("forget_before", "forget_after", "unseen_before", "unseen_after"):
        part = getattr(made.confidence, name)
        assert sum(part.shares) == pytest.approx(1, abs=1e-5)
        assert len(part.counts) == len(part.shares) == len(made.confidence.edges) + 1


def test_bins_and_means_by_hand() -> None:
    """A value on an edge belongs to the bin above it; both ends are open."""
    found = binned(np.array([-9.0, 0.0, 0.5, 1.0, 7.0]), np.full(5, 0.2), (0.0, 1.0))
    assert (found.counts, found.shares, found.mean) == ((1, 2, 2), (0.2, 0.4, 0.4), -0.1)
    weighed = binned(np.array([0.0, 2.0]), np.array([0.75, 0.25]), (1.0,))
    assert (weighed.counts, weighed.shares, weighed.mean) == ((1, 1), (0.75, 0.25), 0.5)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.sets(st.integers(-9, 9), min_size=1, max_size=6))
def test_counts_are_of_the_intervals_they_claim(values: list[float], inner: set[int]) -> None:
    edges = tuple(float(edge) for edge in sorted(inner))
    found = binned(np.array(values), np.full(len(values), 1 / len(values)), edges)
    ends = (-np.inf, *edges, np.inf)
    by_a_loop = [sum(low <= value < high for value in values) for low, high in pairwise(ends)]
    assert list(found.counts) == by_a_loop


def test_the_unseen_samples_are_weighed_as_the_comparison_weighs_them() -> None:
    evidence = simulated(np.random.default_rng(3), 60, 400, 1.0, 0.2)
    made = figures_of(evidence).confidence
    assert made is not None
    weights_M = compare(evidence).pairing.weights_M
    losses_M = evidence.holdout_before.scores.losses_N
    for place, (low, high) in enumerate(zip((-np.inf, *made.edges), (*made.edges, np.inf), strict=True)):
        inside = weights_M[(losses_M >= low) & (losses_M < high)].sum()
        assert made.unseen_before.shares[place] == pytest.approx(inside, abs=1e-6)


def test_an_update_that_does_nothing_has_one_figure_twice() -> None:
    made = figures_of(idle(simulated(np.random.default_rng(1), 80, 400, 1.0, 0.2)))
    assert made.confidence is not None
    assert made.confidence.forget_before == made.confidence.forget_after
    assert made.confidence.unseen_before == made.confidence.unseen_after
    assert made.classes.before == made.classes.after
    assert all((one.before, one.auc_before) == (one.after, one.auc_after) for one in made.roc)


def test_few_samples_have_coarse_figures_and_fewer_none() -> None:
    few = figures_of(simulated(np.random.default_rng(2), FEW - 1, 400, 1.0, 0.2))
    many = figures_of(simulated(np.random.default_rng(2), FEW, 400, 1.0, 0.2))
    assert few.confidence is not None
    assert many.confidence is not None
    assert (few.coarse, many.coarse) == (True, False)
    assert len(few.confidence.edges) < len(many.confidence.edges) / 2
    none = figures_of(simulated(np.random.default_rng(2), FEWEST - 1, 400, 1.0, 0.2))
    assert (none.confidence, none.roc) == (None, ())
    assert "9 samples" in (none.withheld or "")
    assert sum(none.classes.n) == 400, "utility is not D_f's"
    with pytest.raises(ValueError, match="1 sample of"):
        spread("loss", [np.zeros(1)] * 2 + [np.zeros(9)] * 2, np.full(9, 1 / 9), (0.0,))


def test_no_sample_of_the_forget_set_stands_in_its_figures() -> None:
    """Neither a loss of one of them nor the probability that it tells is any number of the figures, to four digits."""
    evidence = simulated(np.random.default_rng(6), 61, 400, 1.0, 0.2)  # an odd number: a median would be somebody's
    told = {f"{number:.4g}" for number in numbers(asdict(figures_of(evidence)))} - {"0", "1"}
    for scores in (evidence.forget_before.scores, evidence.forget_after.scores):
        for value in (scores.losses_N, np.exp(-scores.losses_N)):
            assert not told & {f"{one:.4g}" for one in value}


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for each in value.values() for number in numbers(each)]
    if isinstance(value, list | tuple):
        return [number for each in value for number in numbers(each)]
    return [value] if isinstance(value, float) else []


def test_edges_do_not_depend_on_the_forget_set() -> None:
    evidence = simulated(np.random.default_rng(4), 60, 400, 1.0, 0.2)
    moved = replace(evidence, forget_before=signals(np.full(60, 77.0), evidence.forget_before.scores.strata_N))
    found = [figures_of(one).confidence for one in (evidence, moved)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].edges == found[1].edges


def test_means_near_one_keep_what_they_lack() -> None:
    assert rounded(0.99999876543) == pytest.approx(1 - 1.235e-6, abs=1e-12)
    assert [rounded(value) for value in (0.123456, 1.0, 12.3456, 0.0)] == [0.1235, 1.0, 12.35, 0.0]


def test_edges_of_one_single_value() -> None:
    assert even_edges(np.full(5, 2.0), 18) == (2.0,)


def test_probability_where_the_loss_tells_it() -> None:
    def answered(losses: list[float], top: list[float]) -> Signals:
        made = signals(losses)
        return replace(made, predicted_N=np.zeros(len(losses), dtype=np.int64), top_N=np.array(top))

    assert tells_probability(answered([0.1, 2.0], [np.exp(-0.1), np.exp(-2.0)]))
    assert not tells_probability(answered([0.1, 2.0], [0.9, 0.8])), "a loss that is not the cross entropy"
    assert not tells_probability(signals([0.1, 2.0])), "no classes are answered"
    wrong = replace(answered([0.1], [np.exp(-0.1)]), predicted_N=np.array([1]))
    assert not tells_probability(wrong), "nothing is answered right"

    def evidence(n: int) -> Evidence:
        losses = np.linspace(0.01, 3, n).tolist()
        part = answered(losses, np.exp(-np.array(losses)).tolist())
        return evidence_of(part, (part, part), (part, part), (part, part))

    made = figures_of(evidence(60)).confidence
    assert made is not None
    assert (made.quantity, made.edges) == ("probability", PROBABILITIES)
    assert made.forget_before.counts[-1] == 0
    assert sum(made.forget_before.counts[:5]) == sum(np.exp(-np.linspace(0.01, 3, 60)) < 0.1)


def test_classes_by_hand() -> None:
    strata = np.array([7, 2, 7, 2, 7])
    before = Scores(np.zeros(5), np.array([True, True, False, False, True]), strata)
    after = Scores(np.zeros(5), np.array([True, True, True, True, False]), strata)
    made = classes_of(before, after)
    assert (made.labels, made.n, made.before, made.after, made.left_out) == ((2, 7), (2, 3), (1, 2), (2, 2), 0)
    assert classes_of(None, after).before is None
    with pytest.raises(ValueError, match="same test samples"):
        classes_of(before, Scores(np.zeros(5), after.correct_N, np.sort(strata)))


def test_of_many_classes_those_that_moved_are_kept() -> None:
    strata = np.repeat(np.arange(MOST_CLASSES + 20), 2)
    before = Scores(np.zeros(len(strata)), np.ones(len(strata), dtype=bool), strata)
    answers = np.ones(len(strata), dtype=bool)
    answers[-2:] = False
    made = classes_of(before, Scores(np.zeros(len(strata)), answers, strata))
    assert (len(made.labels), made.left_out) == (MOST_CLASSES, 20)
    assert made.labels[-1] == MOST_CLASSES + 19
    assert list(made.labels) == sorted(made.labels)


def test_figures_are_plain_numbers() -> None:
    made = figures_of(simulated(np.random.default_rng(5), 60, 400, 1.0, 0.2))
    text = json.dumps(asdict(made), allow_nan=False)
    assert len(text) < 20_000
    assert made == figures_of(simulated(np.random.default_rng(5), 60, 400, 1.0, 0.2)), "deterministic"
    assert isinstance(made.confidence, Spread)
