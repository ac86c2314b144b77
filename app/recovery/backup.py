"""Take a back-up: every table in one look at the database, then the artifacts that it names.

The rows are read by COPY over the ordinary connection, not by pg_dump. The schema needs no dump, since a migration makes
it; what is left is the one thing that COPY does. So a back-up needs no program of the server's version, runs against
a managed Postgres as against the private one, can be restored into another major version, and has a digest of each
table that was computed as the rows passed.
"""

import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import obstore
from obstore.store import LocalStore, ObjectStore
from psycopg import Cursor, sql
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app import store, sweep
from app.db import cursor, snapshot
from app.errors import Corrupt, Gone, Unavailable
from app.recovery.archive import Head, Manifest, Part, names, read_manifest, zipped
from app.tables import AuditHead, Version

DAY = timedelta(days=1)
"""For how long what has no manifest may be a back-up that is under way."""
SNAPSHOTS = 3
"""How often the database is looked at anew, when weights that the last look named were deleted meanwhile."""

# Rows as text that any server reads, whatever this one's settings are, and however long it takes.
AS_TEXT = """
    SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL timezone = 'UTC';
    SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL statement_timeout = 0
"""
TABLES = """
    SELECT relname, relispartition, array_agg(attname::text ORDER BY attnum) FROM pg_class
    JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
    GROUP BY relname, relispartition ORDER BY relname
"""


@dataclass(frozen=True)
class Named:
    """Digests that the rows name; `weights` are those that a version cannot do without."""

    all: set[str]
    weights: set[str]


def take(archive: ObjectStore, report: Callable[[str], None] = lambda _: None) -> Manifest:
    """Write a back-up; the service may run meanwhile. Returns its manifest, whose `damaged` should be empty."""
    for _ in range(SNAPSHOTS):
        with snapshot() as session:
            manifest = write_tables(session, archive, report)
            named = Named(sweep.named(session), weights(session))
        report(f"{len(named.all)} artifacts")
        copied = copy_artifacts(archive, named.all)
        if not named.weights & set(copied.missing):
            done = Manifest(**vars(manifest) | vars(copied))
            check_whole(archive, done)
            archive.put(f"backups/{done.name}/manifest.json", done.text())
            return done
    raise Unavailable("Weights are purged faster than they can be copied. Nothing was backed up; try again.")


def check_whole(archive: ObjectStore, made: Manifest) -> None:
    """Raise `Unavailable` where somebody has pruned what the back-up is about to name."""
    parts = {path.rpartition("/")[2] for path in ages(archive, f"backups/{made.name}/tables/")}
    artifacts = held(archive, set(made.artifacts))
    if {f"{part.table}.gz" for part in made.parts} - parts or made.artifacts.keys() - artifacts.keys():
        raise Unavailable("What was copied has been deleted meanwhile, by another back-up's --keep. Try again.")


def weights(session: Session) -> set[str]:
    return set(session.scalars(select(Version.weights_digest).where(Version.weights_purged_at.is_(None))))


def write_tables(session: Session, archive: ObjectStore, report: Callable[[str], None]) -> Manifest:
    """Copy every table out of the session's snapshot."""
    now = datetime.now(UTC)
    head = session.scalars(select(AuditHead)).one()
    schema = session.scalars(text("SELECT version_num FROM alembic_version")).one()
    name = f"{now:%Y%m%dT%H%M%S.%fZ}-{head.seq}"
    parts = []
    with cursor(session) as opened:
        opened.execute(AS_TEXT)
        for table, partition, columns in opened.execute(TABLES).fetchall():
            report(f"table {table}")
            parts.append(copy_table(opened, archive, name, Part(table, columns, 0, 0, "", partition)))
    return Manifest(name, now, version("expunge"), schema, Head(head.seq, head.hash.hex()), parts, {})


def copy_table(opened: Cursor[object], archive: ObjectStore, name: str, part: Part) -> Part:
    columns = sql.SQL(", ").join(map(sql.Identifier, part.columns))
    query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(columns, sql.Identifier(part.table))
    with zipped(archive, f"backups/{name}/tables/{part.table}.gz") as (out, hashed), opened.copy(query) as rows:
        for row in rows:
            out.write(row)
    return Part(part.table, part.columns, opened.rowcount, hashed.size, hashed.digest.hexdigest(), part.partition)


@dataclass(frozen=True)
class Copied:
    """What became of the artifacts: digest to size, and what could not be copied."""

    artifacts: dict[str, int]
    missing: list[str]
    damaged: list[str]


def copy_artifacts(archive: ObjectStore, wanted: set[str]) -> Copied:
    """Copy what the archive does not have yet, each verified on its way.

    One that is gone is no fault where no row names it any more: the purge was faster, or its version's successor.
    """
    copied, absent, damaged = held(archive, wanted), [], []
    for digest in sorted(wanted - set(copied)):
        try:
            copied[digest] = copy_artifact(archive, digest)
        except Gone:
            absent.append(digest)
        except Corrupt:
            damaged.append(digest)
    if absent:
        with snapshot() as session:
            still = sweep.named(session)
        damaged += [digest for digest in absent if digest in still]
    return Copied(copied, [digest for digest in absent if digest not in damaged], sorted(damaged))


def held(archive: ObjectStore, wanted: set[str]) -> dict[str, int]:
    """Of the wanted artifacts those that the archive has, with their sizes."""
    with store.asking():
        listed = [meta for page in archive.list("artifacts/sha256/") for meta in page]
    found = {meta["path"].rpartition("/")[2]: int(meta["size"]) for meta in listed}
    return {digest: size for digest, size in found.items() if digest in wanted}


def copy_artifact(archive: ObjectStore, digest: str) -> int:
    """Raises `Gone` or `Corrupt`. It gets its name only when all of it is there and verified."""
    coming, size = f"incoming/{digest}", 0
    with obstore.open_writer(archive, coming) as out:
        for chunk in store.verified(digest):
            out.write(chunk)
            size += len(chunk)
    archive.rename(coming, f"artifacts/{store.path(digest)}")
    return size


def prune(archive: ObjectStore, keep: int) -> list[str]:
    """Delete all back-ups but the newest `keep`, what was never finished, and the artifacts that no back-up names any more;
    returns the back-ups' names.

    Another back-up may be under way, whose manifest is not there yet. So nothing that is younger than a day goes but whole
    back-ups, and where one was begun within a day, no artifact goes: it may rely on any that was there.
    """
    found = names(archive)
    doomed = found[: max(0, len(found) - keep)]
    kept = {digest for name in found[len(doomed) :] for digest in read_manifest(archive, name).artifacts}
    for name in doomed:  # the manifest first: what is half deleted is no back-up any more
        archive.delete(f"backups/{name}/manifest.json")
        for path in ages(archive, f"backups/{name}/"):
            archive.delete(path)
    begun = prune_unfinished(archive)
    for path, age in ages(archive, "artifacts/").items() if not begun else ():
        if path.rpartition("/")[2] not in kept and age > DAY:
            archive.delete(path)
    return doomed


def prune_unfinished(archive: ObjectStore) -> bool:
    """Delete what crashed back-ups have left: it names people for as long as it lies there. Returns whether one without
    a manifest is young enough to be under way."""
    for path, age in ages(archive, "incoming/").items():
        if age > DAY:
            archive.delete(path)
    for file in staged(archive):
        if time.time() - file.stat().st_mtime > DAY.total_seconds():
            file.unlink(missing_ok=True)
    finished, folders = set(names(archive)), defaultdict[str, dict[str, timedelta]](dict)
    for path, age in ages(archive, "backups/").items():
        folders[path.split("/")[1]][path] = age
    begun = False
    for name in folders.keys() - finished:
        if min(folders[name].values()) <= DAY:
            begun = True
            continue
        for path in folders[name]:
            archive.delete(path)
    return begun


def staged(archive: ObjectStore) -> list[Path]:
    """What a killed process was writing into a folder: it has not got its name yet, and no listing shows it. In a bucket
    such uploads are a lifecycle rule's business."""
    if not isinstance(archive, LocalStore) or archive.prefix is None:
        return []
    return [path for path in Path(archive.prefix).rglob("*#*") if re.search(r"#\d+$", path.name)]


def ages(archive: ObjectStore, prefix: str) -> dict[str, timedelta]:
    """What lies there, and for how long."""
    now = datetime.now(UTC)
    with store.asking():
        return {meta["path"]: now - meta["last_modified"] for page in archive.list(prefix) for meta in page}
