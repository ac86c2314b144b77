"""The loads that are simulated, and how many workers each of them needs."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import ceil
from statistics import fmean, quantiles
from typing import Any

from app.policy import PolicyBody
from benchmarks.simulate.costs import Costs
from benchmarks.simulate.engine import Simulation, Tally, utilisation
from benchmarks.simulate.world import DAY, HOUR, World

DUE = ((2.0, 0.05), (7.0, 0.25), (30.0, 0.70))
"""Days from ticket to deadline: few are urgent, most have the month that the law gives."""
LONG: dict[str, Any] = {"days": 35, "warm_days": 14}
"""A warm-up of two of the longest rounds; then longer than the longest deadline, in whole weeks."""
LOADS = (
    World("team", 10, 1_000_000, 1_000, deadlines=DUE, **LONG),
    World("company", 100, 50_000_000, 50_000, deadlines=DUE, **LONG),
    World("platform", 1_000, 1_000_000_000, 1_000_000, deadlines=DUE, **LONG),
)
MONTH = ((30.0, 1.0),)
UNHURRIED = "a week, all due in a month"
WAITS = {
    "an hour": {"max_wait_seconds": HOUR, "max_samples": 1_000},
    "a day": {"max_wait_seconds": DAY, "max_samples": 100_000},
    "a week": {"max_wait_seconds": 7 * DAY, "max_samples": 1_000_000},
    UNHURRIED: {"max_wait_seconds": 7 * DAY, "max_samples": 1_000_000},
}
"""Batching, by how long a ticket may wait; the first is the default policy. In the last no ticket is urgent."""
MORE = (1.05, 1.25, 1.5, 2.0, 3.0, 5.0)
"""Workers tried, as multiples of the load."""
CROWDED = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8)
"""And those that show what too few of them do to the queue."""
CHECKPOINTED = "each training by several processes that stay on their host"


@dataclass(frozen=True)
class Outcome:
    """One world with so many workers, in figures."""

    load: str
    waits: str
    what: str
    days: int
    warm_days: int
    deadlines: tuple[tuple[float, float], ...]
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
    growing: bool
    """Whether the queue grows."""
    enough: bool
    """Whether no deadline was missed, the queue does not grow, and of a hundred batches one at most waited longer for a worker
    than for tickets."""


def world(load: World, waits: str, **policy: Any) -> World:
    """The load under a policy, with the deadlines that go with it."""
    body = PolicyBody.model_validate({"batching": WAITS[waits]} | policy)
    return replace(load, policy=body, deadlines=MONTH if waits == UNHURRIED else load.deadlines)


def variations() -> Iterator[tuple[str, World]]:
    """The company, its tickets waiting a day, with one thing changed each time."""
    base = world(LOADS[1], "a day")
    urgent = ((1.0, 0.01), *((days, share * 0.99) for days, share in DUE))
    mostly = replace(base, first_settles=0.95, second_settles=0.5)
    lost = replace(base, worker_fails_after=4 * HOUR)
    yield "as it is", base
    yield "no ticket is urgent: all are due in a month", replace(base, deadlines=MONTH)
    yield "one ticket in a hundred is due within a day", replace(base, deadlines=urgent)
    yield "one ticket in a hundred asks for a retrain", replace(base, retrain_share=0.01)
    yield "nineteen batches of twenty are settled by the first rung", mostly
    yield "no rung settles anything", replace(base, first_settles=0.0, second_settles=0.0)
    yield "every batch retrains", world(LOADS[1], "a day", ladder=["retrain"])
    yield "workers are lost every four hours", lost
    yield f"the same, {CHECKPOINTED}", replace(lost, checkpoint_seconds=600.0)


def offered(simulated: World, costs: Costs) -> float:
    """Workers that are busy where there are plenty. Three weeks are enough to begin the search with."""
    short = replace(simulated, days=min(simulated.days, 14), warm_days=min(simulated.warm_days, 7))
    return Simulation(short, costs, 10 * short.models).run().busy / (short.days * DAY)


def smallest(simulated: World, costs: Costs, load: str, waits: str, what: str = "") -> list[Outcome]:
    """Runs with more and more workers; the last of them has enough."""
    busy = offered(simulated, costs)
    tried: list[Outcome] = []
    for workers in sorted({max(1, ceil(busy * more)) for more in MORE} | {1 + ceil(busy), 2 + ceil(busy)}):
        tally = Simulation(simulated, costs, workers).run()
        tried.append(outcome(simulated, tally, workers, load, waits, what))
        if tried[-1].enough:
            break
    return tried


def crowded(costs: Costs) -> list[Outcome]:
    """The company, its tickets waiting an hour, from too few workers to plenty."""
    simulated = world(LOADS[1], "an hour")
    busy = offered(simulated, costs)
    return [
        outcome(simulated, Simulation(simulated, costs, workers).run(), workers, "company", "an hour", "")
        for workers in sorted({ceil(busy * more) for more in CROWDED})
    ]


def growing(tally: Tally, simulated: World) -> bool:
    """Whether batches of the second half waited much longer for a worker than those of the first, and long enough to matter:
    no figure of such a queue holds for the time after."""
    middle = (simulated.begin + simulated.end) / 2
    early = [waited for ready, waited in tally.queue if ready < middle]
    late = [waited for ready, waited in tally.queue if ready >= middle]
    first, second = (fmean(half) if half else 0.0 for half in (early, late))
    return second > max(1.5 * first, simulated.policy.batching.max_wait_seconds / 10)


def outcome(simulated: World, tally: Tally, workers: int, load: str, waits: str, what: str) -> Outcome:
    days, batches = simulated.days, sorted(tally.waits)
    p99 = quantiles(batches, n=100)[98] if len(batches) > 1 else max(batches, default=0.0)
    grows = growing(tally, simulated)
    return Outcome(
        load=load,
        waits=waits,
        what=what,
        days=days,
        warm_days=simulated.warm_days,
        deadlines=simulated.deadlines,
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
        growing=grows,
        enough=tally.missed == 0 and not grows and p99 <= simulated.policy.batching.max_wait_seconds,
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
