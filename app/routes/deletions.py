"""The compliance tool's seat: submit, follow, list, cancel."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse
from starlette.background import BackgroundTask

from app import cursors, logs, tickets, views
from app.auth import MayFollow, MaySubmit
from app.config import settings
from app.db import transaction
from app.errors import Conflict, InFlight, NotConfigured, NotFound, TooLarge, Unprocessable, may_answer
from app.evidence import papers
from app.pages import preferred
from app.queue import due, nudge
from app.schemas import DeletionAccepted, DeletionRequest, TicketDetail, TicketPage, TicketView
from app.tables import TicketState
from app.tracing import span

router = APIRouter(prefix="/deletions", tags=["deletions"])
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]


@router.post("", status_code=202, response_model=DeletionAccepted, responses=may_answer(Conflict, InFlight, NotFound))
def submit(asked: DeletionRequest, who: MaySubmit, key: Key = None) -> Response:
    """Accept a deletion ticket. When this answers 202, the ticket and its tombstones are on disk."""
    named = len(asked.sample_ids) + len(asked.subject_ids)
    if named > settings().max_ids:
        raise TooLarge(f"{named} ids are more than {settings().max_ids}: split them into several tickets.")
    if key is not None and not key.isprintable():
        raise Unprocessable("An Idempotency-Key is 1 to 255 printable characters.")
    submission = tickets.Submission(
        asked.dataset, asked.sample_ids, asked.subject_ids, asked.reason, asked.risk_tier, asked.external_id, asked.deadline
    )  # fmt: skip
    most = settings().ids_per_day if who.ids_per_day is None else who.ids_per_day
    with span("intake"), transaction() as session:
        accepted = tickets.submit(session, who.client, submission, key, asked.model_dump_json().encode(), most)
    return answer(accepted)


def answer(accepted: tickets.Accepted) -> Response:
    """The answer as bytes: FastAPI would check it once more, in a thread. The doorbell rings when it has been sent."""
    logs.note(ticket=str(accepted.ticket_id))
    view = views.accepted(accepted)
    headers = {"Location": view.href} | ({"Idempotency-Replayed": "true"} if accepted.replayed else {})
    ring = due(accepted.model_ids)
    bell = BackgroundTask(nudge, *ring) if ring else None
    return Response(view.model_dump_json(), 202, headers, "application/json", bell)


@router.get("")
def page(
    who: MayFollow,
    state: TicketState | None = None,
    dataset: str | None = None,
    external_id: str | None = None,
    overdue: bool = False,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> TicketPage:
    """Your tickets, newest first."""
    wanted = tickets.Filter(state, dataset, external_id, overdue)
    query = f"tickets|{who.sees!r}|{wanted}"
    after = cursors.decode(cursor, query) if cursor else None
    with transaction() as session:
        found = tickets.page(session, who.sees, wanted, limit + 1, after)
        items = [views.ticket(ticket) for ticket in found[:limit]]
    more = len(found) > limit
    following = cursors.encode((found[limit - 1].created_at, found[limit - 1].id), query) if more else None
    return TicketPage(items=items, next=following)


@router.get("/{ticket_id}")
def show(ticket_id: UUID, who: MayFollow) -> TicketDetail:
    """One ticket with its obligations, the three facts and everything that happened to it."""
    with transaction() as session:
        ticket = tickets.get(session, who.sees, ticket_id)
        return TicketDetail(**views.ticket(ticket).model_dump(), timeline=tickets.timeline(session, ticket))


Form = Annotated[Literal["json", "pdf"] | None, Query(alias="format", description="Instead of the Accept header")]
Accept = Annotated[str, Header()]
Responses = dict[int | str, dict[str, Any]]
ON_PAPER: Responses = {200: {"content": {"application/pdf": {"schema": {"type": "string", "format": "binary"}}}}}


@router.get("/{ticket_id}/receipt", responses=may_answer(NotConfigured) | ON_PAPER)
def receipt(ticket_id: UUID, who: MayFollow, accept: Accept = "application/json", form: Form = None) -> Response:
    """The signed receipt: what was asked, when, and the commitment to the ids that it named."""
    with transaction() as session:
        paper = papers.receipt(session, tickets.get(session, who.sees, ticket_id))
    return handed_out(papers.RECEIPT, paper, form, accept)


@router.get("/{ticket_id}/statement", responses=may_answer(Conflict, NotConfigured) | ON_PAPER)
def statement(ticket_id: UUID, who: MayFollow, accept: Accept = "application/json", form: Form = None) -> Response:
    """The signed statement of a ticket that has ended: what was done to which models, and what is not claimed."""
    with transaction() as session:
        paper = papers.statement(session, tickets.get(session, who.sees, ticket_id))
    return handed_out(papers.STATEMENT, paper, form, accept)


def handed_out(kind: str, paper: dict[str, Any], form: str | None, accept: str) -> Response:
    """The signed JSON, or the same in print."""
    envelope = papers.signed(kind, paper)
    headers = {"Vary": "Accept", "Cache-Control": "no-store"}
    if (form or preferred(accept, ["application/json", "application/pdf"]).rpartition("/")[2]) == "json":
        return JSONResponse(envelope, headers=headers)
    headers["Content-Disposition"] = f'inline; filename="{paper["kind"]}-{paper["ticket"]}.pdf"'
    return Response(papers.pdf(paper, envelope), media_type="application/pdf", headers=headers)


@router.post("/{ticket_id}/cancel", responses=may_answer(Conflict))
def cancel(ticket_id: UUID, who: MaySubmit) -> TicketView:
    """Take a ticket back while no batch has taken it."""
    with transaction() as session:
        return views.ticket(tickets.cancel(session, who.sees, ticket_id, who.client))
