"""The second rung, `iau-calibrated`: a few dozen small steps that end where unseen data says a retrain would be.

Each step descends on a minibatch of D_r and draws a minibatch of D_f to its targets, sample by sample:

    theta <- Adam(theta, grad [ mean loss over a D_r batch + strength * mean H(phi(z) - target(z)) over a D_f batch ])

phi is the logit-scaled confidence of `unlearning.membership` and H a Huber loss. One step of Influence Approximation
Unlearning (IA+GC, Liu et al. 2025, arXiv:2507.23257) descends on D_r and ascends on D_f too, without a bound; where
memorisation is strong no single step closes the gap without wrecking the model, and the gradient of the loss of a sample
that is known by heart is close to nothing. That of phi is not. Three things bound the way:

- the targets. target(z) is what the model shows of an unseen sample that is as hard as z and stands as high among unseen
  samples as z stands among the samples that were learnt; see `unlearning.targets`. It is
  two-sided: a sample that would be answered well anyway is left alone, none is driven to a confident wrong answer, and
  a mislabelled one is not taken for one that was merely learnt.
- the end. The same is read off unseen data again, on the weights of the moment, for D_f as a whole; the way ends when
  it is reached, and an overshoot is taken back along the last stretch. That also works for a single sample or subject.
- the count. Some passes over D_f: the cost grows with |D_f|, whatever the size of D.

Unseen data here is tuning data. The audit's half is not within reach.
"""

import copy
from dataclasses import dataclass
from math import ceil, cos, pi, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from unlearning import optimizers
from unlearning.difficulty import Difficulty, fit_difficulty
from unlearning.gradients import NonFinite, euclidean_norm, evaluating, losses_of, parameters_of, scores
from unlearning.membership import confidence
from unlearning.problem import Indices, Problem, ordered, strata
from unlearning.splits import TuningData
from unlearning.targets import Unseen, stand
from unlearning.training import Progress, State, nothing, state_of
from unlearning.transport import Pool

Floats = NDArray[np.float64]
OTHERWISE = 1e-3  # Adam's usual learning rate
PAYS = 0.25  # of the gap that a stretch must close for another to follow
LONGER = 2.0  # how many times its usual length a stretch gets in addition, for a gap of 1
HUBER = 4.0  # nats from which on a sample draws no harder
UPWARD = 0.5  # weight of drawing a sample of D_f up to its target; 1 for drawing it down
CERTAIN = 6.0  # nats beyond which it hardly matters where exactly a sample lies
BEYOND = 0.25  # weight of a sample that is to come from there, and to stay


@dataclass(frozen=True)
class CalibratedSettings:
    """Bounds of the way. Found on LeNet-5 with 10,000 images of Fashion-MNIST; `benchmarks/closeness.py` says how far they
    carry.

    `learning_rate` is Adam's for a forget set of a batch or more; None takes twice the recipe's where that is Adam's, else
    twice 1e-3. A smaller set takes smaller steps, in proportion to the root of its size; the first `warm_up` steps are
    shorter. The way goes by stretches, with a look after each: three as a rule, whose steps together are `passes` over D_f
    or `minimum_steps`, twice that where the gap is 1/2; more of them, up to `stretches`, while they pay; in the last the
    steps grow ever shorter, as a cosine. `accuracy_budget` is the share of right answers on unseen data that the way may
    cost, beyond chance. `sample` bounds what a look reads.
    """

    strength: float = 1.0
    learning_rate: float | None = None
    warm_up: int = 6
    passes: float = 2.0
    forget_batch: int = 96
    retain_batch: int = 128
    minimum_steps: int = 20
    stretches: int = 10
    sample: int = 500
    accuracy_budget: float = 0.02

    def __post_init__(self) -> None:
        for name in ("strength", "learning_rate", "passes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value}: use a positive number")
        for name in ("warm_up", "forget_batch", "retain_batch", "minimum_steps", "stretches", "sample"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: use at least 1")
        if not 0 < self.accuracy_budget <= 1:
            raise ValueError(f"accuracy_budget is {self.accuracy_budget}: use a share between 0 and 1")

    def stretch(self, forget: int, gap: float) -> int:
        """How many steps a stretch has for a forget set of this size."""
        usual = max(self.minimum_steps, self.passes * forget / self.forget_batch) / 3
        return ceil(usual * (1 + LONGER * max(0.0, gap)))


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
    """The updated weights and buffers, on the CPU, where the way ended and why. `layer` is whose input told how hard a
    sample is; None where nothing could."""

    state: State
    settings: CalibratedSettings
    steps: int
    stopped: str
    layer: str | None
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
    difficulty: Difficulty | None = None,
) -> CalibratedResult:
    """Walk from `parent`, which is left as it is, to weights on which D_f looks as unseen data does.

    Eval mode throughout (BatchNorm frozen, dropout off). The same arguments give the same bytes on the same machine.

    Args:
        parent: the model at theta.
        problem: gives the training samples and their losses.
        forget: positions in `problem.train` of D_f.
        retain: positions of D_r, disjoint from D_f; a few thousand of them are read, whatever their number.
        tuning: the unseen data that targets and end come from.
        settings: the bounds.
        seed: of the order of samples.
        progress: told the fraction done; it may raise to abort.
        difficulty: what `fit_difficulty` gave for the parent. Fitted here when it is not given: passes over up to 20,000
            samples of both sets.

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
    if difficulty is None:
        difficulty = fit_difficulty(parent, problem, np.union1d(forget_N, retain_N), tuning)
    walk = _Walk(parent, problem, forget_N, retain_N, tuning, settings, seed, difficulty)
    with evaluating(walk.model), torch.enable_grad():
        stopped = walk.go(progress)
    begun = {name: value.detach() for name, value in parameters_of(parent).items()}
    moved = {name: value.detach() - begun[name] for name, value in parameters_of(walk.model).items()}
    return CalibratedResult(
        state=state_of(walk.model),
        settings=settings,
        steps=walk.trace[-1].step,
        stopped=stopped,
        layer=None if difficulty is None else difficulty.layer,
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
        difficulty: Difficulty | None,
    ) -> None:
        self.problem, self.settings = problem, settings
        self.forget_N, self.retain_N = forget_N, retain_N
        self.random = np.random.default_rng(seed)
        self.model = copy.deepcopy(parent)
        self.device = next(parent.parameters()).device
        self.unseen = Unseen(problem, tuning, settings.sample)
        self.forgotten = stand(parent, problem, forget_N, retain_N, self.unseen, difficulty, self.random)
        pool, self.right_before_M = self.unseen.seen(parent)
        targets_N = pool.at(self.forgotten.margins_N, self.forgotten.places_N)
        self.targets_N = torch.from_numpy(targets_N).to(self.device)
        classes, counts = np.unique(self.forgotten.strata_N, return_counts=True)
        self.mix = dict(zip(classes.tolist(), (counts / len(forget_N)).tolist(), strict=True))
        usual = problem.recipe.learning_rate if problem.recipe.optimizer == "adam" else OTHERWISE
        self.rate = (settings.learning_rate or 2 * usual) * min(1.0, sqrt(len(forget_N) / settings.forget_batch))
        self.optimizer = optimizers.adam(parameters_of(self.model).values(), self.rate)
        self.exact = takes_float64(problem, parent, forget_N[:1])
        self.watched_W = np.sort(self._drawn(np.arange(len(forget_N)), settings.sample))
        self.queue: Indices = np.empty(0, dtype=np.int64)
        self.trace = [self._look(0, self.forgotten.losses_N[self.watched_W], pool, self.right_before_M)]
        self.stretch = settings.stretch(len(forget_N), self.trace[0].gap)

    def go(self, progress: Progress) -> str:
        """Stretches of steps until the target is reached or passed, or one does not pay, or their count is spent; in the last
        the steps grow shorter. Says why the way ended, and what was taken back."""
        most, kept = self.settings.stretches, state_of(self.model)
        sound = kept
        for number in range(1, most + 1):
            last = number == most or (number > 2 and not self._paid())
            found = self._stretch(number, last)
            progress(1.0 if last else number / most, f"step {found.step}, {found.gap:+.3f} to go")
            if found.gap <= 0:
                self._take_back(kept, self.trace[-2].gap, found.gap)
                break
            kept = state_of(self.model)
            sound = sound if found.spent else kept
            if last:
                break
        if self.trace[-1].spent:
            share = self._give_back(sound)
            return f"the accuracy budget was spent: {share:.0%} of the way from the last look before that is kept"
        if self.trace[-1].gap <= 0:
            return "the target was reached"
        return "the count of steps was spent" if number == most else "further steps did not pay"

    def _paid(self) -> bool:
        """Whether the last stretch has closed enough of the gap."""
        return self.trace[-1].gap < (1 - PAYS) * self.trace[-2].gap

    def _stretch(self, number: int, last: bool) -> Look:
        """So many steps and a look; with `last` they grow shorter."""
        before = (number - 1) * self.stretch
        for step in range(1, self.stretch + 1):
            self._step(before + step, step / (self.stretch + 1) if last else 0.0)
        self.trace.append(self._look(before + self.stretch, self._watched(), *self.unseen.seen(self.model)))
        return self.trace[-1]

    def _watched(self) -> Floats:
        """Losses of the watched part of D_f, on the weights of the moment."""
        return scores(self.model, self.problem, self.problem.train, self.forget_N[self.watched_W]).losses_N

    def _step(self, step: int, done: float) -> None:
        """One step on a minibatch of each set. `done` is how much of a last stretch is behind."""
        for group in self.optimizer.param_groups:
            shorter = (1 + cos(pi * done)) / 2
            group["lr"] = self.rate * min(1.0, step / self.settings.warm_up) * shorter
        self.optimizer.zero_grad(set_to_none=True)
        # one after the other: on a CPU two small passes are faster than one that outgrows the cache
        self._backward(self._keeping(self._drawn(self.retain_N, self.settings.retain_batch)))
        self._backward(self.settings.strength * self._drawing(self._next_rows()))
        self.optimizer.step()

    def _backward(self, loss: Tensor) -> None:
        if not bool(loss.isfinite()):
            raise NonFinite("a loss is infinite or NaN: take a smaller learning rate")
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature

    def _outputs(self, indices_B: Indices) -> tuple[Tensor, Tensor]:
        inputs, targets = self.problem.train.batch(indices_B)
        return self.model(inputs.to(self.device)), targets.to(self.device)

    def _keeping(self, retain_B: Indices) -> Tensor:
        """The weighted mean loss of some samples of D_r."""
        outputs, targets = self._outputs(retain_B)
        return (self._weights(strata(targets)) * losses_of(self.problem, outputs, targets)).mean()

    def _drawing(self, rows_B: Indices) -> Tensor:
        """The mean Huber loss of some samples of D_f, from their confidence to their target: at most one a nat.

        In float64 where the problem's loss can be taken in it: in float32 the loss of a sample known by heart is zero, and
        its confidence has no gradient.
        """
        outputs, targets = self._outputs(self.forget_N[rows_B])
        if self.exact:
            outputs, targets = outputs.double(), targets.double() if targets.is_floating_point() else targets
        losses_B = losses_of(self.problem, outputs, targets).double().clamp(1e-12, 50.0)
        phi_B, target_B = -losses_B.expm1().log(), self.targets_N[torch.from_numpy(rows_B).to(self.device)]
        found_B = functional.huber_loss(phi_B, target_B, reduction="none", delta=HUBER) / HUBER
        both_certain_B = torch.minimum(phi_B.detach(), target_B) >= CERTAIN
        weights_B = torch.where(phi_B.detach() < target_B, UPWARD, 1.0) * torch.where(both_certain_B, BEYOND, 1.0)
        return (weights_B * found_B).mean()

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

    def _look(self, step: int, losses_W: Floats, pool: Pool, correct_M: NDArray[np.bool_]) -> Look:
        """How far D_f is from its target: by how surprised the model is at it, and by where it stands among unseen data.

        The first sees the tail that attacks live on, the second that D_f does not gather at one middling loss.
        """
        margins_W, places_W = self.forgotten.margins_N[self.watched_W], self.forgotten.places_N[self.watched_W]
        phi_W = confidence(losses_W)
        surprised = float(assurance(phi_W).mean() - assurance(pool.at(margins_W, places_W)).mean())
        placed = float(pool.places(margins_W, phi_W).mean() - places_W.mean())
        gap = (surprised + placed) / 2
        return Look(step, gap, float(correct_M.mean()), self._spends(correct_M))

    def _spends(self, correct_M: NDArray[np.bool_]) -> bool:
        """Whether more right answers were lost than the budget, by twice the standard error."""
        lost_M = self.right_before_M.astype(float) - correct_M
        return float(lost_M.mean()) - 2 * sqrt(float(lost_M.var()) / len(lost_M)) > self.settings.accuracy_budget

    def _take_back(self, kept: State, before: float, after: float) -> None:
        """Of the last stretch keep the part at which the gap would have been zero, were it linear in the weights."""
        share = before / (before - after) if before > 0 else 1.0
        self._keep(share, kept, state_of(self.model))

    def _give_back(self, sound: State) -> float:
        """Of the way from `sound` keep the largest of some parts that is within the budget; says which."""
        end = state_of(self.model)
        for share in (0.75, 0.5, 0.25):
            self._keep(share, sound, end)
            if not self._spends(self.unseen.seen(self.model)[1]):
                return share
        self._keep(0.0, sound, end)
        return 0.0

    def _keep(self, share: float, begin: State, end: State) -> None:
        """Put the weights at a share of the straight line between two states."""
        with torch.no_grad():
            for name, value in parameters_of(self.model).items():
                value.copy_(begin[name].lerp(end[name], share))


def takes_float64(problem: Problem, model: nn.Module, few: Indices) -> bool:
    """Whether the problem's losses can be taken of outputs in float64; one that brings float32 tensors of its own cannot."""
    inputs, targets = problem.train.batch(few)
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad():
        outputs, targets = model(inputs.to(device)).double(), targets.to(device)
        try:
            losses_of(problem, outputs, targets.double() if targets.is_floating_point() else targets)
        except RuntimeError:
            return False
    return True


def assurance(confidence_N: Floats) -> Floats:
    """exp(-loss), in (0, 1), from a confidence in nats: for cross entropy the probability given to the target."""
    assured_N: Floats = 1 / (1 + np.exp(-confidence_N))
    return assured_N
