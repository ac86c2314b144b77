"""Totals over the audit log, kept in Postgres: each event is counted once, whoever scrapes and however often.

The log's numbers have no gaps and are committed in order, so that "up to number n" is all that need be remembered. The
process that holds the row of that number counts on; the others read what is there. So every API process tells the same
totals, none of them falls when a process restarts, and no scrape reads what an earlier one has read.
"""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import transaction
from app.tables import Run, Tally, Ticket, Verdict

Key = tuple[str, int, tuple[str, ...]]
"""What is counted: its name, the model's id (0 where none is meant), further labels."""

STEP_BOUNDS = (0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 3600.0, 14_400.0, 43_200.0)
TICKET_BOUNDS = (1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0)
BOUNDS = {"step_seconds": STEP_BOUNDS, "run_seconds": STEP_BOUNDS, "ticket_seconds": TICKET_BOUNDS}
AT_ONCE = 1000
CATCH_UP_SECONDS = 1.0
MOST_ATTEMPTS = 5
"""Attempts are counted apart up to this one; a label must not grow with a setting."""
ENDS = {"version.published": "published", "batch.cancelled": "ended", "batch.deferred": "ended"}

# A batch's events may list ten thousand tickets, which are of no use here.
EVENTS = text("""
    SELECT seq, kind, ticket_id, batch_id, model_id, (body::jsonb -> 'data') - 'tickets' AS data
    FROM audit_event WHERE seq > :after ORDER BY seq LIMIT :most
""")


def catch_up() -> None:
    """Count what the log has got since the last time, for about a second at most; the next scrape goes on."""
    with transaction() as session:
        start = {"name": "seq", "model_id": 0, "labels": "[]", "value": 0}
        session.execute(insert(Tally).values(**start).on_conflict_do_nothing())
    until = monotonic() + CATCH_UP_SECONDS
    while monotonic() < until:
        with transaction() as session:
            if fold(session) < AT_ONCE:
                return


def fold(session: Session) -> int:
    """Count the next events; returns how many. None where another process is counting just now."""
    position = session.scalar(select(Tally).where(Tally.name == "seq").with_for_update(skip_locked=True))
    if position is None:
        return 0
    events = session.execute(EVENTS, {"after": int(position.value), "most": AT_ONCE}).all()
    if not events:
        return 0
    counts = Count(session, events).counts
    rows = [
        {"name": n, "model_id": m, "labels": json.dumps(labels), "value": v} for (n, m, labels), v in counts.items()
    ]
    added = insert(Tally)
    more = {"value": Tally.value + added.excluded.value}
    session.execute(added.on_conflict_do_update(index_elements=["name", "model_id", "labels"], set_=more), rows)
    position.value = float(events[-1].seq)
    return len(events)


def totals(session: Session) -> dict[Key, float]:
    """Everything counted so far."""
    found = session.execute(select(Tally.name, Tally.model_id, Tally.labels, Tally.value))
    return {(name, model_id, tuple(json.loads(labels))): value for name, model_id, labels, value in found}


@dataclass
class Count:
    """What some events add to the totals. How long things took stands in the rows that they name."""

    session: Session
    events: Sequence[Any]
    counts: Counter[Key] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.runs = runs_of(self.session, {e.batch_id for e in self.events if e.batch_id is not None})
        self.steps = seconds_of(self.session, {e.data["verdict"] for e in self.events if e.kind == "verdict.recorded"})
        self.tickets = lives_of(self.session, {e.ticket_id for e in self.events if e.kind == "ticket.fulfilled"})
        for event in self.events:
            self.add("events", event.kind)
            self.one(event)

    def one(self, event: Any) -> None:
        data, model = event.data, event.model_id or 0
        match event.kind:
            case "ticket.accepted":
                self.add("tombstones", by=data["samples"])
            case "ticket.fulfilled":
                self.observe("ticket_seconds", self.tickets[event.ticket_id])
            case "batch.closed":
                self.add("batches_closed", data["batch_kind"], data["trigger"], model=model)
            case "run.claimed":
                self.claimed(event.batch_id, data["epoch"], data["attempt"], model)
            case "batch.quarantined" | "batch.split":
                self.lost(event.batch_id, max(self.runs.get(event.batch_id, {0: None})), model)
            case "verdict.recorded":
                self.add("verdicts", data["rung"], data["decision"], model=model)
                for step, seconds in self.steps[data["verdict"]].items():
                    self.observe("step_seconds", seconds, step, data["rung"])
            case "reference.finished":
                self.observe("step_seconds", data["seconds"], "train", "reference")
            case "run.failed":
                self.ended(event.batch_id, data["epoch"], "failed", model)
            case "run.given_back":
                self.ended(event.batch_id, data["epoch"], "given_back", model)
            case "version.published" | "batch.cancelled" | "batch.deferred":
                self.ended(event.batch_id, max(self.runs.get(event.batch_id, {0: None})), ENDS[event.kind], model)
            case _:
                pass

    def claimed(self, batch_id: UUID, epoch: int, attempt: int, model: int) -> None:
        """A claim, and the run before it, if it was lost. Of a batch that an operator gave its attempts back the loss was
        counted when it was quarantined."""
        self.add("claims", str(min(attempt, MOST_ATTEMPTS)), model=model)
        if attempt > 1:
            self.lost(batch_id, epoch - 1, model)

    def lost(self, batch_id: UUID, epoch: int, model: int) -> None:
        """A run whose lease was taken from it: it has no outcome, for ever."""
        run = self.runs.get(batch_id, {}).get(epoch)
        if run is not None and run.outcome is None:
            self.add("leases_stolen", model=model)
            self.add("runs", "lost", model=model)

    def ended(self, batch_id: UUID, epoch: int, outcome: str, model: int) -> None:
        run = self.runs.get(batch_id, {}).get(epoch)
        if run is not None and run.finished_at is not None:  # a batch may be cancelled that never ran
            self.add("runs", outcome, model=model)
            self.observe("run_seconds", (run.finished_at - run.started_at).total_seconds(), outcome)

    def add(self, name: str, *labels: str, model: int = 0, by: float = 1) -> None:
        self.counts[name, model, labels] += by  # type: ignore[assignment]  # a Counter adds floats as well

    def observe(self, name: str, value: float, *labels: str) -> None:
        """One more value of a histogram: its bucket, by the bucket's upper bound, and the sum."""
        at = bisect_left(BOUNDS[name], value)
        self.add(name, *labels, str(BOUNDS[name][at]) if at < len(BOUNDS[name]) else "+Inf")
        self.add(f"{name}_sum", *labels, by=value)


def runs_of(session: Session, batch_ids: Iterable[UUID]) -> dict[UUID, dict[int, Run]]:
    """All runs of these batches, by epoch."""
    found: dict[UUID, dict[int, Run]] = {}
    for run in session.scalars(select(Run).where(Run.batch_id.in_(batch_ids))):
        found.setdefault(run.batch_id, {})[run.epoch] = run
    return found


def seconds_of(session: Session, verdict_ids: Iterable[int]) -> Mapping[int, dict[str, float]]:
    """How long the steps before each of these verdicts took."""
    found = session.execute(select(Verdict.id, Verdict.seconds).where(Verdict.id.in_(verdict_ids)))
    return {row.id: row.seconds for row in found}


def lives_of(session: Session, ticket_ids: Iterable[UUID]) -> Mapping[UUID, float]:
    """Seconds from each of these tickets' acceptance to its end."""
    found = session.execute(select(Ticket.id, Ticket.created_at, Ticket.closed_at).where(Ticket.id.in_(ticket_ids)))
    return {ticket_id: life(begun, closed) for ticket_id, begun, closed in found}


def life(begun: datetime, closed: datetime | None) -> float:
    assert closed is not None, "a fulfilled ticket is closed"
    return (closed - begun).total_seconds()
