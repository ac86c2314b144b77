"""A started stack with an operator and a client: models to work on, waiting until everything has ended, and the check."""

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tests.chaos.checker import Violation, violations
from tests.chaos.client import Client
from tests.chaos.facts import gather
from tests.chaos.stack import LONG, Stack

SAMPLES = 400
SLOW_SECONDS = 25.0
"""A recovery that takes longer is looked into while it lasts."""
LENIENT: dict[str, Any] = {
    "ladder": ["iau", "retrain"],
    "accept_undetectable": True,
    "thresholds": {"mu": 1, "ue": 1, "worst_class": 1, "retrain_accuracy_drop": 1},
    "update": {"eta": 2.0},
    "batching": {"max_wait_seconds": 0},
    "drift": {"max_share": 1, "max_updates": 10_000, "false_publishes": 10_000},
    "window": {"max_share": 1},
    "bank": {"most": 64},
    "keep_weights_days": 0,
}
LAZY = LENIENT | {"batching": {"max_wait_seconds": 36_000}}
STRICT = LENIENT | {"thresholds": {"mu": 1e-9, "ue": 1, "worst_class": 1, "retrain_accuracy_drop": 1}}
WAITING = LENIENT | {"inconclusive": {"wait_seconds": 3600}}

# What has not come to its end, by model. A quarantined batch with obligations waits for an operator.
OPEN = """
    SELECT model.name, 'ticket', obligation.state FROM obligation JOIN model ON model.id = model_id
    WHERE obligation.state NOT IN ('fulfilled', 'cancelled')
    UNION ALL
    SELECT model.name, 'batch', batch.state FROM batch JOIN model ON model.id = model_id
    WHERE batch.state IN ('ready', 'running')
    UNION ALL
    SELECT model.name, 'first training', batch.state FROM batch JOIN model ON model.id = model_id
    WHERE batch.state = 'quarantined' AND model.current_version_id IS NULL
"""
HELD = """
    SELECT batch.id::text FROM batch JOIN model ON model.id = model_id WHERE batch.state = 'quarantined'
    AND (model.current_version_id IS NULL OR EXISTS (SELECT FROM obligation WHERE obligation.batch_id = batch.id
         AND obligation.state = 'quarantined'))
"""


@dataclass
class Line:
    """A model on a dataset of its own, and which of its samples nobody has named yet: in an order of its own, since two
    models that forget the same share their artifacts."""

    name: str
    dataset: str
    policy: dict[str, Any]
    left: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.left = random.Random(self.name).sample(range(SAMPLES), SAMPLES)

    def take(self, many: int) -> list[int]:
        taken, self.left = self.left[:many], self.left[many:]
        return taken


class Ground:
    """Everything that a scenario needs. One thread uses it, which also tends the stack."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.notes = stack.folder / "notes.jsonl"
        secret = stack.command("keys", "create", "client", "--scope", "admin")
        self.client = Client(stack.url, secret, self.notes, self.idle)
        self.number = count(1)

    def close(self) -> None:
        self.client.http.close()

    def idle(self) -> None:
        """While a request of the main thread waits for the API, nobody else restarts it."""
        if threading.current_thread() is threading.main_thread():
            self.stack.tend()

    def line(self, policy: dict[str, Any] = LENIENT) -> Line:
        """A new dataset and a new model on it, trained and prepared for its updates."""
        number = next(self.number)
        made = Line(f"m{number}", f"d{number}", policy)
        self.client.load(made.dataset, SAMPLES)
        self.register(made)
        self.until(lambda: self.prepared(made), "the first version")
        return made

    def register(self, line: Line) -> None:
        body = {"name": line.name, "dataset": line.dataset, "problem": "chaos", "policy": line.policy}
        self.client.order("/models", body)

    def prepared(self, line: Line) -> bool:
        query = "SELECT gradients_digest IS NOT NULL FROM model JOIN version ON version.id = current_version_id WHERE name = %s"
        return self.stack.ask(query, line.name) == [(True,)]

    def stopped(self, line: Line) -> bool:
        """Whether retrains have shown so much that the model gets no updates any more."""
        return self.stack.ask("SELECT stopped IS NOT NULL FROM model WHERE name = %s", line.name) == [(True,)]

    def until(self, condition: Callable[[], object], what: str, seconds: float = LONG) -> None:
        """Wait, tending the stack; Postgres may be away."""

        def met() -> bool:
            try:
                return bool(condition())
            except (psycopg.Error, httpx.TransportError):
                return False

        self.stack.until(met, what, seconds)

    def open(self) -> list[tuple[object, ...]]:
        """What has not ended; quarantined batches are given their attempts back, as an operator would."""
        for (batch,) in self.stack.ask(HELD):
            self.client.ask("POST", f"/batches/{batch}/retry")
        return self.stack.ask(OPEN)

    def settle(self, seconds: float = LONG, flush: Callable[[], object] = lambda: None) -> None:
        """Wait until everything has ended; `flush` is called now and then, for what waits to be asked for."""
        last: list[tuple[object, ...]] = []
        flushed, slow = -2.0, time.monotonic() + SLOW_SECONDS

        def ended() -> bool:
            nonlocal flushed, slow
            if time.monotonic() > slow:
                slow = float("inf")
                sys.stderr.write(f"slow: {last[:5]}\n{self.stack.last_words()}\n")
            if time.monotonic() - flushed > 2:
                flush()
                flushed = time.monotonic()
            last[:] = self.open()
            return not last

        try:
            self.until(ended, "everything to end", seconds)
        except TimeoutError:
            raise TimeoutError(f"still open after {seconds:g} s: {last[:5]}\n{self.stack.last_words()}") from None

    def stop_schedule(self, schedule: int) -> None:
        self.until(
            lambda: self.stack.ask("UPDATE schedule SET enabled = false WHERE id = %s RETURNING id", schedule), "SQL"
        )

    def violation(self) -> Violation | None:
        """The first that the checker finds."""
        return next(iter(self.violations()), None)

    def violations(self) -> list[Violation]:
        trainings = self.stack.control.folder / "trainings.jsonl"
        return list(violations(gather(self.stack.database, self.stack.artifacts, self.notes, trainings)))

    def age_artifacts(self) -> None:
        """Make all artifacts two hours old, so that those that no row names are collected."""
        then = time.time() - 7200
        for file in self.artifacts():
            with suppress(FileNotFoundError):  # it was collected just now
                os.utime(file, (then, then))

    def artifacts(self) -> list[Path]:
        return list(self.stack.artifacts.glob("sha256/*/*"))
