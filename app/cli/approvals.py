"""`expunge models approvals`, `approve` and `refuse`: the second person's seat when a model is to forget much at once."""

from typing import Annotated

import typer
from rich.table import Column, Table

from app.cli.console import api, console, moment
from app.tables import Instead


def approvals(name: str) -> None:
    """What waits for a second person's approval, or did, newest first."""
    table = Table(
        "request", Column("state", no_wrap=True), "samples", "share of cap", "asked by", "deadline", "decision"
    )
    rows = api().approvals.newest(name)
    for row in rows:
        state = f"{row.state}, {row.instead}" if row.instead else row.state
        share = f"{row.share:.1%} of {row.cap:.1%}"
        decision = f"{row.decided_by}: {row.why}" if row.decided_by else "–"
        asked, deadline = ", ".join(row.clients), moment(row.deadline)
        table.add_row(str(row.id), state, str(row.samples), share, asked, deadline, decision)
    console.print(table)
    for row in rows:
        if row.state == "requested" or row.instead == "wait":
            console.print(f"request {row.id} is of {row.tickets} tickets: {row.tickets_sha256}", soft_wrap=True)


def approve(
    name: str,
    request: Annotated[int, typer.Argument(help="Its number, as `expunge models approvals` lists it")],
    samples: Annotated[int, typer.Option(help="At most so many: as many as you saw")],
    why: Annotated[str, typer.Option(help="What was looked into, for the audit")],
    hours: Annotated[float, typer.Option(help="The approval is void after that")] = 168,
    tickets: Annotated[str | None, typer.Option(help="The digest of the tickets that you saw, as listed")] = None,
) -> None:
    """Let a model forget more than its policy's cap, once. Nobody can who submitted any of it."""
    made = api().approvals.approve(name, request, samples=samples, why=why, hours=hours, tickets_sha256=tickets)
    console.print(f"{made.samples} samples may be forgotten until {moment(made.expires_at)}.")


def refuse(
    name: str,
    request: Annotated[int, typer.Argument(help="Its number, as `expunge models approvals` lists it")],
    why: Annotated[str, typer.Option(help="For the audit and, where they go on waiting, for the clients")],
    instead: Annotated[Instead, typer.Option(help="Hold the tickets, or retrain without them")] = Instead.WAIT,
) -> None:
    """Refuse an update. The data stay removed whatever is decided, and deadlines count on."""
    api().approvals.refuse(name, request, why=why, instead=instead)
    done = "The model is retrained without them." if instead is Instead.RETRAIN else "The tickets wait."
    console.print(f"Refused. {done}")
