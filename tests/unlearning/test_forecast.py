"""What a retrain is due: exact on tables made by hand, unbiased in worlds whose chances are known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t  # type: ignore[import-untyped]  # scipy has no stubs

from tests.unlearning.worlds import THRESHOLD, World, loss
from unlearning.bank import Bank
from unlearning.division import GROUP
from unlearning.forecast import (
    MANY,
    Forecast,
    by_bank,
    by_holdout,
    common_variance,
    concentration,
    ease_of,
    lesson,
    unseen_ease,
)
from unlearning.membership import confidence
from unlearning.pairing import Pairing, pair

YES, NO = 0.1, 2.0  # losses on either side of the threshold
HALF_M = np.arange(40) % 2 == 0


def table(calls_GN: list[list[int]], recalls_K: list[int]) -> Bank:
    """G groups' answers on N samples, and of how many of 40 unseen ones each reference says yes."""
    calls, groups = np.array(calls_GN), len(calls_GN)
    n = calls.shape[1]
    holdout_KM = np.where(np.arange(40) < np.array(recalls_K)[:, None], YES, NO).astype(np.float32)
    places_GN = np.arange(n) % GROUP + GROUP * np.arange(groups)[:, None]
    strata_M = np.zeros(40, dtype=np.int64)
    return Bank(
        places_GN.astype(np.int8), np.where(calls, YES, NO).astype(np.float32), np.zeros(n, dtype=np.int64), holdout_KM,
        strata_M, holdout_KM, holdout_KM < THRESHOLD.loss, strata_M,
    )  # fmt: skip


def test_by_bank_is_exact_on_a_table_made_by_hand() -> None:
    """Eight references of equal recall: nothing in common; the parent has it too: no lesson."""
    bank = table([[1, 1, 0, 0, 1], [1, 0, 0, 1, 1]], [20] * 8)
    found = by_bank(bank, np.arange(5), THRESHOLD, HALF_M)
    assert found is not None
    assert found.recall == pytest.approx((1 + 0.5 + 0 + 0.5 + 1) / 5)
    own = (0 + 0.5 + 0 + 0.5 + 0) / 5  # variances with ddof 1
    assert found.sd == pytest.approx((1.5 * own / 5) ** 0.5)
    assert (found.source, found.degrees, found.rows_N.tolist()) == ("bank", 7, [0, 1, 2, 3, 4])
    assert found.note == "8 references, 2 of which never saw each sample"
    assert found.margin(0.95) == pytest.approx(t.ppf(0.975, 7) * found.sd)
    assert replace(found, stretch=1.5).margin(0.95) == pytest.approx(1.5 * found.margin(0.95))
    named = by_bank(bank, np.array([1, 3]), THRESHOLD, HALF_M)
    assert named is not None
    assert named.recall == 0.5


def test_agreement_on_every_sample_is_not_taken_for_certainty() -> None:
    found = by_bank(table([[1] * 9, [1] * 9], [20] * 8), np.arange(9), THRESHOLD, HALF_M)
    assert found is not None
    assert found.sd == pytest.approx((1.5 * 0.25 / 10 / 9) ** 0.5)


def test_one_group_learns_its_noise_from_unseen_data_of_the_same_classes() -> None:
    bank = table([[1, 1, 0, 1]], [18, 20, 20, 22])
    found = by_bank(bank, np.arange(4), THRESHOLD, HALF_M)
    assert found is not None
    calls_KM = bank.holdout_KM <= THRESHOLD.loss
    own = calls_KM.var(axis=0, ddof=1).mean()
    common = np.var([18 / 40, 20 / 40, 20 / 40, 22 / 40], ddof=1)
    assert common == pytest.approx(common_variance(bank, THRESHOLD))
    assert found.sd == pytest.approx((2 * max(own, 0.05) / 4 + 1.25 * common) ** 0.5)
    assert found.degrees == 3
    strange = replace(bank, strata_N=np.full(4, 7))
    other = by_bank(strange, np.arange(4), THRESHOLD, HALF_M)
    assert other is not None
    assert other.sd == pytest.approx((2 * 0.25 / 4 + 1.25 * common) ** 0.5)  # no unseen sample of the class: the most


def test_what_the_bank_does_not_know_is_left_out_and_below_four_in_five_it_is_silent() -> None:
    bank = table([[1, 1, 0, 0, 1, 1, 1, 1, 1, 1], [1, 0, 0, 1, 1, 1, 1, 1, 1, 1]], [20] * 8)
    found = by_bank(bank.without(np.array([2, 4])), np.arange(10), THRESHOLD, HALF_M)
    assert found is not None
    assert found.rows_N.tolist() == [0, 1, 3, 5, 6, 7, 8, 9]
    assert found.recall == pytest.approx((1 + 0.5 + 0.5 + 5) / 8)
    assert "2 samples of D_f that the bank does not know are left out" in found.note
    assert by_bank(bank.without(np.array([2, 4, 5])), np.arange(10), THRESHOLD, HALF_M) is None
    half = replace(bank, reference_GN=bank.reference_GN.copy())
    half.reference_GN[1, :3] = -1  # one group alone knows them: not enough
    assert by_bank(half, np.arange(10), THRESHOLD, HALF_M) is None


def test_a_lesson_within_luck_is_none_and_beyond_it_is_shrunk() -> None:
    """Positive part of James and Stein: 1 - luck / seen^2, and less of it the larger a part is forgotten."""
    bank = table([[1], [1]], [18, 22, 18, 22, 18, 22, 18, 22])
    common = common_variance(bank, THRESHOLD)
    luck = 9 / 8 * common
    near, far = np.arange(40) < 22, np.arange(40) < 26
    assert abs(22 / 40 - 0.5) < luck**0.5
    assert lesson(bank, THRESHOLD, near, common, 0.0) == (0, 0)
    seen = 26 / 40 - 0.5
    trust = 1 - luck / seen**2
    assert trust > 0.5
    assert lesson(bank, THRESHOLD, far, common, 0.0) == pytest.approx((trust * seen, trust**2 * luck))
    due = trust * (1 - 0.1 * GROUP)
    assert lesson(bank, THRESHOLD, far, common, 0.1) == pytest.approx((due * seen, due**2 * luck))
    assert lesson(bank, THRESHOLD, ~far, common, 0.0)[0] == pytest.approx(-(1 - luck / 0.15**2) * 0.15)
    assert lesson(bank, THRESHOLD, far, common, 0.3) == (0, 0)  # a retrain lacks more than a reference did
    assert lesson(bank, THRESHOLD, HALF_M, common, 0.0) == (0, 0)
    told = by_bank(table([[1] * 100, [1] * 100], [18, 22] * 4), np.arange(5), THRESHOLD, far)
    assert told is not None
    due = trust * (1 - 0.05 * GROUP)
    assert told.recall == pytest.approx(1 + due * seen)
    assert f"{due * seen:+.3f} because they learnt from fewer samples" in told.note


@pytest.mark.parametrize(("groups", "lesson_nats"), [(1, 0.0), (2, 0.0), (2, 0.5)])
@pytest.mark.parametrize("hard", [False, True])
def test_by_bank_is_unbiased_and_its_interval_covers(groups: int, lesson_nats: float, hard: bool) -> None:
    """`lesson_nats`: by how much the parent and the retrain, who learnt from all the rest, are surer than a reference."""
    reps, level, errors, inside = 150, 0.9, [], 0
    for seed in range(reps):
        random = np.random.default_rng(seed)
        world = World.of(random, 1000, 600)
        bank = world.bank(random, groups)
        noisy_N = world.ability_N + random.normal(size=1000)
        forget = np.sort(np.argsort(noisy_N)[:80] if hard else random.choice(1000, 80, replace=False))
        calls_M = world.training(random, lesson_nats)[1] <= THRESHOLD.loss
        retrained_N = world.training(random, lesson_nats * (1 - 0.08 * GROUP))[0]
        found = by_bank(bank, forget, THRESHOLD, calls_M)
        assert found is not None
        errors.append(float((retrained_N[forget] <= THRESHOLD.loss).mean()) - found.recall)
        inside += abs(errors[-1]) <= found.margin(level)
    # shrinking a lesson takes some of it away; the hard learn it less than unseen data at large shows
    slack = 0.025 if lesson_nats else 0.0
    assert abs(np.mean(errors)) < slack + 3 * np.std(errors) / reps**0.5
    assert inside / reps >= 0.86


def test_ease_is_the_mean_confidence_of_those_that_never_saw_it() -> None:
    world = World.of(np.random.default_rng(0), 400, 300)
    bank = world.bank(np.random.default_rng(1), 2)
    rows = np.array([3, 50, 7])
    wanted = confidence(bank.losses_GN[:, rows].astype(np.float64)).mean(axis=0)
    assert np.array_equal(ease_of(bank, rows), wanted)
    assert np.isnan(ease_of(bank.without(np.array([50])), rows)).tolist() == [False, True, False]
    assert np.corrcoef(ease_of(bank, np.arange(400)), world.ability_N)[0, 1] > 0.8


def test_unseen_samples_get_as_many_references_as_trained_ones() -> None:
    """One of each group, so that both means stray alike: with all eight the unseen would spread less."""
    world = World.of(np.random.default_rng(2), 4000, 4000, own=3.0)
    bank = world.bank(np.random.default_rng(3), 2)
    ease_M = unseen_ease(bank)
    assert np.array_equal(ease_M, unseen_ease(bank))
    assert ease_M.std() == pytest.approx(ease_of(bank, np.arange(4000)).std(), rel=0.05)
    answers_KM = confidence(bank.holdout_KM.astype(np.float64))
    first, second = answers_KM[:GROUP, 5], answers_KM[GROUP:, 5]
    assert any(ease_M[5] == pytest.approx((one + other) / 2) for one in first for other in second)
    assert (
        len(set(np.argmin(np.abs(2 * ease_M - answers_KM[GROUP:].mean(axis=0) - answers_KM[:GROUP]), axis=0))) == GROUP
    )


def test_by_holdout_is_exact_on_pairs_made_by_hand() -> None:
    """Two of D_f, four unseen: the first is held against 0 and 1, the second against 1, 2 and 3."""
    pairs = Pairing(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 2, 3]), 2, 4, "holdout", 1)
    calls_M = np.array([True, False, True, True])
    found = by_holdout(pairs, calls_M, 0.1)
    shares = 0.5, 2 / 3
    assert found.recall == pytest.approx(sum(shares) / 2)
    own = (0.5 * 0.5 + 2 / 3 * 1 / 3 + 0.25) / 4
    weights = [1 / 4, 1 / 4 + 1 / 6, 1 / 6, 1 / 6]
    around = [1 - 0.5, 0 - (0.5 + 2 / 3) / 2, 1 - 2 / 3, 1 - 2 / 3]
    of_unseen = sum(w**2 * a**2 for w, a in zip(weights, around, strict=True))
    assert found.sd == pytest.approx((own + of_unseen + 2 * 0.1**2) ** 0.5)
    assert (found.source, found.degrees) == ("holdout", MANY)
    assert "1 of D_f compared across classes" in found.note
    assert "as hard, by early features" in found.note
    assert found.margin(0.95) == pytest.approx(1.959964 * found.sd, rel=1e-4)


@pytest.mark.parametrize("tilted", [False, True])
def test_by_holdout_covers_where_ease_is_known(tilted: bool) -> None:
    """Both the parent's luck and the retrain's are in the interval."""
    inside, sd_of_rate = 0, None
    for seed in range(300):
        random = np.random.default_rng(seed)
        world = World.of(random, 1500, 1500, common=0.4)
        if sd_of_rate is None:
            rates = [float((world.training(random)[1] <= THRESHOLD.loss).mean()) for _ in range(200)]
            sd_of_rate = float(np.std(rates))
        keys = random.exponential(size=1500) * np.exp(world.ability_N if tilted else np.zeros(1500))
        forget = np.sort(np.argsort(keys)[:150])
        pairs = pair(world.ability_N[forget], world.strata_N[forget], world.ability_M, world.strata_M, "holdout")
        found = by_holdout(pairs, world.training(random)[1] <= THRESHOLD.loss, sd_of_rate)
        truth = float((world.training(random)[0][forget] <= THRESHOLD.loss).mean())
        inside += abs(truth - found.recall) <= found.margin(0.9)
    assert 0.86 <= inside / 300 <= 0.98


def test_a_forecast_is_widest_where_least_is_known() -> None:
    plain = Forecast("holdout", 0.5, 0.1, MANY, np.arange(2), "")
    assert replace(plain, degrees=3).margin(0.9) > replace(plain, degrees=7).margin(0.9) > plain.margin(0.9)
    assert plain.margin(0.95) > plain.margin(0.9)


def test_the_loss_of_a_confidence_is_its_inverse() -> None:
    phi = np.linspace(-8, 8, 9)
    np.testing.assert_allclose(confidence(loss(phi)), phi)


def test_a_set_of_one_class_strays_as_that_class_does() -> None:
    """References that differ in one class alone: of the others nothing is said to stray, of it more than of the mix."""
    calls_KM = np.zeros((4, 40), dtype=bool)
    calls_KM[:2, :10] = True  # class 0, answered apart by two references
    strata_M = np.repeat(np.arange(4), 10)
    bank = Bank(
        np.zeros((1, 8), dtype=np.int8),
        np.ones((1, 8), dtype=np.float32),
        np.arange(8) % 4,
        np.where(calls_KM, 0.0, 2.0).astype(np.float32),
        strata_M,
        np.ones((4, 2), dtype=np.float32),
        np.ones((4, 2), dtype=bool),
        np.zeros(2, dtype=np.int64),
    )
    of = [common_variance(bank, THRESHOLD, np.array(strata)) for strata in ([0, 0], [1, 1], [0, 1, 2, 3])]
    assert of == pytest.approx([1 / 3, 0, 1 / 48])
    assert common_variance(bank, THRESHOLD) == pytest.approx(1 / 48)
    assert common_variance(bank, THRESHOLD, np.array([9, 9])) == pytest.approx(1 / 48)  # no such class: as all


def test_how_crowded_a_set_is_into_few_classes() -> None:
    strata_M = np.repeat(np.arange(10), 20)
    assert concentration(np.zeros(30, dtype=np.int64), strata_M) == pytest.approx(0.9)
    assert concentration(np.arange(10), strata_M) == 0
    pairing = pair(np.zeros(30), np.zeros(30, dtype=np.int64), np.zeros(200), strata_M, "class")
    calls_M = np.arange(200) % 2 == 0
    apart, together = (by_holdout(pairing, calls_M, 0.005, crowded) for crowded in (0.0, 0.9))
    assert together.sd**2 - apart.sd**2 == pytest.approx(2 * 0.9 * 0.01 * 0.25)
