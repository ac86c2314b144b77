"""The second rung, `iau-calibrated`: a few dozen small steps that stop where unseen data says a retrain would be.

Each step descends on a minibatch of D_r and ascends on one of D_f, with every forget sample's loss capped:

    theta <- Adam(theta, grad [ mean loss over a D_r batch - strength * mean min(loss(z), cap(z)) over a D_f batch ])

One step of Influence Approximation Unlearning (IA+GC, Liu et al. 2025, arXiv:2507.23257) is the first of these without
the cap; where memorisation is strong no single step closes the gap without wrecking the model. Three things bound it:

- the cap. cap(z) is the lower of a ceiling, at first the mean loss of unseen data, and the loss at z's own place among
  unseen data: of the unseen sample of its class that stands as high among unseen samples as z stands among the samples
  that were learnt. A sample that would be answered well anyway is left alone; none is driven to a confident wrong answer.
- the target. Where D_f as a whole should come to lie is read in the same way off unseen data, on the weights of the
  moment; the way there ends when it is reached, and an overshoot is taken back along the last stretch. That also works
  for a single sample or subject, which no comparison of averages does. It knows z by how well it was learnt and nothing
  else: a mislabelled sample that was learnt like any other is taken for one, and is not forgotten as a retrain would.
- the count. At most `passes` over D_f: the cost grows with |D_f|, whatever the size of D.

Unseen data here is tuning data. The audit's half is not within reach.
"""

import copy
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unlearning.gradients import NonFinite, Scores, euclidean_norm, evaluating, losses_of, parameters_of, scores
from unlearning.membership import MINIMUM_CLASS
from unlearning.problem import Indices, Problem, ordered, strata
from unlearning.splits import TuningData
from unlearning.training import Progress, State, nothing, state_of

Floats = NDArray[np.float64]
OTHERWISE = 1e-3  # Adam's usual learning rate


@dataclass(frozen=True)
class CalibratedSettings:
    """Bounds of the way. Found on LeNet-5 with 10,000 images of Fashion-MNIST; `benchmarks/unlearn.py` says how far they
    carry.

    `learning_rate` is Adam's for a forget set of a batch or more; None takes the recipe's where that is Adam's, else 1e-3.
    A smaller set takes smaller steps, in proportion to the root of its size, and the first `warm_up` steps are shorter.
    At each look that finds the way behind a straight line to the target, `strength` grows by `firmer` and the ceiling of
    the caps by `higher`. `accuracy_budget` is the share of right answers on unseen data that the way may cost, beyond
    chance. `sample` bounds what a look reads.
    """

    strength: float = 3.0
    firmer: float = 1.3
    higher: float = 1.2
    learning_rate: float | None = None
    warm_up: int = 6
    passes: float = 4.0
    forget_batch: int = 96
    retain_batch: int = 128
    minimum_steps: int = 24
    checks: int = 4
    sample: int = 500
    accuracy_budget: float = 0.02

    def __post_init__(self) -> None:
        for name in ("strength", "firmer", "higher", "learning_rate", "passes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value}: use a positive number")
        for name in ("warm_up", "forget_batch", "retain_batch", "minimum_steps", "checks", "sample"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: use at least 1")
        if not 0 < self.accuracy_budget <= 1:
            raise ValueError(f"accuracy_budget is {self.accuracy_budget}: use a share between 0 and 1")

    def steps(self, forget: int) -> int:
        """The most steps that a forget set of this size gets."""
        return max(self.minimum_steps, ceil(self.passes * forget / self.forget_batch))


@dataclass(frozen=True)
class Look:
    """One look on the way, on tuning data. `gap` is how much better the model knows D_f than it should (the mean of two
    rates; below zero: worse), `accuracy` its share of right answers on unseen data, `spent` whether that fell
    by more than the budget and twice its standard error."""

    step: int
    gap: float
    accuracy: float
    spent: bool


@dataclass(frozen=True)
class CalibratedResult:
    """The updated weights and buffers, on the CPU, where the way ended and why."""

    state: State
    settings: CalibratedSettings
    steps: int
    stopped: str
    trace: list[Look]
    update_norm: float
    parent_norm: float
    n_f: int
    n_r: int


def unlearn_calibrated(
    parent: nn.Module,
    problem: Problem,
    forget: Indices,
    retain: Indices,
    tuning: TuningData,
    settings: CalibratedSettings,
    seed: int = 0,
    progress: Progress = nothing,
) -> CalibratedResult:
    """Walk from `parent`, which is left as it is, to weights on which D_f looks as unseen data does.

    Eval mode throughout (BatchNorm frozen, dropout off). The same arguments give the same bytes on the same machine.

    Args:
        parent: the model at theta.
        problem: gives the training samples and their losses.
        forget: positions in `problem.train` of D_f.
        retain: positions of D_r, disjoint from D_f; a few thousand of them are read, whatever their number.
        tuning: the unseen data that target, cap and stop come from.
        settings: the bounds.
        seed: of the order of samples.
        progress: told the fraction done; it may raise to abort.

    Raises:
        NonFinite: a loss or gradient is infinite or NaN.
        ValueError: D_f or D_r is empty, or they overlap.
    """
    forget_N, retain_N = ordered(forget, len(problem.train)), ordered(retain, len(problem.train))
    if len(forget_N) == 0:
        raise ValueError("the forget set is empty: there is nothing to unlearn")
    if len(retain_N) == 0:
        raise ValueError("the forget set is the whole training set: retire the model, an update cannot empty it")
    if np.isin(forget_N, retain_N).any():
        raise ValueError("a sample is both in the forget set and in the retain set")
    walk = _Walk(parent, problem, forget_N, retain_N, tuning, settings, seed)
    with evaluating(walk.model), torch.enable_grad():
        stopped = walk.go(progress)
    begun = {name: value.detach() for name, value in parameters_of(parent).items()}
    moved = {name: value.detach() - begun[name] for name, value in parameters_of(walk.model).items()}
    return CalibratedResult(
        state=state_of(walk.model),
        settings=settings,
        steps=walk.trace[-1].step,
        stopped=stopped,
        trace=walk.trace,
        update_norm=euclidean_norm(moved),
        parent_norm=euclidean_norm(begun),
        n_f=len(forget_N),
        n_r=len(retain_N),
    )


class _Walk:
    """One walk in progress: the model, what it is held against, and the looks so far."""

    def __init__(
        self,
        parent: nn.Module,
        problem: Problem,
        forget_N: Indices,
        retain_N: Indices,
        tuning: TuningData,
        settings: CalibratedSettings,
        seed: int,
    ) -> None:
        self.problem, self.tuning, self.settings = problem, tuning, settings
        self.forget_N, self.retain_N = forget_N, retain_N
        self.random = np.random.default_rng(seed)
        self.model = copy.deepcopy(parent)
        self.device = next(parent.parameters()).device
        self.unseen_M = np.unique(np.linspace(0, len(tuning.holdout) - 1, settings.sample).astype(np.int64))
        learnt = scores(parent, problem, problem.train, self._drawn(retain_N, settings.sample))
        unseen = scores(parent, problem, tuning.holdout, self.unseen_M)
        before = scores(parent, problem, problem.train, forget_N)
        self.places_N = places(before, learnt)
        classes, counts = np.unique(before.strata_N, return_counts=True)
        self.mix = dict(zip(classes.tolist(), (counts / len(before)).tolist(), strict=True))
        targets_N = losses_at(self.places_N, before.strata_N, unseen)
        self.targets_N = torch.from_numpy(targets_N).float().to(self.device)
        self.ceiling = float(unseen.losses_N.mean())
        self.strength = settings.strength
        rate = problem.recipe.learning_rate if problem.recipe.optimizer == "adam" else OTHERWISE
        self.rate = (settings.learning_rate or rate) * min(1.0, sqrt(len(forget_N) / settings.forget_batch))
        self.optimizer = torch.optim.Adam(parameters_of(self.model).values(), lr=self.rate)
        self.watched_W = np.sort(self._drawn(np.arange(len(forget_N)), settings.sample))
        self.right_before_M = unseen.correct_N
        self.queue: Indices = np.empty(0, dtype=np.int64)
        self.trace = [self._look(0, before.rows(self.watched_W), unseen)]

    def go(self, progress: Progress) -> str:
        """Take steps until the target is reached or passed, or their count is spent; says which, and what was taken back."""
        settings = self.settings
        steps = settings.steps(len(self.forget_N))
        every = max(1, ceil(steps / settings.checks))
        state = sound = state_of(self.model)
        for step in range(1, steps + 1):
            self._step(step)
            if step % every and step < steps:
                continue
            progress(step / steps, f"step {step} of at most {steps}")
            earlier, found = self.trace[-1], self._look(step, *self._seen())
            self.trace.append(found)
            if found.gap <= 0:
                self._take_back(state, earlier.gap, found.gap)
                break
            if found.gap > self.trace[0].gap * (1 - step / steps):
                self.strength *= settings.firmer
                self.ceiling *= settings.higher
            state = state_of(self.model)
            sound = sound if found.spent else state
        if self.trace[-1].spent:
            self.model.load_state_dict(sound)
            return "the accuracy budget was spent: back to the last look before that"
        return "the target was reached" if self.trace[-1].gap <= 0 else "the count of steps was spent"

    def _seen(self) -> tuple[Scores, Scores]:
        """What the model shows now: on the watched part of D_f, and on unseen data."""
        forget = scores(self.model, self.problem, self.problem.train, self.forget_N[self.watched_W])
        return forget, scores(self.model, self.problem, self.tuning.holdout, self.unseen_M)

    def _step(self, step: int) -> None:
        """One step on a minibatch of each set, in one forward pass."""
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1.0, step / settings.warm_up)
        rows_B = self._next_rows()
        retain_B = self._drawn(self.retain_N, settings.retain_batch)
        inputs, targets = self.problem.train.batch(np.concatenate([retain_B, self.forget_N[rows_B]]))
        targets = targets.to(self.device)
        losses_B = losses_of(self.problem, self.model(inputs.to(self.device)), targets)
        kept_B, forgotten_B = losses_B[: len(retain_B)], losses_B[len(retain_B) :]
        weights_B = self._weights(strata(targets)[: len(retain_B)])
        caps_B = self.targets_N[torch.from_numpy(rows_B).to(self.device)].clamp(max=self.ceiling)
        capped = torch.minimum(forgotten_B, caps_B).mean()
        loss: Tensor = (weights_B * kept_B).mean() - self.strength * capped
        if not bool(loss.isfinite()):
            raise NonFinite("a loss is infinite or NaN: take a smaller learning rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature
        self.optimizer.step()

    def _weights(self, strata_B: Indices) -> Tensor:
        """weights_B, mean one: half even, half by the classes of D_f. Without that the cheapest way to forget samples of
        one class would be to make all of it unlikely."""
        _, inverse_B, counts = np.unique(strata_B, return_counts=True, return_inverse=True)
        matched_B = np.array([self.mix.get(int(stratum), 0.0) for stratum in strata_B]) / counts[inverse_B]
        total = matched_B.sum()
        weights_B = 0.5 + 0.5 * len(strata_B) * matched_B / total if total > 0 else np.ones(len(strata_B))
        return torch.from_numpy(weights_B).to(self.device, torch.float32)

    def _next_rows(self) -> Indices:
        """Rows of D_f for the next batch: each sample once a pass, in a new order every pass."""
        size = min(self.settings.forget_batch, len(self.forget_N))
        if len(self.queue) < size:
            self.queue = self.random.permutation(len(self.forget_N))
        rows_B, self.queue = self.queue[:size], self.queue[size:]
        return rows_B

    def _drawn(self, indices_N: Indices, size: int) -> Indices:
        """At most `size` of them at random; drawn with repeats, and those dropped, where a full shuffle would cost |D|."""
        if len(indices_N) <= size:
            return indices_N
        drawn: Indices = np.unique(self.random.integers(0, len(indices_N), size))
        return indices_N[drawn]

    def _look(self, step: int, forget: Scores, unseen: Scores) -> Look:
        """How far D_f is from its target: by how surprised the model is at it, and by where it stands among unseen data.

        The first sees the tail that attacks live on, the second that D_f does not gather at one middling loss.
        """
        wanted_W = losses_at(self.places_N[self.watched_W], forget.strata_N, unseen)
        surprised = float(surprise(wanted_W).mean() - surprise(forget.losses_N).mean())
        placed = float(self.places_N[self.watched_W].mean() - places(forget, unseen).mean())
        gap = (surprised + placed) / 2
        lost_M = self.right_before_M.astype(float) - unseen.correct_N
        beyond_chance = float(lost_M.mean()) - 2 * sqrt(float(lost_M.var()) / len(lost_M))
        return Look(step, gap, float(unseen.correct_N.mean()), beyond_chance > self.settings.accuracy_budget)

    def _take_back(self, kept: State, before: float, after: float) -> None:
        """Of the last stretch keep the part, linear in the weights, at which the gap would have been zero."""
        share = before / (before - after) if before > 0 else 1.0
        with torch.no_grad():
            for name, value in parameters_of(self.model).items():
                value.copy_(kept[name].to(self.device).lerp(value, share))


def surprise(losses_N: Floats) -> Floats:
    """1 - exp(-loss), in [0, 1]: for cross entropy the probability given to other answers than the target."""
    return -np.expm1(-np.maximum(losses_N, 0.0))


def places(scored: Scores, among: Scores) -> Floats:
    """places_N in (0, 1): where each sample's loss stands among those of its class in `among`, ties in the middle.

    Classes with fewer than `MINIMUM_CLASS` samples there are held against all of them.
    """
    found_N = np.empty(len(scored))
    for rows, losses in _by_class(scored.strata_N, among):
        points = scored.losses_N[rows]
        below, at_most = np.searchsorted(losses, points, "left"), np.searchsorted(losses, points, "right")
        found_N[rows] = (below + at_most + 1) / (2 * len(losses) + 2)
    return found_N


def losses_at(places_N: Floats, strata_N: Indices, unseen: Scores) -> Floats:
    """losses_N: the loss of unseen data of the same class at each place; the inverse of `places`."""
    found_N = np.empty(len(places_N))
    for rows, losses in _by_class(strata_N, unseen):
        found_N[rows] = np.quantile(losses, places_N[rows])
    return found_N


def _by_class(strata_N: Indices, among: Scores) -> list[tuple[Indices, Floats]]:
    """Rows of each class, with the sorted losses that they are held against."""
    found = []
    for stratum in np.unique(strata_N):
        losses = among.losses_N[among.strata_N == stratum]
        found.append(
            (np.flatnonzero(strata_N == stratum), np.sort(losses if len(losses) >= MINIMUM_CLASS else among.losses_N))
        )
    return found
