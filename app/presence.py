"""Who is there: each worker and beat keeps one row, written every few seconds also while it waits for the broker.

A process that lives is not yet one that works: a worker may have lost its place at the broker and wait for ever. So a
row says two things, when its process was last seen and when it last heard a message, or sent one where it is beat.
"""

import os
import platform
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.config import settings
from app.tables import Role, Worker

BEAT_SECONDS = 10.0
"""How often a row is written."""
LOST_SECONDS = 3 * BEAT_SECONDS
EXPIRE_SECONDS = 900.0
QUIET_TICKS = 12
"""Whoever has not heard so many of beat's ticks, times those who share them, and a minute long nothing, has stalled."""


class Condition(StrEnum):
    IDLE = "idle"
    BUSY = "busy"
    STALLED = "stalled"
    LOST = "lost"


@dataclass(frozen=True)
class Present:
    """One process as it stands. `batch` and `model` are what it works on, if it has a lease."""

    name: str
    role: Role
    host: str
    pid: int
    condition: Condition
    started_at: datetime
    seen_at: datetime
    heard_at: datetime
    task: str | None
    batch: str | None
    model: str | None


@lru_cache
def name() -> str:
    """What this process and its children are called in rows and in the log: the parent asks first, and a child inherits."""
    return f"{platform.node()}:{os.getpid()}"


def write(session: Session, role: Role, task: str | None, silent: timedelta) -> None:
    """This process is there, does `task` if anything, and has heard nothing for `silent`. Rows of the long lost go."""
    host, _, pid = name().rpartition(":")
    now = {"seen_at": func.now(), "heard_at": func.now() - silent, "task": task}
    row = insert(Worker).values(name=name(), role=role, host=host, pid=int(pid), **now)
    session.execute(row.on_conflict_do_update(index_elements=["name"], set_=now | {"role": role}))
    session.execute(delete(Worker).where(Worker.seen_at < func.now() - timedelta(seconds=EXPIRE_SECONDS)))


def swept(session: Session) -> None:
    """The sweep has just run, here: beat, the broker and a worker have all done their part."""
    host, _, pid = name().rpartition(":")
    now = {"host": host, "pid": int(pid), "seen_at": func.now(), "heard_at": func.now()}
    row = insert(Worker).values(name=Role.SWEEP.value, role=Role.SWEEP, **now)
    session.execute(row.on_conflict_do_update(index_elements=["name"], set_=now))


def begin(session: Session, role: Role) -> None:
    """This process has just started; a row that another of its name has left is gone."""
    session.execute(delete(Worker).where(Worker.name == name()))
    write(session, role, None, timedelta())


def end(session: Session) -> None:
    """This process ends in order."""
    session.execute(delete(Worker).where(Worker.name == name()))


# At most one batch of a model is running, so there are few; a run names the process that has it.
HOLDS = text("""
    SELECT run.worker, batch.id::text, model.name
    FROM batch JOIN run ON run.batch_id = batch.id AND run.epoch = batch.lease_epoch JOIN model ON model.id = batch.model_id
    WHERE batch.state = 'running' AND batch.lease_until >= now()
    UNION ALL
    SELECT reference.worker, NULL, model.name
    FROM bank JOIN reference ON reference.bank_id = bank.id JOIN model ON model.id = bank.model_id
    WHERE bank.state <> 'retired' AND reference.state = 'running' AND reference.lease_until >= now()
""")


def everyone(session: Session) -> list[Present]:
    """All processes that have a row, by name."""
    held = {worker: (batch, model) for worker, batch, model in session.execute(HOLDS)}
    now = session.execute(select(func.now())).scalar_one()
    rows = session.scalars(select(Worker).order_by(Worker.role, Worker.name)).all()
    alive = Counter(row.role for row in rows if (now - row.seen_at).total_seconds() <= LOST_SECONDS)
    found = []
    for row in rows:
        batch, model = held.get(row.name, (None, None))
        condition = judge(row, now, alive[row.role])
        when = (row.started_at, row.seen_at, row.heard_at)
        found.append(Present(row.name, row.role, row.host, row.pid, condition, *when, row.task, batch, model))
    return found


def judge(row: Worker, now: datetime, sharing: int) -> Condition:
    """Beat's ticks go to one worker each, so where many share them each hears the less often."""
    quiet = max(60.0, QUIET_TICKS * settings().sweep_seconds)
    unseen, silent = (now - row.seen_at).total_seconds(), (now - row.heard_at).total_seconds()
    if unseen > (quiet if row.role is Role.SWEEP else LOST_SECONDS):
        return Condition.LOST
    if row.task is not None:
        return Condition.BUSY
    shared = sharing if row.role in (Role.WORKER, Role.LIGHT) else 1
    return Condition.STALLED if silent > quiet * max(shared, 1) else Condition.IDLE
