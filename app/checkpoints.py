"""Signed heads of the log's tree, and proofs against them.

A head that somebody outside keeps is what the operator cannot take back: whatever is changed in the log afterwards, no proof
leads from there to the new one. So beat publishes the log's growth to a place apart from the database, and tells webhooks.

A log that was restored from a back-up may go on differently than heads that were signed after the back-up say. It calls
itself by another name from there on, so that two heads of one name never contradict each other.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC

from obstore.exceptions import AlreadyExistsError
from obstore.store import ObjectStore
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import audit, signing, store
from app.config import settings
from app.db import changed, transaction
from app.errors import Corrupt, NotFound, Unprocessable
from app.tables import AuditEvent, Checkpoint, Installation, Restoration, SigningKey
from app.tree import Tree, grow, size
from expunge.evidence import keys, merkle, notes

MANY = 2000
"""Tiles that one transaction of beat writes: half a million events."""


def origin(session: Session) -> str:
    """What the log calls itself."""
    name = settings().log_origin
    if name is None:
        seed = session.scalars(select(Installation.cursor_key)).one()
        name = f"expunge/{hashlib.sha256(b'log origin' + seed).hexdigest()[:16]}"
    restored = session.scalars(select(Restoration.restored_at).order_by(Restoration.id)).all()
    if not restored:
        return name
    # The times, and no count: a back-up may be restored twice, and knows of neither.
    times = "|".join(when.astimezone(UTC).isoformat() for when in restored)
    return f"{name}/restored-{hashlib.sha256(times.encode()).hexdigest()[:12]}"


def covering(session: Session, seq: int) -> Checkpoint:
    """The oldest checkpoint of today's key that has event `seq` in it; one is signed where there is none.

    Raises `NotConfigured` where nothing can be signed, and `NotFound` for an event that is not there.
    """
    ours = signing.keys().public.fingerprint
    query = select(Checkpoint).where(
        Checkpoint.size >= seq, Checkpoint.origin == origin(session), Checkpoint.key == ours
    )
    found = session.scalar(query.order_by(Checkpoint.size).limit(1))
    if found is None:
        found = sign(session)
    if found.size < seq:
        raise NotFound(f"The log has {found.size} events.")
    return found


def sign(session: Session) -> Checkpoint:
    """Sign the log as it stands. Only in a transaction that has written nothing: what it appended might yet be rolled back,
    and a head that was signed over it would be of a log that never was."""
    clean = session.scalar(text("SELECT pg_current_xact_id_if_assigned() IS NULL"))
    assert clean, "a checkpoint is signed before anything is written"
    count = size(session)
    grow(session)
    pair, named = signing.keys(), origin(session)
    head = notes.Checkpoint(named, count, merkle.root(Tree(session).node, count))
    known = remember(session, pair.public)
    values = {
        "size": count,
        "origin": named,
        "key": pair.public.fingerprint,
        "root": head.root,
        "note": notes.sign(head.text, named, pair.public.raw, pair.sign),
    }
    session.execute(insert(Checkpoint).values(values).on_conflict_do_nothing())
    if not known:  # after the head was read: the event is in the next one
        audit.append(session, "signing.key_used", "expunge", fingerprint=pair.public.fingerprint)
    return session.get_one(Checkpoint, (count, named, pair.public.fingerprint))


def remember(session: Session, public: keys.PublicKeys) -> bool:
    """Keep the public halves; whether they were known."""
    values = {
        "fingerprint": public.fingerprint,
        "statements": keys.pem(public.statements).decode(),
        "weights": keys.pem(public.weights).decode(),
    }
    made = insert(SigningKey).values(values).on_conflict_do_nothing().returning(SigningKey.fingerprint)
    return session.scalar(made) is None


def latest(session: Session) -> Checkpoint:
    """The newest checkpoint, signed now where there is none yet."""
    newest = select(Checkpoint).where(Checkpoint.origin == origin(session)).order_by(Checkpoint.size.desc())
    return session.scalar(newest.order_by(Checkpoint.signed_at.desc()).limit(1)) or sign(session)


@dataclass(frozen=True)
class Inclusion:
    """That an event is in the tree of a checkpoint."""

    seq: int
    size: int
    leaf: bytes
    path: list[bytes]


def inclusion(session: Session, seq: int, count: int) -> Inclusion:
    """Raises `Unprocessable` unless 0 < seq <= count, and `NotFound` where the log is shorter."""
    check_size(session, count)
    if not 0 < seq <= count:
        raise Unprocessable(f"Event {seq} is not among the first {count}.")
    tree = Tree(session)
    return Inclusion(seq, count, tree.node(0, seq - 1), merkle.inclusion(tree.node, seq - 1, count))


def consistency(session: Session, first: int, second: int) -> list[bytes]:
    """Raises `Unprocessable` unless 0 < first <= second, and `NotFound` where the log is shorter."""
    check_size(session, second)
    if not 0 < first <= second:
        raise Unprocessable("A proof leads from a smaller size, of 1 at least, to a larger one.")
    return merkle.consistency(Tree(session).node, first, second)


def check_size(session: Session, count: int) -> None:
    """Proofs are for sizes up to the newest checkpoint: tiles that they need are kept up to there."""
    newest = session.scalar(select(func.max(Checkpoint.size))) or 0
    if count > newest:
        raise NotFound(f"The newest checkpoint is of size {newest}. Ask for one of that size at most.")


def news(session: Session) -> bool:
    """Whether anything was logged since the last head that was published, but such publications."""
    last = select(func.max(Checkpoint.size)).where(Checkpoint.published_at.is_not(None)).scalar_subquery()
    told = AuditEvent.kind.not_in(audit.OF_ITSELF)
    query = select(AuditEvent.seq).where(AuditEvent.seq > func.coalesce(last, 0), told)
    return session.scalar(query.limit(1)) is not None


def publish() -> bool:
    """Sign the log's growth and publish it, if it has grown; whether it had. Raises `Unavailable` where the place does not
    answer: the next call tries again."""
    if not signing.configured():
        return False
    all_kept = False
    while not all_kept:  # an old log that is upgraded has millions of events: in steps that stay done
        with transaction() as session:
            all_kept = grow(session, MANY)
    with transaction() as session:
        if not news(session):
            return False
        made = sign(session)
    place = settings().checkpoint_url
    if place is not None:
        write(place, made)
    with transaction() as session:
        mine = (Checkpoint.size == made.size) & (Checkpoint.origin == made.origin) & (Checkpoint.key == made.key)
        first = update(Checkpoint).where(mine, Checkpoint.published_at.is_(None)).values(published_at=func.now())
        if not changed(session, first):  # somebody else did at the same time, and has told
            return False
        audit.append(session, "audit.checkpointed", "expunge", size=made.size, root=made.root.hex(), note=made.note)
    return True


def write(place: str, made: Checkpoint) -> None:
    """The note under its size, which is never overwritten, and as the newest, unless a newer one lies there.

    Raises `Corrupt` where another note of this size was published before: the log was rewritten since, or restored by
    other means than ours. Nothing of it is published then.
    """
    archive = store.opened(place)
    folder = made.origin.replace("/", "_")
    name, note = f"{folder}/{made.size:020d}-{made.key[:8]}", made.note.encode()
    with store.asking():
        try:
            archive.put(name, note, mode="create", use_multipart=False)
        except (
            AlreadyExistsError,
            FileExistsError,
        ):  # of a call that was interrupted before its commit: the same bytes
            if bytes(archive.get(name).bytes()) != note:
                raise Corrupt(
                    f"Another head of size {made.size} was published before: the log was rewritten."
                ) from None
        if newest(archive, folder) <= made.size:
            archive.put(f"{folder}/checkpoint", note)


def newest(archive: ObjectStore, folder: str) -> int:
    """Size of the head that lies there as the newest; 0 where there is none."""
    try:
        text = bytes(archive.get(f"{folder}/checkpoint").bytes()).decode()
    except store.ABSENT:
        return 0
    return int(text.split("\n")[1])
