"""How well the bank would have forecast its own references: simulated tickets whose truth is known.

A reference was trained without its quarter of the subjects, so for any set drawn from that quarter it *is* a retrain
without the set. The other groups of the bank forecast its recall there; the difference is the forecast's error. Errors
over many such sets, each divided by its own forecast deviation, say how far the real interval must be stretched: split
conformal prediction on normalised residuals (Lei et al. 2018, arXiv:1604.04173). Sets of one oracle are not independent
of each other, so the guarantee is approximate; coverage is told with each oracle's own sets held out.
"""

from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit  # type: ignore[import-untyped]  # scipy has no stubs

from unlearning.bank import NEVER, Bank
from unlearning.division import GROUP
from unlearning.forecast import Common, Forecast, common_variance
from unlearning.membership import Threshold, confidence
from unlearning.problem import Indices

Floats = NDArray[np.float64]
TICKETS = 20  # simulated of each oracle
TERCILES = 3
NOMINAL = 0.95
SIZES = (50, 100, 500)


@dataclass(frozen=True)
class Simulation:
    """Simulated tickets: the error of each forecast (truth less forecast), its deviation, the reference that was truth."""

    errors_S: Floats
    sds_S: Floats
    oracles_S: Indices
    degrees: float

    def stretch(self, level: float, without: int | None = None) -> float:
        """By how much an interval of Student's t must be stretched so that a share `level` of the tickets lies inside."""
        chosen_S = self.oracles_S != without if without is not None else np.ones(len(self.oracles_S), dtype=bool)
        scores_S = np.sort(np.abs(self.errors_S[chosen_S]) / self.sds_S[chosen_S])
        if not len(scores_S):
            return 1.0
        rank = min(len(scores_S), ceil((len(scores_S) + 1) * level))
        return max(1.0, float(scores_S[rank - 1]) / float(stdtrit(self.degrees, (1 + level) / 2)))

    def covered(self, level: float = NOMINAL) -> tuple[int, int]:
        """How many tickets lie in their interval, and of how many; each oracle's own are judged by the others' stretch."""
        inside = 0
        for oracle in np.unique(self.oracles_S):
            mine_S = self.oracles_S == oracle
            margin = self.stretch(level, without=int(oracle)) * float(stdtrit(self.degrees, (1 + level) / 2))
            inside += int((np.abs(self.errors_S[mine_S]) <= margin * self.sds_S[mine_S]).sum())
        return inside, len(self.errors_S)


def simulate(bank: Bank, threshold: Threshold, like: Indices, size: int, seed: int = 0) -> Simulation | None:
    """Draw `TICKETS` sets of `size` from what each reference never saw, of the classes and the hardness of `like`.

    Hardness here is what all groups' references show, the oracle's among them: chosen by what is the same whichever of
    them is the oracle, the samples favour neither the truth nor the forecast. By the others alone, those that they found
    hard by chance would be chosen, and the truth would lie above. None where the bank has one group alone, or no
    reference never saw as many.
    """
    groups = len(bank.losses_GN)
    if groups < 2:
        return None
    random = np.random.default_rng(seed)
    calls_GN = (bank.losses_GN <= threshold.loss).astype(np.float64)
    known_N = (bank.reference_GN != NEVER).all(axis=0)
    kinds_N = _kinds(bank.strata_N, confidence(bank.losses_GN.astype(np.float64)).mean(axis=0), known_N)
    wanted_L = kinds_N[like[known_N[like]]]
    whole = Common.of(bank, threshold)
    errors: list[float] = []
    sds: list[float] = []
    oracles: list[int] = []
    for group in range(groups):
        others = [g for g in range(groups) if g != group]
        for oracle in np.unique(bank.reference_GN[group][known_N]):
            pool_L = np.flatnonzero(known_N & (bank.reference_GN[group] == oracle))
            if len(pool_L) < 2 * size or not len(wanted_L):
                continue
            for _ in range(TICKETS):
                chosen = _alike(pool_L, kinds_N, wanted_L, size, random)
                own = max(float(calls_GN[:, chosen].var(axis=0, ddof=1).mean()), 0.25 / (len(chosen) + 1))
                common = whole.variance(bank.strata_N[chosen])
                variance = (1 + 1 / len(others)) * own / len(chosen) + (1 + 1 / (GROUP * len(others))) * common
                errors.append(float(calls_GN[group, chosen].mean() - calls_GN[others][:, chosen].mean()))
                sds.append(sqrt(variance))
                oracles.append(int(oracle))
    if not errors:
        return None
    return Simulation(np.array(errors), np.array(sds), np.array(oracles), bank.references - 1)


def calibrated(forecast: Forecast, simulation: Simulation | None, level: float) -> Forecast:
    """The forecast with its intervals stretched as simulated tickets ask for."""
    if simulation is None:
        return replace(forecast, note=f"{forecast.note}; no tickets could be simulated")
    stretch = simulation.stretch(level)
    inside, count = simulation.covered()
    note = f"{forecast.note}; {inside} of {count} simulated tickets within their {NOMINAL:.0%} interval"
    return replace(forecast, stretch=stretch, note=note)


def facts_of(bank: Bank) -> dict[str, Any]:
    """What a table says of itself, for its row: noise floors, and how well it forecasts its own references.

    The floors are what two trainings differ by in 95 of 100 pairs: of test accuracy (`mu`), and of the recall on unseen
    data of an attack with the threshold that four of five unseen samples pass (`ue`). A threshold below them asks for
    more than a retrain would do.
    """
    threshold = Threshold(float(np.quantile(bank.holdout_KM, 0.8)), 0.5, 0, bank.holdout_KM.size)
    accuracy_sd = float(bank.test_correct_KT.mean(axis=1).std(ddof=1))
    pair = sqrt(2) * float(stdtrit(bank.references - 1, 0.975))
    known_N = np.flatnonzero((bank.reference_GN != NEVER).all(axis=0))
    tickets = []
    for size in SIZES:
        found = simulate(bank, threshold, known_N, size)
        if found is not None:
            inside, count = found.covered()
            low = float(betaincinv(inside, count - inside + 1, 0.05)) if inside else 0.0
            tickets.append(
                {
                    "size": size,
                    "tickets": count,
                    "covered": inside,
                    "nominal": NOMINAL,
                    "stretch": found.stretch(NOMINAL),
                    "low": low,
                    "sd": float(found.errors_S.std(ddof=1)),
                    "bias": float(found.errors_S.mean()),
                }
            )
    return {
        "references": bank.references,
        "samples": len(known_N),
        "accuracy": [float(value) for value in bank.test_correct_KT.mean(axis=1)],
        "accuracy_sd": accuracy_sd,
        "noise_floor": {"level": 0.95, "mu": pair * accuracy_sd, "ue": pair * sqrt(common_variance(bank, threshold))},
        "calibration": tickets,
    }


def _kinds(strata_N: Indices, ease_N: Floats, known_N: NDArray[np.bool_]) -> Indices:
    """kinds_N: class and third of hardness of each sample that is known."""
    edges = np.quantile(ease_N[known_N], np.arange(1, TERCILES) / TERCILES) if known_N.any() else np.zeros(TERCILES - 1)
    kinds_N: Indices = strata_N * TERCILES + np.searchsorted(edges, np.nan_to_num(ease_N))
    return kinds_N


def _alike(pool_L: Indices, kinds_N: Indices, wanted_L: Indices, size: int, random: np.random.Generator) -> Indices:
    """Draw `size` of the pool without replacement, kinds in the proportions of those wanted as far as the pool has them.

    By exponential keys (Efraimidis and Spirakis 2006): the smallest keys are a weighted draw without replacement.
    """
    kinds_L = kinds_N[pool_L]
    top = int(max(kinds_L.max(), wanted_L.max())) + 1
    have_K, wanted_K = np.bincount(kinds_L, minlength=top), np.bincount(wanted_L, minlength=top)
    weights_L = (wanted_K / np.maximum(have_K, 1))[kinds_L] + 1e-9  # others make up the number where these are too few
    keys_L = random.exponential(size=len(pool_L)) / weights_L
    chosen: Indices = pool_L[np.argpartition(keys_L, size - 1)[:size]]
    return chosen
