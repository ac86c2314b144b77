"""The heartbeat of a run, or of a reference's training: a thread that renews the lease while the work goes on, and tells
the work when it is lost."""

import threading
import time
from contextvars import copy_context
from types import TracebackType

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import references, runs
from app.config import settings
from app.db import transaction
from app.errors import StaleEpoch
from app.references import ReferenceLease

log = structlog.get_logger()

# Progress is shown to people: more often than this is for nobody.
SHOW_SECONDS = 0.5


class Pulse:
    """Use as a context manager around the work; call `step` between its parts.

    The lease is renewed three times within its term. Postgres being away for a moment is no loss: only an answer that
    the work is no longer ours is, and then `step` raises `StaleEpoch` at the next opportunity.
    """

    def __init__(self, lease: runs.Lease | ReferenceLease) -> None:
        self.lease = lease
        self.rung: str | None = None
        self.now = ("claimed", 0.0)
        self.lost = threading.Event()
        self.done = threading.Event()
        self.shown = 0.0
        self.writing = threading.Lock()
        self.thread = threading.Thread(target=copy_context().run, args=(self._beat,), name="pulse", daemon=True)

    def __enter__(self) -> "Pulse":
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done.set()
        self.thread.join()

    def step(self, fraction: float, text: str) -> None:
        """Say what is being done. Raises `StaleEpoch` when another worker has it."""
        if self.lost.is_set():
            raise StaleEpoch("Another worker has taken this over.")
        self.now = (text, min(max(fraction, 0.0), 1.0))
        if time.monotonic() - self.shown >= SHOW_SECONDS:
            self._renew()

    def enter(self, rung: str) -> None:
        """From here on the steps are those of `rung`."""
        self.rung = rung
        self.shown = 0.0

    def _beat(self) -> None:
        while not self.done.wait(settings().lease_seconds / 3):
            self._renew()

    def _renew(self) -> None:
        with self.writing:
            self.shown = time.monotonic()
            try:
                with transaction() as session:
                    held = self._heartbeat(session)
            except SQLAlchemyError as error:
                log.warning("heartbeat.missed", model=self.lease.model, error=type(error).__name__)
                return
            if not held:
                self.lost.set()

    def _heartbeat(self, session: Session) -> bool:
        text, fraction = self.now
        if isinstance(self.lease, ReferenceLease):
            return references.heartbeat(session, self.lease, fraction)
        return runs.heartbeat(session, self.lease, rung=self.rung, step=text, progress=fraction)
