"""How Postgres reads for each of those routes: the plans of the very statements that the service executes."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import event
from sqlalchemy.orm import Session

from app import evidence, tickets, versions, views
from app.db import engine, transaction
from app.tickets import Filter
from benchmarks.scale.history import OWNER, ticket_id
from benchmarks.scale.reads import PAGE, Place

NODE = re.compile(r"(Seq Scan|Index Scan|Index Only Scan|Bitmap Heap Scan)(?: Backward)?(?: using (\S+))? on (\S+)")
GROWING = ("ticket", "tombstone", "obligation", "audit_event", "sample")
"""Tables that a history makes longer."""


def shown(place: Place, size: int) -> tuple[dict[str, list[str]], list[str]]:
    """For each read, the ways its statements go to the tables; and those that scan a growing table whole."""
    with psycopg.connect(place.address) as connection:
        one = UUID(ticket_id(connection, size // 2))
    found: dict[str, list[str]] = {}
    for name, read in reads(place, one).items():
        with executed() as statements, transaction() as session:
            read(session)
        with psycopg.connect(place.address) as connection:
            found[name] = sorted({way for statement in statements for way in ways(connection, *statement)})
    scans = [f"{name}: {way}" for name, of in found.items() for way in of if whole(way)]
    return found, scans


def reads(place: Place, one: UUID) -> dict[str, Callable[[Session], object]]:
    """What the routes do below HTTP."""

    def ticket(session: Session) -> None:
        row = tickets.get(session, None, one)
        views.ticket(row)
        tickets.timeline(session, row)

    return {
        "a ticket": ticket,
        "a client's newest tickets": lambda session: tickets.page(
            session, OWNER, Filter(None, None, None, False), PAGE + 1, None
        ),
        "a version's audit": lambda session: evidence.report(session, versions.resolve(session, place.audited)),
        "a model": lambda session: views.model_detail(
            session, versions.find_model(session, place.audited.rpartition("-v")[0])
        ),
    }


@contextmanager
def executed() -> Iterator[list[tuple[str, Any]]]:
    """The statements that SQLAlchemy sends inside, with their values."""
    seen: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            seen.append((statement, values))

    event.listen(engine(), "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine(), "before_cursor_execute", note)


def ways(connection: psycopg.Connection[Any], statement: str, values: Any) -> list[str]:
    lines = [line for (line,) in connection.execute("EXPLAIN " + statement, values)]
    return [" ".join(filter(None, found.groups())) for line in lines if (found := NODE.search(line))]


def whole(way: str) -> bool:
    """Whether a way reads all of a table that grows."""
    return way.startswith("Seq Scan") and way.split()[-1] in GROWING
