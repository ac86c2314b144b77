"""Influence Approximation Unlearning: the one-shot update of Liu et al. 2025 (arXiv:2507.23257).

With G(S) = sum over S of grad loss(z, theta) at the parent's weights theta:

- `ia`:    theta + eta G(D_f)                removing a sample is imitated by adding its opposite gradient
- `ia+gc`: theta - eta (G(D_r) - G(D_f))     the same step, corrected by descent on what stays

G(D_r) is G(D) - G(D_f) from a cached G(D), so an update costs |D_f| gradients whatever the size of D.
The released code takes means in place of sums and one step of a fresh Adam in place of the plain step; here these are
the settings `weights` and `step`, and the result names them.
"""

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from unlearning.eta import Evaluation, Search, search_eta
from unlearning.gradients import (
    CHUNK,
    GradientSum,
    NonFinite,
    Scores,
    euclidean_norm,
    gradient_sum,
    parameters_of,
    scores,
)
from unlearning.membership import confidence_gap, matched_mean
from unlearning.problem import Indices, Problem, ordered
from unlearning.splits import TuningData
from unlearning.training import Progress, State, nothing, state_of

Variant = Literal["ia", "ia+gc"]
Weights = Literal["sums", "means"]
Step = Literal["sgd", "adam"]
Vector = dict[str, Tensor]
ADAM_EPSILON = 1e-8
FALLBACK_START = 1e-3
SEARCH_SIZE = 1000


@dataclass(frozen=True)
class IauSettings:
    """How an update steps.

    `eta` None means: searched on tuning data in (0, eta_max], with at most `evaluations` trials, among the steps that
    cost at most `accuracy_budget` (a rate) of tuning accuracy. A given eta is taken as it is.
    """

    variant: Variant = "ia+gc"
    weights: Weights = "means"
    step: Step = "sgd"
    eta: float | None = None
    eta_max: float = 100.0
    evaluations: int = 12
    accuracy_budget: float = 0.02

    def __post_init__(self) -> None:
        if self.eta is not None and not 0 < self.eta < float("inf"):
            raise ValueError(f"eta is {self.eta}: use a positive number, or None to search for it")


@dataclass(frozen=True)
class IauResult:
    """The updated weights and buffers, on the CPU, and all that made them. Norms are Euclidean, over all parameters."""

    state: State
    settings: IauSettings
    eta: float
    within_budget: bool | None  # None where eta was given
    trace: list[Evaluation]
    update_norm: float
    parent_norm: float
    n_f: int
    n_r: int


def update_direction(settings: IauSettings, total: GradientSum, forget: GradientSum) -> Vector:
    """d, for the step theta - eta d; float64, one tensor a parameter.

    `total` is G(D) and `forget` G(D_f), both at the parent's weights and D_f within D. In loss per unit of weight, times
    samples under `sums`; without unit under step `adam`, whose first step is lr * g / (|g| + 1e-8): nearly the sign,
    whatever the size of g or of D_f. Source: eqs. of IA and GC in Liu et al. 2025; `means` and `adam` as in its code.

    Raises:
        ValueError: D_f is empty or all of D; an unknown variant, weights or step.
    """
    if forget.count == 0:
        raise ValueError("the forget set is empty: there is nothing to unlearn")
    retain = total - forget
    if retain.count == 0:
        raise ValueError("the forget set is the whole training set: retire the model, an update cannot empty it")
    if settings.weights == "sums":
        retain_vector, forget_vector = retain.vector, forget.vector
    elif settings.weights == "means":
        retain_vector, forget_vector = retain.mean(), forget.mean()
    else:
        raise ValueError(f"weights is {settings.weights!r}: use 'sums' or 'means'")
    if settings.variant == "ia":
        direction = {name: -value for name, value in forget_vector.items()}
    elif settings.variant == "ia+gc":
        direction = {name: retain_vector[name] - value for name, value in forget_vector.items()}
    else:
        raise ValueError(f"variant is {settings.variant!r}: use 'ia' or 'ia+gc'")
    if settings.step == "sgd":
        return direction
    if settings.step == "adam":
        return {name: value / (value.abs() + ADAM_EPSILON) for name, value in direction.items()}
    raise ValueError(f"step is {settings.step!r}: use 'sgd' or 'adam'")


def stepped(parent: nn.Module, direction: Vector, eta: float) -> nn.Module:
    """A copy of the model at theta - eta d: computed in float64, then rounded once. Buffers are the parent's."""
    child = copy.deepcopy(parent)
    with torch.no_grad():
        for name, parameter in parameters_of(child).items():
            parameter.copy_(parameter.double() - eta * direction[name])
    return child.eval()


def unlearn(
    parent: nn.Module,
    problem: Problem,
    forget: Indices,
    total: GradientSum,
    tuning: TuningData,
    settings: IauSettings,
    batch_size: int = CHUNK,
    progress: Progress = nothing,
) -> IauResult:
    """One update that removes the influence of `forget` from `parent`, which is left as it is.

    The same parent, forget set, total, settings and batch size give the same bytes on the same machine.

    Args:
        parent: the model at theta.
        problem: gives the training samples and their losses.
        forget: positions in `problem.train` of D_f, a subset of what `total` sums over.
        total: G(D) over the live training set, D_f included, at the parent's weights.
        tuning: what eta is searched on.
        settings: variant, weights, step and eta, or the bounds of its search.
        batch_size: chunk of the gradient sums.
        progress: told the fraction done; it may raise to abort.

    Raises:
        NonFinite: a gradient is not finite, or a given eta leads to weights that are not.
        ValueError: an empty forget set, all of D, unknown settings, or `total` of another network.
    """
    forget_N = ordered(forget, len(problem.train))
    forget_sum = gradient_sum(parent, problem, problem.train, forget_N, batch_size)
    progress(0.3, f"gradients of {forget_sum.count} samples")
    direction = update_direction(settings, total, forget_sum)
    if settings.eta is None:
        search = _searched(parent, problem, forget_N, forget_sum, direction, tuning, settings, progress)
        eta, within_budget, trace = search.eta, search.within_budget, search.trace
    else:
        eta, within_budget, trace = settings.eta, None, []
    child = stepped(parent, direction, eta)
    if not all(bool(value.isfinite().all()) for value in parameters_of(child).values()):
        raise NonFinite(f"a step of eta {eta:g} leads to weights that are not finite: take a smaller one")
    progress(1.0, f"stepped by eta {eta:g}")
    return IauResult(
        state=state_of(child),
        settings=settings,
        eta=eta,
        within_budget=within_budget,
        trace=trace,
        update_norm=eta * euclidean_norm(direction),
        parent_norm=euclidean_norm({**parameters_of(parent)}),
        n_f=forget_sum.count,
        n_r=total.count - forget_sum.count,
    )


def _searched(
    parent: nn.Module,
    problem: Problem,
    forget_N: Indices,
    forget_sum: GradientSum,
    direction: Vector,
    tuning: TuningData,
    settings: IauSettings,
    progress: Progress,
) -> Search:
    """Eta from tuning data. A trial costs a forward pass over D_f and at most `SEARCH_SIZE` samples of each tuning set."""
    holdout_T, test_T = spread(len(tuning.holdout)), spread(len(tuning.test))
    accuracy_before = float(scores(parent, problem, tuning.test, test_T).correct_N.mean())
    floor = accuracy_before - settings.accuracy_budget
    tried = 0

    def evaluate(eta: float) -> Evaluation:
        nonlocal tried
        tried += 1
        progress(0.3 + 0.6 * tried / settings.evaluations, f"trying eta {eta:.3g}")
        child = stepped(parent, direction, eta)
        try:
            forget = scores(child, problem, problem.train, forget_N)
            holdout = scores(child, problem, tuning.holdout, holdout_T)
            accuracy = float(scores(child, problem, tuning.test, test_T).correct_N.mean())
        except NonFinite:
            return Evaluation(eta, None, None, False)
        return Evaluation(eta, confidence_gap(forget, holdout), accuracy, accuracy >= floor)

    forget_before = scores(parent, problem, problem.train, forget_N)
    holdout_before = scores(parent, problem, tuning.holdout, holdout_T)
    start = _start(forget_before, holdout_before, forget_sum, direction)
    return search_eta(evaluate, start, settings.eta_max, settings.evaluations)


def spread(count: int) -> Indices:
    """At most `SEARCH_SIZE` positions, evenly over a set: sorted data give every part its share."""
    return np.unique(np.linspace(0, count - 1, min(count, SEARCH_SIZE)).astype(np.int64))


def _start(forget: Scores, holdout: Scores, forget_sum: GradientSum, direction: Vector) -> float:
    """Where the search starts: the step that, to first order, lifts D_f's mean loss to that of class-matched unseen data.

    The slope of D_f's mean loss in eta is -<mean gradient of D_f, d>. Without a gap or a rise, a small constant.
    """
    gap = matched_mean(holdout.losses_N, forget.strata_N, holdout.strata_N) - float(forget.losses_N.mean())
    slope = -sum(float((value * direction[name]).sum()) for name, value in forget_sum.mean().items())
    return gap / slope if gap > 0 and slope > 0 else FALLBACK_START
