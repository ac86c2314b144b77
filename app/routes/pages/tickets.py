"""The compliance pages: submit a ticket, follow it, list and export."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from fastapi import APIRouter, BackgroundTasks, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from app import cursors, logs, signing, tickets, views
from app.config import settings
from app.db import transaction
from app.errors import Invalid, KeyReused, ServiceError, TooLarge
from app.pages import csv_line
from app.queue import due, nudge
from app.routes.pages.shell import Ask, MayFollow, MaySubmit, Visit, confirm, faults, parsed, text_of, word
from app.schemas import DecisionRequest, DeletionRequest, TicketView
from app.scopes import Scope
from app.tables import Dataset, Reason, RiskTier, TicketState

router = APIRouter(include_in_schema=False)
PAGE, CHUNK, MOST_LATE = 50, 500, 20
COLUMNS = (
    "id", "client", "dataset", "reason", "risk_tier", "external_id", "state", "accepted", "unknown", "already_forgotten",
    "pending_elsewhere", "created_at", "deadline", "closed_at", "data_removed_at", "data_releasable_at", "models",
)  # fmt: skip


def wanted(state: str, dataset: str, reference: str, overdue: str) -> tickets.Filter:
    """The filter that the page's fields make up."""
    return tickets.Filter(word(TicketState, state), dataset or None, reference or None, overdue == "true")


@router.get("/ui/tickets")
def page(
    visit: MayFollow,
    state: str = "",
    dataset: str = "",
    reference: str = "",
    overdue: str = "",
    cursor: str | None = None,
) -> Response:
    """Your tickets, newest first; those past their deadline before all others."""
    asked = wanted(state, dataset, reference, overdue)
    query = f"tickets|{visit.who.sees!r}|{asked}"
    after = cursors.decode(cursor, query) if cursor else None
    with transaction() as session:
        rows = tickets.page(session, visit.who.sees, asked, PAGE + 1, after)
        late = []
        if after is None and not asked.overdue and asked.state is None:
            also = tickets.Filter(None, asked.dataset, asked.external_id, True)
            late = tickets.page(session, visit.who.sees, also, MOST_LATE, None)
        ahead = {row.id for row in late}
        shown = [views.ticket(row) for row in rows[:PAGE] if row.id not in ahead]
        overdue_ones = [views.ticket(row) for row in late]
        names = list(session.scalars(select(Dataset.name).order_by(Dataset.name)))
    last = rows[PAGE - 1] if len(rows) > PAGE else None
    following = cursors.encode((last.created_at, last.id), query) if last else None
    chosen = {"state": state, "dataset": dataset, "reference": reference, "overdue": overdue}
    context: dict[str, Any] = {"tickets": shown, "late": overdue_ones, "next": following, "chosen": chosen}
    return visit.show("tickets/tickets.html", datasets=names, states=list(TicketState), **context)


@router.get("/ui/tickets/export.csv")
def as_csv(
    visit: MayFollow, state: str = "", dataset: str = "", reference: str = "", overdue: str = ""
) -> StreamingResponse:
    """All tickets of the filter as a table. No sample's or subject's id is in it."""
    lines = (csv_line(cells(view)) for view in every(visit, wanted(state, dataset, reference, overdue)))
    return download(headed(csv_line(COLUMNS), lines), "csv", "text/csv; charset=utf-8")


@router.get("/ui/tickets/export.json")
def as_json(
    visit: MayFollow, state: str = "", dataset: str = "", reference: str = "", overdue: str = ""
) -> StreamingResponse:
    """The same as JSON, a ticket a line."""
    found = (view.model_dump_json() for view in every(visit, wanted(state, dataset, reference, overdue)))
    return download(listed(found), "json", "application/json")


def every(visit: Visit, asked: tickets.Filter) -> Iterator[TicketView]:
    """All tickets of the filter, from one key to the next, each part in a transaction of its own: an export is as long as the
    client's patience, and holds nothing up meanwhile."""
    after: tuple[datetime, UUID] | None = None
    while True:
        with transaction() as session:
            rows = tickets.page(session, visit.who.sees, asked, CHUNK, after)
            found = [views.ticket(row) for row in rows]
        yield from found
        if len(rows) < CHUNK:
            return
        after = rows[-1].created_at, rows[-1].id


def cells(view: TicketView) -> list[Any]:
    said = view.model_dump(mode="json")
    flat = said | said["counts"] | {"models": "; ".join(f"{owed.model}: {owed.state}" for owed in view.obligations)}
    return [flat[name] for name in COLUMNS]


def headed(head: str, lines: Iterable[str]) -> Iterator[str]:
    yield head
    yield from lines


def listed(found: Iterable[str]) -> Iterator[str]:
    """A JSON list, written as its parts come."""
    yield "["
    for number, each in enumerate(found):
        yield ("\n" if number == 0 else ",\n") + each
    yield "\n]\n"


def download(parts: Iterator[str], kind: str, media_type: str) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="tickets.{kind}"', "Cache-Control": "no-store"}
    return StreamingResponse(parts, media_type=media_type, headers=headers)


@router.get("/ui/tickets/new")
def new(visit: MaySubmit) -> Response:
    """The form. Its key makes one ticket of it, however often it is sent."""
    return form(visit, {"key": str(uuid4())})


def form(visit: Visit, typed: dict[str, str], error: ServiceError | None = None) -> Response:
    with transaction() as session:
        names = (
            list(session.scalars(select(Dataset.name).order_by(Dataset.name)))
            if visit.may(Scope.DELETIONS_READ)
            else []
        )
    context = {"typed": typed, "error": error, "faults": faults(error), "datasets": names, "most": settings().max_ids}
    status = error.status if error else 200
    return visit.show("tickets/new.html", status, reasons=list(Reason), tiers=list(RiskTier), **context)


def lines(text: str) -> list[str]:
    """Ids, one a line. What stands around them is not part of them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


@router.post("/ui/tickets/new")
def submit(visit: MaySubmit, bell: BackgroundTasks) -> Response:
    """Accept the ticket: when the next page shows it, it and its tombstones are on disk."""
    try:
        named = lines(visit.text("ids")) + lines(text_of(visit.form.get("file")))
        asked = parsed(DeletionRequest, read(visit, list(dict.fromkeys(named))))
        return accept(visit, asked, len(named), bell)
    except ServiceError as error:
        again = {"key": str(uuid4())} if isinstance(error, KeyReused) else {}
        return form(visit, visit.fields() | again, error)


def read(visit: Visit, ids: list[str]) -> dict[str, Any]:
    if not ids:
        raise Invalid("Name at least one id: paste them, one a line, or choose a file.")
    if len(ids) > settings().max_ids:
        raise TooLarge(f"{len(ids)} ids are more than {settings().max_ids}: split them into several tickets.")
    deadline = visit.text("deadline")
    return {
        "dataset": visit.text("dataset"),
        "subject_ids" if visit.text("what") == "subjects" else "sample_ids": ids,
        "reason": visit.text("reason"),
        "risk_tier": visit.text("risk_tier") or RiskTier.STANDARD,
        "external_id": visit.text("external_id") or None,
        "deadline": f"{deadline}T23:59:59Z" if deadline else None,
    }


def accept(visit: Visit, asked: DeletionRequest, named: int, bell: BackgroundTasks) -> Response:
    who, distinct = visit.who, len(asked.sample_ids) + len(asked.subject_ids)
    submission = tickets.Submission(
        asked.dataset, asked.sample_ids, asked.subject_ids, asked.reason, asked.risk_tier, asked.external_id, asked.deadline
    )  # fmt: skip
    most = settings().ids_per_day if who.ids_per_day is None else who.ids_per_day
    key, body = visit.text("key")[:64] or None, asked.model_dump_json().encode()
    with transaction() as session:
        made = tickets.submit(session, who.client, submission, key, body, most)
        logs.note(ticket=str(made.ticket_id))
        to = f"/ui/tickets/{made.ticket_id}" if visit.may(Scope.DELETIONS_READ) else "/ui/tickets/new"
        answer = visit.go(session, to, said(made, named, distinct))
    bell.add_task(nudge, *due(made.model_ids))
    return answer


def said(made: tickets.Accepted, named: int, distinct: int) -> str:
    """What became of the ids, for the page that follows."""
    counts = made.counts
    parts = [f"Ticket {made.ticket_id} is " + ("here already." if made.replayed else "accepted.")]
    if named > distinct:
        parts.append(f"{named - distinct:,} of {named:,} lines repeated an id and count once.")
    parts.append(f"Samples accepted: {counts.accepted:,}.")
    if counts.unknown:
        parts.append(f"Ids that the manifest does not hold: {counts.unknown:,}.")
    if counts.already_forgotten:
        parts.append(f"Forgotten before: {counts.already_forgotten:,}.")
    if counts.pending_elsewhere:
        parts.append(f"Named by another open ticket: {counts.pending_elsewhere:,}.")
    return " ".join(parts)


@router.get("/ui/tickets/{ticket_id}")
def show(ticket_id: UUID, visit: MayFollow, seen: str = "") -> Response:
    """One ticket: the three facts, each model's part, and everything that happened to it."""
    with transaction() as session:
        row = tickets.get(session, visit.who.sees, ticket_id)
        view, timeline = views.ticket(row), tickets.timeline(session, row)
    stamp = f"{view.state}-{len(timeline)}"
    if seen and seen != stamp and "hx-request" in visit.request.headers:
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    return visit.show("tickets/ticket.html", ticket=view, timeline=timeline, stamp=stamp, papers=papers(view))


def papers(view: TicketView) -> list[tuple[str, str]]:
    """What the ticket's owner may take away, in print; nothing where this installation signs nothing."""
    if not signing.configured():
        return []
    found = [("Receipt", view.receipt), ("Statement", view.statement)]
    return [(label, f"{path}?format=pdf") for label, path in found if path is not None]


def cancel_ask(ticket_id: UUID) -> Ask:
    says = [
        "The ticket is taken back. Its samples may be trained on again, unless another ticket names them.",
        "That is possible while no batch has taken it.",
    ]
    return Ask("Cancel the ticket", says, "Cancel the ticket", f"/ui/tickets/{ticket_id}", danger=True)


@router.get("/ui/tickets/{ticket_id}/cancel")
def ask_cancel(ticket_id: UUID, visit: MaySubmit) -> Response:
    with transaction() as session:
        tickets.get(session, visit.who.sees, ticket_id)
    return confirm(visit, cancel_ask(ticket_id))


@router.post("/ui/tickets/{ticket_id}/cancel")
def cancel(ticket_id: UUID, visit: MaySubmit) -> Response:
    try:
        with transaction() as session:
            tickets.get(session, visit.who.sees, ticket_id)  # before anything is said of the form
            asked = parsed(DecisionRequest, {"why": visit.text("why")})
            tickets.cancel(session, visit.who.sees, ticket_id, visit.who.client, asked.why)
            to = f"/ui/tickets/{ticket_id}" if visit.may(Scope.DELETIONS_READ) else "/"
            return visit.go(session, to, "The ticket is cancelled.")
    except ServiceError as error:
        return confirm(visit, cancel_ask(ticket_id), error)
