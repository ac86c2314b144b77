"""Put a back-up into an empty database, all or nothing, and lock what was restored.

Schema, rows, the newer schema of this release, the check of the audit log and the lock are one transaction: whatever is
wrong with the back-up, the database stays as it was. The artifacts are copied before, each verified; nothing names them
if the rest fails, and the purge collects them.
"""

import gzip
import tempfile
import zlib
from collections.abc import Callable
from typing import Any

from alembic import command
from alembic.config import Config
from obstore.store import ObjectStore
from psycopg import Cursor, errors, sql
from sqlalchemy import Connection, delete, func, select, text, update
from sqlalchemy.orm import Session

from app import audit, manifests, store
from app.audit import Verification
from app.db import alembic_config, cursor, engine, scripts
from app.errors import Conflict, Corrupt, Gone, NotFound, Unprocessable
from app.recovery.archive import CHUNK, Checked, Manifest, Part, chunks, names, read_manifest
from app.recovery.backup import AS_TEXT, TABLES
from app.tables import (
    Batch,
    BatchState,
    Reference,
    ReferenceState,
    Restoration,
    Run,
    WebhookEndpoint,
    WebSession,
    Worker,
)
from app.webhooks import endpoints

OURS = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
MADE_EMPTY = {"alembic_version", "audit_head", "installation"}
FOREIGN_KEYS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE contype = 'f' AND connamespace = current_schema()::regnamespace AND conparentid = 0
"""
IDENTITIES = """
    SELECT attrelid::regclass::text, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND attidentity <> ''
"""
# A ticket that the log accepted and nobody took back, and that has not as many tombstones as it says there; or tombstones
# of a ticket that it does not know.
MISCOUNTED = """
    WITH told AS (
        SELECT ticket_id, (body::jsonb -> 'data' ->> 'samples')::bigint AS samples FROM audit_event AS accepted
        WHERE kind = 'ticket.accepted' AND NOT EXISTS (
            SELECT FROM audit_event WHERE kind = 'ticket.cancelled' AND ticket_id = accepted.ticket_id
        )
    ), buried AS (
        SELECT ticket_id, count(*) AS samples FROM tombstone GROUP BY ticket_id
    )
    SELECT ticket_id FROM told FULL JOIN buried USING (ticket_id)
    WHERE told.samples IS DISTINCT FROM coalesce(buried.samples, 0)
       OR NOT EXISTS (SELECT FROM ticket WHERE ticket.id = ticket_id)
    ORDER BY ticket_id LIMIT 1
"""


def find(archive: ObjectStore, name: str | None, sha256: str | None = None) -> Manifest:
    """The back-up of that name, or the newest. Raises `NotFound`, and `Corrupt` where its manifest has not this SHA-256."""
    found = names(archive)
    if not found:
        raise NotFound("There is no back-up here. One whose manifest is missing was never finished.")
    return read_manifest(archive, name or found[-1], sha256)


def restore(archive: ObjectStore, manifest: Manifest, report: Callable[[str], None] = lambda _: None) -> None:
    """Restore into the database and the artifact store of the settings.

    Raises:
        Conflict: the database is not empty.
        Unprocessable: the back-up has a schema that this release does not know.
        Corrupt: a part is missing, or its digest, the audit log's chain or a ticket's count of samples does not hold.
    """
    revisions = [each.revision for each in scripts().walk_revisions()]
    if manifest.schema not in revisions:
        raise Unprocessable(
            f"The back-up has schema {manifest.schema}, which this release does not know. Restore it with expunge "
            f"{manifest.expunge} or later."
        )
    with engine().connect() as connection:
        refuse_filled(connection)
    report(f"{len(manifest.artifacts)} artifacts")
    for digest in manifest.artifacts:
        restore_artifact(archive, digest)
    with engine().connect() as connection, connection.begin():
        refuse_filled(connection)
        config = alembic_config()
        config.attributes["connection"] = connection
        make_schema(connection, config, manifest.schema)
        with Session(connection) as session:
            load(session, archive, manifest, report)
            session.flush()
        command.upgrade(config, "head")
        with Session(connection) as session:
            silenced = finish(session, manifest)
            session.flush()
    if silenced:
        report(f"{silenced} webhooks are disabled until you have looked at them: expunge webhooks enable")


def refuse_filled(connection: Connection) -> None:
    """Raise `Conflict` unless the database is fresh, or migrated and nothing more."""
    tables = set(connection.scalars(text(OURS)))
    if not tables:
        return
    refused = Conflict("The database is not empty. Restore into a new one: nothing that stands there is overwritten.")
    if "alembic_version" not in tables:
        raise refused
    for table in sorted(tables - MADE_EMPTY):
        if connection.scalar(text(f"SELECT EXISTS (SELECT FROM {table})")):  # noqa: S608 - a name from the catalogue
            raise refused
    if connection.scalar(text("SELECT seq FROM audit_head")):
        raise refused


def make_schema(connection: Connection, config: Config, revision: str) -> None:
    """The empty schema that the back-up's rows had."""
    if connection.scalar(text("SELECT to_regclass('alembic_version')")) is not None:
        command.downgrade(config, "base")
    command.upgrade(config, revision)


def restore_artifact(archive: ObjectStore, digest: str) -> None:
    """Copy one artifact, verified, unless the store has it whole."""
    try:
        store.verify(digest)
    except (Gone, Corrupt):
        path = f"artifacts/{store.path(digest)}"
        seen = Checked(chunks(archive, path))
        with tempfile.TemporaryFile() as file:  # verified before it gets its name, and larger than memory may be
            while block := seen.read(CHUNK):
                file.write(block)
            seen.finish(path, digest)
            file.seek(0)
            store.put_file(digest, file)


def load(session: Session, archive: ObjectStore, manifest: Manifest, report: Callable[[str], None]) -> None:
    """Copy the rows in, between taking the foreign keys off and putting them on again, which checks them all."""
    with cursor(session) as opened:
        opened.execute(AS_TEXT)
        check_tables(opened, manifest)
        keys = opened.execute(FOREIGN_KEYS).fetchall()
        for table, key, _ in keys:
            opened.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(sql.SQL(table), sql.Identifier(key)))
        for table in sorted(MADE_EMPTY - {"alembic_version"}):
            opened.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        for part in manifest.parts:
            report(f"table {part.table}")
            load_part(opened, archive, manifest, part)
        check_partitions(opened, manifest)
        for table, column in opened.execute(IDENTITIES).fetchall():
            following = sql.SQL(
                "SELECT setval(pg_get_serial_sequence({name}, {column}), coalesce(max({of}), 0) + 1, false) FROM {table}"
            )
            opened.execute(following.format(name=table, column=column, of=sql.Identifier(column), table=sql.SQL(table)))
        for table, key, definition in keys:
            added = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}")
            opened.execute(added.format(sql.SQL(table), sql.Identifier(key), sql.SQL(definition)))
    for part in manifest.parts:
        if part.partition:
            manifests.build_indexes(session, part.table, int(part.table.removeprefix("sample_")))
            session.execute(text(f"ANALYZE {part.table}"))


def check_tables(opened: Cursor[Any], manifest: Manifest) -> None:
    """Raise `Corrupt` unless the manifest has every table of the back-up's schema with all its columns, each once: one that was
    left out would come back empty, and no digest would tell."""
    expected = sorted((table, sorted(columns)) for table, _, columns in opened.execute(TABLES).fetchall())
    found = sorted((part.table, sorted(part.columns)) for part in manifest.parts if not part.partition)
    if found != expected:
        differing = {table for table, _ in expected} ^ {table for table, _ in found}
        raise Corrupt(
            f"The manifest does not have the tables of schema {manifest.schema}, each once and whole "
            f"({', '.join(sorted(differing)) or 'columns differ'}). Nothing was restored."
        )


def check_partitions(opened: Cursor[Any], manifest: Manifest) -> None:
    """Raise `Corrupt` unless every dataset has its samples."""
    expected = sorted(f"sample_{number}" for (number,) in opened.execute("SELECT id FROM dataset").fetchall())
    if sorted(part.table for part in manifest.parts if part.partition) != expected:
        raise Corrupt("The manifest does not have the samples of each dataset once. Nothing was restored.")


def load_part(opened: Cursor[Any], archive: ObjectStore, manifest: Manifest, part: Part) -> None:
    """One table's rows. Raises `Corrupt` when they are not those that were written."""
    if part.partition:
        like = sql.SQL("CREATE TABLE {} (LIKE sample INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
        opened.execute(like.format(sql.Identifier(part.table)))
    path = f"backups/{manifest.name}/tables/{part.table}.gz"
    seen = Checked(chunks(archive, path))
    columns = sql.SQL(", ").join(map(sql.Identifier, part.columns))
    query = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(part.table), columns)
    damaged = Corrupt(f"{path} is not what was written there. Nothing was restored.")
    try:
        with gzip.GzipFile(fileobj=seen, mode="rb") as file, opened.copy(query) as rows:  # type: ignore[call-overload]  # gzip asks for less of a file than its stub says
            while block := file.read(2**20):
                rows.write(block)
    except (OSError, EOFError, zlib.error, errors.DataError):
        raise damaged from None
    seen.finish(path, part.sha256)
    if opened.rowcount != part.rows:
        raise damaged


def finish(session: Session, manifest: Manifest) -> int:
    """Check the log, take back what ran when the back-up was taken, lock the installation, and say so in the log. Returns
    how many webhooks were silenced."""
    found = audit.verify(session)
    if found.fault is None and (found.events, found.head) != (manifest.head.seq, manifest.head.hash):
        found = Verification(found.events, found.head, "it ends elsewhere than the manifest says")
    if found.fault is not None:
        raise Corrupt(f"The audit log in the back-up does not hold: {found.fault}. Nothing was restored.")
    miscounted = session.scalar(text(MISCOUNTED))
    if miscounted is not None:
        raise Corrupt(
            f"The samples of ticket {miscounted} in the back-up are not as many as its audit log says. Nothing was restored."
        )
    take_back(session)
    made = Restoration(
        backup=manifest.name,
        taken_at=manifest.taken_at,
        schema=manifest.schema,
        seq=manifest.head.seq,
        hash=bytes.fromhex(manifest.head.hash),
    )
    session.add(made)
    audit.append(
        session,
        "installation.restored",
        "expunge",
        backup=manifest.name,
        taken_at=manifest.taken_at.isoformat(),
        schema=manifest.schema,
        head={"seq": manifest.head.seq, "hash": manifest.head.hash},
        artifacts={"missing": manifest.missing, "damaged": manifest.damaged},
    )
    return silence(session)


def silence(session: Session) -> int:
    """Disable every webhook. Its owner may have removed it since, sent it elsewhere or given it a new secret: the back-up
    cannot say, and the log that a replay reads holds neither addresses nor secrets. Returns how many were enabled."""
    live = select(WebhookEndpoint).where(WebhookEndpoint.disabled_at.is_(None)).order_by(WebhookEndpoint.id)
    found = session.scalars(live).all()
    for endpoint in found:
        endpoints.disable(session, endpoint, "restored from a back-up")
    return len(found)


def take_back(session: Session) -> None:
    """Free what was being worked on. The epoch rises: a worker of the lost installation that is still alive, and finds its
    own batch here, writes nothing into it. Who was at work then is nobody's worker here."""
    session.execute(delete(Worker))
    session.execute(delete(WebSession))  # who was signed in then signs in again
    freed = update(Batch).where(Batch.state == BatchState.RUNNING)
    freed = freed.values(
        state=BatchState.READY,
        attempt=Batch.attempt - 1,
        lease_epoch=Batch.lease_epoch + 1,
        lease_until=None,
        not_before=func.now(),
    )
    for batch_id, model_id, epoch in session.execute(
        freed.returning(Batch.id, Batch.model_id, Batch.lease_epoch)
    ).all():
        ended = update(Run).where(Run.batch_id == batch_id, Run.outcome.is_(None), Run.epoch == epoch - 1)
        session.execute(ended.values(outcome="given back", detail="restored from a back-up", finished_at=func.now()))
        audit.append(session, "run.given_back", "expunge", batch_id=batch_id, model_id=model_id, epoch=epoch - 1)
    free = update(Reference).where(Reference.state == ReferenceState.RUNNING)
    session.execute(
        free.values(
            state=ReferenceState.PENDING,
            attempt=Reference.attempt - 1,
            lease_epoch=Reference.lease_epoch + 1,
            lease_until=None,
            not_before=func.now(),
        )
    )
