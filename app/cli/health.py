"""`expunge health`: for a container's own check, whether its process works and does not merely live."""

import platform
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from app import presence
from app.cli.console import console
from app.db import transaction
from app.errors import NotFound, Unavailable
from app.exports import follow
from app.presence import Condition
from app.tables import Role


def health(
    role: Annotated[Role, typer.Argument(help="What runs on this host")],
    host: Annotated[str | None, typer.Option(help="Another host's name")] = None,
) -> None:
    """Whether this host's worker, or beat, was seen lately and hears its broker; exit code 1 where not. Of the light worker also
    which exports do not get on, which is no fault of its own.

    While Postgres is away nobody can tell, and a restart would mend nothing: then the answer is yes.
    """
    here = host or platform.node()
    try:
        with transaction() as session:
            found = [each for each in presence.everyone(session) if (each.role, each.host) == (role, here)]
            stuck = [each for each in follow.progress(session) if each.failure] if role is Role.LIGHT else []
    except SQLAlchemyError:
        console.print("Postgres does not answer, so nobody can tell.")
        return
    if not found:
        raise NotFound(f"No {role} of host {here} has told that it is there.")
    well = [each for each in found if each.condition in (Condition.IDLE, Condition.BUSY)]
    if not well:
        raise Unavailable("; ".join(f"{each.name} is {each.condition}" for each in found) + ".")
    console.print(", ".join(f"{each.name} is {each.condition}" for each in well), highlight=False)
    for exporter in stuck:
        console.print(f"The export {exporter.name} does not get on: {exporter.failure}", highlight=False)
