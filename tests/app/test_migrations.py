"""Up, down and up again on a database in use: what a revision's code had written outlives the later ones and their undoing."""

from collections.abc import Iterator
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from app import audit
from app.db import alembic_config, check_schema, engine, transaction
from app.tables import Base
from tests import databases
from tests.app.revisions import PARTITION, ROWS, TICKETS
from tests.servers import Servers

REVISIONS = [each.revision for each in ScriptDirectory.from_config(alembic_config()).walk_revisions()][::-1]
HEAD = REVISIONS[-1]
Contents = dict[str, list[dict[str, Any]]]


@pytest.fixture
def fresh(servers: Servers, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A database without any table, whose address is this process's."""
    with databases.use(servers, "revisions", tmp_path, monkeypatch):
        with engine().begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        yield


def contents(connection: Connection) -> Contents:
    names = set(inspect(connection).get_table_names()) - {"alembic_version", "audit_head", "sample"}
    return {
        name: sorted((dict(row._mapping) for row in connection.execute(text(f"SELECT * FROM {name}"))), key=repr)
        for name in names
    }


def put(connection: Connection, table: str, values: dict[str, Any]) -> None:
    """Insert a row, or, where the name begins with UPDATE, fill columns of one that is there: its first value finds it."""
    if table.startswith("UPDATE "):
        key, *columns = values
        assigned = ", ".join(f"{name} = :{name}" for name in columns)
        changed = connection.execute(text(f"{table} SET {assigned} WHERE {key} = :{key}"), values)
        assert changed.rowcount == 1
        return
    names = ", ".join(f'"{name}"' for name in values)
    connection.execute(
        text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(':' + name for name in values)})"), values
    )


def populate(revision: str) -> None:
    with engine().begin() as connection:
        if revision == "0001":
            for statement in PARTITION.split(";"):
                connection.execute(text(statement))
        for table, values in ROWS.get(revision, []):
            put(connection, table, values)
        if revision == "0001":
            connection.execute(text("UPDATE model SET current_version_id = 2"))
    if revision == "0001":
        with transaction() as session:
            audit.append(session, "ticket.accepted", "tool", ticket_id=None, samples=1)


def left(after: Contents, before: Contents) -> None:
    """Whatever both have is the same: every row, in every column that is still there."""
    for table in after.keys() & before.keys():
        mine = [{name: row[name] for name in row if name in before[table][0]} for row in after[table] if before[table]]
        theirs = [{name: row[name] for name in row if name in after[table][0]} for row in before[table] if after[table]]
        assert sorted(mine, key=repr) == sorted(theirs, key=repr), table


def climb() -> dict[str, Contents]:
    """From nothing to the newest revision, each filled with its own rows; what each held then."""
    held: dict[str, Contents] = {}
    before: Contents = {}
    for revision in REVISIONS:
        command.upgrade(alembic_config(), revision)
        with engine().connect() as connection:
            left(contents(connection), before)
        populate(revision)
        with engine().connect() as connection:
            before = held[revision] = contents(connection)
    return held


@pytest.mark.service
@pytest.mark.both
def test_a_database_in_use_goes_up_down_and_up_again(fresh: None) -> None:
    held = climb()
    check_schema()
    command.check(alembic_config())
    for lower in REVISIONS[-2::-1]:
        with engine().connect() as connection:
            before = contents(connection)
        command.downgrade(alembic_config(), lower)
        with engine().connect() as connection:
            after = contents(connection)
        left(after, before)
        assert after.keys() == held[lower].keys()
        assert {r["ordinal"] for r in after["tombstone"]} == {3, 4}
    command.upgrade(alembic_config(), "head")
    check_schema()
    command.check(alembic_config())
    with engine().connect() as connection:
        left(contents(connection), after)
    with transaction() as session:
        assert session.scalar(text("SELECT count(*) FROM ticket WHERE id = ANY (:ids)"), {"ids": TICKETS}) == 2


@pytest.mark.parametrize(
    "table", sorted(Base.metadata.tables.keys() - {"audit_event", "audit_head", "installation", "sample"})
)
def test_every_table_has_rows_as_its_revision_wrote_them(table: str) -> None:
    """A new revision with a table needs an entry in tests/app/revisions.py, or its migration is tested on nothing."""
    assert any(name == table for rows in ROWS.values() for name, _ in rows)


@pytest.mark.service
@pytest.mark.both
def test_what_would_undo_a_promise_is_refused(fresh: None) -> None:
    climb()
    with engine().begin() as connection:
        connection.execute(text("UPDATE model SET stopped = 'estimates miss the truth'"))
    with pytest.raises(RuntimeError, match="expunge models resume"):
        command.downgrade(alembic_config(), "0002")
    with engine().begin() as connection:
        connection.execute(text("UPDATE model SET stopped = NULL"))
    command.downgrade(alembic_config(), "0001")
    with pytest.raises(RuntimeError, match="2 tombstones"):
        command.downgrade(alembic_config(), "base")
    with engine().connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "0001"
        assert len(contents(connection)["tombstone"]) == 2
