"""What every unlearning method is: a name, its settings, what it needs, what it costs, and one call.

A method is a frozen dataclass whose fields are its settings, with the authors' defaults. It is given a `Job` and answers
with weights; it leaves the parent as it was, and everything random in it follows from the job's seed. Methods of one's
own come in by the entry-point group `expunge.methods`; see `unlearning.methods.registry`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from unlearning.difficulty import Difficulty
from unlearning.gradients import GradientSum
from unlearning.problem import Indices, Problem
from unlearning.records import Records
from unlearning.splits import TuningData
from unlearning.training import Progress, State, nothing


class Need(StrEnum):
    """What a method cannot do without, beyond the parent and the samples to forget."""

    RETAIN_DATA = "retain_data"
    """Reads samples of D_r."""
    RETAIN_DATA_OR_FISHER = "retain_data_or_fisher"
    """Reads samples of D_r, unless the training's records hold the diagonal Fisher of D."""
    RETAIN_DATA_OR_IMPORTANCE = "retain_data_or_importance"
    """Reads samples of D_r, unless the training's records hold SSD's importance of D."""
    TUNING_DATA = "tuning_data"
    """Reads unseen data, to choose a step or to know where to stop."""
    GRADIENT_SUM = "gradient_sum"
    """The parent's cached G(D)."""
    INITIAL_WEIGHTS = "initial_weights"
    """The weights that training began from."""
    UPDATE_JOURNAL = "update_journal"
    """What each training step that saw a sample of D_f changed."""
    SPECIAL_TRAINING = "special_training"
    """A parent trained in the method's own way."""
    CLASS_ONLY = "class_only"
    """D_f must be whole classes."""
    CLASSIFICATION = "classification"
    """One logit a class, and targets that are class numbers."""
    CONVOLUTIONS = "convolutions"
    """The network has Conv2d layers."""
    SGD_TRAINING = "sgd_training"
    """The parent was trained by plain SGD, whose learning rate the method puts to use."""


@dataclass(frozen=True)
class Sizes:
    """What a cost is reckoned from. Samples, parameters, classes; `epochs` and `batch_size` of the recipe.

    The last two say whether the training's records hold the diagonal Fisher and SSD's importance of D.
    """

    forget: int
    retain: int
    tuning: int
    parameters: int
    classes: int
    epochs: int
    batch_size: int
    fisher_kept: bool = False
    importance_kept: bool = False

    @property
    def vector_bytes(self) -> int:
        """Bytes of one float32 number a parameter."""
        return 4 * self.parameters


@dataclass(frozen=True)
class Cost:
    """What one call takes.

    `gradient_samples` counts samples that go forward and backward, `forward_samples` those that only go forward, each
    as often as it goes; `memory_bytes` is what is held beside the parent; `stored_bytes` what training must have kept.
    """

    gradient_samples: float
    forward_samples: float = 0.0
    memory_bytes: int = 0
    stored_bytes: int = 0


@dataclass(frozen=True)
class Job:
    """One thing to forget.

    `forget` and `retain` are disjoint positions in `problem.train`; together they are what `parent` was trained on.
    `tuning` is unseen data to choose by. The audit's half of the unseen data is not here on purpose. `total`, `records`
    and `difficulty` were made before: G(D) and `fit_difficulty` of the parent, and what its training recorded.
    """

    problem: Problem
    parent: nn.Module
    forget: Indices
    retain: Indices
    tuning: TuningData
    seed: int = 0
    total: GradientSum | None = None
    records: Records | None = None
    difficulty: Difficulty | None = None
    progress: Progress = nothing

    @property
    def device(self) -> torch.device:
        return next(self.parent.parameters()).device


@dataclass(frozen=True)
class Outcome:
    """Weights and buffers on the CPU, and what else the audit should say: what was searched, steps taken, why it stopped.

    `journal_undone` says that the journal of all steps that learned from D_f was subtracted from the weights: then the
    records that go with them are `purge`d with `undone`.
    """

    state: State
    details: Mapping[str, Any] = field(default_factory=dict)
    journal_undone: bool = False


class Method(Protocol):
    """A way to forget: a frozen dataclass of its settings.

    `source` names the paper, the rule in it and the authors' code it was read in. `needs` may depend on the settings.
    """

    name: ClassVar[str]
    source: ClassVar[str]

    @property
    def needs(self) -> frozenset[Need]: ...

    def cost(self, sizes: Sizes) -> Cost:
        """What `unlearn` takes for a forget set of this size; before anything is run."""

    def unlearn(self, job: Job) -> Outcome:
        """New weights. Leaves `job.parent` as it is.

        Raises:
            ValueError: something that `needs` names is missing, or the forget set is empty or everything.
            NonFinite: a loss, gradient or weight is infinite or NaN.
        """
