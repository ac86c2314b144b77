"""Exporters configured and looked at, as the tests of exports need it."""

from typing import Any

from sqlalchemy import select

from app import config
from app.db import transaction
from app.exports import follow
from app.exports.shapes import Event, event_of
from app.tables import AuditEvent, AuditHead, ExportCursor
from tests.app import story


def configure(monkeypatch: Any, **variables: str) -> None:
    """Set variables of the service, without their prefix."""
    for name, value in variables.items():
        monkeypatch.setenv(f"EXPUNGE_{name.upper()}", value)
    config.settings.cache_clear()


def head() -> int:
    with transaction() as session:
        return session.scalars(select(AuditHead.seq)).one()


def cursor(name: str) -> ExportCursor:
    with transaction() as session:
        return session.get_one(ExportCursor, name)


def rewind(name: str, seq: int | None = 0) -> None:
    with transaction() as session:
        follow.set_cursor(session, name, seq)


def events(kind: str) -> list[Event]:
    """Those of the log, oldest first."""
    with transaction() as session:
        found = session.scalars(select(AuditEvent).where(AuditEvent.kind == kind).order_by(AuditEvent.seq))
        return [event_of(row) for row in found]


def updated() -> int:
    """A model with a first version and an update that forgot two samples."""
    story.dataset()
    model_id = story.trained()
    story.submit(1, 2)
    story.work(model_id)
    return model_id
