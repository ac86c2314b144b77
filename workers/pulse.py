"""The heartbeat of a run, or of a reference's training: a thread that renews the lease while the work goes on, tells the
work when it is lost, and gives it back when the worker is told to stop."""

import threading
import time
from contextlib import ExitStack
from contextvars import copy_context
from types import TracebackType

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import references, runs
from app.config import settings
from app.db import transaction
from app.errors import StaleEpoch
from app.queue import nudge, ring_references
from app.references import ReferenceLease
from workers import stopping
from workers.stopping import Stopping

log = structlog.get_logger()

# Progress is shown to people: more often than this is for nobody.
SHOW_SECONDS = 0.5
# How often the thread looks whether the worker was told to stop.
LOOK_SECONDS = 0.2


class Pulse:
    """Use as a context manager around the work; call `step` between its parts.

    The lease is renewed three times within its term. Postgres being away for a moment is no loss: only an answer that
    the work is no longer ours is, and then `step` raises `StaleEpoch` at the next opportunity.

    When the worker is told to stop, `step` raises `Stopping`, and the caller gives the work back. One that is at its end,
    its fraction at 1, goes on. Whatever is still going on after `stop_seconds` is given back from here: another worker may
    have it at once, and what this one then writes matches no row.
    """

    def __init__(self, lease: runs.Lease | ReferenceLease) -> None:
        self.lease = lease
        self.rung: str | None = None
        self.now = ("claimed", 0.0)
        self.lost = threading.Event()
        self.done = threading.Event()
        self.shown = 0.0
        self.writing = threading.Lock()
        self.listening = ExitStack()
        self.thread = threading.Thread(target=copy_context().run, args=(self._beat,), name="pulse", daemon=True)

    def __enter__(self) -> "Pulse":
        self.listening.enter_context(stopping.listening())
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done.set()
        self.thread.join()
        self.listening.close()

    def step(self, fraction: float, text: str) -> None:
        """Say what is being done. Raises `StaleEpoch` when another worker has it, `Stopping` when this one is to stop."""
        if self.done.is_set():
            return  # published: the new version is prepared under nobody's lease, and there is none to lose
        if self.lost.is_set():
            raise StaleEpoch("Another worker has taken this over.")
        if fraction < 1 and stopping.asked():
            raise Stopping
        self.now = (text, min(max(fraction, 0.0), 1.0))
        if time.monotonic() - self.shown >= SHOW_SECONDS:
            self._renew()

    def enter(self, rung: str) -> None:
        """From here on the steps are those of `rung`."""
        self.rung = rung
        self.shown = 0.0

    def give_back(self) -> None:
        """Let another worker have it now, and ring for one. Where that fails, the lease runs out."""
        with self.writing:
            self.lost.set()
            try:
                with transaction() as session:
                    self._give_back(session)
            except StaleEpoch:
                return  # it has just ended, or gone to another
            except SQLAlchemyError as error:
                log.warning("lease.not_given_back", model=self.lease.model, error=type(error).__name__)
                return
        log.info("lease.given_back", model=self.lease.model, epoch=self.lease.epoch)
        if isinstance(self.lease, ReferenceLease):
            ring_references(1)
        else:
            nudge(self.lease.model_id)

    def _beat(self) -> None:
        renewed = time.monotonic()
        told: float | None = None
        while not self.done.wait(min(LOOK_SECONDS, settings().lease_seconds / 3)):
            now = time.monotonic()
            if now - renewed >= settings().lease_seconds / 3:
                self._renew()
                renewed = now
            if told is None and stopping.asked():
                told = now
            if told is not None and now - told >= settings().stop_seconds:
                self.give_back()
                return

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

    def _give_back(self, session: Session) -> None:
        if isinstance(self.lease, ReferenceLease):
            references.give_back(session, self.lease)
        else:
            runs.give_back(session, self.lease)

    def _heartbeat(self, session: Session) -> bool:
        text, fraction = self.now
        if isinstance(self.lease, ReferenceLease):
            return references.heartbeat(session, self.lease, fraction)
        return runs.heartbeat(session, self.lease, rung=self.rung, step=text, progress=fraction)
