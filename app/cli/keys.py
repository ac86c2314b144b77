"""`expunge keys`: straight to the database, since the first key cannot be made with a key."""

from typing import Annotated

import typer
from rich.table import Column, Table

from app import keys
from app.auth import Scope
from app.cli.console import console, errors
from app.db import check_schema, transaction

app = typer.Typer(no_args_is_help=True)
BY = "command line"
PREFIX = Annotated[str, typer.Argument(help="The part between exp_ and the second _")]


@app.command()
def create(
    client: Annotated[str, typer.Argument(help="Whose key it is; tickets belong to this name")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; repeat for several")],
    days: Annotated[float | None, typer.Option(help="Expires after so many days")] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, max=keys.LARGEST_LIMIT, help="A limit of its own")
    ] = None,
    ids_per_day: Annotated[int | None, typer.Option(min=0, max=keys.LARGEST_LIMIT, help="A limit of its own")] = None,
) -> None:
    """Make a key and print it, this one time. The database keeps a digest only."""
    check_schema()
    with transaction() as session:
        made = keys.create(session, client, scope, days, BY, keys.Limits(requests_per_minute, ids_per_day))
    hand_over(made)


@app.command("list")
def listing() -> None:
    """All keys: prefix, client, scopes, dates. Never the secret."""
    table = Table(Column("prefix", no_wrap=True), "client", "scopes", "created", "expires", "revoked", "last used")
    with transaction() as session:
        for key in keys.listing(session):
            dates = (key.created_at, key.expires_at, key.revoked_at, key.last_used_at)
            shown = [f"{date:%Y-%m-%d %H:%M}Z" if date else "–" for date in dates]
            table.add_row(key.prefix, key.client, " ".join(key.scopes), *shown)
    console.print(table)


@app.command()
def rotate(
    prefix: PREFIX,
    overlap_days: Annotated[float, typer.Option(help="How long the old key goes on, unless it ends sooner")] = 7,
) -> None:
    """Make a key with the client, scopes, limits and term of another, which ends after the overlap."""
    with transaction() as session:
        made = keys.rotate(session, prefix, overlap_days, BY)
    hand_over(made)


@app.command()
def expire(prefix: PREFIX, days: Annotated[float, typer.Option(help="From now; only ever sooner than before")]) -> None:
    """Let a key end after so many days."""
    with transaction() as session:
        key = keys.expire(session, prefix, days, BY)
    console.print(f"It ends at {key.expires_at:%Y-%m-%d %H:%M}Z.")


@app.command()
def revoke(prefix: PREFIX) -> None:
    """Close a key at once."""
    with transaction() as session:
        keys.revoke(session, prefix, BY)
    console.print("Revoked.")


def hand_over(made: keys.Made) -> None:
    errors.print("Keep it safe: it is not shown again. Use it as EXPUNGE_API_KEY, or Authorization: Bearer.")
    print(made.secret)  # noqa: T201 - alone on standard output, so that a script can take it
