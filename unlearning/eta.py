"""The bounded search for the step eta of a one-shot update. It sees tuning data only, never what the audit judges on."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, sqrt

CLOSE_ENOUGH = 1.02


@dataclass(frozen=True)
class Evaluation:
    """One trial of a step, on tuning data.

    `gap` is D_f's confidence gap to class-matched unseen data (`membership.confidence_gap`): above zero D_f still looks
    learnt, below zero it looks stranger than unseen data. Both figures are None where a loss was not finite.
    """

    eta: float
    gap: float | None
    accuracy: float | None
    within_budget: bool


@dataclass(frozen=True)
class Search:
    """The step chosen, whether it keeps the accuracy budget, and every trial that led to it, in order."""

    eta: float
    within_budget: bool
    trace: list[Evaluation]


def search_eta(evaluate: Callable[[float], Evaluation], start: float, eta_max: float, evaluations: int) -> Search:
    """The eta in (0, eta_max] whose gap is closest to zero among the trials that keep the accuracy budget.

    Doubles or halves from `start` until the target is bracketed, then bisects in log eta; a trial that breaks the
    budget counts as too far. Deterministic; at most `evaluations` trials. When no trial keeps the budget, the one that
    cost least accuracy is returned and `within_budget` is False.

    Source: the stopping idea of SCRUB+R (arXiv:2302.09880), held against class-matched unseen data; the paper of IAU
    takes a fixed eta.

    Raises:
        ValueError: a bound is not positive, or fewer than one evaluation.
    """
    if not all(bound > 0 and isfinite(bound) for bound in (start, eta_max)):
        raise ValueError("start and eta_max are positive and finite")
    if evaluations < 1:
        raise ValueError("the search needs at least one evaluation")
    trace: list[Evaluation] = []
    short: float | None = None
    far: float | None = None
    eta: float | None = min(start, eta_max)
    while eta is not None and len(trace) < evaluations:
        trial = evaluate(eta)
        trace.append(trial)
        if trial.within_budget and trial.gap == 0:
            break
        if trial.within_budget and trial.gap is not None and trial.gap > 0:
            short = eta
        else:
            far = eta
        eta = _next(short, far, eta_max)
    best = min(trace, key=_rank)
    return Search(best.eta, best.within_budget, trace)


def _next(short: float | None, far: float | None, eta_max: float) -> float | None:
    if short is not None and far is not None:
        return sqrt(short * far) if far / short > CLOSE_ENOUGH else None
    if short is not None:
        return min(2 * short, eta_max) if short < eta_max else None
    assert far is not None
    return far / 2


def _rank(trial: Evaluation) -> tuple[int, float, float]:
    """Smaller is better: within budget and near a gap of zero; else least accuracy lost; ties to the smaller step."""
    if trial.gap is None or trial.accuracy is None:
        return 2, 0.0, trial.eta
    if not trial.within_budget:
        return 1, -trial.accuracy, trial.eta
    return 0, abs(trial.gap), trial.eta
