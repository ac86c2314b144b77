"""One run: the requests of its plan over HTTP, the faults of its plan underneath; then healing, waiting, checking."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from tests.chaos.client import Client
from tests.chaos.ground import SAMPLES, Ground
from tests.chaos.injury import Injury
from tests.chaos.plan import POLICIES, Plan, Step

LABEL_SECONDS = 3.0
"""How long a run waits, once all is answered, for a fault at a label to be met."""
RECOVERY_SECONDS = 240.0


@dataclass(frozen=True)
class Record:
    """What is kept of a run: of so many tickets so many have ended; `recovery` are the seconds from the healing to the end
    of the last."""

    run: int
    kinds: list[str]
    tickets: int
    ended: int
    requests: int
    recovery: float
    seconds: float
    violation: str | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Run:
    """A plan carried out. The main thread injects and tends; the clients have threads of their own."""

    def __init__(self, ground: Ground, plan: Plan) -> None:
        self.ground, self.plan = ground, plan
        self.dataset = f"d{plan.run}"
        self.models = [f"r{plan.run}-{letter}" for letter in "ab"[: plan.models]]
        self.injuries = [Injury(fault, ground, self.models[0]) for fault in plan.faults]
        self.made: dict[int, Future[str | None]] = {}
        self.schedules: list[int] = []

    def carry_out(self) -> Record:
        begun = time.monotonic()
        violation, recovery = None, 0.0
        try:
            with ThreadPoolExecutor(8) as pool:
                self.hurt(pool)
            healed = time.monotonic()
            self.ground.settle(RECOVERY_SECONDS, self.flush)
            recovery = time.monotonic() - healed
        except (TimeoutError, RuntimeError) as error:
            violation = f"every ticket ends: {error}"
            self.heal()
        found = self.ground.violation()
        kinds = sorted({injury.fault.kind.value for injury in self.injuries if injury.done})
        tickets, ended = self.counted()
        said = str(found) if found else violation
        seconds = time.monotonic() - begun
        self.ground.stack.control.forget()
        requests = len(self.plan.steps)
        return Record(self.plan.run, kinds, tickets, ended, requests, round(recovery, 2), round(seconds, 2), said)

    def counted(self) -> tuple[int, int]:
        """The run's tickets, and those that have come to their end."""
        query = (
            "SELECT count(*), count(*) FILTER (WHERE state IN ('fulfilled', 'cancelled')) FROM ticket"
            " JOIN dataset ON dataset.id = dataset_id WHERE name = %s"
        )
        tickets, ended = self.ground.stack.ask(query, self.dataset)[0]
        return int(str(tickets)), int(str(ended))

    def hurt(self, pool: ThreadPoolExecutor) -> None:
        """Requests and faults, each at its time, until all is answered and what was to happen has had its time."""
        set_up = pool.submit(self.set_up)
        begun, answered, last = time.monotonic(), 0.0, max(fault.at for fault in self.plan.faults)
        steps, futures = list(self.plan.steps), [set_up]

        def over() -> bool:
            nonlocal answered
            now = time.monotonic() - begun
            for injury in self.injuries:
                if injury.begun is None and injury.fault.at <= now:
                    injury.begin()
                injury.watch()
            while steps and steps[0].at <= now:
                futures.append(self.ask(pool, steps.pop(0), set_up))
            if steps or not all(future.done() for future in futures):
                return False
            answered = answered or now
            early = now < max(last, self.plan.seconds)
            return not early and not (now - answered < LABEL_SECONDS and any(i.waiting for i in self.injuries))

        try:
            self.ground.stack.until(over, "the clients to be answered")
        finally:
            self.heal()
        for future in futures:
            future.result()

    def heal(self) -> None:
        """Every fault is over: what was stopped goes on, what was away is back, what was damaged is restored."""
        for injury in self.injuries:
            injury.end()
        self.ground.stack.control.heal()
        self.ground.stack.proceed()
        for schedule in self.schedules:
            self.ground.stop_schedule(schedule)

    def set_up(self) -> None:
        client = self.ground.client
        client.load(self.dataset, SAMPLES)
        for model in self.models:
            body = {"name": model, "dataset": self.dataset, "problem": "chaos", "policy": POLICIES[self.plan.policy]}
            client.order("/models", body)

    def ask(self, pool: ThreadPoolExecutor, step: Step, set_up: Future[None]) -> Future[Any]:
        """A step in a thread of its own; it waits for the models, and for the ticket that it is about."""
        act: dict[str, Callable[[Step], Any]] = {
            "submit": self.submit, "repeat": self.submit, "race": self.submit, "changed": self.changed,
            "cancel": self.cancel, "retrain": self.retrain, "schedule": self.schedule, "bank": self.bank,
            "flush": lambda _: self.flush(),
        }  # fmt: skip

        def done() -> Any:
            set_up.result()
            return act[step.what](step)

        future = pool.submit(done)
        if step.what == "submit":
            self.made[step.of] = future
        return future

    @property
    def client(self) -> Client:
        return self.ground.client

    def key(self, step: Step) -> str:
        return f"{self.plan.seed}-{self.plan.run}-{step.of}"

    def submit(self, step: Step) -> str | None:
        more = {"reason": step.reason, "external_id": self.key(step)} if step.of % 2 else {"reason": step.reason}
        if step.subjects:
            return self.client.submit_subjects(self.dataset, self.key(step), list(step.subjects), **more)
        return self.client.submit(self.dataset, self.key(step), list(step.ordinals), **more)

    def changed(self, step: Step) -> None:
        """The key of a ticket that was answered, with another body."""
        self.made[step.of].result()
        self.client.submit(self.dataset, self.key(step), [SAMPLES - 1 - step.of], reason="outlier")

    def cancel(self, step: Step) -> None:
        ticket = self.made[step.of].result()
        if ticket is not None:
            self.client.cancel(ticket)

    def retrain(self, step: Step) -> None:
        self.client.order("/retrains", {"model": self.models[0], "why": "chaos"})

    def schedule(self, step: Step) -> None:
        """A schedule that comes due at once."""
        made = self.client.order("/schedules", {"model": self.models[0], "cron": "0 3 * * 0"})["id"]
        self.schedules.append(made)
        begun = time.monotonic()
        while time.monotonic() - begun < RECOVERY_SECONDS:
            try:
                self.ground.stack.ask("UPDATE schedule SET next_at = now() - interval '1 minute' WHERE id = %s", made)
            except psycopg.OperationalError:
                time.sleep(0.1)
            else:
                return

    def bank(self, step: Step) -> None:
        """A bank, where the model has been trained; before that the service refuses."""
        self.client.ask("POST", f"/models/{self.models[0]}/bank", {"references": 4})

    def flush(self) -> None:
        """What waits need not wait any longer."""
        if self.plan.policy == "lazy":
            for model in self.models:
                self.client.ask("POST", f"/models/{model}/flush", {})
