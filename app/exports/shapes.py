"""What an exporter is, and what it is handed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy.orm import Session

from app.tables import AuditEvent

Tell = Callable[[], None]
"""The calls to the other system. They find everything read that they say, and know of no database."""


class Refused(Exception):
    """The other system did not take it. The message says why, without its address, which may hold a password."""


@dataclass(frozen=True)
class Event:
    """One event of the audit log. Its hash names it for good: after a restoration the same number is another event's."""

    seq: int
    hash: str
    kind: str
    at: str
    batch_id: UUID | None
    model_id: int | None
    data: dict[str, Any]


def event_of(row: AuditEvent) -> Event:
    body = json.loads(row.body)
    return Event(row.seq, row.hash.hex(), row.kind, body["at"], row.batch_id, row.model_id, body["data"])


class Exporter(Protocol):
    """Tells another system of some kinds of events. `prepare` reads rows; what it returns raises where it was not taken."""

    @property
    def name(self) -> str: ...

    @property
    def kinds(self) -> frozenset[str]: ...

    def prepare(self, session: Session, event: Event) -> Tell: ...
