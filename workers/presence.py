"""The heartbeat of a worker's or beat's process, whatever it does: a thread that writes its row."""

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache

import structlog
from celery.worker import state
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import presence
from app.config import settings
from app.tables import Role

log = structlog.get_logger()


@lru_cache
def heartbeat() -> "Heartbeat":
    """This process's one heartbeat; it beats once it is started."""
    return Heartbeat()


class Heartbeat:
    """Started where the process is ready, told of each message; nothing that it meets is the process's concern.

    It connects anew each time: children are forked beside it, and must inherit no connection in use. A fork waits while it
    writes.
    """

    def __init__(self) -> None:
        self.role: Role | None = None
        self.heard = time.monotonic()
        self.done = threading.Event()
        self.writing = threading.Lock()
        self.thread = threading.Thread(target=self._beat, name="presence", daemon=True)

    def start(self, role: Role) -> None:
        self.role = role
        presence.name()  # asked here first, so that children are called as their parent
        os.register_at_fork(
            before=self.writing.acquire, after_in_parent=self.writing.release, after_in_child=self.writing.release
        )
        self._write(lambda session: presence.begin(session, role))
        self.thread.start()

    def hear(self) -> None:
        """A message has come, or gone out."""
        self.heard = time.monotonic()

    def stop(self) -> None:
        self.done.set()
        self._write(presence.end)

    def _beat(self) -> None:
        while not self.done.wait(presence.BEAT_SECONDS):
            self._write(self._tell)

    def _tell(self, session: Session) -> None:
        assert self.role is not None
        presence.write(session, self.role, doing(), timedelta(seconds=time.monotonic() - self.heard))

    def _write(self, what: Callable[[Session], None]) -> None:
        with self.writing:
            try:
                with Session(engine()) as session, session.begin():
                    session.execute(text("SET LOCAL statement_timeout = '5s'"))
                    what(session)
            except SQLAlchemyError as error:
                log.warning("presence.unwritten", error=type(error).__name__)


def doing() -> str | None:
    """The task that this worker is at; its parent's list of what its children have taken up, copied since it may change."""
    tasks = [str(request.task_name) for request in state.active_requests.copy()]
    return tasks[0] if tasks else None


def engine() -> Engine:
    """Without a pool."""
    return create_engine(
        settings().database, poolclass=NullPool, hide_parameters=True, connect_args={"connect_timeout": 5}
    )
