"""What is simulated: models, the tickets that come for them, and the policy they share."""

from dataclasses import dataclass, field
from math import pi

import numpy as np
from numpy.typing import NDArray

from app.policy import PolicyBody

DAY, HOUR = 86_400.0, 3_600.0
TICK = 300.0
"""Seconds of simulated time between two looks at all models; the service's sweep looks every five seconds."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """One load. Sizes of models are Pareto-like: few are large. A model gets tickets in proportion to its samples."""

    name: str
    models: int
    samples: int
    tickets_a_day: float
    days: int = 28
    """Days that are measured: whole weeks, since a week has its pattern."""
    policy: PolicyBody = field(default_factory=PolicyBody)
    deadlines: tuple[tuple[float, float], ...] = ((30.0, 1.0),)
    """Days from ticket to deadline, with the share of the tickets."""
    samples_a_ticket: float = 1.0
    first_settles: float = 0.5
    second_settles: float = 0.6
    """The share of its batches that a rung publishes; what both leave is retrained."""
    retrain_share: float = 0.0
    """Tickets that ask for a retrain by themselves: unlawful training, or a tier of the policy's `retrain_tiers`."""
    bursts_a_week: float = 1.0
    burst_factor: float = 10.0
    burst_hours: float = 2.0
    worker_fails_after: float = 7 * DAY
    """Mean seconds of work between two failures of a worker."""
    checkpoint_seconds: float | None = None
    """None: a retrain that loses its worker begins anew. The service keeps checkpoints of trainings by several processes
    alone, and only on their host."""
    warm_days: int = 0
    """Days before the measured ones, of which no figure tells. With them each model begins somewhere else in its round; with
    none, all begin new and in step."""
    seed: int = 2025

    @property
    def begin(self) -> float:
        """The second from which things are counted."""
        return self.warm_days * DAY

    @property
    def end(self) -> float:
        """The last second."""
        return (self.warm_days + self.days) * DAY

    def sizes(self) -> Array:
        """Training samples of each model."""
        weights = (1.0 + np.arange(self.models)) ** -0.5
        sizes: Array = np.maximum(self.samples * weights / weights.sum(), 1.0)
        return sizes


def pattern(seconds: Array) -> Array:
    """The rate of tickets against its mean over a week: busy days, quiet nights, quieter week-ends."""
    days = seconds / DAY
    daily = 1.0 + 0.7 * np.sin(2 * pi * (days - 0.375))
    weekly = np.where(days % 7 < 5, 1.2, 0.5)
    return daily * weekly


def bursts(world: World, rng: np.random.Generator) -> NDArray[np.int64]:
    """Tick at which each burst begins: a campaign, a court's order, an attack."""
    count = rng.poisson(world.bursts_a_week * world.end / (7 * DAY))
    return np.sort(rng.integers(0, int(world.end / TICK), count))


def rates(world: World, rng: np.random.Generator) -> Array:
    """Tickets a tick, over all models, by tick. Bursts come on top of what was asked for."""
    ticks = int(world.end / TICK)
    factor = pattern(np.arange(ticks, dtype=np.float64) * TICK)
    for begin in bursts(world, rng):
        factor[begin : begin + int(world.burst_hours * HOUR / TICK)] *= world.burst_factor
    return world.tickets_a_day * TICK / DAY * factor
