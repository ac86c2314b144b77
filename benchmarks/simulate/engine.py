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
    """What came of it."""

    tickets: int = 0
    fulfilled: int = 0
    missed: int = 0
    updates: int = 0
    retrains: int = 0
    failures: int = 0
    busy: float = 0.0
    triggers: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    ages: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    waits: list[float] = field(default_factory=list)
    """Seconds that each batch waited for a worker."""
    longest_retrain: float = 0.0
    closed: list[tuple[int, int, str, bool]] = field(default_factory=list)
    """Tick, model and trigger of each batch, and whether it must retrain, where a test asks for them."""

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
        self.ready: deque[Batch] = deque()
        self.free = [0.0] * workers
        self.ends: list[tuple[float, int]] = []
        self.tally = Tally()

    def run(self) -> Tally:
        """From the first minute to the last; what is then still waiting is not counted as fulfilled, only as missed."""
        for tick in range(len(self.rates)):
            now = tick * TICK
            self._arrive(tick, now)
            while self.ends and self.ends[0][0] <= now:
                self.open[heapq.heappop(self.ends)[1]] = False
            for model in self._might_be_due(now):
                self._close(int(model), tick, now)
            while self.ready and self.free[0] <= now:
                self._work(self.ready.popleft(), tick)
        end = len(self.rates) * TICK
        self.tally.missed += int((self.deadline < end).sum()) + sum(batch.deadline < end for batch in self.ready)
        return self.tally

    def _arrive(self, tick: int, now: float) -> None:
        counts = self.rng.poisson(self.rates[tick] * self.weights)
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
        self.tally.triggers[found] = self.tally.triggers.get(found, 0) + 1
        if why is not None:
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
        free = heapq.heappop(self.free)
        begin, model, costs = max(free, batch.ready), batch.model, self.costs
        self.tally.waits.append(begin - batch.ready)
        seconds, retrain = 0.0, batch.retrain
        if not retrain:
            seconds += costs.update + costs.update_sample * batch.samples
            if self.rng.random() >= self.world.first_settles:
                seconds += costs.second
                retrain = bool(self.rng.random() >= self.world.second_settles)
                if retrain:
                    self.tally.reasons["the ladder"] = self.tally.reasons.get("the ladder", 0) + 1
        if retrain:
            self._take(batch, tick)
            seconds += costs.retrain_sample * float(self.live[model] - self.forgotten[model])
            self.tally.longest_retrain = max(self.tally.longest_retrain, seconds)
        spent = self._with_failures(seconds, retrain)
        end = begin + spent
        prepared = end + costs.prepare_sample * float(self.live[model])
        heapq.heappush(self.free, prepared)
        self.tally.busy += prepared - begin
        heapq.heappush(self.ends, (end, model))
        self._publish(batch, retrain, end)

    def _with_failures(self, seconds: float, retrain: bool) -> float:
        """The seconds until an attempt ends well. A worker that is lost costs what it had done, its lease, and, where there
        are checkpoints, no more than since the last of them."""
        spent, left, kept = 0.0, seconds, self.world.checkpoint_seconds if retrain else None
        while (alive := float(self.rng.exponential(self.world.worker_fails_after))) < left:
            self.tally.failures += 1
            spent += alive + LEASE_SECONDS
            left = left - alive // kept * kept if kept else seconds
        return spent + left

    def _publish(self, batch: Batch, retrain: bool, end: float) -> None:
        model, tally = batch.model, self.tally
        if retrain:
            self.forgotten[model], self.updates[model], self.since[model] = self.forgotten[model] * 0, 0, end
            self.live[model] -= batch.samples
            tally.retrains += 1
        else:
            self.forgotten[model] += batch.samples
            self.updates[model] += 1
            tally.updates += 1
        if end > len(self.rates) * TICK:
            tally.missed += batch.deadline < len(self.rates) * TICK
            return
        tally.missed += batch.deadline < end
        counts = self.arrived[model, batch.first_tick : batch.last_tick + 1]
        ages = end - np.arange(batch.first_tick, batch.last_tick + 1) * TICK
        places = np.minimum(ages / BIN, BINS - 1).astype(np.int64)
        tally.ages += np.bincount(places, weights=counts, minlength=BINS).astype(np.int64)
        tally.fulfilled += int(counts.sum())


def utilisation(tally: Tally, world: World, workers: int) -> float:
    """The share of the workers' time that was worked."""
    return tally.busy / (workers * world.days * DAY)
