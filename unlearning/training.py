"""The training loop: from a recipe and a set of indices to weights, the same every time on the same machine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from unlearning.gradients import CHUNK, scores
from unlearning.problem import Indices, Problem, Recipe, ordered
from unlearning.restriction import drawn, restricted_loss
from unlearning.splits import TuningData

Progress = Callable[[float, str], None]
ShouldStop = Callable[[], bool]
State = dict[str, Tensor]
REPORT_EVERY = 8
PARTS = 1  # the stream that restricted parts of batches are drawn from: apart from the order of samples


class Diverged(ArithmeticError):
    """The loss became infinite or NaN in training."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(f"the loss is not finite in epoch {epoch}, step {step}: lower the learning rate")
        self.epoch, self.step = epoch, step


class Stopped(Exception):
    """`should_stop` said so; nothing was kept."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch did. Mean losses in loss units; the tuning figures are None unless the recipe stops early."""

    number: int
    train_loss: float
    tuning_loss: float | None
    tuning_accuracy: float | None


@dataclass(frozen=True)
class TrainedModel:
    """The trained weights and buffers, on the CPU, and the epochs that led to them."""

    state: State
    history: list[Epoch]


def nothing(fraction: float, text: str) -> None:
    """A progress callback that does nothing."""


def never() -> bool:
    """A stop callback that never stops."""
    return False


class Observer(Protocol):
    """Sees a training as it goes, and leaves the model as it is. `unlearning.recorder.Recorder` is one."""

    def started(self, model: nn.Module) -> None:
        """Before the first step; it may raise to refuse the training."""

    def stepping(self, epoch: int, chosen: Indices) -> None:
        """Before each step; `chosen` are the positions in `problem.train` that it is about to learn from."""

    def stepped(self) -> None:
        """After each step."""

    def finished(self, state: State, epochs: int) -> None:
        """After the last; `epochs` says how many of those seen led to the weights that were kept."""


def train(
    problem: Problem,
    indices: Indices,
    tuning: TuningData | None = None,
    progress: Progress = nothing,
    should_stop: ShouldStop = never,
    device: str | torch.device = "cpu",
    observer: Observer | None = None,
) -> TrainedModel:
    """Train a new model on the named training samples and no others.

    Weights, order of samples and dropout all follow from `problem.recipe.seed`; torch's global random state is left as
    it was. With `recipe.patience` the weights of the epoch with the lowest mean loss on `tuning.test` are returned.

    Args:
        problem: the model, the data and the recipe.
        indices: positions in `problem.train`; order does not matter.
        tuning: needed exactly when the recipe stops early.
        progress: told the fraction done and a line of text every few steps; it may raise to abort.
        should_stop: asked as often; True raises `Stopped`.
        device: where to train.
        observer: told of every step; it changes nothing about the weights.

    Raises:
        Diverged: the loss is no longer finite; says the epoch and step.
        Stopped: `should_stop` said so.
        ValueError: no samples, an index out of range or named twice, or early stopping without tuning data.
    """
    indices_N = ordered(indices, len(problem.train))
    if len(indices_N) == 0:
        raise ValueError("there are no samples to train on")
    if problem.recipe.patience is not None and tuning is None:
        raise ValueError("the recipe stops early: pass the tuning data it is to watch")
    target = torch.device(device)
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []):
        torch.manual_seed(problem.recipe.seed)
        model = problem.build_model().to(target)
        run = _Run(problem, indices_N, model, progress, should_stop, observer)
        return run.epochs(tuning)


class _Run:
    """One training in progress: the model, its optimizer and the order of samples."""

    def __init__(
        self,
        problem: Problem,
        indices_N: Indices,
        model: nn.Module,
        progress: Progress,
        should_stop: ShouldStop,
        observer: Observer | None,
    ) -> None:
        self.problem, self.recipe, self.indices_N, self.model = problem, problem.recipe, indices_N, model
        self.progress, self.should_stop, self.observer = progress, should_stop, observer
        self.optimizer = _optimizer(problem.recipe, model)
        self.order = np.random.default_rng(problem.recipe.seed)
        self.parts = np.random.default_rng([problem.recipe.seed, PARTS])
        self.device = next(model.parameters()).device

    def epochs(self, tuning: TuningData | None) -> TrainedModel:
        history: list[Epoch] = []
        if self.observer is not None:
            self.observer.started(self.model)
        best_loss, best_state, best_number = float("inf"), None, 0
        for number in range(1, self.recipe.epochs + 1):
            train_loss = self._one_epoch(number)
            if self.recipe.patience is None or tuning is None:
                history.append(Epoch(number, train_loss, None, None))
                continue
            seen = scores(self.model, self.problem, tuning.test, batch_size=CHUNK)
            history.append(Epoch(number, train_loss, float(seen.losses_N.mean()), float(seen.correct_N.mean())))
            if seen.losses_N.mean() < best_loss:
                best_loss, best_state, best_number = float(seen.losses_N.mean()), state_of(self.model), number
            elif number - best_number >= self.recipe.patience:
                break
        self.progress(1.0, f"trained for {len(history)} epochs")
        state = best_state or state_of(self.model)
        if self.observer is not None:
            self.observer.finished(state, best_number or len(history))
        return TrainedModel(state, history)

    def _one_epoch(self, number: int) -> float:
        """One pass in a new random order; returns the mean training loss (with its restriction) over the samples."""
        self.model.train()
        shuffled_N = self.order.permutation(self.indices_N)
        starts = range(0, len(shuffled_N), self.recipe.batch_size)
        total = 0.0
        for step, start in enumerate(starts):
            if step % REPORT_EVERY == 0:
                self._report(number, step, len(starts))
            chosen = shuffled_N[start : start + self.recipe.batch_size]
            if self.observer is not None:
                self.observer.stepping(number, chosen)
            total += self._one_step(number, step, chosen) * len(chosen)
            if self.observer is not None:
                self.observer.stepped()
        return total / len(shuffled_N)

    def _one_step(self, number: int, step: int, chosen: Indices) -> float:
        inputs, targets = self.problem.train.batch(chosen)
        loss = restricted_loss(
            self.model,
            self.problem,
            inputs.to(self.device),
            targets.to(self.device),
            self.recipe.restriction,
            self.recipe.alpha,
            drawn(self.recipe.restriction_share, len(chosen), self.parts),
        )
        value = float(loss.detach())
        if not np.isfinite(value):
            raise Diverged(number, step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return value

    def _report(self, number: int, step: int, steps: int) -> None:
        if self.should_stop():
            raise Stopped(f"stopped in epoch {number}")
        fraction = (number - 1 + step / steps) / self.recipe.epochs
        self.progress(fraction, f"epoch {number} of {self.recipe.epochs}")


def _optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=recipe.learning_rate)
    raise ValueError(f"optimizer is {recipe.optimizer!r}: use 'adam' or 'sgd'")


def state_of(model: nn.Module) -> State:
    """A copy of the weights and buffers, on the CPU, detached from the model."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def restore(problem: Problem, state: State, device: str | torch.device = "cpu") -> nn.Module:
    """A new model in eval mode with these weights.

    Raises:
        ValueError: names or shapes do not fit the problem's model.
    """
    with torch.random.fork_rng(devices=[]):
        model = problem.build_model()
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"these weights do not fit the problem's model: {error}") from error
    return model.to(device).eval()
