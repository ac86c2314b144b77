"""`expunge tickets`: submit, show, watch, list, cancel."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.progress import TaskID
from rich.table import Column, Table

from app.cli.console import api, console, moment, progress, show
from app.errors import ServiceError
from app.tables import Reason, RiskTier, TicketState
from expunge import Client
from expunge.models import TicketDetail

app = typer.Typer(no_args_is_help=True)
POLL_SECONDS = 0.5
Paper = Annotated[Path, typer.Option(help="Where to write it; a name that ends in .pdf gives it in print")]


@app.command()
def submit(
    dataset: Annotated[str, typer.Option(help="The dataset whose samples they are")],
    sample: Annotated[list[str] | None, typer.Option(help="A sample id; repeat for several")] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="A subject id: all of its samples; repeat for several")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A file of sample ids, one a line; - for standard input")] = None,
    reason: Annotated[Reason, typer.Option(help="Why they must go")] = Reason.ERASURE_REQUEST,
    tier: Annotated[RiskTier, typer.Option(help="How much is at stake")] = RiskTier.STANDARD,
    external_id: Annotated[str | None, typer.Option(help="Your own reference")] = None,
    deadline: Annotated[
        str | None, typer.Option(help="By when, as ISO 8601 with its zone, such as 2026-12-31T00:00:00Z")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency-Key; a random one otherwise")] = None,
    wait: Annotated[bool, typer.Option("--watch", help="Follow it to its end")] = False,
) -> None:
    """Submit a deletion ticket."""
    samples = list(dict.fromkeys([*(sample or []), *ids_in(file)]))
    made = api().tickets.submit(
        dataset,
        samples=samples,
        subjects=subject or [],
        reason=reason,
        risk_tier=tier,
        external_id=external_id,
        deadline=deadline,
        idempotency_key=key or None,
    )
    counts = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in made.counts)
    console.print(f"ticket {made.id}: {counts}; {made.models} model(s) owe it", highlight=False)
    if wait:
        watch(str(made.id))


def ids_in(file: Path | None) -> list[str]:
    """Ids from a file, blank lines left out."""
    if file is None:
        return []
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise ServiceError(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ServiceError(f"{file} is not UTF-8 text. Write one id a line, as UTF-8.") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


@app.command("show")
def detail(ticket: str) -> None:
    """One ticket: what each model did about it, the three facts, and its timeline."""
    found = api().tickets.get(ticket)
    console.print(f"ticket {found.id} ({found.state}), {found.reason}, risk tier {found.risk_tier}")
    console.print(f"  data removed from training   {moment(found.data_removed_at)}", highlight=False)
    console.print(f"  raw samples may be destroyed {moment(found.data_releasable_at)}", highlight=False)
    table = Table("model", "state", "samples", "clean version", "since", "doing")
    for owed in found.obligations:
        clean = owed.clean_version or "–", moment(owed.clean_since)
        table.add_row(owed.model, owed.state, str(owed.samples), *clean, owed.doing or "")
    console.print(table)
    for event in found.timeline:
        console.print(f"  {moment(datetime.fromisoformat(event['at']))}  {event['kind']}", highlight=False)


@app.command()
def watch(ticket: str) -> None:
    """Follow a ticket until every model has answered it; exits 1 where it ends otherwise."""
    found = follow(api(), ticket)
    if found.state.value != TicketState.FULFILLED:
        raise ServiceError(f"Ticket {found.id} was {found.state}: no model answers it.")
    console.print(f"{found.state}: " + ", ".join(o.clean_version or o.state for o in found.obligations))


def follow(service: Client, ticket: UUID | str) -> TicketDetail:
    """Show progress until the ticket ends; returns it. Raises `Quarantined` when it is held for an operator."""
    with progress() as bars:
        drawn: dict[str, TaskID] = {}

        def draw(found: TicketDetail) -> None:
            for owed in found.obligations:
                if owed.model not in drawn:
                    drawn[owed.model] = bars.add_task(owed.model, total=1.0, step="")
                show(bars, drawn[owed.model], owed.progress, owed.doing)

        return service.tickets.wait(ticket, timeout=None, longest=POLL_SECONDS, progress=draw)


@app.command("list")
def listing(
    state: Annotated[TicketState | None, typer.Option(help="Only those in this state")] = None,
    overdue: Annotated[bool, typer.Option(help="Only those past their deadline")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first")] = 50,
) -> None:
    """Your tickets, newest first."""
    whole = Column("ticket", overflow="fold")  # an id that is cut short is no use to the other commands
    table = Table(whole, "state", "samples", "received", "deadline", "reference")
    for row in api().tickets.each(state=state, overdue=overdue, most=limit):
        times = moment(row.created_at), moment(row.deadline)
        table.add_row(str(row.id), row.state, str(row.counts.accepted), *times, row.external_id or "–")
    console.print(table)


@app.command()
def cancel(ticket: str) -> None:
    """Take a ticket back while no batch has taken it."""
    api().tickets.cancel(ticket)
    console.print("Cancelled.")


@app.command()
def receipt(ticket: str, to: Paper) -> None:
    """The signed receipt: what was asked, when, and the commitment to the ids."""
    keep(to, api(), ticket, "receipt")


@app.command()
def statement(ticket: str, to: Paper) -> None:
    """The signed statement of a ticket that has ended: what was done, and what is not claimed."""
    keep(to, api(), ticket, "statement")


def keep(file: Path, service: Client, ticket: str, paper: str) -> None:
    if file.suffix.lower() == ".pdf":
        content = service.tickets.in_print(ticket, paper)
    else:
        found = service.tickets.receipt(ticket) if paper == "receipt" else service.tickets.statement(ticket)
        content = json.dumps(found, indent=1).encode() + b"\n"
    try:
        file.write_bytes(content)
    except OSError as error:
        raise ServiceError(f"{file} cannot be written: {error.strerror}.") from None
    console.print(f"{file} holds the {paper}.", highlight=False, soft_wrap=True)
