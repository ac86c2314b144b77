"""The training loop: from a recipe and a set of indices to weights, the same every time on the same machine."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from unlearning import optimizers
from unlearning.gradients import CHUNK, scores
from unlearning.parallel import (
    ALONE,
    Team,
    check_divisible,
    check_in_step,
    exchange_gradients,
    portion,
    portion_loss,
)
from unlearning.problem import Indices, Problem, Recipe, ordered
from unlearning.restriction import drawn, restricted_loss
from unlearning.snapshots import (
    BEST,
    MODEL,
    OPTIMIZER,
    Keeper,
    Snapshot,
    optimizer_tensors,
    random_tensors,
    restore_optimizer,
    restore_random,
)
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
    team: Team = ALONE,
    keeper: Keeper | None = None,
) -> TrainedModel:
    """Train a new model on the named training samples and no others.

    Weights, order of samples and dropout all follow from `problem.recipe.seed`; torch's global random state is left as
    it was. With `recipe.patience` the weights of the epoch with the lowest mean loss on `tuning.test` are returned.

    By a team, each process calls this with the same arguments and returns the same weights. Batches hold the samples that
    they hold in one process, in the same order; each process takes its portion of every batch, and the gradient of the
    whole batch is exchanged in float64. So the weights are those of one process but for the rounding of that sum, which
    training amplifies, and for dropout, which every process draws for itself. A team of one gives the very bits.

    Args:
        problem: the model, the data and the recipe.
        indices: positions in `problem.train`; order does not matter.
        tuning: needed exactly when the recipe stops early.
        progress: told the fraction done and a line of text every few steps; it may raise to abort.
        should_stop: asked as often; True raises `Stopped`.
        device: where to train.
        observer: told of every step; it changes nothing about the weights.
        team: the processes that train together.
        keeper: where to keep snapshots, and to go on from the latest; it changes nothing about the weights.

    Raises:
        Diverged: the loss is no longer finite; says the epoch and step.
        OutOfStep, PeerLost: what can go wrong between processes.
        Stopped: `should_stop` said so.
        ValueError: no samples, an index out of range or named twice, or early stopping without tuning data; several
            processes for what they cannot divide; an observer of what one process alone does not see as a whole.
    """
    indices_N = ordered(indices, len(problem.train))
    if len(indices_N) == 0:
        raise ValueError("there are no samples to train on")
    if problem.recipe.patience is not None and tuning is None:
        raise ValueError("the recipe stops early: pass the tuning data it is to watch")
    if observer is not None and (team.size > 1 or keeper is not None):
        raise ValueError("an observer sees a training by one process, from its first step to its last")
    target = torch.device(device)
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []):
        torch.manual_seed(problem.recipe.seed)
        model = problem.build_model().to(target)
        check_divisible(problem.recipe, model, team)
        if team.rank > 0:
            torch.manual_seed(int(np.random.default_rng([problem.recipe.seed, team.rank]).integers(2**63)))
        run = _Run(problem, indices_N, model, progress, should_stop, observer, team, keeper)
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
        team: Team,
        keeper: Keeper | None,
    ) -> None:
        self.problem, self.recipe, self.indices_N, self.model = problem, problem.recipe, indices_N, model
        self.progress, self.should_stop, self.observer = progress, should_stop, observer
        self.team, self.keeper = team, keeper
        self.optimizer = _optimizer(problem.recipe, model)
        self.order = np.random.default_rng(problem.recipe.seed)
        self.parts = np.random.default_rng([problem.recipe.seed, PARTS])
        self.device = next(model.parameters()).device
        self.history: list[Epoch] = []
        self.best = _Best()
        self.at = _Place(1, 0, 0.0, self.order.bit_generator.state)

    def epochs(self, tuning: TuningData | None) -> TrainedModel:
        if self.observer is not None:
            self.observer.started(self.model)
        snapshot = self.keeper.latest() if self.keeper is not None else None
        if snapshot is not None:
            self._resume(snapshot)
        for number in range(self.at.epoch, self.recipe.epochs + 1):
            train_loss = self._one_epoch(number)
            if self.team.size > 1:
                check_in_step(self.model, self.team)
            if self.recipe.patience is None or tuning is None:
                self.history.append(Epoch(number, train_loss, None, None))
                continue
            loss, accuracy = self._watched(tuning)
            self.history.append(Epoch(number, train_loss, loss, accuracy))
            if loss < self.best.loss:
                self.best = _Best(loss, state_of(self.model), number)
            elif number - self.best.number >= self.recipe.patience:
                break
        self.progress(1.0, f"trained for {len(self.history)} epochs")
        state = self.best.state or state_of(self.model)
        if self.observer is not None:
            self.observer.finished(state, self.best.number or len(self.history))
        return TrainedModel(state, self.history)

    def _watched(self, tuning: TuningData) -> tuple[float, float]:
        """Mean loss and accuracy on what early stopping watches, as the first process finds them."""
        if self.team.rank > 0:
            found = torch.zeros(2, dtype=torch.float64)
        else:
            seen = scores(self.model, self.problem, tuning.test, batch_size=CHUNK)
            found = torch.tensor([seen.losses_N.mean(), seen.correct_N.mean()], dtype=torch.float64)
        loss, accuracy = self.team.add(found).tolist()
        return loss, accuracy

    def _one_epoch(self, number: int) -> float:
        """One pass in a new random order; returns the mean training loss (with its restriction) over the samples."""
        self.model.train()
        if self.at.epoch != number:
            self.at = _Place(number, 0, 0.0, self.order.bit_generator.state)
        shuffled_N = self.order.permutation(self.indices_N)
        starts = range(0, len(shuffled_N), self.recipe.batch_size)
        for step in range(self.at.step, len(starts)):
            if step % REPORT_EVERY == 0:
                self._report(number, step, len(starts))
            chosen = shuffled_N[starts[step] : starts[step] + self.recipe.batch_size]
            if self.observer is not None:
                self.observer.stepping(number, chosen)
            value, due = self._one_step(number, step, chosen)
            self.at = replace(self.at, step=step + 1, total=self.at.total + value * len(chosen))
            if self.observer is not None:
                self.observer.stepped()
            if due:
                self._snapshot()
        return self.at.total / len(shuffled_N)

    def _one_step(self, number: int, step: int, chosen: Indices) -> tuple[float, bool]:
        """One step of the optimizer; returns the batch's loss, and whether a snapshot is due after it."""
        part = drawn(self.recipe.restriction_share, len(chosen), self.parts)
        # The first process's clock is everybody's: of several clocks, each would want snapshots of its own.
        due = self.keeper is not None and self.team.rank == 0 and self.keeper.due()
        self.optimizer.zero_grad(set_to_none=True)
        if self.team.size == 1:
            inputs, targets = (each.to(self.device) for each in self.problem.train.batch(chosen))
            restriction, alpha = self.recipe.restriction, self.recipe.alpha
            loss = restricted_loss(self.model, self.problem, inputs, targets, restriction, alpha, part)
            value = float(loss.detach())
            if np.isfinite(value):
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        else:
            value, due = self._together(chosen, part, due)
        if not np.isfinite(value):
            raise Diverged(number, step)
        self.optimizer.step()
        return value, due

    def _together(self, chosen: Indices, part: Indices | None, due: bool) -> tuple[float, bool]:
        """The gradient of the batch, each process's portion of it exchanged; returns its loss, and who wants a snapshot."""
        mine, value = portion(len(chosen), self.team), 0.0
        if mine.start < mine.stop:
            inputs, targets = (each.to(self.device) for each in self.problem.train.batch(chosen[mine]))
            loss = portion_loss(self.model, self.problem, inputs, targets, part, mine, len(chosen))
            value = float(loss.detach())
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        value, wanted = exchange_gradients(self.model, self.team, [value, float(due)])
        return value, wanted > 0

    def _snapshot(self) -> None:
        """Keep where this training stands: every process gives its random state, the first one keeps it."""
        tensors = random_tensors(self.team, self.device)
        if self.team.rank > 0 or self.keeper is None:
            return
        tensors |= {f"{MODEL}{name}": value for name, value in state_of(self.model).items()}
        tensors |= {f"{BEST}{name}": value for name, value in (self.best.state or {}).items()}
        tensors |= optimizer_tensors(self.optimizer)
        facts = {
            "at": asdict(self.at),
            "parts": self.parts.bit_generator.state,
            "history": [asdict(epoch) for epoch in self.history],
            "best": {"loss": self.best.loss, "number": self.best.number},
            "processes": self.team.size,
        }
        self.keeper.keep(Snapshot(tensors, facts))

    def _resume(self, snapshot: Snapshot) -> None:
        """Stand where the snapshot was taken."""
        facts = snapshot.facts
        if facts["processes"] != self.team.size:
            raise ValueError(f"a snapshot of {facts['processes']} processes cannot be continued by {self.team.size}")
        self.model.load_state_dict(snapshot.under(MODEL))
        restore_optimizer(self.optimizer, snapshot.under(OPTIMIZER))
        restore_random(snapshot, self.team.rank, self.device)
        self.at = _Place(**facts["at"])
        self.order.bit_generator.state = self.at.order
        self.parts.bit_generator.state = facts["parts"]
        self.history = [Epoch(**epoch) for epoch in facts["history"]]
        self.best = _Best(facts["best"]["loss"], snapshot.under(BEST) or None, facts["best"]["number"])

    def _report(self, number: int, step: int, steps: int) -> None:
        if self.should_stop():
            raise Stopped(f"stopped in epoch {number}")
        fraction = (number - 1 + step / steps) / self.recipe.epochs
        self.progress(fraction, f"epoch {number} of {self.recipe.epochs}")


@dataclass(frozen=True)
class _Place:
    """Between two steps: the epoch, its steps that are done, the sum of their losses, and the state that its order of
    samples is drawn from."""

    epoch: int
    step: int
    total: float
    order: Any


@dataclass(frozen=True)
class _Best:
    """What early stopping would return."""

    loss: float = float("inf")
    state: State | None = None
    number: int = 0


def _optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return optimizers.adam(model.parameters(), recipe.learning_rate)
    if recipe.optimizer == "sgd":
        return optimizers.sgd(model.parameters(), recipe.learning_rate)
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
