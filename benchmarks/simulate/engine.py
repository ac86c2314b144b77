"""The simulation: tickets come in every minute, and batches are closed, claimed and worked off as the service does it.

When a batch closes, and whether it must retrain, is not told again here: `app.due.trigger` and `app.due.must_retrain`
decide. A model is only shown to them where numpy has found that it might be due, which a test holds against asking them
every minute.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from app.due import Drift, Waiting, must_retrain, trigger
from benchmarks.simulate.costs import Costs
from benchmarks.simulate.world import DAY, TICK, World, rates

START = datetime(2025, 1, 1, tzinfo=UTC)
LEASE_SECONDS = 60.0
BINS = 4096
"""Ages of tickets are counted by `BIN` seconds."""
BIN = 1800.0


@dataclass
class Batch:
    """Closed and not yet published."""

    model: int
    ready: float
    samples: int
    retrain: bool
    why: str
    first_tick: int
    last_tick: int
    deadline: float


@dataclass
class Tally:
    """What came of it after the warm-up."""

    tickets: int = 0
    fulfilled: int = 0
    missed: int = 0
    """Batches whose nearest deadline passed before they were published, or before the end."""
    updates: int = 0
    retrains: int = 0
    failures: int = 0
    busy: float = 0.0
    triggers: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    ages: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    queue: list[tuple[float, float]] = field(default_factory=list)
    """When each batch was ready, and the seconds that it then waited for a worker: up to the end, where none came."""
    longest_retrain: float = 0.0
    closed: list[tuple[int, int, str, bool]] = field(default_factory=list)
    """Tick, model and trigger of each batch, and whether it must retrain, where a test asks for them."""

    @property
    def waits(self) -> list[float]:
        """Seconds that each batch waited for a worker."""
        return [waited for _, waited in self.queue]

    def age(self, share: float) -> float:
        """Seconds from ticket to publication that this share of the tickets stays within."""
        total = np.cumsum(self.ages)
        return float((np.searchsorted(total, share * total[-1]) + 1) * BIN) if total[-1] else 0.0


class Simulation:
    """One world with so many workers."""

    def __init__(
        self, world: World, costs: Costs, workers: int, *, watch: bool = False, ask_always: bool = False
    ) -> None:
        self.world, self.costs, self.watch, self.ask_always = world, costs, watch, ask_always
        self.body, self.limits = world.policy, world.policy.batching
        self.rng = np.random.default_rng(world.seed)
        self.live = world.sizes()
        self.weights = self.live / self.live.sum()
        self.rates = rates(world, self.rng)
        self.ticks = np.arange(len(self.rates)) * TICK
        count = world.models
        self.arrived = np.zeros((count, len(self.rates)), dtype=np.uint16)
        """Tickets by model and tick, for the ages of those in a batch."""
        self.samples = np.zeros(count, dtype=np.int64)
        self.oldest = np.full(count, np.inf)
        self.deadline = np.full(count, np.inf)
        self.unlawful = np.zeros(count, dtype=bool)
        self.taken = np.zeros(count, dtype=np.int64)
        """The first tick whose tickets are in no batch yet."""
        self.open = np.zeros(count, dtype=bool)
        self.since = np.zeros(count)
        self.forgotten = np.zeros(count, dtype=np.int64)
        self.updates = np.zeros(count, dtype=np.int64)
        self.first = np.zeros(count)
        """The second of each model's first ticket, at the earliest."""
        if world.warm_days:
            self._spread()
        self.ready: deque[Batch] = deque()
        self.free = [0.0] * workers
        self.ends: list[tuple[float, int]] = []
        self.tally = Tally()

    def _spread(self) -> None:
        """Each model begins somewhere else in its round, with some of its drift budget spent. Models that all begin new on
        the same day would close and retrain together for weeks.

        A batch leaves an update with the chance that a rung settles it, and a retrain otherwise. So the updates since a
        retrain are spread by that chance's powers, up to the number after which the budget forces one.
        """
        world, body = self.world, self.body
        wait = self.limits.max_wait_seconds
        settled = world.first_settles + (1 - world.first_settles) * world.second_settles
        most = min(body.drift.max_updates, int(body.drift.false_publishes / body.thresholds.error + 1e-9))
        chances = settled ** np.arange(most + 1)
        self.updates = self.rng.choice(most + 1, world.models, p=chances / chances.sum())
        self.since = -np.minimum(self.updates * wait, body.drift.max_days * DAY)
        self.first = self.rng.uniform(0, min(wait, world.begin), world.models)

    def run(self) -> Tally:
        """From the first minute to the last. What then still waits is not fulfilled; it is missed where its deadline has
        passed, and the wait of a batch that no worker has taken counts up to the end: a queue that grows has to show."""
        for tick in range(len(self.rates)):
            now = tick * TICK
            self._arrive(tick, now)
            while self.ends and self.ends[0][0] <= now:
                self.open[heapq.heappop(self.ends)[1]] = False
            for model in self._might_be_due(now):
                self._close(int(model), tick, now)
            while self.ready and self.free[0] <= now:
                self._work(self.ready.popleft(), tick)
        end = self.world.end
        self.tally.missed += int((self.deadline < end).sum()) + sum(batch.deadline < end for batch in self.ready)
        self.tally.queue += [(batch.ready, end - batch.ready) for batch in self.ready]
        return self.tally

    def _counts(self, second: float) -> bool:
        """Whether what happens then is counted."""
        return self.world.begin <= second <= self.world.end

    def _arrive(self, tick: int, now: float) -> None:
        counts = self.rng.poisson(self.rates[tick] * self.weights) * (self.first <= now)
        if self._counts(now):
            self.tally.tickets += int(counts.sum())
        self.arrived[:, tick] = np.minimum(counts, np.iinfo(np.uint16).max)
        some = counts > 0
        extra = self.world.samples_a_ticket - 1
        self.samples += counts + (self.rng.poisson(counts * extra) if extra else 0)
        self.oldest = np.where(some & ~np.isfinite(self.oldest), now, self.oldest)
        left = counts
        for place, (days, share) in enumerate(self.world.deadlines):
            rest = sum(other for _, other in self.world.deadlines[place:])
            mine = self.rng.binomial(left, min(share / rest, 1.0))
            left = left - mine
            self.deadline = np.where(mine > 0, np.minimum(self.deadline, now + days * DAY), self.deadline)
        if self.world.retrain_share:
            self.unlawful |= self.rng.binomial(counts, self.world.retrain_share) > 0

    def _might_be_due(self, now: float) -> NDArray[np.int64]:
        """The models that may be due; each is then asked about properly. Every one that waits, where a test wants that."""
        waits = np.isfinite(self.oldest) & ~self.open
        if not self.ask_always:
            waits &= (
                (self.samples >= self.limits.max_samples)
                | (now - self.oldest >= self.limits.max_wait_seconds)
                | (self.deadline - now <= self.limits.deadline_margin_seconds)
            )
        return np.flatnonzero(waits)

    def _waiting(self, model: int, now: float) -> Waiting:
        def at(seconds: float) -> datetime:
            return START + timedelta(seconds=seconds)

        deadline = self.deadline[model]
        return Waiting(
            now=at(now),
            samples=int(self.samples[model]),
            oldest=at(float(self.oldest[model])),
            deadline=at(float(deadline)) if np.isfinite(deadline) else None,
            unlawful=bool(self.unlawful[model]),
            tiers=frozenset(),
        )

    def _drift(self, model: int, now: float) -> Drift:
        return Drift(
            live=int(self.live[model]),
            forgotten=int(self.forgotten[model]),
            updates=int(self.updates[model]),
            since=START + timedelta(seconds=float(self.since[model])),
            days=(now - float(self.since[model])) / DAY,
            false_publishes=round(float(self.updates[model]) * self.body.thresholds.error, 6),
        )

    def _close(self, model: int, tick: int, now: float) -> None:
        pending = self._waiting(model, now)
        found = trigger(pending, self.body, flush=False)
        if found is None:
            return
        why = must_retrain(pending, self._drift(model, now), self.body, None)
        reason = "a rung" if why is None else why.partition(":")[0] if ":" in why else why
        reason = "drift budget: false publishes" if why is not None and "to be false" in why else reason
        if self._counts(now):
            self.tally.triggers[found] = self.tally.triggers.get(found, 0) + 1
        if why is not None and self._counts(now):
            self.tally.reasons[reason] = self.tally.reasons.get(reason, 0) + 1
        if self.watch:
            self.tally.closed.append((tick, model, str(found), why is not None))
        batch = Batch(model, now, 0, why is not None, reason, int(self.taken[model]), tick, np.inf)
        self._take(batch, tick)
        self.open[model] = True
        self.ready.append(batch)

    def _take(self, batch: Batch, tick: int) -> None:
        """All that the model owes by now goes into the batch."""
        model = batch.model
        batch.samples += int(self.samples[model])
        batch.deadline = min(batch.deadline, float(self.deadline[model]))
        batch.last_tick = tick
        self.samples[model], self.oldest[model], self.deadline[model] = 0, np.inf, np.inf
        self.unlawful[model], self.taken[model] = False, tick + 1

    def _work(self, batch: Batch, tick: int) -> None:
        """A worker takes the batch; when it publishes is known at once."""
        begin, model = max(heapq.heappop(self.free), batch.ready), batch.model
        if self._counts(begin):
            self.tally.queue.append((batch.ready, begin - batch.ready))
        direct, seconds = batch.retrain, self._rungs(batch)
        if batch.retrain:
            self._take(batch, tick)
            seconds += self.costs.retrain_sample * self._left(batch)
        end = begin + self._with_failures(begin, seconds, batch.retrain)
        self._publish(batch, end)
        if self._counts(end):
            self._tell(batch, end, seconds, fell=batch.retrain and not direct)
        else:
            self.tally.missed += end > self.world.end > batch.deadline
        prepared = end + self.costs.prepare_sample * float(self.live[model] - self.forgotten[model])
        heapq.heappush(self.free, prepared)
        heapq.heappush(self.ends, (end, model))
        self.tally.busy += max(0.0, min(prepared, self.world.end) - max(begin, self.world.begin))

    def _rungs(self, batch: Batch) -> float:
        """Seconds of the approximate rungs; a batch that none of them settles must retrain."""
        if batch.retrain:
            return 0.0
        seconds = self.costs.update + self.costs.update_sample * batch.samples
        if self.rng.random() < self.world.first_settles:
            return seconds
        batch.retrain = bool(self.rng.random() >= self.world.second_settles)
        return seconds + self.costs.second

    def _left(self, batch: Batch) -> float:
        """Samples that a retrain is left with: those of the last one, without what updates and this batch forget."""
        left = float(self.live[batch.model] - self.forgotten[batch.model] - batch.samples)
        assert left > 0
        return left

    def _with_failures(self, begin: float, seconds: float, retrain: bool) -> float:
        """The seconds until an attempt ends well. A worker that is lost costs what it had done, its lease, and, where there
        are checkpoints, no more than since the last of them."""
        spent, left, kept = 0.0, seconds, self.world.checkpoint_seconds if retrain else None
        while (alive := float(self.rng.exponential(self.world.worker_fails_after))) < left:
            self.tally.failures += self._counts(begin + spent + alive)
            spent += alive + LEASE_SECONDS
            left = left - alive // kept * kept if kept else seconds
        return spent + left

    def _publish(self, batch: Batch, end: float) -> None:
        """The model's new version. A retrain leaves out what was forgotten since the last one as well as its own batch."""
        model = batch.model
        if batch.retrain:
            self.live[model] = self._left(batch)
            self.forgotten[model], self.updates[model], self.since[model] = 0, 0, end
        else:
            self.forgotten[model] += batch.samples
            self.updates[model] += 1

    def _tell(self, batch: Batch, end: float, seconds: float, *, fell: bool) -> None:
        """Counts a publication. `fell`: no rung had settled the batch."""
        tally = self.tally
        tally.missed += batch.deadline < end
        if batch.retrain:
            tally.retrains += 1
            tally.longest_retrain = max(tally.longest_retrain, seconds)
        else:
            tally.updates += 1
        if fell:
            tally.reasons["the ladder"] = tally.reasons.get("the ladder", 0) + 1
        span = slice(batch.first_tick, batch.last_tick + 1)
        counts = self.arrived[batch.model, span]
        places = np.minimum((end - self.ticks[span]) / BIN, BINS - 1).astype(np.int64)
        found = np.bincount(places, weights=counts)
        tally.ages[: len(found)] += found.astype(np.int64)
        tally.fulfilled += int(counts.sum())


def utilisation(tally: Tally, world: World, workers: int) -> float:
    """The share of the workers' time that was worked."""
    return tally.busy / (workers * world.days * DAY)
