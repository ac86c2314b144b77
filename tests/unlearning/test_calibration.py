"""Simulated tickets: do stretched intervals hold the truth, of the tickets they came from and of others?"""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta, t  # type: ignore[import-untyped]  # scipy has no stubs

from tests.unlearning.worlds import THRESHOLD, World
from unlearning import calibration
from unlearning.bank import Bank
from unlearning.calibration import NOMINAL, TICKETS, Simulation, _alike, _kinds, calibrated, facts_of, simulate
from unlearning.division import GROUP
from unlearning.forecast import Forecast, by_bank, common_variance
from unlearning.problem import Indices

LEVEL = 0.9


def world(seed: int, groups: int, hidden: float = 0.0, common: float = 0.1) -> tuple[World, Bank, np.random.Generator]:
    random = np.random.default_rng(seed)
    found = World.of(random, 1200, 800, common=common)
    return found, found.bank(random, groups, hidden), random


def hits(hidden: float, hard: bool, reps: int = 80, level: float = LEVEL) -> tuple[float, float, float]:
    """The share of tickets whose truth lies in the interval, plain and stretched, and the mean stretch."""
    inside, stretches = np.zeros(2), []
    for seed in range(reps):
        made, bank, random = world(seed, 2, hidden)
        noisy_N = made.ability_N + random.normal(size=1200)
        forget = np.sort(np.argsort(noisy_N)[:100] if hard else random.choice(1200, 100, replace=False))
        calls_M = made.training(random, hidden=hidden)[1] <= THRESHOLD.loss
        truth = float((made.training(random, hidden=hidden)[0][forget] <= THRESHOLD.loss).mean())
        plain = by_bank(bank, forget, THRESHOLD, calls_M)
        assert plain is not None
        stretched = calibrated(plain, simulate(bank, THRESHOLD, forget, 100), level)
        inside += [abs(truth - found.recall) <= found.margin(level) for found in (plain, stretched)]
        stretches.append(stretched.stretch)
    return inside[0] / reps, inside[1] / reps, float(np.mean(stretches))


@pytest.mark.parametrize("hard", [False, True])
def test_what_is_long_enough_is_hardly_stretched_and_holds_the_truth(hard: bool) -> None:
    plain, stretched, stretch = hits(0.0, hard)
    assert 0.86 <= plain <= stretched <= 1
    assert stretch < 1.1


def test_what_is_too_short_by_construction_is_stretched() -> None:
    """Trainings differ on what they learnt from in a way that unseen data does not show."""
    plain, stretched, stretch = hits(0.4, hard=False)
    assert plain < 0.75
    assert 0.82 <= stretched <= 0.97
    assert 1.2 < stretch < 2.5


@pytest.mark.parametrize("hard", [False, True])
def test_tickets_favour_neither_the_truth_nor_the_forecast(hard: bool) -> None:
    """Also where the hard are asked for: what the others found hard by chance is not what is chosen."""
    means = []
    for seed in range(20):
        made, bank, _ = world(seed, 2)
        like = np.argsort(made.ability_N)[:200] if hard else np.arange(200)
        found = simulate(bank, THRESHOLD, np.sort(like), 60)
        assert found is not None
        means.append(found.errors_S.mean())
    assert abs(np.mean(means)) < 0.012
    assert abs(np.mean(means)) < 3 * np.std(means) / 20**0.5 + 1e-9


def test_every_reference_is_the_oracle_of_sets_that_it_never_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    _, bank, _ = world(0, 2)
    drawn: list[Indices] = []
    alike = calibration._alike

    def watched(*given: object) -> Indices:
        drawn.append(alike(*given))  # type: ignore[arg-type]  # passed through as it came
        return drawn[-1]

    monkeypatch.setattr(calibration, "_alike", watched)
    found = simulate(bank, THRESHOLD, np.arange(100), 50)
    assert found is not None
    assert np.bincount(found.oracles_S).tolist() == [TICKETS] * bank.references
    for chosen, oracle, error, sd in zip(drawn, found.oracles_S, found.errors_S, found.sds_S, strict=True):
        group = oracle // GROUP
        assert len(set(chosen.tolist())) == 50
        assert (bank.reference_GN[group, chosen] == oracle).all()
        calls_GN = bank.losses_GN[:, chosen] <= THRESHOLD.loss
        assert error == pytest.approx(calls_GN[group].mean() - calls_GN[1 - group].mean())
        own = calls_GN.var(axis=0, ddof=1).mean()
        common = common_variance(bank, THRESHOLD, bank.strata_N[chosen])
        assert sd == pytest.approx((2 * own / 50 + 1.25 * common) ** 0.5)


def test_sets_have_the_classes_that_are_asked_for() -> None:
    made = world(1, 2)[0]
    of_one = np.flatnonzero(made.strata_N == 2)[:80]
    known_N = np.ones(1200, dtype=bool)
    kinds_N = _kinds(made.strata_N, made.ability_N, known_N)
    chosen = _alike(np.arange(1200), kinds_N, kinds_N[of_one], 100, np.random.default_rng(0))
    assert (made.strata_N[chosen] == 2).all()
    wanted, got = (np.bincount(kinds_N[rows], minlength=12) / len(rows) for rows in (of_one, chosen))
    assert np.abs(wanted - got).max() < 0.15


def test_simulating_is_repeatable_and_not_always_possible() -> None:
    _, bank, _ = world(2, 2)
    once, again = (simulate(bank, THRESHOLD, np.arange(100), 50) for _ in range(2))
    assert once is not None
    assert again is not None
    assert np.array_equal(once.errors_S, again.errors_S)
    assert simulate(world(3, 1)[1], THRESHOLD, np.arange(100), 50) is None  # one group alone: nobody else to forecast
    assert simulate(bank, THRESHOLD, np.arange(100), 400) is None  # no reference never saw twice as many
    assert simulate(bank.without(np.arange(100)), THRESHOLD, np.arange(100), 50) is None  # nothing is known of them


SCORES = Simulation(np.linspace(0.1, 4.0, 40), np.ones(40), np.repeat(np.arange(4), 10), 7)


def test_the_stretch_is_the_conformal_quantile_over_student_s() -> None:
    """Of 40 scores the rank is ceil(41 x 0.9) = 37, the score 3.7; without the last oracle 30: ceil(31 x 0.9) = 28."""
    assert SCORES.stretch(0.9) == pytest.approx(3.7 / t.ppf(0.95, 7))
    assert SCORES.stretch(0.9, without=3) == pytest.approx(2.8 / t.ppf(0.95, 7))
    assert replace(SCORES, sds_S=np.full(40, 100.0)).stretch(0.9) == 1  # never shortened
    assert SCORES.stretch(0.999) == pytest.approx(4.0 / t.ppf(0.9995, 7)) or SCORES.stretch(0.999) == 1
    of_one = replace(SCORES, oracles_S=np.zeros(40, dtype=int))
    assert of_one.stretch(0.9, without=0) == 1  # nobody is left to say


def test_each_oracle_is_judged_by_the_others() -> None:
    """One oracle's errors are ten times as large: they are not covered by what the others ask for, though all together
    would cover them."""
    errors_S = np.ones(40) * 3
    errors_S[30:] = 30
    odd = replace(SCORES, errors_S=errors_S)
    inside, count = odd.covered(0.9)
    assert (inside, count) == (30, 40)
    assert (np.abs(errors_S) <= odd.stretch(0.9) * t.ppf(0.95, 7)).all()


def test_the_note_tells_how_many_were_held() -> None:
    forecast = Forecast("bank", 0.7, 0.02, 7, np.arange(3), "eight references")
    told = calibrated(forecast, SCORES, LEVEL)
    inside, count = SCORES.covered()
    assert told.note == f"eight references; {inside} of {count} simulated tickets within their 95% interval"
    assert told.margin(LEVEL) == pytest.approx(told.stretch * forecast.margin(LEVEL))
    untold = calibrated(forecast, None, LEVEL)
    assert (untold.stretch, untold.note) == (1.0, "eight references; no tickets could be simulated")


def test_a_bank_tells_its_noise_floor_and_how_well_it_forecasts() -> None:
    _, bank, _ = world(4, 2)
    facts = json.loads(json.dumps(facts_of(bank), allow_nan=False))
    assert (facts["references"], facts["samples"]) == (8, 1200)
    loss = float(np.quantile(bank.holdout_KM, 0.8))
    recalls_K = (bank.holdout_KM <= loss).mean(axis=1)
    accuracy_K = bank.test_correct_KT.mean(axis=1)
    pair = 2**0.5 * t.ppf(0.975, 7)
    assert facts["noise_floor"]["level"] == 0.95
    assert facts["noise_floor"]["mu"] == pytest.approx(pair * accuracy_K.std(ddof=1))
    assert facts["noise_floor"]["ue"] == pytest.approx(pair * recalls_K.std(ddof=1))
    assert facts["accuracy"] == pytest.approx(accuracy_K.tolist())
    assert [row["size"] for row in facts["calibration"]] == [50, 100]  # no quarter of 1200 holds twice 500
    for row in facts["calibration"]:
        assert row["tickets"] == TICKETS * bank.references
        assert row["nominal"] == NOMINAL
        assert row["low"] == pytest.approx(beta.ppf(0.05, row["covered"], row["tickets"] - row["covered"] + 1))
        assert row["low"] < row["covered"] / row["tickets"]
        assert row["covered"] / row["tickets"] > 0.85
        assert abs(row["bias"]) < row["sd"]


def test_two_trainings_differ_by_less_than_the_noise_floor_nineteen_times_in_twenty() -> None:
    """The worlds' own trainings, against the floors of banks of eight."""
    inside = np.zeros(2)
    for seed in range(100):
        made, bank, random = world(seed, 2, common=0.3)
        floor = facts_floor(bank)
        one, other = (made.training(random)[1] for _ in range(2))
        loss = float(np.quantile(bank.holdout_KM, 0.8))
        inside += (
            abs((one < THRESHOLD.loss).mean() - (other < THRESHOLD.loss).mean()) <= floor["mu"],
            abs((one <= loss).mean() - (other <= loss).mean()) <= floor["ue"],
        )
    assert (inside / 100 >= 0.9).all()


def facts_floor(bank: Bank) -> dict[str, float]:
    found: dict[str, float] = facts_of(bank)["noise_floor"]
    return found


def test_a_bank_of_one_group_has_a_floor_and_no_calibration() -> None:
    facts = facts_of(world(5, 1)[1])
    assert facts["calibration"] == []
    assert facts["noise_floor"]["ue"] > 0
