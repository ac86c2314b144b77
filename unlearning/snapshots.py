"""A training stopped between two steps: everything that the steps after it depend on.

Continuing from it gives the bits that the uninterrupted training gives, on the same number of processes: weights, the
optimizer's state, the order of samples, every process's random state, and what early stopping has seen.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from unlearning.parallel import Team

MODEL, OPTIMIZER, BEST, RANDOM = "model.", "optimizer.", "best.", "random."


@dataclass(frozen=True)
class Snapshot:
    """Tensors by name, on the CPU, and facts that survive JSON."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix`, without it."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


class Keeper(Protocol):
    """Where a training keeps its snapshots. Each process of a team has one; `keep` and `latest` speak of the same."""

    def latest(self) -> Snapshot | None:
        """Where to go on; None for the beginning. The same on every process."""

    def due(self) -> bool:
        """Asked after every step; one process's True is enough."""

    def keep(self, snapshot: Snapshot) -> None:
        """Called on the first process alone."""


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as `optimizer.<parameter>.<name>`.

    Raises:
        ValueError: it keeps something that is no tensor.
    """
    found: dict[str, Tensor] = {}
    for number, kept in optimizer.state_dict()["state"].items():
        for name, value in kept.items():
            if value is None:
                continue
            if not isinstance(value, Tensor):
                raise ValueError(  # noqa: TRY004 - what the recipe's optimizer keeps is no argument
                    f"the optimizer's {name!r} is no tensor: this training can keep no checkpoint"
                )
            found[f"{OPTIMIZER}{number}.{name}"] = value.detach().cpu().clone()
    return found


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` has read, names without their prefix."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value.clone()  # steps change it in place
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def random_tensors(team: Team, device: torch.device) -> dict[str, Tensor]:
    """Every process's random state, on the CPU and on its device, as `random.<rank>.<where>`; all of them take part."""
    found = {f"{RANDOM}{rank}.cpu": value for rank, value in enumerate(team.gather(torch.get_rng_state()))}
    if device.type == "cuda":
        everybody = team.gather(torch.cuda.get_rng_state(device))
        found |= {f"{RANDOM}{rank}.cuda": value for rank, value in enumerate(everybody)}
    return found


def restore_random(snapshot: Snapshot, rank: int, device: torch.device) -> None:
    """Put this process's random state back."""
    own = snapshot.under(f"{RANDOM}{rank}.")
    torch.set_rng_state(own["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(own["cuda"], device)
