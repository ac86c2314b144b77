"""A worker or beat works on no other schema than the one that its code was written for."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from app.db import check_schema, engine
from app.errors import OldSchema

log = structlog.get_logger()

PAUSE_SECONDS = 1.0


def wait() -> None:
    """Return once the schema is there, and say meanwhile what is waited for.

    A release may start new workers before its migration has ended. Theirs is no error that a restart would mend: a
    supervisor that restarts them waits longer each time, and would still wait when the schema is there.
    """
    told = None
    with stoppable():
        while (why := missing()) is not None:
            if why != told:
                log.warning("schema.awaited", detail=why)
                told = why
            time.sleep(PAUSE_SECONDS)


def missing() -> str | None:
    """Why this process cannot begin yet; None where it can."""
    try:
        check_schema()
    except OldSchema as error:
        return error.detail
    except (SQLAlchemyError, CommandError) as error:
        return f"Postgres does not tell its schema's revision ({type(error).__name__})."
    finally:
        engine().dispose()  # children are forked after this, and must inherit no connection
    return None


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM ends this process, which has nothing to give back yet. Celery's worker has no handler so early, and the first
    process of a container ignores a signal that it does not handle; beat has its own by now, which stays."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def leave(*_: Any) -> None:
    sys.exit(0)
