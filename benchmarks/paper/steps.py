"""What is done to a batch's gradients before an optimizer steps, and how long epochs take.

Clipping and SignSGD are no part of the product, whose recipes name neither: here they change the gradients on the way
from the product's training loop to its optimizer.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from unlearning.problem import Indices
from unlearning.training import State

Change = Callable[[list[nn.Parameter]], None]


def clip(parameters: list[nn.Parameter], bound: float) -> None:
    """The batch's gradient over all parameters together, scaled down to Euclidean norm `bound` where it is longer.

    Raises:
        ValueError: the bound is not positive.
    """
    if not bound > 0:
        raise ValueError(f"a gradient is clipped at a positive norm, not at {bound:g}")
    nn.utils.clip_grad_norm_(parameters, bound)


def sign(parameters: list[nn.Parameter]) -> None:
    """Each entry of the batch's gradient by its sign: with plain SGD, SignSGD (Bernstein et al. 2018, algorithm 1)."""
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad.sign_()


@contextmanager
def before_steps(change: Change) -> Iterator[None]:
    """Inside, every optimizer of this process first hands the parameters it is about to move to `change`."""

    def hook(optimizer: Optimizer, _args: tuple[Any, ...], _more: dict[str, Any]) -> None:
        change([p for group in optimizer.param_groups for p in group["params"] if p.grad is not None])

    handle = register_optimizer_step_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@dataclass
class Clock:
    """Observes when each epoch of a training begins, and when the last one ends."""

    begun: dict[int, float] = field(default_factory=dict)
    ended: float = 0.0

    def started(self, model: nn.Module) -> None:
        """The first epoch begins with its first step, not here."""

    def stepping(self, epoch: int, chosen: Indices) -> None:  # noqa: ARG002  the protocol passes it
        """The first step of an epoch begins it."""
        self.begun.setdefault(epoch, time.perf_counter())

    def stepped(self) -> None:
        """A step by itself is not timed."""

    def finished(self, state: State, epochs: int) -> None:  # noqa: ARG002  the protocol passes them
        """The last epoch has been watched too."""
        self.ended = time.perf_counter()

    @property
    def median(self) -> float:
        """Seconds of the median epoch, with what follows it until the next: a slow start or a busy moment count little."""
        return float(np.median(np.diff([*self.begun.values(), self.ended])))
