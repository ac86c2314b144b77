"""Along the audit log, event by event: each exporter's cursor moves past an event once the other system has taken it.

The cursor's row is locked for as long as one process tells, so that no two ever do, and the order is the log's. A transaction
is open meanwhile; it is kept short by the clock, and has written nothing that anybody else waits for. Where the process dies
before the commit, what was told is told again.
"""

from collections.abc import Sequence
from datetime import datetime
from time import monotonic

import structlog
from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import lockdown
from app.config import settings
from app.db import transaction
from app.errors import Conflict, NotFound
from app.exports.openlineage import Lineage
from app.exports.registry import Registry
from app.exports.shapes import Event, Exporter, Refused, event_of
from app.tables import AuditEvent, AuditHead, ExportCursor

log = structlog.get_logger()

WINDOW = 1000
"""Events of the log that one transaction looks at."""
SECONDS = 20.0
"""After which a transaction begins no further call, and a tick no further transaction."""
NAMES = (Registry.name, Lineage.name)


def configured() -> list[Exporter]:
    """The exporters that the settings ask for."""
    conf = settings()
    found: list[Exporter] = []
    if conf.mlflow_uri is not None:
        found.append(Registry(conf.mlflow_uri.get_secret_value(), conf.mlflow_alias, conf.url))
    if conf.tells_lineage:
        address = conf.openlineage_url.get_secret_value() if conf.openlineage_url else None
        found.append(Lineage(address, conf.openlineage_namespace, conf.url))
    return found


def export() -> None:
    """Bring every exporter that is configured up to the log's head, in turns. One that fails waits for the next tick, and holds
    up no other."""
    failed: Exception | None = None
    for exporter in configured():
        until = monotonic() + SECONDS
        try:
            while advance(exporter, until):
                pass
        except Exception as error:  # noqa: BLE001 - raised below, when the others have had their turn
            log.warning("export.interrupted", exporter=exporter.name, error=type(error).__name__)
            failed = error
    if failed is not None:
        raise failed


def advance(exporter: Exporter, until: float) -> bool:
    """Tell one window of the log; whether there may be more to tell at once.

    A restored database tells nobody anything before it is known what came after the back-up: it may be an exercise beside the
    installation that goes on.
    """
    with transaction() as session:  # its own: while it is not committed a second process would wait for this one
        made = insert(ExportCursor).values(name=exporter.name, seq=0)
        session.execute(made.on_conflict_do_nothing())
    with transaction() as session:
        cursor = held(session, exporter.name)
        if cursor is None or lockdown.unresolved(session) is not None:
            return False
        # A number that the head shows is committed, and so are all before it: appenders hold the head until they commit.
        begun = cursor.seq
        end = min(session.scalars(select(AuditHead.seq)).one(), begun + WINDOW)
        for event in between(session, begun, end, exporter.kinds):
            failure = told(session, exporter, event)
            if failure is not None:
                cursor.failed_at, cursor.failure = func.now(), failure
                log.warning("export.failed", exporter=exporter.name, seq=event.seq, failure=failure)
                return False
            cursor.seq, cursor.failed_at, cursor.failure = event.seq, None, None
            if monotonic() > until:
                return False
        cursor.seq = end
        return end > begun


def held(session: Session, name: str) -> ExportCursor | None:
    """The exporter's cursor, locked; None while another process has it."""
    mine = select(ExportCursor).where(ExportCursor.name == name)
    return session.scalar(mine.with_for_update(skip_locked=True))


def between(session: Session, after: int, end: int, kinds: frozenset[str]) -> list[Event]:
    query = select(AuditEvent).where(AuditEvent.seq > after, AuditEvent.seq <= end, AuditEvent.kind.in_(kinds))
    return [event_of(row) for row in session.scalars(query.order_by(AuditEvent.seq))]


def told(session: Session, exporter: Exporter, event: Event) -> str | None:
    """Tell one event; why it was not taken, or None. What our own database raises is raised."""
    tell = exporter.prepare(session, event)
    try:
        tell()
    except Refused as refused:
        return str(refused)
    except Exception as error:  # noqa: BLE001 - whatever a client's library raises; its text may name the address
        return f"The client failed with {type(error).__name__}."
    return None


class Progress(BaseModel):
    """How far an exporter is."""

    name: str
    configured: bool
    seq: int
    behind: int
    failed_at: datetime | None
    failure: str | None


def progress(session: Session) -> Sequence[Progress]:
    """Of each exporter that is configured, or was; by name."""
    head = session.scalars(select(AuditHead.seq)).one()
    wanted = {exporter.name for exporter in configured()}
    rows = {row.name: row for row in session.scalars(select(ExportCursor))}
    found = []
    for name in sorted(wanted | rows.keys()):
        row = rows.get(name) or ExportCursor(name=name, seq=0, failed_at=None, failure=None)
        facts = {"configured": name in wanted, "behind": head - row.seq}
        found.append(Progress(name=name, seq=row.seq, failed_at=row.failed_at, failure=row.failure, **facts))
    return found


def set_cursor(session: Session, name: str, seq: int | None) -> None:
    """Tell everything after event `seq`, again where it was told; None forgets the exporter, which then begins at the beginning.

    Raises `NotFound` for a name that is no exporter's, and `Conflict` while it is telling.
    """
    if name not in NAMES:
        raise NotFound(f"There is no exporter {name}. There are: {', '.join(NAMES)}.")
    session.execute(insert(ExportCursor).values(name=name, seq=0).on_conflict_do_nothing())
    cursor = held(session, name)
    if cursor is None:
        raise Conflict(f"{name} is telling just now. Try again in a moment.")
    if seq is None:
        session.delete(cursor)
    else:
        cursor.seq, cursor.failed_at, cursor.failure = seq, None, None
