"""`expunge export`: how far MLflow and OpenLineage have been told, and telling them anew; straight from the database."""

from typing import Annotated

import typer
from rich.table import Table

from app.cli.console import console, moment
from app.db import transaction
from app.errors import Unprocessable
from app.exports import follow
from app.tables import AuditHead


def export(
    name: Annotated[str | None, typer.Argument(help="An exporter; without it, how far each one is")] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Tell it the whole log, again")] = False,
    from_here: Annotated[bool, typer.Option("--from-here", help="Tell it nothing of what has been so far")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Forget how far it was: it is configured no more")] = False,
) -> None:
    """How far each exporter is; with a name, where it is to go on. Nothing is sent from here: the light worker does."""
    chosen = sum((from_start, from_here, forget))
    if chosen != (name is not None):
        raise Unprocessable("Name an exporter and one of --from-start, --from-here and --forget; or nothing, to look.")
    if name is None:
        console.print(table())
        return
    with transaction() as session:
        here = session.get_one(AuditHead, 1).seq
        follow.set_cursor(session, name, None if forget else here if from_here else 0)
    console.print(f"{name}: {'forgotten' if forget else 'from here on' if from_here else 'from the start'}.")


def table() -> Table:
    """Every exporter that is configured, or was."""
    made = Table("exporter", "configured", "told up to", "behind", "failed", "why")
    with transaction() as session:
        for each in follow.progress(session):
            facts = "yes" if each.configured else "no", str(each.seq), str(each.behind), moment(each.failed_at)
            made.add_row(each.name, *facts, each.failure or "–")
    return made
