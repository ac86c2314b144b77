"""The compliance tool's seat: submit, follow, list, cancel."""

from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from expunge.address import part
from expunge.aio.http import Http
from expunge.aio.looking import look
from expunge.aio.paging import each
from expunge.answers import as_json, of_type
from expunge.bodies import checked, listed
from expunge.models import (
    DeletionAccepted,
    DeletionRequest,
    Reason,
    RiskTier,
    TicketDetail,
    TicketPage,
    TicketState,
    TicketView,
)
from expunge.retries import idempotency
from expunge.waiting import ticket_ended


class Tickets:
    """Deletion tickets: your own, or with an admin's key everybody's."""

    def __init__(self, http: Http) -> None:
        self.http = http

    async def submit(
        self,
        dataset: str,
        *,
        samples: Iterable[str] = (),
        subjects: Iterable[str] = (),
        reason: Reason | str = Reason.ERASURE_REQUEST,
        risk_tier: RiskTier | str = RiskTier.STANDARD,
        external_id: str | None = None,
        deadline: datetime | str | None = None,
        idempotency_key: str | None = None,
    ) -> DeletionAccepted:
        """Submit a ticket. Once this returns, the ticket and its tombstones are on disk.

        Every try carries the same Idempotency-Key, made for this call unless one is given, so a ticket is never made twice.
        Give one that you keep (your own case number) where the call itself may be repeated, after a crash for example. A
        deadline has a zone.
        """
        with checked():
            asked = DeletionRequest(
                dataset=dataset,
                sample_ids=listed(samples),
                subject_ids=listed(subjects),
                reason=reason,
                risk_tier=risk_tier,
                external_id=external_id,
                deadline=deadline,
            )
        return await self.http.post(DeletionAccepted, "/deletions", asked, headers=idempotency(idempotency_key))

    async def get(self, ticket: UUID | str) -> TicketDetail:
        """One ticket with its obligations, the three facts and everything that happened to it."""
        return await self.http.get(TicketDetail, f"/deletions/{part(ticket)}")

    async def page(
        self,
        *,
        state: TicketState | str | None = None,
        dataset: str | None = None,
        external_id: str | None = None,
        overdue: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> TicketPage:
        """One page of tickets, newest first; `cursor` is the `next` of the page before, under the same filters."""
        filters = {"state": state, "dataset": dataset, "external_id": external_id, "overdue": overdue or None}
        return await self.http.get(TicketPage, "/deletions", **filters, limit=limit, cursor=cursor)

    def each(
        self,
        *,
        state: TicketState | str | None = None,
        dataset: str | None = None,
        external_id: str | None = None,
        overdue: bool = False,
        most: int | None = None,
    ) -> AsyncIterator[TicketView]:
        """All tickets, or `most` of them, newest first, page by page."""
        filters = {"state": state, "dataset": dataset, "external_id": external_id, "overdue": overdue or None}
        return each(self.http, TicketPage, "/deletions", filters, most)

    async def receipt(self, ticket: UUID | str) -> Any:
        """What was asked and when: a signed envelope."""
        return as_json(await self.http.call("GET", f"/deletions/{part(ticket)}/receipt"))

    async def statement(self, ticket: UUID | str) -> Any:
        """What was done, once the ticket has ended: a signed envelope. Raises `Conflict` before."""
        return as_json(await self.http.call("GET", f"/deletions/{part(ticket)}/statement"))

    async def in_print(self, ticket: UUID | str, paper: str = "statement") -> bytes:
        """The `receipt` or the `statement` as a PDF, with the digest and the signature of the envelope."""
        path = f"/deletions/{part(ticket)}/{part(paper)}"
        found = await self.http.call("GET", path, params={"format": "pdf"}, timeout=self.http.long)
        return of_type(found, "application/pdf").content

    async def cancel(self, ticket: UUID | str) -> TicketView:
        """Take a ticket back while no batch has taken it."""
        return await self.http.post(TicketView, f"/deletions/{part(ticket)}/cancel")

    async def wait(
        self,
        ticket: UUID | str,
        *,
        timeout: float | None = 3600.0,
        longest: float = 15.0,
        progress: Callable[[TicketDetail], None] | None = None,
    ) -> TicketDetail:
        """The ticket once it is fulfilled or cancelled. `progress` is told of each look at it.

        It is looked at in growing intervals of `longest` seconds at most. Raises `StillOpen` after `timeout` seconds (None:
        never), `Quarantined` where it is held for an operator. Once it was seen, a service that is away is waited for.
        """
        return await look(
            self.http,
            TicketDetail,
            f"/deletions/{part(ticket)}",
            ticket_ended,
            called=f"Ticket {ticket}",
            timeout=timeout,
            longest=longest,
            progress=progress,
        )
