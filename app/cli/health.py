"""`expunge health`: for a container's own check, whether its process works and does not merely live."""

import platform
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from app import presence
from app.cli.console import console
from app.db import transaction
from app.errors import NotFound, Unavailable
from app.presence import Condition
from app.tables import Role


def health(
    role: Annotated[Role, typer.Argument(help="What runs on this host")],
    host: Annotated[str | None, typer.Option(help="Another host's name")] = None,
) -> None:
    """Whether this host's worker, or beat, was seen lately and hears its broker; exit code 1 where not.

    While Postgres is away nobody can tell, and a restart would mend nothing: then the answer is yes.
    """
    here = host or platform.node()
    try:
        with transaction() as session:
            found = [each for each in presence.everyone(session) if (each.role, each.host) == (role, here)]
    except SQLAlchemyError:
        console.print("Postgres does not answer, so nobody can tell.")
        return
    if not found:
        raise NotFound(f"No {role} of host {here} has told that it is there.")
    well = [each for each in found if each.condition in (Condition.IDLE, Condition.BUSY)]
    if not well:
        raise Unavailable("; ".join(f"{each.name} is {each.condition}" for each in found) + ".")
    console.print(", ".join(f"{each.name} is {each.condition}" for each in well), highlight=False)
