"""Several processes that compute one thing: what they add up, and which of them does what.

Whoever starts the processes initialises `torch.distributed`; here it is only used. Sums are exchanged in float64, so that
they differ from those of one process by float64's rounding alone, and they are the same on every process, bit for bit.
"""

import hashlib
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlearning.gradients import CHUNK, GradientSum, chunk_size, gradient_sum, parameters_of
from unlearning.problem import Indices, Problem, Recipe, Samples, ordered
from unlearning.restriction import restricted_loss


class PeerLost(RuntimeError):
    """Another process of the group has ended or does not answer. Nothing is wrong with this one."""


class OutOfStep(RuntimeError):
    """The processes hold different weights or buffers, so that they no longer compute one thing."""


class Team(Protocol):
    """The processes that work together, seen from one of them: number `rank` of `size`."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def add(self, values: Tensor) -> Tensor:
        """The sum of everybody's float64 `values`, on all of them; may overwrite the argument. Raises `PeerLost`."""

    def gather(self, values: Tensor) -> list[Tensor]:
        """Everybody's `values`, by rank, on the CPU; all of one shape and type. Raises `PeerLost`."""


class Alone:
    """One process: it is its own team."""

    rank, size = 0, 1

    def add(self, values: Tensor) -> Tensor:
        return values

    def gather(self, values: Tensor) -> list[Tensor]:
        return [values.cpu()]


ALONE = Alone()


class Peers:
    """The default process group of `torch.distributed`, which the caller has initialised; `device` is this process's."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size, self.device = dist.get_rank(), dist.get_world_size(), device

    def add(self, values: Tensor) -> Tensor:
        there = values.to(self.device)
        try:
            dist.all_reduce(there, dist.ReduceOp.SUM)
        except RuntimeError as error:
            raise PeerLost(f"process {self.rank} of {self.size} lost another") from error
        return there.to(values.device)

    def gather(self, values: Tensor) -> list[Tensor]:
        mine = values.to(self.device)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        try:
            dist.all_gather(found, mine)
        except RuntimeError as error:
            raise PeerLost(f"process {self.rank} of {self.size} lost another") from error
        return [value.cpu() for value in found]


def portion(count: int, team: Team) -> slice:
    """The positions among `count` that are this process's: consecutive, and equal in number to within one."""
    least, more = divmod(count, team.size)
    start = team.rank * least + min(team.rank, more)
    return slice(start, start + least + (team.rank < more))


def shared_gradient_sum(
    team: Team, model: nn.Module, problem: Problem, samples: Samples, indices: Indices, batch_size: int = CHUNK
) -> GradientSum:
    """`gradient_sum` by all of the team, each calling this with the same arguments; each gets the whole sum.

    Chunks are dealt out whole, one to each in turn, so that every chunk's gradient has the bits it has in one process;
    only the order in which chunks are added up in float64 differs. A team of one gives the very bits.

    Raises:
        NonFinite, ValueError: as `gradient_sum`, on the process whose chunk it was.
        PeerLost: another process has ended.
    """
    indices_N = ordered(indices, len(samples))
    size = chunk_size(batch_size, next(model.parameters()).device)
    dealt = [indices_N[start : start + size] for start in range(team.rank * size, len(indices_N), team.size * size)]
    mine = np.concatenate(dealt) if dealt else np.empty(0, dtype=np.int64)
    part = gradient_sum(model, problem, samples, mine, size)
    if team.size == 1:
        return part
    count = torch.tensor([part.count], dtype=torch.float64, device=next(iter(part.vector.values())).device)
    flat = team.add(torch.cat([value.flatten() for value in part.vector.values()] + [count]))
    pieces = _pieces(flat, [value.numel() for value in part.vector.values()])
    vector = {name: piece.view_as(part.vector[name]) for name, piece in zip(part.vector, pieces, strict=True)}
    return GradientSum(vector, int(flat[-1]))


def indivisible(recipe: Recipe, model: nn.Module) -> str | None:
    """Why several processes cannot train this: it is no sum over samples. Names the layer, or the restriction, at fault;
    None where they can."""
    if recipe.restriction == "batch-norm":
        return (
            "restriction 'batch-norm' restricts the gradient of a whole batch, which no process of several has: train in one"
            " process, or use restriction 'per-sample'"
        )
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            return (
                f"layer {name!r} is a {type(module).__name__}: its statistics are those of a whole batch, which no process of"
                " several has: train in one process, or use GroupNorm"
            )
    return None


def check_divisible(recipe: Recipe, model: nn.Module, team: Team) -> None:
    """Raise `ValueError` where several processes are to train what `indivisible` names."""
    why = indivisible(recipe, model) if team.size > 1 else None
    if why is not None:
        raise ValueError(why)


def check_in_step(model: nn.Module, team: Team) -> None:
    """Raise `OutOfStep` unless everybody's weights and buffers are the same, bit for bit: a layer that keeps statistics of
    what it sees would part them."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    mine = torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
    for rank, theirs in enumerate(team.gather(mine)):
        if not torch.equal(theirs, mine):
            raise OutOfStep(f"processes {rank} and {team.rank} hold other weights or buffers: train in one process")


def exchange_gradients(model: nn.Module, team: Team, more: list[float]) -> list[float]:
    """Put the sum of everybody's gradients in place of each one's own; returns the sums of `more`.

    One exchange, in float64. A parameter that had a gradient nowhere has none afterwards.
    """
    parameters = list(parameters_of(model).values())
    device = parameters[0].device
    own = [
        torch.zeros(value.numel(), dtype=torch.float64, device=device)
        if value.grad is None
        else value.grad.detach().double().flatten()
        for value in parameters
    ]
    told = [*(float(value.grad is not None) for value in parameters), *more]
    flat = team.add(torch.cat([*own, torch.tensor(told, dtype=torch.float64, device=device)]))
    *pieces, facts = _pieces(flat, [*(value.numel() for value in parameters), len(told)])
    sums = [float(value) for value in facts.cpu()]
    for value, piece, holders in zip(parameters, pieces, sums, strict=False):
        value.grad = piece.view_as(value).to(value.dtype) if holders else None
    return sums[len(parameters) :]


def _pieces(flat: Tensor, sizes: list[int]) -> list[Tensor]:
    """Consecutive views of a vector, of these sizes."""
    ends = np.cumsum(sizes).tolist()
    return [flat[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def portion_loss(
    model: nn.Module, problem: Problem, inputs: Tensor, targets: Tensor, part: Indices | None, mine: slice, count: int
) -> Tensor:
    """What this process's `inputs`, positions `mine` of a batch of `count`, add to the batch's training loss.

    The addends of all processes sum up to `restricted_loss` of the batch: each sample's loss counts 1 / count, each squared
    norm of a gradient alpha / len(part), wherever it is computed. `part` are positions in the batch, or None for all.
    """
    recipe, weight = problem.recipe, len(inputs) / count
    if recipe.restriction == "none":
        return restricted_loss(model, problem, inputs, targets, "none", 0.0) * weight
    if part is None:
        return restricted_loss(model, problem, inputs, targets, recipe.restriction, recipe.alpha) * weight
    own = part[(part >= mine.start) & (part < mine.stop)] - mine.start
    if len(own) == 0:
        return restricted_loss(model, problem, inputs, targets, "none", 0.0) * weight
    alpha = recipe.alpha * (len(own) / len(part)) / weight
    return restricted_loss(model, problem, inputs, targets, recipe.restriction, alpha, own) * weight
