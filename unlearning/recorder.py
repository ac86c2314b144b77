"""What a training leaves behind for methods that need more than its weights, and what that costs.

A `Recorder` is handed to `train` as its observer; it fills a `Records`. What is kept is on the
CPU. Nothing here is free: `quote` says the bytes before the first step, and above the limit the training is refused.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import nn

from unlearning.gradients import parameters_of
from unlearning.methods.diagonals import fisher_sum, importance
from unlearning.problem import Indices, Problem, Recipe, ordered
from unlearning.records import Records
from unlearning.training import State, restore, state_of

Journal = Literal["none", "watched", "all"]
SUM_BYTES = 8
INDEX_BYTES = 8


class TooLarge(ValueError):
    """The records would be larger than their limit. The message says both."""


@dataclass(frozen=True)
class RecorderSettings:
    """What to keep.

    `journal` keeps what a step changed: of `all` steps, or of those that touch a sample of `watched` (positions in the
    training data). A journal brings the membership with it. `importance_batch` is SSD's batch size.
    """

    initial: bool = False
    membership: bool = False
    journal: Journal = "none"
    watched: tuple[int, ...] = ()
    fisher: bool = False
    importance: bool = False
    importance_batch: int = 128
    limit_bytes: int = 2 * 1024**3

    def __post_init__(self) -> None:
        if self.journal not in ("none", "watched", "all"):
            raise ValueError(f"journal is {self.journal!r}: use 'none', 'watched' or 'all'")
        if (self.journal == "watched") != bool(self.watched):
            raise ValueError("name watched samples exactly when the journal is 'watched'")
        if self.importance_batch < 1 or self.limit_bytes < 0:
            raise ValueError("importance_batch is at least 1 and limit_bytes at least 0")

    @property
    def keeps_membership(self) -> bool:
        return self.membership or self.journal != "none"


@dataclass(frozen=True)
class Quote:
    """Bytes by part; an upper bound, which early stopping and watched samples that share a step stay below."""

    initial: int
    membership: int
    journal: int
    fisher: int
    importance: int

    @property
    def total(self) -> int:
        return self.initial + self.membership + self.journal + self.fisher + self.importance


def quote(settings: RecorderSettings, model: nn.Module, samples: int, recipe: Recipe) -> Quote:
    """What recording a training of `model` on so many samples by this recipe keeps, before it begins."""
    parameters = parameters_of(model).values()
    count = sum(value.numel() for value in parameters)
    step_bytes = sum(value.numel() * value.element_size() for value in parameters)
    state_bytes = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    steps = recipe.epochs * -(-samples // recipe.batch_size)
    journalled = {"none": 0, "all": steps, "watched": min(steps, recipe.epochs * len(settings.watched))}
    return Quote(
        initial=state_bytes if settings.initial else 0,
        membership=(recipe.epochs * samples + 2 * steps) * INDEX_BYTES if settings.keeps_membership else 0,
        journal=journalled[settings.journal] * step_bytes,
        fisher=count * SUM_BYTES if settings.fisher else 0,
        importance=count * SUM_BYTES if settings.importance else 0,
    )


class Recorder:
    """Watches one training of `problem` on `indices` and keeps what `settings` asks for; `records` holds it afterwards."""

    def __init__(self, settings: RecorderSettings, problem: Problem, indices: Indices) -> None:
        self.settings, self.problem = settings, problem
        self.indices_N = ordered(indices, len(problem.train))
        self._watched = np.array(settings.watched, dtype=np.int64)
        if not np.isin(self._watched, self.indices_N).all():
            raise ValueError("a watched sample is not among those that are trained on")
        self._initial: State | None = None
        self._epoch_of: list[int] = []
        self._steps: list[Indices] = []
        self._journal: dict[int, State] = {}
        self._before: State | None = None
        self._model: nn.Module | None = None
        self._records: Records | None = None

    @property
    def records(self) -> Records:
        """
        Raises:
            ValueError: the training has not finished.
        """
        if self._records is None:
            raise ValueError("there are no records yet: the training has not finished")
        return self._records

    def started(self, model: nn.Module) -> None:
        """Quote, refuse or begin.

        Raises:
            TooLarge: the records would exceed the limit.
            ValueError: this recorder has seen a training already.
        """
        if self._model is not None:
            raise ValueError("a recorder serves one training: make a new one")
        bytes_quoted = quote(self.settings, model, len(self.indices_N), self.problem.recipe)
        if bytes_quoted.total > self.settings.limit_bytes:
            raise TooLarge(
                f"the records would take {bytes_quoted.total:,} bytes ({bytes_quoted.journal:,} of them the journal) and"
                f" the limit is {self.settings.limit_bytes:,}: watch fewer samples, or raise limit_bytes"
            )
        self._model = model
        self._initial = state_of(model) if self.settings.initial else None

    def stepping(self, epoch: int, chosen: Indices) -> None:
        if not self.settings.keeps_membership:
            return
        self._steps.append(np.array(chosen, dtype=np.int64))
        self._epoch_of.append(epoch)
        wanted = self.settings.journal == "all" or bool(np.isin(chosen, self._watched).any())
        self._before = self._weights() if wanted and self.settings.journal != "none" else None

    def stepped(self) -> None:
        if self._before is None:
            return
        after = self._weights()
        delta = {name: (after[name] - value).cpu() for name, value in self._before.items()}
        self._journal[len(self._steps) - 1] = delta
        self._before = None

    def finished(self, state: State, epochs: int) -> None:
        """Drop the steps that came after the weights that were kept; take the sums at those weights."""
        assert self._model is not None
        kept = sum(epoch <= epochs for epoch in self._epoch_of)
        model = restore(self.problem, state, next(self._model.parameters()).device)
        train = self.problem.train
        self._records = Records(
            epochs=epochs,
            batch_size=self.problem.recipe.batch_size,
            initial=self._initial,
            steps=tuple(self._steps[:kept]) if self.settings.keeps_membership else None,
            journal={n: d for n, d in self._journal.items() if n < kept} if self.settings.journal != "none" else None,
            fisher=fisher_sum(model, self.problem, train, self.indices_N).cpu() if self.settings.fisher else None,
            importance=importance(model, self.problem, train, self.indices_N, self.settings.importance_batch).cpu()
            if self.settings.importance
            else None,
        )

    def _weights(self) -> State:
        assert self._model is not None
        return {name: value.detach().clone() for name, value in parameters_of(self._model).items()}
