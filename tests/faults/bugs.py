"""Bugs that the service does not have, planted on demand so that the checker can be seen to find them.

A bug is active while the control folder has a file of its name in `bugs`. `inconclusive` is none: it is a verdict that a
test needs and that data this small does not give.
"""

import functools
import os
from array import array
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Function = Callable[..., Any]


def active(name: str) -> bool:
    return Path(os.environ["EXPUNGE_FAULTS"], "bugs", name).exists()


def fencing_off(function: Function) -> Function:
    """A run whose lease is gone goes on writing."""

    @functools.wraps(function)
    def fenced(session: Any, lease: Any) -> Any:
        if not active("fencing-off"):
            return function(session, lease)
        from app.tables import Batch

        return session.get(Batch, lease.batch_id)

    return fenced


def tombstones_skipped(function: Function) -> Function:
    """A retrain says that it left everything out, and trains on it."""

    @functools.wraps(function)
    def train_without(context: Any, excluded: Any) -> Any:
        return function(context, excluded[:0] if active("tombstones-skipped") else excluded)

    return train_without


def tombstones_unseen(function: Function) -> Function:
    """Nobody sees a tombstone: neither the training nor what is said of it."""

    @functools.wraps(function)
    def tombstoned(session: Any, dataset_id: int) -> Any:
        found = function(session, dataset_id)
        return array("q") if active("tombstones-unseen") else found

    return tombstoned


def pointer_back(function: Function) -> Function:
    """A publication leaves the pointer where it was."""

    @functools.wraps(function)
    def publish(session: Any, lease: Any, *more: Any) -> Any:
        version = function(session, lease, *more)
        if active("pointer-back") and lease.parent is not None:
            from app.tables import Model

            session.get(Model, lease.model_id).current_version_id = lease.parent.id
        return version

    return publish


def never_committed(function: Function) -> Function:
    """A ticket is answered, and rolled back."""

    @functools.wraps(function)
    def submit(session: Any, *more: Any) -> Any:
        accepted = function(session, *more)
        if active("never-committed"):
            session.rollback()
        return accepted

    return submit


_open: list[Any] = []


def late_transaction(function: Function) -> Function:
    """The route's transaction is left open until the doorbell has been rung, which is after the answer."""

    @functools.wraps(function)
    @contextmanager
    def transaction() -> Any:
        if not active("commit-after-answer"):
            with function() as session:
                yield session
            return
        from sqlalchemy.orm import Session

        from app.db import engine

        session = Session(engine(), expire_on_commit=False)
        session.begin()
        _open.append(session)
        yield session

    return transaction


def late_commit(function: Function) -> Function:
    """The other half: commit what is open once the bell has been rung."""

    @functools.wraps(function)
    def nudge(*model_ids: int) -> None:
        function(*model_ids)
        while _open:
            session = _open.pop()
            session.commit()
            session.close()

    return nudge


def written_over(function: Function) -> Function:
    """Weights are written to the place of those stored before them."""

    @functools.wraps(function)
    def publish(context: Any, data: bytes, *more: Any, **named: Any) -> Any:
        version = function(context, data, *more, **named)
        if active("written-over"):
            from app import store

            store.store().put(store.path(context.lease.parent.weights_digest), data)
        return version

    return publish


def inconclusive(function: Function) -> Function:
    """Every update is judged inconclusive, and a larger batch would settle it."""

    @functools.wraps(function)
    def judge(*arguments: Any) -> Any:
        if not active("inconclusive"):
            return function(*arguments)
        from app.policy import Judgement, Settle
        from app.tables import Decision

        says = "with twice the samples it could be told"
        settle = Settle("larger_batch", says, samples=2 * arguments[2])
        return Judgement(Decision.INCONCLUSIVE, [says], settle)

    return judge


WRAPPERS: dict[str, list[Callable[[Function], Function]]] = {
    "app.runs:fenced": [fencing_off],
    "workers.training:train_without": [tombstones_skipped],
    "app.lineage:tombstoned": [tombstones_unseen],
    "app.runs:publish": [pointer_back],
    "app.tickets:submit": [never_committed],
    "app.routes.deletions:transaction": [late_transaction],
    "app.routes.deletions:nudge": [late_commit],
    "workers.updates:publish": [written_over],
    "app.policy:judge": [inconclusive],
}
TARGETS = tuple(WRAPPERS)
BUGS = (
    "fencing-off",
    "tombstones-skipped",
    "tombstones-unseen",
    "pointer-back",
    "never-committed",
    "commit-after-answer",
    "written-over",
)


def wrapped(target: str, function: Function) -> Function:
    for wrapper in WRAPPERS[target]:
        function = wrapper(function)
    return function
