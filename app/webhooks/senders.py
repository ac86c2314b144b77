"""The threads that call receivers. A doorbell wakes them and waits for none, so that a receiver that hangs holds up its own
deliveries and neither the queue nor anybody else's.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.installation import Secret, secret
from app.webhooks import deliveries, sending
from app.webhooks.sending import Outcome, Word

log = structlog.get_logger()

SENDERS = 16


class Senders:
    """A process's senders: at most so many threads, each going on until nothing is due."""

    def __init__(self, most: int = SENDERS) -> None:
        self.most, self.awake = most, 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.pool = ThreadPoolExecutor(most, thread_name_prefix="webhooks")

    def wake(self) -> None:
        """Let one more thread look for work; each that finds some wakes the next."""
        if secret(Secret.WEBHOOKS) is None:
            log.warning("webhooks.not_configured", needs="EXPUNGE_WEBHOOK_SECRET")
            return
        with self.lock:
            if self.awake >= self.most or self.stopping.is_set():
                return
            self.awake += 1
        self.pool.submit(self._drain)

    def stop(self) -> None:
        """Begin no more calls."""
        self.stopping.set()

    def _drain(self) -> None:
        try:
            while not self.stopping.is_set() and (held := deliveries.claim()) is not None:
                self.wake()
                attempt(held)
        except SQLAlchemyError as error:  # the deliveries are due again when their leases are over
            log.warning("webhooks.interrupted", error=type(error).__name__)
        finally:
            with self.lock:
                self.awake -= 1


def attempt(held: deliveries.Claim) -> None:
    """One call, and its account."""
    signed = held.headers
    outcome = sending.call(held.url, signed, held.body) if signed is not None else Outcome(Word.UNSIGNED)
    deliveries.record(held, outcome)
    log.info(
        "webhook.attempt",
        webhook=str(held.endpoint_id),
        delivery=str(held.delivery_id),
        attempt=held.attempt,
        outcome=outcome.word,
        status=outcome.status,
    )
