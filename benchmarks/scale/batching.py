"""What a ticket costs as its batch grows, and how many a day one worker holds for one model.

On 200,000 real flights and an MLP: each ticket names one flight, a batch of n tickets is worked off in one run, from the
closing of the batch to its published version. The verdict is passed as always and then replaced by `publish`, as in
`benchmarks.cycle`, so that every batch takes the same path.
"""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from sqlalchemy import select

from app import batches, manifests, tickets, versions
from app.db import transaction
from app.tables import Reason, RiskTier, Trigger, Version
from benchmarks.cycle import always_publish, body_with
from benchmarks.results import Row
from unlearning.problem import Problem, Recipe
from workers import flights, pipeline, problems

NAME = "flights-200k"
SAMPLES = 200_000
SIZES = (1, 10, 100, 1_000, 10_000)
DEADLINES = {"1 hour": 3600, "1 day": 86_400, "30 days": 30 * 86_400}


@dataclass(frozen=True)
class Cost:
    """Seconds of one batch of `tickets`: accepting them, and working them off."""

    tickets: int
    intake: float
    work: float


def measure(ladder: list[str], rounds: int) -> list[Cost]:
    """The cost of batches of each size; the fastest of `rounds`, since whatever disturbs a round only adds to it."""
    with always_publish(), installed(make()) as problem:
        model_id = register(problem, ladder)
        pipeline.work(model_id)
        left = iter(np.random.default_rng(0).permutation(len(problem.train)).tolist())
        batch(problem, model_id, [next(left)])  # first use of kernels and connections
        found = []
        for size in SIZES:
            runs = [batch(problem, model_id, [next(left) for _ in range(size)]) for _ in range(rounds)]
            found.append(min(runs, key=lambda cost: cost.work))
            print(f"  batch of {size:>6,}  {found[-1].work:8.2f} s  {1000 * found[-1].work / size:10.2f} ms a ticket")
        return found


def make() -> Problem:
    return flights.flights(SAMPLES, recipe=Recipe("adam", 1e-3, 3, 256))


@contextmanager
def installed(problem: Problem) -> Iterator[Problem]:
    """The problem, found by its name like one that is installed."""
    real = problems.load
    problems.load = partial(known, problem)  # type: ignore[assignment]  # what `lru_cache` adds is not used here
    problems.manifest_digest.cache_clear()
    try:
        yield problem
    finally:
        problems.load = real


def known(problem: Problem, name: str) -> Problem:
    assert name == NAME
    return problem


def register(problem: Problem, ladder: list[str]) -> int:
    """The dataset, a model on it, and its first training asked for; returns the model's id."""
    lines = (f"{id_},{subject or ''}\n" for id_, subject in zip(problem.train.ids, problem.train.subjects, strict=True))
    with transaction() as session:
        manifests.load(
            session, NAME, manifests.blocks_from_csv(io.BytesIO(f"id,subject\n{''.join(lines)}".encode())), "bench"
        )
        model = versions.register(session, NAME, NAME, NAME, body_with({"ladder": ladder}), "bench")
        batches.request_retrain(session, model, Trigger.REGISTRATION, "benchmark", "bench")
        return model.id


def batch(problem: Problem, model_id: int, ordinals: list[int]) -> Cost:
    """One ticket for each sample, and the run that works them off together."""
    ids = problem.train.ids
    begun = time.perf_counter()
    for ordinal in ordinals:
        asked = tickets.Submission(NAME, [ids[ordinal]], [], Reason.OTHER, RiskTier.LOW, None, None)
        with transaction() as session:
            tickets.submit(session, "bench", asked)
    accepted = time.perf_counter()
    pipeline.work(model_id)
    done = time.perf_counter()
    with transaction() as session:
        newest = session.scalars(
            select(Version).where(Version.model_id == model_id).order_by(Version.id.desc())
        ).first()
        assert newest is not None
        assert newest.forgotten == len(ordinals), f"a batch of {len(ordinals)} became one of {newest.forgotten}"
    return Cost(len(ordinals), accepted - begun, done - accepted)


def rows(costs: list[Cost]) -> list[Row]:
    """What a ticket costs alone, against its share of a batch; and what one worker holds."""
    alone = costs[0].work
    shares = [
        Row(
            f"a ticket alone against one in a batch of {cost.tickets:,}",
            f"{1000 * alone:.0f} ms",
            f"{1000 * cost.work / cost.tickets:.2f} ms",
            alone / (cost.work / cost.tickets),
            None,
            False,
            f"the batch takes {cost.work:.2f} s",
        )
        for cost in costs[1:]
    ]
    arrivals = 86_400 * max(cost.tickets / cost.intake for cost in costs)
    return shares + [
        Row(
            f"tickets a day that a worker holds within {name} against what one connection takes in",
            f"{count:,}",
            f"{arrivals:,.0f}",
            count / arrivals,
            None,
            False,
        )
        for name, count in held(costs).items()
    ]


def held(costs: list[Cost]) -> dict[str, int]:
    """Tickets a day that one worker holds for one model at each deadline.

    A ticket may come when a batch has just closed: it waits for that batch and is worked off by the next. So twice a
    batch's time must lie within the deadline, and of the sizes that do the one with the best rate counts.
    """
    return {
        name: max((int(86_400 / c.work * c.tickets) for c in costs if 2 * c.work <= seconds), default=0)
        for name, seconds in DEADLINES.items()
    }
