"""`expunge audit`: a version's report over HTTP, and the log's integrity straight from the database."""

import sys
from typing import Annotated

import typer
from rich.table import Table

from app import audit
from app.cli.console import api, console, interval
from app.db import transaction

app = typer.Typer(no_args_is_help=True)


@app.command("show")
def report(
    version: Annotated[str, typer.Argument(help="<model>-v<number>, <model>@current or <model>@<time>")],
    as_json: Annotated[bool, typer.Option("--json", help="The whole report as JSON")] = False,
) -> None:
    """Why a version may be trusted, and what the report does not promise."""
    found = api().get(f"/models/{version}/audit")
    if as_json:
        console.print_json(data=found)
        return
    console.print(found["summary"], style="bold")
    for attempt in found["attempts_at_a_verdict"]:
        table = Table(
            "statistic", "estimate and interval", "n", "estimator", title=f"{attempt['rung']}: {attempt['decision']}"
        )
        for name, statistic in attempt["statistics"].items():
            threshold = attempt["thresholds"].get(name)
            table.add_row(name, interval(statistic, threshold), str(statistic["n"]), statistic["estimator"])
        console.print(table)
        for reason in attempt["reasons"]:
            console.print(f"  {reason}", highlight=False, markup=False)
    console.print("Not promised:", style="bold")
    for sentence in found["not_promised"]:
        console.print(f"  {sentence}", highlight=False, markup=False)


@app.command()
def verify() -> None:
    """Recompute the audit log's hash chain; names the first event that does not hold and exits 1."""
    with transaction() as session:
        found = audit.verify(session)
    if found.fault:
        console.print(f"The log does not hold: {found.fault}. {found.events} events before it do.", style="red")
        sys.exit(1)
    console.print(f"{found.events} events, unbroken. Head {found.head}", highlight=False, soft_wrap=True)
