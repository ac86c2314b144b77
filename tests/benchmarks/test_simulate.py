"""The simulation held against the service: the same stream of tickets through both closes the same batches."""

from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from app.db import transaction
from app.policy import PolicyBody
from app.tables import BatchKind
from benchmarks.simulate import loads, page, plot
from benchmarks.simulate.costs import Costs
from benchmarks.simulate.engine import Simulation, Tally, utilisation
from benchmarks.simulate.world import DAY, TICK, World, pattern, rates
from tests.app import story

COSTS = Costs.measured()
QUICK = replace(COSTS, retrain_sample=0.0, prepare_sample=0.0, update=0.1, update_sample=0.0, second=0.1)
"""So quick that a batch is published before the next look."""
BATCHING = {"max_wait_seconds": 6 * 3600, "max_samples": 8, "deadline_margin_seconds": DAY}
BODY: dict[str, Any] = {
    "batching": BATCHING,
    "window": {"max_share": 1},
    "drift": {"max_updates": 4, "max_share": 1, "false_publishes": 100},
}
STEADY = {"first_settles": 1.0, "worker_fails_after": 1e12}


def one_model(name: str, tickets_a_day: float, days: int, due_in: float, **policy: Any) -> World:
    body = PolicyBody.model_validate(BODY | policy)
    return World(name, 1, 5_000, tickets_a_day, days, body, ((due_in, 1.0),), **STEADY)  # type: ignore[arg-type]  # one dictionary of floats and integers


def by_the_service(world: World, arrived: np.ndarray, looks: set[int]) -> list[tuple[int, str, BatchKind]]:
    """The batches that Postgres and the service's own functions close for these arrivals, looking at these ticks.

    Time passes by moving what is written down into the past.
    """
    story.dataset(samples=5_000)
    model_id = story.trained(policy=world.policy.model_dump(mode="json"))
    found, ordinal, before = [], 0, 0
    for tick in sorted(looks):
        with transaction() as session:
            now = session.scalar(text("SELECT now()"))
            for column in ("obligation SET created_at", "obligation SET deadline_at", "version SET published_at"):
                name = column.rpartition(" ")[2]
                session.execute(
                    text(f"UPDATE {column} = {name} - :step"), {"step": timedelta(seconds=TICK * (tick - before))}
                )
        before = tick
        for _ in range(arrived[tick]):
            story.submit(ordinal, deadline=now + timedelta(days=world.deadlines[0][0]))
            ordinal += 1
        batch = story.close(model_id)
        if batch is not None:
            found.append((tick, str(batch.trigger), batch.kind))
            story.publish(story.claimed(model_id))
    return found


@pytest.mark.service
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("world", "triggers"),
    [
        (one_model("by size and age", 25, 2, 30.0), {"size", "age"}),
        (one_model("by deadline", 4, 2, 1.1), {"deadline"}),
        (one_model("retrained only", 20, 1, 30.0, ladder=["retrain"]), {"size", "age"}),
    ],
    ids=lambda value: value.name if isinstance(value, World) else "",
)
def test_it_closes_the_batches_that_the_service_closes(database: str, world: World, triggers: set[str]) -> None:
    simulation = Simulation(world, QUICK, 5, watch=True)
    simulated = [
        (tick, trigger, BatchKind.RETRAIN if why else BatchKind.UNLEARN)
        for tick, _, trigger, why in simulation.run().closed
    ]
    assert len(simulated) >= 3
    assert triggers & {trigger for _, trigger, _ in simulated}
    if len(simulated) > 4:
        assert BatchKind.RETRAIN in {kind for *_, kind in simulated}
    arrived, ticks = simulation.arrived[0], [tick for tick, *_ in simulated]
    looks = {*range(0, len(arrived), 12), *np.flatnonzero(arrived).tolist(), *ticks, *(tick - 1 for tick in ticks)}
    assert by_the_service(world, arrived, looks) == simulated


@pytest.mark.parametrize("deadlines", [((30.0, 1.0),), ((1.5, 0.2), (30.0, 0.8))])
def test_whom_it_does_not_ask_about_has_nothing_due(deadlines: tuple[tuple[float, float], ...]) -> None:
    world = World("many", 20, 100_000, 300, 4, PolicyBody.model_validate(BODY), deadlines)
    picked = Simulation(world, COSTS, 4, watch=True)
    asked = Simulation(world, COSTS, 4, watch=True, ask_always=True)
    assert picked.run().closed == asked.run().closed


def test_the_same_seed_gives_the_same_run_and_another_another() -> None:
    world = World("small", 5, 100_000, 200, 5)
    first, second = (Simulation(world, COSTS, 2).run() for _ in range(2))
    assert (first.updates, first.retrains, first.busy, first.waits) == (
        second.updates,
        second.retrains,
        second.busy,
        second.waits,
    )
    assert Simulation(replace(world, seed=1), COSTS, 2).run().waits != first.waits


def test_every_ticket_is_fulfilled_or_still_waits() -> None:
    simulation = Simulation(World("small", 5, 100_000, 500, 6), COSTS, 3)
    tally = simulation.run()
    assert tally.tickets == simulation.arrived.sum()
    waits = sum(simulation.arrived[model, int(simulation.taken[model]) :].sum() for model in range(5))
    assert 0 <= tally.tickets - tally.fulfilled - waits <= 50  # what is being worked off at the end
    assert tally.fulfilled == tally.ages.sum()


@pytest.mark.parametrize("waits", loads.WAITS)
def test_every_load_has_deadlines_that_can_be_missed(waits: str) -> None:
    for load in loads.LOADS:
        simulated = loads.world(load, waits)
        assert simulated.days >= max(days for days, _ in simulated.deadlines)
        assert simulated.warm_days * DAY >= 2 * simulated.policy.batching.max_wait_seconds
        assert simulated.days % 7 == 0
        assert sum(share for _, share in simulated.deadlines) == pytest.approx(1)
    simulated = replace(loads.world(loads.LOADS[0], waits), worker_fails_after=1e12)  # else no attempt would ever end
    idle = Simulation(simulated, COSTS.times(100_000), 1).run()
    assert idle.missed > 0
    assert not loads.outcome(simulated, idle, 1, "team", waits, "").enough


def test_an_urgent_ticket_closes_its_batch_long_before_a_week_is_over() -> None:
    mixed, unhurried = (
        Simulation(loads.world(loads.LOADS[0], waits), COSTS, 5).run().triggers for waits in ("a week", loads.UNHURRIED)
    )
    assert mixed["deadline"] > 5 * unhurried["age"]  # type: ignore[index]  # a trigger is a string
    assert "deadline" not in unhurried


class TestWhatIsMeasured:
    """Nothing of the warm-up, all of the time after it, and no more than that."""

    PATIENT = PolicyBody.model_validate({"batching": {"max_wait_seconds": 7 * DAY, "max_samples": 10**6}})
    WEEKLY = World("weekly", 100, 50_000_000, 20_000, 35, PATIENT, bursts_a_week=0, warm_days=14)

    def test_averages_are_those_of_a_load_that_has_run_for_long(self) -> None:
        simulation = Simulation(self.WEEKLY, COSTS, 1_000)
        tally = simulation.run()
        assert (tally.updates + tally.retrains) / 35 == pytest.approx(100 / 7, rel=0.05)
        assert sum(tally.triggers.values()) / 35 == pytest.approx(100 / 7, rel=0.05)
        assert tally.tickets / 35 == pytest.approx(20_000, rel=0.01)
        assert tally.tickets == simulation.arrived[:, int(14 * DAY / TICK) :].sum()

    def test_models_do_not_close_their_batches_in_step(self) -> None:
        closed = Simulation(self.WEEKLY, COSTS, 1_000, watch=True).run().closed
        by_day = np.bincount([int(tick * TICK / DAY) for tick, *_ in closed], minlength=49)[14:]
        assert by_day.max() < 3 * by_day.mean()
        assert by_day.min() > 0

    def test_models_begin_with_some_of_their_drift_budget_spent(self) -> None:
        settled = replace(self.WEEKLY, first_settles=1.0)
        assert 5 < Simulation(settled, COSTS, 1).updates.mean() < 15
        assert Simulation(replace(settled, first_settles=0.0, second_settles=0.0), COSTS, 1).updates.max() == 0
        assert Simulation(replace(settled, warm_days=0), COSTS, 1).updates.max() == 0

    def test_no_worker_works_for_more_than_the_time_there_is(self) -> None:
        tally = Simulation(replace(self.WEEKLY, worker_fails_after=1e12), COSTS.times(100), 2).run()
        assert 0.9 < utilisation(tally, self.WEEKLY, 2) <= 1


class TestQueues:
    WORLD = World("queue", 10, 2_000_000, 2_000, 7, warm_days=7, worker_fails_after=1e12)

    def test_a_batch_that_no_worker_takes_counts_with_its_wait_so_far(self) -> None:
        slow = COSTS.times(10_000)
        simulation = Simulation(self.WORLD, slow, 1)
        tally = simulation.run()
        assert len(simulation.ready) >= 8
        for batch in simulation.ready:
            assert (batch.ready, self.WORLD.end - batch.ready) in tally.queue
        assert max(tally.waits) > 7 * DAY
        assert not loads.outcome(self.WORLD, tally, 1, "", "", "").enough

    @pytest.mark.parametrize(("wait", "grows"), [(lambda day: 120 * day, True), (lambda day: 500, False)])
    def test_a_queue_that_grows_is_not_enough_even_where_it_is_short(self, wait: Any, grows: bool) -> None:
        begin = self.WORLD.begin
        tally = Tally(queue=[(begin + step / 20 * DAY, float(wait(step / 20))) for step in range(140)])
        assert max(tally.waits) < self.WORLD.policy.batching.max_wait_seconds
        assert loads.growing(tally, self.WORLD) is grows
        assert loads.outcome(self.WORLD, tally, 1, "", "", "").enough is not grows


def test_what_updates_forgot_stays_forgotten_after_a_retrain() -> None:
    simulation = Simulation(one_model("live", 25, 4, 30.0), QUICK, 5)
    tally = simulation.run()
    assert tally.updates > 4
    assert tally.retrains > 0
    batched = simulation.arrived.sum() - simulation.samples[0]
    assert simulation.world.samples - (simulation.live[0] - simulation.forgotten[0]) == batched


class TestDirections:
    """What must cost more, costs more."""

    WORLD = World("base", 10, 2_000_000, 2_000, 10, worker_fails_after=1e12)

    def busy(self, **changed: Any) -> float:
        return Simulation(replace(self.WORLD, **changed), COSTS, 1_000).run().busy

    def test_more_samples_and_fewer_settled_batches(self) -> None:
        assert self.busy(samples=4_000_000) > 1.5 * self.busy()
        assert self.busy(first_settles=0.0, second_settles=0.0) > 2 * self.busy()

    def test_longer_batches_cost_less(self) -> None:
        patient = PolicyBody.model_validate({"batching": {"max_wait_seconds": DAY, "max_samples": 10**6}})
        assert self.busy(policy=patient) < self.busy() / 5

    def test_lost_workers_cost_time_and_checkpoints_save_it(self) -> None:
        lost = {"worker_fails_after": 600.0, "seed": 3}
        assert self.busy() < self.busy(**lost, checkpoint_seconds=60.0) < self.busy(**lost)

    def test_a_ticket_that_asks_for_a_retrain_takes_its_batch_along(self) -> None:
        tally = Simulation(replace(self.WORLD, retrain_share=1.0), COSTS, 1_000).run()
        assert tally.updates == 0
        assert tally.retrains > 0

    def test_too_few_workers_make_a_queue(self) -> None:
        slow = COSTS.times(50)
        few, many = (Simulation(self.WORLD, slow, workers).run() for workers in (1, 1_000))
        assert max(few.waits) > 3600
        assert max(many.waits) == 0
        assert few.age(0.5) > many.age(0.5)

    def test_deadlines_are_missed_where_nobody_works(self) -> None:
        soon = replace(self.WORLD, deadlines=((2.0, 1.0),))
        assert Simulation(soon, COSTS.times(100_000), 1).run().missed > 0
        assert Simulation(soon, COSTS, 1_000).run().missed == 0


def test_tickets_come_as_often_as_was_said() -> None:
    week = pattern(np.arange(0, 7 * DAY, TICK))
    assert week.mean() == pytest.approx(1.0, abs=0.01)
    assert week.min() >= 0
    world = World("calm", 10, 1_000, 5_000, 14, bursts_a_week=0)
    assert rates(world, np.random.default_rng(0)).sum() == pytest.approx(14 * 5_000, rel=0.01)


def test_the_page_tells_the_figures_of_the_run() -> None:
    load = loads.LOADS[0]
    runs = [
        run
        for waits in loads.WAITS
        for run in loads.smallest(replace(loads.world(load, waits), days=7, warm_days=2), COSTS, "team", waits)
    ]
    told = [asdict(run) for run in runs]
    every = [run | {"load": load.name} for load in loads.LOADS for run in told]
    stored = {thing: {"rows": 2.0, "bytes": 300} for thing in ("sample", "ticket", "batch")}
    record = {"runs": every, "variations": told[-1:], "crowded": told, "costs": asdict(COSTS), "stored": stored}
    text = page.page(record)
    assert f"**{told[-1]['workers']}**" in text
    assert f"{COSTS.intake_rate * 86_400 / 1e6:.0f} million a day" in text
    rows = [line for line in text.splitlines() if line.startswith("| **")]
    assert len(rows) == len(loads.LOADS) * len(loads.WAITS)
    for row, waits in zip(rows, [*loads.WAITS] * len(loads.LOADS), strict=True):
        assert page.due(loads.world(load, waits).deadlines) in row
        assert "| 7 days after 2 |" in row
    for said in (
        "Reference banks",
        "One ticket, several models",
        "Trainings that move hosts",
        "by several processes alone",
    ):
        assert said in text
    assert "queues that divide" not in text
    for drawing in (plot.workers(record), plot.queues(record)):
        assert drawing.startswith("<svg")
