"""`expunge schedules`: retrains that come by themselves."""

from typing import Annotated

import typer
from rich.table import Table

from app.cli.console import api, console, moment

app = typer.Typer(no_args_is_help=True)


@app.command()
def add(model: str, cron: Annotated[str, typer.Argument(help="Five fields in UTC, such as '0 3 * * 0'")]) -> None:
    """Retrain a model on a cron schedule."""
    made = api().schedules.add(model, cron)
    console.print(f"Schedule {made.id}; next on {moment(made.next_at)}.")


@app.command("list")
def listing() -> None:
    """Schedules in force and when each is due next."""
    table = Table("schedule", "model", "cron (UTC)", "next", "by")
    for row in api().schedules.all():
        table.add_row(str(row.id), row.model, row.cron, moment(row.next_at), row.author)
    console.print(table)


@app.command()
def remove(schedule: int) -> None:
    """Stop a schedule."""
    api().schedules.remove(schedule)
    console.print("Removed.")
