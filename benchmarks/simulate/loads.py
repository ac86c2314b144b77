"""The loads that are simulated, and how many workers each of them needs."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import ceil
from statistics import quantiles
from typing import Any

from app.policy import PolicyBody
from benchmarks.simulate.costs import Costs
from benchmarks.simulate.engine import Simulation, Tally, utilisation
from benchmarks.simulate.world import DAY, HOUR, World

LOADS = (
    World("team", 10, 1_000_000, 1_000),
    World("company", 100, 50_000_000, 50_000),
    World("platform", 1_000, 1_000_000_000, 1_000_000),
)
WAITS = {
    "an hour": {"max_wait_seconds": HOUR, "max_samples": 1_000},
    "a day": {"max_wait_seconds": DAY, "max_samples": 100_000},
    "a week": {"max_wait_seconds": 7 * DAY, "max_samples": 1_000_000},
}
"""Batching, by how long a ticket may wait; the first is the default policy."""
MORE = (1.05, 1.25, 1.5, 2.0, 3.0, 5.0)
"""Workers tried, as multiples of the load."""
CROWDED = (0.8, 0.9, 1.0, 1.05, 1.1, 1.25, 1.5)
"""And those that show what too few of them do to the queue."""


@dataclass(frozen=True)
class Outcome:
    """One world with so many workers, in figures."""

    load: str
    waits: str
    what: str
    workers: int
    busy_workers: float
    used: float
    tickets_a_day: float
    updates_a_day: float
    retrains_a_day: float
    queue_p99_hours: float
    queue_max_hours: float
    age_p50_hours: float
    age_p99_hours: float
    missed: int
    failures: int
    longest_retrain_hours: float
    reasons: dict[str, int]
    triggers: dict[str, int]
    enough: bool
    """Whether no deadline was missed, and of a hundred batches one at most waited longer for a worker than for tickets."""


def world(load: World, waits: str, **policy: Any) -> World:
    """The load under a policy. Where tickets wait an hour at most, a week tells as much as four."""
    body = PolicyBody.model_validate({"batching": WAITS[waits]} | policy)
    return replace(load, policy=body, days=7 if waits == "an hour" else load.days)


def variations() -> Iterator[tuple[str, World]]:
    """The company, its tickets waiting a day, with one thing changed each time."""
    base = world(LOADS[1], "a day")
    yield "as it is", base
    yield "one ticket in a hundred is due within a day", replace(base, deadlines=((1.0, 0.01), (30.0, 0.99)))
    yield "one ticket in a hundred asks for a retrain", replace(base, retrain_share=0.01)
    yield (
        "nineteen batches of twenty are settled by the first rung",
        replace(base, first_settles=0.95, second_settles=0.5),
    )
    yield "no rung settles anything", replace(base, first_settles=0.0, second_settles=0.0)
    yield "every batch retrains", world(LOADS[1], "a day", ladder=["retrain"])
    yield "workers are lost every four hours", replace(base, worker_fails_after=4 * HOUR)
    yield (
        "the same, with checkpoints every ten minutes",
        replace(base, worker_fails_after=4 * HOUR, checkpoint_seconds=600.0),
    )


def smallest(simulated: World, costs: Costs, load: str, waits: str, what: str = "") -> list[Outcome]:
    """Runs with more and more workers; the last of them has enough."""
    ample = Simulation(simulated, costs, 10 * simulated.models).run()
    busy = ample.busy / (simulated.days * DAY)
    tried: list[Outcome] = []
    for workers in sorted({max(1, ceil(busy * more)) for more in MORE}):
        tally = Simulation(simulated, costs, workers).run()
        tried.append(outcome(simulated, tally, workers, load, waits, what))
        if tried[-1].enough:
            break
    return tried


def crowded(costs: Costs) -> list[Outcome]:
    """The platform, its tickets waiting an hour, from too few workers to plenty."""
    simulated = world(LOADS[-1], "an hour")
    busy = Simulation(simulated, costs, 10 * simulated.models).run().busy / (simulated.days * DAY)
    return [
        outcome(
            simulated,
            Simulation(simulated, costs, ceil(busy * more)).run(),
            ceil(busy * more),
            "platform",
            "an hour",
            "",
        )
        for more in CROWDED
    ]


def outcome(simulated: World, tally: Tally, workers: int, load: str, waits: str, what: str) -> Outcome:
    days, batches = simulated.days, sorted(tally.waits)
    p99 = quantiles(batches, n=100)[98] if len(batches) > 1 else max(batches, default=0.0)
    return Outcome(
        load=load,
        waits=waits,
        what=what,
        workers=workers,
        busy_workers=tally.busy / (days * DAY),
        used=utilisation(tally, simulated, workers),
        tickets_a_day=tally.tickets / days,
        updates_a_day=tally.updates / days,
        retrains_a_day=tally.retrains / days,
        queue_p99_hours=p99 / HOUR,
        queue_max_hours=max(batches, default=0.0) / HOUR,
        age_p50_hours=tally.age(0.5) / HOUR,
        age_p99_hours=tally.age(0.99) / HOUR,
        missed=tally.missed,
        failures=tally.failures,
        longest_retrain_hours=tally.longest_retrain / HOUR,
        reasons=tally.reasons,
        triggers={str(name): count for name, count in tally.triggers.items()},
        enough=tally.missed == 0 and p99 <= simulated.policy.batching.max_wait_seconds,
    )


def everything(costs: Costs) -> dict[str, Any]:
    """All loads under all policies, and the variations."""
    runs, varied = [], []
    for load in LOADS:
        for waits in WAITS:
            runs += smallest(world(load, waits), costs, load.name, waits)
            print(f"{load.name}, {waits}: {runs[-1].workers} workers", flush=True)
    for what, changed in variations():
        varied += smallest(changed, costs, "company", "a day", what)[-1:]
        print(f"{what}: {varied[-1].workers} workers", flush=True)
    parts = {"runs": runs, "variations": varied, "crowded": crowded(costs)}
    return {name: [asdict(run) for run in found] for name, found in parts.items()}
