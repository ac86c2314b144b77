"""`expunge keys`: straight to the database, since the first key cannot be made with a key."""

from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy import select

from app import auth
from app.auth import Scope
from app.cli.console import console, errors
from app.db import check_schema, transaction
from app.tables import ApiKey

app = typer.Typer(no_args_is_help=True)
BY = "command line"


@app.command()
def create(
    client: Annotated[str, typer.Argument(help="Whose key it is; tickets belong to this name")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; repeat for several")],
    days: Annotated[float | None, typer.Option(help="Expires after so many days")] = None,
) -> None:
    """Make a key and print it, this one time. The database keeps a digest only."""
    check_schema()
    with transaction() as session:
        key = auth.create_key(session, client, scope, days, BY)
    errors.print("Keep it safe: it is not shown again. Use it as EXPUNGE_API_KEY, or Authorization: Bearer.")
    print(key)  # noqa: T201 - alone on standard output, so that a script can take it


@app.command("list")
def listing() -> None:
    """All keys: prefix, client, scopes, dates. Never the secret."""
    table = Table("prefix", "client", "scopes", "created", "expires", "revoked", "last used")
    with transaction() as session:
        for key in session.scalars(select(ApiKey).order_by(ApiKey.id)):
            dates = (key.created_at, key.expires_at, key.revoked_at, key.last_used_at)
            shown = [f"{date:%Y-%m-%d %H:%M}Z" if date else "–" for date in dates]
            table.add_row(key.prefix, key.client, " ".join(key.scopes), *shown)
    console.print(table)


@app.command()
def revoke(prefix: Annotated[str, typer.Argument(help="The part between exp_ and the second _")]) -> None:
    """Close a key at once."""
    with transaction() as session:
        auth.revoke_key(session, prefix, BY)
    console.print("Revoked.")
