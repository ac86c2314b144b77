"""The journal: the audit log as exported, segment after segment, with what it takes to replay its tickets.

It lies elsewhere than the database, where nothing is overwritten: a bucket with object lock, another site. An export
writes what came since the last one as `journal/<number>.jsonl.gz`: a head, then each event as it stands in the log, and after the
acceptance of a ticket a line with what the log leaves out: whose it is, and its samples as ordinals. Ordinals are
positions in a manifest; without the manifest they name nobody, and the manifest's digest is beside them.

What keeps it honest: each segment names the SHA-256 of the one before, and its events are the log's own, whose chain is
computed anew when it is read. The lines about tickets are no part of that chain. They are covered by the segment's digest,
which the next segment names and the event `audit.exported` puts into the log. So only the newest segment rests on
its digest alone, which `expunge audit export` prints for whoever keeps it apart.

Ordinals do not go into the log itself, nor their digest: the log outlives the samples, and a digest of one ordinal among
so many is found by trying them all.
"""

import gzip
import hashlib
import json
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import IO, Any
from uuid import UUID

from obstore.exceptions import AlreadyExistsError
from obstore.store import ObjectStore
from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from app import audit, store
from app.db import snapshot, transaction
from app.errors import Conflict, Corrupt, NotFound
from app.recovery.archive import Checked, Head, chunks
from app.tables import AuditEvent, AuditHead, Idempotency, Restoration, Ticket, TicketState, Tombstone

FORMAT = 1
START = Head(0, bytes(32).hex())


@dataclass(frozen=True)
class Segment:
    """A segment's head, and the digest of its bytes. `branch` says that the log went back to `begins` before it: a back-up
    was restored there."""

    number: int
    begins: Head
    ends: Head
    previous: str | None
    branch: bool
    written_at: str
    sha256: str


def path(number: int) -> str:
    return f"journal/{number:08d}.jsonl.gz"


def numbers(archive: ObjectStore) -> list[int]:
    """The segments that are there. Raises `Corrupt` when one is missing."""
    with store.asking():
        listed = [meta["path"] for page in archive.list("journal/") for meta in page]
    found = sorted(int(name.rpartition("/")[2].partition(".")[0]) for name in listed if name.endswith(".jsonl.gz"))
    if found and found != list(range(found[0], found[-1] + 1)):
        raise Corrupt("A segment of the journal is missing between others.")
    return found


def lines(archive: ObjectStore, number: int) -> Iterator[tuple[dict[str, Any], Segment | None]]:
    """The lines of a segment; with the last one, and only then, comes the segment, whose digest is known."""
    seen = Checked(chunks(archive, path(number)))
    head: dict[str, Any] | None = None
    try:
        with gzip.GzipFile(fileobj=seen, mode="rb") as file:  # type: ignore[call-overload]  # it reads, and no more is asked
            for line in file:
                body = json.loads(line)
                if head is None:
                    segment(body, "")  # raises where it is none
                    head = body
                yield body, None
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"Segment {number} of the journal is damaged.") from error
    seen.read()
    if head is None or head.get("format") != FORMAT or head["number"] != number:
        raise Corrupt(f"Segment {number} of the journal has no head that this release reads.")
    yield {}, segment(head, seen.digest.hexdigest())


def segment(head: dict[str, Any], digest: str) -> Segment:
    return Segment(
        head["number"],
        Head(**head["begins"]),
        Head(**head["ends"]),
        head["previous"],
        head["branch"],
        head["written_at"],
        digest,
    )


def last(archive: ObjectStore) -> Segment | None:
    """The newest segment, or None where there is none."""
    found = numbers(archive)
    return next(made for _, made in lines(archive, found[-1]) if made is not None) if found else None


def export(archive: ObjectStore) -> Segment | None:
    """Write what came since the last export; None when nothing did. Raises `Conflict` when the journal is another log's, or
    somebody else exports just now."""
    before = last(archive)
    with snapshot() as session:
        begins, branch = following(session, before)
        head = session.scalars(select(AuditHead)).one()
        ends = Head(head.seq, head.hash.hex())
        if not branch and not news(session, begins.seq):
            return None
        made = Segment(
            before.number + 1 if before else 1,
            begins,
            ends,
            before.sha256 if before else None,
            branch,
            datetime.now(UTC).isoformat(),
            "",
        )
        with tempfile.TemporaryFile() as file:
            write(session, made, file)
            digest = put(archive, made.number, file)
    with transaction() as session:
        audit.append(session, "audit.exported", "expunge", segment=made.number, sha256=digest, upto=asdict(ends))
    return Segment(**vars(made) | {"sha256": digest})


def following(session: Session, before: Segment | None) -> tuple[Head, bool]:
    """Where the next segment begins, and whether the log went back there meanwhile."""
    if before is None:
        return START, False
    if holds(session, before.ends):
        return before.ends, False
    query = select(Restoration).order_by(Restoration.id.desc()).limit(1)
    restored = session.scalar(query)
    if restored is None:
        raise Conflict("This is the journal of another log. Export into an empty folder.")
    known = restored.journal_hash is not None and restored.journal_hash.hex() == before.ends.hash
    if not known:
        raise Conflict(
            "The journal goes on after the back-up that was restored. Replay it first: `expunge replay`. Where that is done "
            "or not wanted, export into an empty folder."
        )
    return Head(restored.seq, restored.hash.hex()), True


def holds(session: Session, head: Head) -> bool:
    """Whether the log passed through that head."""
    if head == START:
        return True
    found = session.scalar(select(AuditEvent.hash).where(AuditEvent.seq == head.seq))
    return found is not None and found.hex() == head.hash


def news(session: Session, after: int) -> bool:
    """Whether anything was logged but exports."""
    query = select(AuditEvent.seq).where(AuditEvent.seq > after, AuditEvent.kind.not_in(audit.OF_ITSELF))
    return session.scalar(query.limit(1)) is not None


def write(session: Session, made: Segment, file: IO[bytes]) -> None:
    """The segment's text, compressed."""
    head = {"format": FORMAT} | {name: value for name, value in asdict(made).items() if name != "sha256"}
    query = select(AuditEvent.seq, AuditEvent.kind, AuditEvent.ticket_id, AuditEvent.body, AuditEvent.hash)
    query = query.where(AuditEvent.seq > made.begins.seq, AuditEvent.seq <= made.ends.seq).order_by(AuditEvent.seq)
    with (
        gzip.GzipFile("", "wb", 6, file, mtime=0) as out,
        session.execute(query.execution_options(yield_per=500)) as rows,
    ):
        out.write(line(head))
        for part in rows.partitions(500):
            told = tickets(session, [row.ticket_id for row in part if row.kind == "ticket.accepted"])
            for row in part:
                out.write(line({"event": {"seq": row.seq, "body": row.body, "hash": row.hash.hex()}}))
                if row.kind == "ticket.accepted" and row.ticket_id in told:
                    committed = json.loads(row.body)["data"].get("commitment")
                    out.write(line({"ticket": told[row.ticket_id] | {"commitment": committed}}))


def line(body: dict[str, Any]) -> bytes:
    return (json.dumps(body, separators=(",", ":"), ensure_ascii=False) + "\n").encode()


def tickets(session: Session, ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    """What a replay needs of the tickets; one that was cancelled has no samples any more."""
    mine = select(Ticket).where(Ticket.id.in_(ids), Ticket.state != TicketState.CANCELLED)
    found = session.scalars(mine.options(joinedload(Ticket.dataset))).all()
    keys = {key.ticket_id: key for key in session.scalars(select(Idempotency).where(Idempotency.ticket_id.in_(ids)))}
    gathered = func.array_agg(Tombstone.ordinal)
    stones = select(Tombstone.ticket_id, gathered).where(Tombstone.ticket_id.in_(ids)).group_by(Tombstone.ticket_id)
    ordinals = {row[0]: row[1] for row in session.execute(stones)}
    return {row.id: told(row, keys.get(row.id), sorted(ordinals.get(row.id, []))) for row in found}


def told(row: Ticket, key: Idempotency | None, ordinals: list[int]) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "client": row.client,
        "dataset": row.dataset.name,
        "manifest": row.dataset.manifest_digest,
        "reason": row.reason,
        "risk_tier": row.risk_tier,
        "external_id": row.external_id,
        "state": row.state,
        "accepted": row.accepted,
        "unknown": row.unknown,
        "already_forgotten": row.already_forgotten,
        "pending_elsewhere": row.pending_elsewhere,
        "deadline_at": row.deadline_at.isoformat() if row.deadline_at else None,
        "created_at": row.created_at.isoformat(),
        "key": {"key": key.key, "digest": key.request_digest.hex(), "at": key.created_at.isoformat()} if key else None,
        "salt": row.salt.hex() if row.salt is not None else None,
        "ordinals": ordinals,
    }


def put(archive: ObjectStore, number: int, file: IO[bytes]) -> str:
    """Store the segment, unless one of that number is there; returns its digest."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a file of bytes
    file.seek(0)
    try:
        with store.asking():
            archive.put(path(number), file, mode="create", use_multipart=False)
    except (AlreadyExistsError, FileExistsError):
        raise Conflict(
            "Somebody else exports just now. Nothing is lost; the next export goes on after theirs."
        ) from None
    return digest


def walk(archive: ObjectStore) -> Iterator[tuple[str, Any]]:
    """Everything in the journal, in order, and verified as it comes: ("segment", `Segment`) at each one's end, ("event", its
    line) and ("ticket", its line). Nothing of a segment may be relied on before its end.

    Raises:
        NotFound: there is no journal here.
        Corrupt: an event does not follow from the one before, or a segment is not the one that the next one names.
    """
    found = numbers(archive)
    if not found:
        raise NotFound("There is no journal here.")
    running: Head | None = None
    previous: Segment | None = None
    for number in found:
        head: Segment | None = None
        for body, ended in lines(archive, number):
            if ended is not None:
                if head is None or running != head.ends:
                    raise Corrupt(f"Segment {number} of the journal ends elsewhere than its head says.")
                previous = ended
                yield "segment", ended
            elif head is None:
                head = segment(body, "")
                check_joint(head, previous)
                running = head.begins
            elif "event" in body:
                assert running is not None
                running = chained(running, body["event"], number)
                yield "event", body["event"]
            elif "ticket" in body:
                yield "ticket", body["ticket"]


def check_joint(head: Segment, previous: Segment | None) -> None:
    """Raise `Corrupt` unless the segment goes on where the one before ended, or goes back and says so."""
    if previous is None:
        return
    if head.previous != previous.sha256:
        raise Corrupt(f"Segment {previous.number} of the journal is not the one that segment {head.number} follows.")
    if not head.branch and head.begins != previous.ends:
        raise Corrupt(f"Events are missing between segments {previous.number} and {head.number} of the journal.")


def chained(running: Head, event: dict[str, Any], number: int) -> Head:
    """The head after the event. Raises `Corrupt` when its hash does not follow."""
    following = running.seq + 1
    hashed = bytes.fromhex(running.hash) + following.to_bytes(8, "big") + str(event.get("body")).encode()
    digest = hashlib.sha256(hashed).hexdigest()
    if event.get("seq") != following or event.get("hash") != digest:
        raise Corrupt(f"Event {following} in segment {number} of the journal was changed: its hash does not follow.")
    return Head(following, digest)
