"""How long to wait between two looks at something that takes its time, and whether it has ended."""

from expunge.errors import Quarantined
from expunge.models import BatchDetail, BatchState, ObligationState, TicketDetail, TicketState

FIRST = 0.5
GROWTH = 1.5
MOST_ASKED = 3600.0


class Patience:
    """Pauses that grow by half, up to `longest`, for `timeout` seconds in all; without end if that is None."""

    def __init__(self, timeout: float | None, longest: float, now: float) -> None:
        self.until = None if timeout is None else now + timeout
        self.longest, self.next = longest, min(FIRST, longest)

    def pause(self, now: float, asked: float | None = None) -> float | None:
        """Seconds until the next look, or None: the time is up. The last look is taken when it is.

        `asked` is what the service would have a client wait, which is kept to: within an hour, if it asks for more.
        """
        wait, self.next = self.next, min(self.longest, self.next * GROWTH)
        wait = max(wait, min(asked or 0.0, MOST_ASKED))
        if self.until is None:
            return wait
        return min(wait, self.until - now) if now < self.until else None


def ticket_ended(ticket: TicketDetail) -> bool:
    """Whether it is fulfilled, cancelled or, as a later release may have it, closed in another way.

    Raises `Quarantined` where an operator must look first.
    """
    if ticket.state == TicketState.QUARANTINED:
        held = [owed.doing for owed in ticket.obligations if owed.state == ObligationState.QUARANTINED and owed.doing]
        raise Quarantined("; ".join(held) or f"Ticket {ticket.id} is held for an operator.")
    return ticket.closed_at is not None or ticket.state in (TicketState.FULFILLED, TicketState.CANCELLED)


def batch_ended(batch: BatchDetail) -> bool:
    """Whether it is published, split, cancelled or, as a later release may have it, over in another way.

    Raises `Quarantined` where an operator must look first.
    """
    if batch.state == BatchState.QUARANTINED:
        raise Quarantined(f"The batch is held for an operator: {batch.failure}")
    return batch.finished_at is not None or batch.state in (
        BatchState.PUBLISHED,
        BatchState.SPLIT,
        BatchState.CANCELLED,
    )
