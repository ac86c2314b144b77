"""Alembic's environment: the database of the settings, the tables of app.tables."""

from typing import Any

from alembic import context
from sqlalchemy import text

from app.db import engine
from app.tables import Base

# Any number of processes may migrate at once; one does, the others wait and find nothing left to do.
MIGRATION_LOCK = 0x65787075


def ours(_: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """A dataset's partition belongs to its manifest, not to the schema."""
    return not (kind == "table" and reflected and compare_to is None and (name or "").startswith("sample_"))


def run() -> None:
    with engine().connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, include_object=ours)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            context.run_migrations()


run()
