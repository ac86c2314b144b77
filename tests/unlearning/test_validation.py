"""The estimator: for coverage at fixed seeds, by either source, and on the edges where a rate means little."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, t  # type: ignore[import-untyped]  # scipy has no stubs

from tests.unlearning.worlds import THRESHOLD, Floats, World
from unlearning.evidence import Evidence
from unlearning.forecast import CLASS_NOISE, MANY, ease_of, unseen_ease
from unlearning.gradients import Scores
from unlearning.membership import fit_threshold
from unlearning.problem import Indices
from unlearning.signals import Signals
from unlearning.statistics import Statistic
from unlearning.utility import worst_class
from unlearning.validation import SEED_SD, against_a_retrain, class_noise, compare, forecast, seed_noise, validate

LEVEL = 0.9
DECIDING = [
    "mu", "ue", "ue_before", "forgetting", "exposure_before", "exposure", "exposure_change", "residual", "overshoot",
    "members_before", "members", "strangers", "fair_draw", "holdout_shift", "worst_class", "cumulative_mu",
]  # fmt: skip


def signals(losses: Floats | list[float], strata: object = None, correct: object = None) -> Signals:
    losses_N = np.asarray(losses, dtype=np.float64)
    strata_N = np.zeros(len(losses_N), dtype=np.int64) if strata is None else np.asarray(strata, dtype=np.int64)
    correct_N = np.ones(len(losses_N), dtype=bool) if correct is None else np.asarray(correct, dtype=bool)
    return Signals(Scores(losses_N, correct_N, strata_N))


def evidence_of(
    members: Signals, forget: tuple[Signals, Signals], unseen: tuple[Signals, Signals], test: tuple[Signals, Signals]
) -> Evidence:
    """Each before and after the update; nothing that tells how hard a sample is, and no features."""
    few = members.rows(np.arange(min(len(members), 5)))
    return Evidence(
        threshold=fit_threshold(members.scores, unseen[0].scores),
        retained=members.scores,
        forget_N=np.arange(len(forget[0])),
        fitted_N=np.zeros(len(forget[0]), dtype=bool),
        forget_before=forget[0],
        forget_after=forget[1],
        holdout_before=unseen[0],
        holdout_after=unseen[1],
        test_before=test[0],
        test_after=test[1],
        anchor_T=test[0].scores.correct_N,
        neighbours_before=few,
        neighbours_after=few,
    )


def simulated(random: np.random.Generator, n_f: int, n_h: int, gap_before: float, gap_after: float) -> Evidence:
    """Four classes with losses of their own level; D_f lies lower by the gap. Known truth, pairs correlated."""
    classes_F, classes_H = random.integers(0, 4, n_f), random.integers(0, 4, n_h)
    base_F, base_H = classes_F + random.normal(size=n_f), classes_H + random.normal(size=n_h)
    correct = random.random(n_h) < 0.9
    moved_F, moved_H = base_F + 0.5 * random.normal(size=n_f), base_H + 0.5 * random.normal(size=n_h)
    return evidence_of(
        signals(random.integers(0, 4, n_f) + random.normal(size=n_f) - gap_before),
        (signals(base_F - gap_before, classes_F), signals(moved_F - gap_after, classes_F)),
        (signals(base_H, classes_H), signals(moved_H, classes_H)),
        (signals(base_H, classes_H, correct), signals(moved_H, classes_H, correct ^ (random.random(n_h) < 0.03))),
    )


def idle(evidence: Evidence) -> Evidence:
    """The same, had the update changed nothing."""
    return replace(
        evidence,
        forget_after=evidence.forget_before,
        holdout_after=evidence.holdout_before,
        test_after=evidence.test_before,
    )


def banked(seed: int, groups: int = 2, n_f: int = 100, gap: float = 4.0) -> Evidence:
    """A world with a bank: the parent has learnt D_f, so that it is `gap` nats surer of it; the update made a retrain."""
    random = np.random.default_rng(seed)
    world = World.of(random, 1000, 1000)
    bank, forget = world.bank(random, groups), np.sort(random.choice(1000, n_f, replace=False))
    (parent_N, parent_M), (after_N, after_M) = world.training(random), world.training(random)
    learnt = signals(np.log1p(np.expm1(parent_N) * np.exp(-gap)), world.strata_N)
    after, unseen, unseen_after = (
        signals(losses, strata, losses < THRESHOLD.loss)
        for losses, strata in ((after_N, world.strata_N), (parent_M, world.strata_M), (after_M, world.strata_M))
    )
    found = evidence_of(
        learnt, (learnt.rows(forget), after.rows(forget)), (unseen, unseen_after), (unseen, unseen_after)
    )
    return replace(found, forget_N=forget, bank=bank, threshold=THRESHOLD)


@pytest.mark.service
@pytest.mark.parametrize("gap_before", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("n_f", [5, 80])
def test_exposures_cover(gap_before: float, n_f: int) -> None:
    """The truth of AUC - 1/2 for a normal shift g is Phi(g / sqrt(2)) - 1/2; after the noise the spread is 1.25 x."""
    random = np.random.default_rng(4)
    before = norm.cdf(gap_before / 2**0.5) - 0.5
    after = norm.cdf(gap_before / 4 / 2.5**0.5) - 0.5
    truths = {
        "exposure_before": before, "exposure": after, "exposure_change": after - before, "residual": after - before / 2,
        "overshoot": after + before / 2,
    }  # fmt: skip
    hits = dict.fromkeys(truths, 0)
    for _ in range(120):
        found = validate(simulated(random, n_f, 400, gap_before, gap_before / 4))
        for name, value in truths.items():
            hits[name] += found[name].low <= value <= found[name].high
    assert min(hits.values()) / 120 >= 0.85, hits


@pytest.mark.service
def test_ue_and_mu_cover_what_a_retrain_shows_by_either_source() -> None:
    """The update is a model of its own that never saw D_f, so the true UE is what two such differ by."""
    hits = dict.fromkeys(("ue", "ue_bank", "ue_holdout", "mu"), 0)
    for seed in range(150):
        evidence, random = banked(seed), np.random.default_rng(10_000 + seed)
        forecasts = forecast(evidence, LEVEL, 0.02)
        found = {one.name: one for one in against_a_retrain(evidence, forecasts, LEVEL, 0.02)}
        world = World.of(np.random.default_rng(seed), 1000, 1000)
        retrain_N, retrain_M = world.training(random)
        ue = (evidence.forget_after.scores.losses_N <= THRESHOLD.loss).mean()
        ue -= (retrain_N[evidence.forget_N] <= THRESHOLD.loss).mean()
        mu = evidence.test_after.scores.correct_N.mean() - (retrain_M < THRESHOLD.loss).mean()
        for name, truth in (("ue", ue), ("ue_bank", ue), ("ue_holdout", ue), ("mu", mu)):
            hits[name] += found[name].low <= truth <= found[name].high
    assert min(hits.values()) / 150 >= 0.85, hits
    assert hits["ue"] == hits["ue_bank"]


@pytest.mark.parametrize("made", [lambda: simulated(np.random.default_rng(5), 100, 400, 1.0, 1.0), lambda: banked(5)])
def test_an_update_that_changes_nothing_changes_no_figure(made: Callable[[], Evidence]) -> None:
    evidence = made()
    found = validate(idle(evidence))
    for name in ("forgetting", "exposure_change", "mu", "holdout_shift", "worst_class", "cumulative_mu"):
        assert found[name].estimate == 0
        assert found[name].low < 0 < found[name].high
    before = found["exposure_before"]
    assert before.low > 0
    assert found["exposure"] == replace(before, name="exposure", note=found["exposure"].note)
    assert found["residual"].estimate == pytest.approx(before.estimate / 2)
    assert found["residual"].high > 0
    assert found["overshoot"].estimate == pytest.approx(1.5 * before.estimate)
    assert found["ue"].estimate == found["ue_before"].estimate
    assert found["members"].estimate == found["members_before"].estimate


def test_over_forgetting_and_damage_have_their_signs() -> None:
    evidence = simulated(np.random.default_rng(6), 100, 400, 1.0, -4.0)
    unseen, test = evidence.holdout_before.scores, evidence.test_before.scores
    damaged = replace(
        evidence,
        test_after=signals(test.losses_N, test.strata_N, np.zeros(400)),
        holdout_after=signals(unseen.losses_N + 2, unseen.strata_N),
    )
    found = validate(damaged)
    for name in ("ue", "mu", "worst_class", "holdout_shift", "forgetting", "exposure", "overshoot", "cumulative_mu"):
        assert found[name].high < 0, name
    assert found["exposure_before"].low > 0


def test_planted_members_and_strangers_stand_out_one_by_one() -> None:
    """Among a thousand unseen samples the least p is 1/1001: of a hundred it takes ten to be found at 1 %."""
    evidence = banked(7)
    losses_N = evidence.forget_after.scores.losses_N.copy()
    losses_N[:15], losses_N[15:35] = 1e-9, 45.0
    found = validate(replace(evidence, forget_after=signals(losses_N, evidence.forget_after.scores.strata_N)))
    assert found["members"].estimate == pytest.approx(0.15, abs=0.03)
    assert found["strangers"].estimate == pytest.approx(0.2, abs=0.03)
    assert found["members"].low < found["members"].estimate < found["members"].high
    clean = validate(evidence)
    assert clean["members"].estimate == clean["strangers"].estimate == 0


def test_statistics_are_plain_finite_and_repeatable() -> None:
    for evidence in (simulated(np.random.default_rng(7), 30, 120, 1.0, 0.5), banked(8, n_f=60)):
        found = validate(evidence)
        assert json.loads(json.dumps(found.as_dict(), allow_nan=False)) == found.as_dict()
        assert validate(evidence) == found
        names = [statistic.name for statistic in found]
        assert len(set(names)) == len(names)
        assert set(names) >= {*DECIDING, "attack_threshold", "attack_tpr", "attack_fpr", "auc_loss", "nll"}
        for statistic in found:
            assert statistic.low <= statistic.estimate <= statistic.high, statistic.name
            assert statistic.level == LEVEL
    with pytest.raises(KeyError):
        found["other"]
    with pytest.raises(ValueError, match="not finite"):
        Statistic("mu", float("nan"), 0, 0, 0.9, 1, "", "", "")
    with pytest.raises(ValueError, match="between 0 and 1"):
        validate(evidence, level=1.0)


def test_the_order_of_samples_says_nothing() -> None:
    evidence, random = banked(9), np.random.default_rng(0)
    assert evidence.bank is not None
    shuffled = {name: random.permutation(1000) for name in ("holdout", "test")}
    bank = replace(
        evidence.bank,
        holdout_KM=evidence.bank.holdout_KM[:, shuffled["holdout"]],
        holdout_strata_M=evidence.bank.holdout_strata_M[shuffled["holdout"]],
    )
    parts = {
        f"{name}_{when}": getattr(evidence, f"{name}_{when}").rows(order)
        for name, order in shuffled.items()
        for when in ("before", "after")
    }
    mixed = replace(evidence, anchor_T=evidence.anchor_T[shuffled["test"]], bank=bank, **parts)
    one, other = validate(evidence), validate(mixed)
    for name in ("mu", "ue", "ue_bank", "ue_before", "forgetting", "worst_class", "cumulative_mu", "holdout_shift"):
        assert other[name].estimate == pytest.approx(one[name].estimate)
        assert (other[name].low, other[name].high) == pytest.approx((one[name].low, one[name].high))


def test_labels_drawn_by_lot_show_no_exposure() -> None:
    """Whom one calls forgotten and whom unseen is exchanged at random: nine times in ten nothing is there."""
    random = np.random.default_rng(11)
    losses, strata, hits = random.normal(size=460), np.repeat(np.arange(2), 230), 0
    for _ in range(150):
        order = random.permutation(460)
        forget, unseen = (signals(losses[rows], strata[rows]) for rows in (order[:60], order[60:]))
        found = validate(evidence_of(forget, (forget, forget), (unseen, unseen), (unseen, unseen)))
        hits += found["exposure_before"].low <= 0 <= found["exposure_before"].high
    assert 0.84 <= hits / 150 <= 0.97


class TestWhoSays:
    def test_the_bank_where_it_knows_and_the_holdout_beside_it(self) -> None:
        found = validate(banked(12))
        assert found["ue"].estimator == found["exposure"].estimator == "bank"
        assert (found["ue_bank"].estimator, found["ue_holdout"].estimator) == ("bank", "holdout")
        assert found["ue"] == replace(found["ue_bank"], name="ue")
        assert "simulated tickets" in found["ue"].note
        assert "as hard, by the references" in found["exposure"].note
        assert "8 references" in found["mu"].note
        assert found["reference_shift"].low < 0 < found["reference_shift"].high  # as much was learnt

    def test_what_the_bank_does_not_know_is_left_out_and_said(self) -> None:
        evidence = banked(13)
        assert evidence.bank is not None
        most = validate(replace(evidence, bank=evidence.bank.without(evidence.forget_N[:15])))
        assert (most["ue"].n, most["exposure"].n, most["forgetting"].n) == (85, 85, 85)
        assert "without 15 of D_f" in most["exposure"].note
        few = validate(replace(evidence, bank=evidence.bank.without(evidence.forget_N[:21])))
        assert few["ue"].estimator == "holdout"
        assert few["exposure"].estimator == "class"
        assert few["exposure"].n == 100
        with pytest.raises(KeyError):
            few["ue_bank"]

    def test_early_features_where_there_is_no_bank_and_the_class_where_there_are_none(self) -> None:
        evidence = banked(14)
        assert evidence.bank is not None
        ease = {"ease_N": ease_of(evidence.bank, evidence.forget_N), "ease_M": unseen_ease(evidence.bank)}
        by_features = replace(evidence, bank=None, **ease)
        assert compare(by_features).pairing.source == "holdout"
        by_class = replace(evidence, bank=None)
        assert compare(by_class).pairing.source == "class"
        assert "of the same class" in validate(by_class)["ue"].note
        assert "cannot be tested" in validate(by_class)["fair_draw"].note

    def test_of_fewer_than_fifty_it_is_said_that_they_have_no_rate(self) -> None:
        found = validate(banked(15, n_f=40))
        assert "below 50 this decides nothing" in found["ue"].note
        assert "no tickets could be simulated" in found["ue"].note
        assert "p, ascending" in found["members"].note


def test_a_draw_of_the_hard_is_no_fair_one() -> None:
    evidence = banked(16)
    assert evidence.bank is not None
    assert "not contradicted" in validate(evidence)["fair_draw"].note
    hard = np.sort(np.argsort(ease_of(evidence.bank, np.arange(1000)))[:100])
    strata_N = evidence.bank.strata_N[hard]
    some = replace(
        evidence,
        forget_N=hard,
        forget_before=signals(np.ones(100), strata_N),
        forget_after=signals(np.ones(100), strata_N),
    )
    found = validate(some)["fair_draw"]
    assert found.high < -0.3
    assert "it is not a fair draw" in found.note
    by_features = replace(some, bank=None, ease_N=ease_of(evidence.bank, hard), ease_M=unseen_ease(evidence.bank))
    assert validate(by_features)["fair_draw"].estimate == pytest.approx(found.estimate)


class TestNoiseOfATraining:
    def test_it_is_assumed_without_a_bank(self) -> None:
        evidence = simulated(np.random.default_rng(17), 60, 300, 1.0, 0.5)
        assert seed_noise(None, 0.02) == (0.02, MANY)
        told, untold = validate(evidence, seed_sd=0.02)["mu"], validate(evidence)["mu"]
        assert told.high > untold.high
        assert "sd 0.0200, assumed" in told.note
        assert f"sd {SEED_SD:.4f}" in untold.note
        exact = validate(idle(evidence), seed_sd=0.02)["mu"]
        noise = 2**0.5 * 0.02 * norm.ppf(0.95)
        assert exact.high == pytest.approx((noise**2 + validate(idle(evidence), seed_sd=1e-12)["mu"].high ** 2) ** 0.5)

    def test_that_of_a_bank_is_tempered_by_it(self) -> None:
        bank = banked(18).bank
        assert bank is not None
        accuracy_K = bank.test_correct_KT.mean(axis=1)
        sd, degrees = seed_noise(bank, 0.01)
        assert degrees == 11
        assert sd == pytest.approx(((4 * 0.01**2 + 7 * accuracy_K.var(ddof=1)) / 11) ** 0.5)
        same = replace(bank, test_correct_KT=np.ones_like(bank.test_correct_KT))
        assert seed_noise(same, 0.01)[0] == pytest.approx((4 / 11) ** 0.5 * 0.01)  # eight alike are no proof of none

    def test_each_class_has_its_own(self) -> None:
        evidence = banked(19)
        bank, before = evidence.bank, evidence.test_before.scores
        assert bank is not None
        accuracy_K = bank.test_correct_KT[:, bank.test_strata_T == 2].mean(axis=1)
        by_bank = class_noise(evidence)[2](0.95)
        assert by_bank == pytest.approx(2**0.5 * accuracy_K.std(ddof=1) * t.ppf(0.975, 7))
        rate = before.correct_N[before.strata_N == 2].mean()
        assumed = class_noise(replace(evidence, bank=None))[2](0.95)
        assert assumed == pytest.approx(2**0.5 * CLASS_NOISE * (rate * (1 - rate)) ** 0.5 * norm.ppf(0.975), rel=1e-5)
        bare = worst_class(before, evidence.test_after.scores, LEVEL)
        for known in (evidence, replace(evidence, bank=None)):
            found = validate(known)["worst_class"]
            assert found.estimate == bare.estimate
            assert found.low < bare.low
            assert found.high > bare.high


def test_one_sample_has_no_rate() -> None:
    found = validate(simulated(np.random.default_rng(8), 1, 60, 1.0, 0.5))
    for name, bound in (("exposure_before", 0.5), ("exposure", 0.5), ("exposure_change", 1), ("residual", 0.75)):
        assert (found[name].low, found[name].high) == (-bound, bound)
        assert "one sample has no rate" in found[name].note
    assert found["ue"].high - found["ue"].low > 0.5


def test_one_class_all_ties_and_perfect_separation() -> None:
    ties, levels = signals(np.ones(20)), signals(np.ones(60))
    found = validate(evidence_of(ties, (ties, ties), (levels, levels), (levels, levels)))
    assert found["exposure"].estimate == pytest.approx(0)
    assert found["members"].estimate == found["strangers"].estimate == 0
    assert found["exposure"].low < 0 < found["exposure"].high
    worse = signals(np.ones(60) * 5)
    apart = validate(evidence_of(ties, (ties, ties), (worse, worse), (worse, worse)))
    assert apart["exposure"].estimate == pytest.approx(0.5)
    assert apart["exposure"].low < 0.49


def test_classes_with_too_few_unseen_samples_are_pooled_and_the_note_says_so() -> None:
    evidence = simulated(np.random.default_rng(10), 20, 120, 1.0, 0.5)
    strata_H: Indices = np.repeat([0, 1, 5, 6], [39, 71, 5, 5])
    unseen = signals(evidence.holdout_before.scores.losses_N, strata_H)
    forget = signals(evidence.forget_before.scores.losses_N, np.repeat([0, 1], 10))
    found = validate(evidence_of(forget, (forget, forget), (unseen, unseen), (unseen, unseen)))
    assert "10 of D_f held against all classes" in found["exposure"].note
    assert "10 of D_f compared across classes" in found["ue"].note
    assert "2 classes with fewer than 10 test samples left out" in found["worst_class"].note


def test_the_attack_is_rated_where_it_was_not_fitted() -> None:
    evidence = banked(20)
    found = validate(evidence)
    calls: dict[str, NDArray[np.bool_]] = {
        "attack_tpr": evidence.retained.losses_N <= THRESHOLD.loss,
        "attack_fpr": evidence.holdout_before.scores.losses_N <= THRESHOLD.loss,
    }
    for name, called in calls.items():
        assert found[name].estimate == pytest.approx(called.mean())
        assert found[name].n == len(called)
    assert found["attack_tpr"].low > found["attack_fpr"].high
