"""The engine and the transaction. The caller opens it, visibly; no function below commits.

with transaction() as session:
    ticket = tickets.submit(session, ...)
nudge(...)          # after the commit, never before
"""

import select
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import psycopg
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    CursorResult,
    Engine,
    Executable,
    Uuid,
    any_,
    create_engine,
    event,
    literal,
    text,
)
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.config import settings
from app.errors import OldSchema

# A database host that is lost says no goodbye. Without these a statement would wait for TCP's own limits, a quarter of an
# hour to two hours; a Unix socket takes no notice of them.
GONE = {
    "tcp_user_timeout": 20_000,  # ms that what was sent may go unacknowledged
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}


@lru_cache
def engine() -> Engine:
    """The process's one connection pool. A forked child must make its own: `engine.cache_clear()` after the fork."""
    made = create_engine(
        settings().database,
        pool_size=10,
        max_overflow=30,  # as many as the web server has threads
        hide_parameters=True,  # they are people's ids, and an error's text ends up in a log
        connect_args={"application_name": "expunge", "connect_timeout": 5} | GONE,
    )
    event.listen(made, "checkout", refuse_dead)
    return made


def bound(made: Engine, statement: float, lock: float, idle: float) -> None:
    """From here on each new connection of the pool gives up: a statement after so many seconds, the wait for a lock, a
    transaction in which nothing happens. A process that serves somebody says so as it begins; 0 is no bound."""
    limits = {"statement_timeout": statement, "lock_timeout": lock, "idle_in_transaction_session_timeout": idle}
    wanted = ", ".join(f"set_config('{name}', '{int(seconds * 1000)}', false)" for name, seconds in limits.items())

    def set_limits(connection: psycopg.Connection[Any], _: object) -> None:
        connection.execute(f"SELECT {wanted}")  # numbers and names of our own
        connection.commit()

    event.listen(made, "connect", set_limits)


def patient(session: Session, seconds: float) -> None:
    """Let this transaction's statements take longer: one of them is as long as a client's upload."""
    session.execute(text("SELECT set_config('statement_timeout', :ms, true)"), {"ms": str(int(seconds * 1000))})


TOO_SLOW = ("57014", "55P03", "25P03")
"""SQLSTATE of a statement that was cancelled, a lock that was not to be had, a transaction that idled."""


def too_slow(error: BaseException) -> bool:
    """Whether Postgres answers, and gave up on this statement."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) in TOO_SLOW


def refuse_dead(connection: psycopg.Connection[Any], *_: object) -> None:
    """Before a pooled connection is used: the server has nothing to say on it, unless it has hung up.

    A ping would tell as much and costs a round trip each time. A connection that breaks later than here is an error to
    one request and is replaced after it.
    """
    try:
        waiting = select.poll()
        waiting.register(connection.fileno(), select.POLLIN)
        hung_up = bool(waiting.poll(0))
    except psycopg.Error:  # closed on our side
        hung_up = True
    if hung_up:
        raise InvalidatePoolError


@contextmanager
def transaction() -> Iterator[Session]:
    """One transaction: commits when the block ends, rolls back when it raises. Rows stay readable after it."""
    with Session(engine(), expire_on_commit=False) as session, session.begin():
        yield session


def among(column: InstrumentedAttribute[UUID], ids: Sequence[UUID]) -> ColumnElement[bool]:
    """Whether the column is one of `ids`, sent as one array: as a list of parameters they may be 65,535 at most, and a
    retrain takes over as many tickets as wait."""
    return column == any_(literal(list(ids), ARRAY(Uuid)))


@contextmanager
def snapshot() -> Iterator[Session]:
    """One look at the whole database, that nothing committed meanwhile changes. Nothing can be written."""
    with Session(engine(), expire_on_commit=False) as session, session.begin():
        session.connection(execution_options={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True})
        yield session


@contextmanager
def cursor(session: Session) -> Iterator[psycopg.Cursor[Any]]:
    """The driver's cursor in the session's transaction, where SQLAlchemy's share of a statement's time would be most of
    it. Errors come out as SQLAlchemy's, so that callers know one kind; values never stand in them.
    """
    driver = cast("psycopg.Connection[Any]", session.connection().connection.driver_connection)
    try:
        with driver.cursor() as opened:
            yield opened
    except psycopg.Error as error:
        raise translated(error) from error


@contextmanager
def single() -> Iterator[psycopg.Cursor[Any]]:
    """A cursor of which each statement is its own transaction: one round trip instead of three, and no session."""
    try:
        pooled = engine().raw_connection()
        driver = cast("psycopg.Connection[Any]", pooled.driver_connection)
        try:
            driver.autocommit = True
            with driver.cursor() as opened:
                yield opened
        finally:
            if not driver.closed:
                driver.autocommit = False
            pooled.close()
    except psycopg.Error as error:
        raise translated(error) from error


def translated(error: psycopg.Error) -> DBAPIError:
    found = DBAPIError.instance(None, None, error, psycopg.Error, hide_parameters=True)
    assert isinstance(found, DBAPIError)
    return found


def changed(session: Session, statement: Executable) -> int:
    """Execute an UPDATE or DELETE; return how many rows it met."""
    return cast("CursorResult[Any]", session.execute(statement)).rowcount


def alembic_config() -> Config:
    """Alembic's configuration, found beside the installed package, so that a wheel migrates like a checkout."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).resolve().parent.parent / "migrations"))
    return config


@lru_cache
def scripts() -> ScriptDirectory:
    """This code's migrations, read once: probes ask for the newest again and again."""
    return ScriptDirectory.from_config(alembic_config())


def revisions() -> tuple[str | None, str | None]:
    """The database's revision, and the one that this code was written for."""
    expected = scripts().get_current_head()
    with engine().connect() as connection:
        return MigrationContext.configure(connection).get_current_revision(), expected


def check_schema(*, begun: bool = False) -> None:
    """Raise `OldSchema` unless the database is at the revision this code was written for. Who has `begun` on it goes on where
    a later release has migrated meanwhile: to a revision that is not among those that this code knows."""
    found, expected = revisions()
    later = found not in {None, *(script.revision for script in scripts().walk_revisions())}
    if found != expected and not (begun and later):
        raise OldSchema(
            f"The database is at revision {found or 'none'}, this code needs {expected}: run `expunge migrate`."
        )
