"""`expunge tickets`: submit, show, watch, list, cancel."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.table import Column, Table

from app.cli.console import Api, api, console, moment, part, progress, show
from app.errors import ServiceError
from app.tables import Reason, RiskTier, TicketState

app = typer.Typer(no_args_is_help=True)
POLL_SECONDS = 0.5
ENDED = {TicketState.FULFILLED, TicketState.CANCELLED}


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
    body: dict[str, Any] = {
        "dataset": dataset,
        "sample_ids": samples,
        "subject_ids": subject or [],
        "reason": reason.value,
        "risk_tier": tier.value,
        "external_id": external_id,
        "deadline": deadline,
    }
    service = api()
    made = service.post("/deletions", body, **{"Idempotency-Key": key or str(uuid4())})
    counts = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in made["counts"].items())
    console.print(f"ticket {made['id']}: {counts}; {made['models']} model(s) owe it", highlight=False)
    if wait:
        watch(made["id"])


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
    found = api().get(f"/deletions/{part(ticket)}")
    console.print(f"ticket {found['id']} ({found['state']}), {found['reason']}, risk tier {found['risk_tier']}")
    console.print(f"  data removed from training   {moment(found['data_removed_at'])}", highlight=False)
    console.print(f"  raw samples may be destroyed {moment(found['data_releasable_at'])}", highlight=False)
    table = Table("model", "state", "samples", "clean version", "since", "doing")
    for owed in found["obligations"]:
        clean = owed["clean_version"] or "–", moment(owed["clean_since"])
        table.add_row(owed["model"], owed["state"], str(owed["samples"]), *clean, owed["doing"] or "")
    console.print(table)
    for event in found["timeline"]:
        console.print(f"  {moment(event['at'])}  {event['kind']}", highlight=False)


@app.command()
def watch(ticket: str) -> None:
    """Follow a ticket until every model has answered it."""
    found = follow(api(), ticket)
    console.print(f"{found['state']}: " + ", ".join(o["clean_version"] or o["state"] for o in found["obligations"]))


def follow(service: Api, ticket: str) -> Any:
    """Show progress until the ticket ends; returns it. Raises `ServiceError` when it is held for an operator."""
    with progress() as bars:
        drawn: dict[str, Any] = {}
        while True:
            found = service.get(f"/deletions/{part(ticket)}")
            for owed in found["obligations"]:
                name = owed["model"]
                if name not in drawn:
                    drawn[name] = bars.add_task(name, total=1.0, step="")
                show(bars, drawn[name], owed["progress"], owed["doing"])
            if found["state"] in ENDED:
                return found
            if found["state"] == TicketState.QUARANTINED:
                raise ServiceError("; ".join(o["doing"] for o in found["obligations"] if o["state"] == "quarantined"))
            time.sleep(POLL_SECONDS)


@app.command("list")
def listing(
    state: Annotated[TicketState | None, typer.Option(help="Only those in this state")] = None,
    overdue: Annotated[bool, typer.Option(help="Only those past their deadline")] = False,
    limit: Annotated[int, typer.Option(help="At most so many, newest first")] = 50,
) -> None:
    """Your tickets, newest first."""
    whole = Column("ticket", overflow="fold")  # an id that is cut short is no use to the other commands
    table = Table(whole, "state", "samples", "received", "deadline", "reference")
    parameters = {"state": state.value if state else None, "overdue": "true" if overdue else None, "limit": limit}
    for row in api().get("/deletions", **parameters)["items"]:
        times = moment(row["created_at"]), moment(row["deadline"])
        table.add_row(row["id"], row["state"], str(row["counts"]["accepted"]), *times, row["external_id"] or "–")
    console.print(table)


@app.command()
def cancel(ticket: str) -> None:
    """Take a ticket back while no batch has taken it."""
    api().post(f"/deletions/{part(ticket)}/cancel", {})
    console.print("Cancelled.")
