"""The migrations make the tables that the code declares, on an empty database and on one with rows in it."""

import pytest
from alembic import command
from sqlalchemy import inspect, text

from app.db import alembic_config, check_schema, engine
from app.errors import OldSchema
from app.tables import Base, Version
from tests.app import story
from tests.app.test_machine import clean


def test_the_migrations_lead_to_the_declared_tables(database: str) -> None:
    command.check(alembic_config())


def test_a_database_in_use_matches_too(database: str) -> None:
    story.dataset("people"), story.dataset("plants")
    model_id = story.trained()
    story.submit(1)
    story.work(model_id)
    command.check(alembic_config())
    check_schema()


def test_down_and_up_again_with_rows(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    story.submit(1)
    story.work(model_id)
    story.key()
    with pytest.raises(RuntimeError, match="1 tombstones, 1 tickets"):
        command.downgrade(alembic_config(), "base")
    check_schema()
    clean()
    command.downgrade(alembic_config(), "base")
    left = set(inspect(engine()).get_table_names())
    assert left <= {"alembic_version"}
    with engine().connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM pg_proc WHERE proname = 'refuse_changes'")) == 0
    with pytest.raises(OldSchema, match="revision none"):
        check_schema()
    command.upgrade(alembic_config(), "head")
    command.upgrade(alembic_config(), "head")
    check_schema()
    command.check(alembic_config())
    assert story.dataset()


def test_versions_outlive_the_revision_that_brought_records(database: str) -> None:
    story.dataset()
    story.trained()
    before = story.all_of(Version)
    command.downgrade(alembic_config(), "0001")
    assert not {"records", "records_digest"} & {column["name"] for column in inspect(engine()).get_columns("version")}
    command.upgrade(alembic_config(), "head")
    (after,) = story.all_of(Version)
    assert (after.id, after.weights_digest, after.records) == (before[0].id, before[0].weights_digest, None)
    check_schema()
    command.check(alembic_config())


def test_every_word_is_held_by_a_check(database: str) -> None:
    """A state that the code does not know is an error in the database, whoever writes it."""
    closed = [
        (table.name, column.name)
        for table in Base.metadata.tables.values()
        for column in table.columns
        if getattr(column.type, "create_constraint", False)
    ]
    assert len(closed) >= 10
    with engine().connect() as connection:
        checks = " ".join(
            connection.scalars(text("SELECT conrelid::regclass || pg_get_constraintdef(oid) FROM pg_constraint"))
        )
    for table, column in closed:
        assert f"{table}CHECK (((({column})::text" in checks or f"{table}CHECK ((({column})::text" in checks
