"""A fresh, migrated database for each test: migrated once a session, then copied, which Postgres does in milliseconds."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from alembic import command
from sqlalchemy import Engine, QueuePool, create_engine

from app import auth, codeflow, config, cursors, db, headers, oidc, store
from app.metrics.exposition import DATABASE
from embedded.processes import wait_for
from tests.servers import Servers

TEMPLATE = "template_expunge"
_number = count(1)
_first: list[Engine] = []


def made_alike(*arguments: Any, **options: Any) -> Engine:
    """An engine that takes its dialect and its compiled statements from the first of this process. A test has an engine
    of its own, and would compile each statement anew, which is a sixth of its time."""
    engine = create_engine(*arguments, **options)
    if not _first:
        _first.append(engine)
    engine.dialect = _first[0].dialect
    engine._compiled_cache = _first[0]._compiled_cache
    return engine


def forget_settings() -> None:
    """Drop everything that this process read from its settings."""
    if db.engine.cache_info().currsize:
        engine = db.engine()
        # A thread that a test has let go may be in its last transaction: a connection that comes back to a pool that is no
        # longer anybody's is never closed.
        wait_for(lambda: not cast("QueuePool", engine.pool).checkedout(), 2)
        engine.dispose()
    verifiers = (oidc.verifier, codeflow.verifier)
    for cached in (config.settings, db.engine, cursors.key, store.store, auth.door, headers.encoded, *verifiers):
        cached.cache_clear()
    DATABASE.cache_clear()


@contextmanager
def use(servers: Servers, name: str, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Point this process at a database, a data folder, and a broker that does not answer."""
    patch.setenv("DATABASE_URL", servers.database_url(name))
    patch.setenv("REDIS_URL", "redis+socket:///nonexistent/redis.sock")
    patch.setenv("EXPUNGE_DATA_DIR", str(folder))
    for variable in ("ARTIFACT_URL", "EXPUNGE_API_KEY", "EXPUNGE_API_URL"):
        patch.delenv(variable, raising=False)
    patch.setattr(db, "create_engine", made_alike)
    forget_settings()
    try:
        yield os.environ["DATABASE_URL"]
    finally:
        forget_settings()


def migrated_template(servers: Servers, folder: Path) -> str:
    """The database that the others are copied from."""
    with pytest.MonkeyPatch.context() as patch, use(servers, TEMPLATE, folder, patch):
        command.upgrade(db.alembic_config(), "head")
    return TEMPLATE


def copy(servers: Servers, template: str) -> str:
    """A new database with the template's contents; returns its name."""
    name = f"t{next(_number)}"
    with psycopg.connect(servers.database_url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


# As a replica, so that neither the audit log's trigger nor a foreign key has a say.
EMPTY = """
    SET session_replication_role = replica;
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'sample'::regclass LOOP
            EXECUTE 'DROP TABLE ' || name;
        END LOOP;
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public'
            AND tablename NOT IN ('alembic_version', 'audit_head', 'installation') LOOP
            EXECUTE 'DELETE FROM ' || name;
        END LOOP;
        UPDATE audit_head SET seq = 0, hash = decode(repeat('00', 32), 'hex');
        PERFORM setval(format('%I', sequencename)::regclass, 1, false) FROM pg_sequences WHERE schemaname = 'public';
    END $$;
"""
# What a test may have done to the schema itself.
FINGERPRINT = """
    SELECT md5(string_agg(part, ',' ORDER BY part)) FROM (
        SELECT format('%s %s', conrelid::regclass, conname) FROM pg_constraint
        UNION ALL SELECT format('%s %s %s', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger
        UNION ALL SELECT format('%s %s', tablename, indexname) FROM pg_indexes
        UNION ALL SELECT version_num FROM alembic_version
    ) AS parts (part)
"""
_kept: dict[str, str] = {}
"""Databases that a test has had and given back, with the fingerprint that each began with."""


@contextmanager
def lent(servers: Servers, template: str) -> Iterator[str]:
    """A clean database for one test. Emptying one costs a tenth of copying one, so it is copied only after a test that
    changed the schema."""
    name, fingerprint = _kept.popitem() if _kept else (copy(servers, template), "")
    if not fingerprint:
        with psycopg.connect(servers.database_url(name)) as connection:
            fingerprint = one_word(connection)
    yield name
    forget_settings()
    try:
        with psycopg.connect(servers.database_url(name)) as connection:
            connection.execute("SET lock_timeout = '2s'")
            connection.execute(EMPTY)
            if one_word(connection) == fingerprint:
                _kept[name] = fingerprint
    except psycopg.Error:
        return  # what the test left behind cannot be emptied: the next one gets a new copy


def one_word(connection: psycopg.Connection[tuple[str]]) -> str:
    found = connection.execute(FINGERPRINT).fetchone()
    assert found is not None
    return found[0]
