"""Alembic's environment: the database of the settings, the tables of app.tables."""

from contextlib import nullcontext
from typing import Any

from alembic import context
from sqlalchemy import Connection, text

from app.db import engine
from app.tables import Base

# Any number of processes may migrate at once; one does, the others wait and find nothing left to do.
MIGRATION_LOCK = 0x65787075


def ours(_: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """A dataset's partition belongs to its manifest, not to the schema."""
    return not (kind == "table" and reflected and compare_to is None and (name or "").startswith("sample_"))


def run() -> None:
    """On a connection of its own, or in the transaction of whoever gives one: what restores a back-up does."""
    given: Connection | None = context.config.attributes.get("connection")
    with nullcontext(given) if given is not None else engine().connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, include_object=ours)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            context.run_migrations()


run()
