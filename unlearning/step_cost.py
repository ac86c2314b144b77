"""What gradient restriction costs a training, measured on its own network and data: a few steps with it and without, in turns."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from unlearning.problem import Indices, Problem
from unlearning.restriction import restricted_loss

TURNS = 5


@dataclass(frozen=True)
class StepCost:
    """Median seconds of one forward and backward pass over a batch, with the recipe's restriction and without any."""

    restricted: float
    plain: float


def step_cost(
    problem: Problem, model: nn.Module, indices: Indices, device: str | torch.device, processes: int = 1
) -> StepCost | None:
    """Measured on a batch of `problem.recipe.batch_size` out of `indices`, `processes` having a part of it each; None where the
    recipe restricts nothing, or the device has not the memory.

    The weights stay as they are: nothing is stepped, and the model is given back in eval mode. Of each pair the first pass is not
    counted, so that what is made once (kernels, caches) is made before. Figures of a machine that does other work at the
    same time mean little; their ratio, in turns, means more.
    """
    recipe = problem.recipe
    if recipe.restriction == "none":
        return None
    batch = np.sort(indices[: -(-recipe.batch_size // processes)])
    inputs, targets = (each.to(device) for each in problem.train.batch(batch))
    part = None
    if recipe.restriction_share < 1:
        part = np.arange(int(np.ceil(recipe.restriction_share * len(batch))), dtype=np.int64)
    seconds: dict[str, list[float]] = {"restricted": [], "plain": []}
    model.train()
    # Buffers such as BatchNorm's running statistics follow every pass in training mode: they are put back.
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    try:
        with torch.random.fork_rng(devices=[]):
            for _ in range(TURNS):
                seconds["restricted"].append(
                    timed(
                        lambda: restricted_loss(model, problem, inputs, targets, recipe.restriction, recipe.alpha, part)
                    )
                )
                seconds["plain"].append(timed(lambda: restricted_loss(model, problem, inputs, targets, "none", 0.0)))
    except torch.OutOfMemoryError:
        return None
    finally:
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, value in model.named_buffers():
                value.copy_(buffers[name])
        model.eval()
    return StepCost(median(seconds["restricted"][1:]), median(seconds["plain"][1:]))


def timed(loss: Callable[[], Tensor]) -> float:
    """Seconds of a loss and its gradient."""
    synchronize()
    begun = time.perf_counter()
    loss().backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
    synchronize()
    return time.perf_counter() - begun


def synchronize() -> None:
    """A device works on while its host goes on: wait for it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
