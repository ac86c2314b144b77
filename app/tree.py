"""The audit log as the Merkle tree of RFC 9162: event n is leaf n - 1, and its entry is the event's text.

So an event is in the tree by being in the log, in the same commit as the change it tells of, and appending costs nothing
more. Hashes of subtrees that are full never change; `grow` keeps them, 256 side by side in a tile, so that a root or a proof
reads a few tiles and fewer than 256 events, however long the log is.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.errors import Corrupt
from app.tables import AuditEvent, AuditHead, AuditTile, Checkpoint, SigningKey
from expunge.evidence import notes
from expunge.evidence.keys import PublicKeys
from expunge.evidence.merkle import EMPTY, HASH_BYTES, complete, leaf_hash, node_hash

HEIGHT = 8
WIDTH = 1 << HEIGHT
AT_ONCE = 64
"""Tiles that one statement writes."""


class Tree:
    """Hashes of complete subtrees, for one session: `node` is what `merkle` asks for."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.read: dict[tuple[int, int], list[bytes]] = {}
        self.known: dict[tuple[int, int], bytes] = {}

    def node(self, level: int, index: int) -> bytes:
        """Proofs of events that lie side by side ask for the same subtrees again and again."""
        if (level, index) not in self.known:
            height, inside = divmod(level, HEIGHT)
            tile, first = divmod(index << inside, WIDTH)
            self.known[level, index] = complete(self.row(height, tile)[first : first + (1 << inside)])
        return self.known[level, index]

    def row(self, height: int, number: int) -> list[bytes]:
        """The hashes of a tile, as far as there are any."""
        if (height, number) not in self.read:
            query = select(AuditTile.hashes).where(AuditTile.height == height, AuditTile.number == number)
            kept = self.session.scalar(query)
            self.read[height, number] = self.begun(height, number) if kept is None else cut(kept)
        return self.read[height, number]

    def begun(self, height: int, number: int) -> list[bytes]:
        """Those of a tile that is not full: from events, or from the roots of the tiles beneath."""
        first = number * WIDTH
        if height == 0:
            return leaves(self.session, first, first + WIDTH)
        query = select(AuditTile.number, AuditTile.root).where(AuditTile.height == height - 1)
        query = query.where(AuditTile.number.between(first, first + WIDTH - 1)).order_by(AuditTile.number)
        rows = self.session.execute(query).all()
        if [row.number for row in rows] != list(range(first, first + len(rows))):
            raise Corrupt("A tile of the log's tree is missing. `expunge audit verify` names it; nothing is signed.")
        return [row.root for row in rows]


def leaves(session: Session, begin: int, end: int) -> list[bytes]:
    """Hashes of the leaves [begin, end), as far as there are any."""
    query = select(AuditEvent.body).where(AuditEvent.seq > begin, AuditEvent.seq <= end).order_by(AuditEvent.seq)
    return [leaf_hash(body.encode()) for body in session.scalars(query.execution_options(yield_per=1000))]


def cut(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]


def grow(session: Session, most: int | None = None) -> bool:
    """Keep the tiles that have become full, some `most` of them; whether that was all. Whoever does it at the same time writes
    the same. Raises `Corrupt` where there are tiles of a log that was longer."""
    height, full, written = 0, size(session) >> HEIGHT, 0
    while full:
        query = select(func.coalesce(func.max(AuditTile.number) + 1, 0)).where(AuditTile.height == height)
        kept = session.scalars(query).one()
        if kept > full:
            raise Corrupt("The log is shorter than its tree. `expunge audit verify` says where; nothing is signed.")
        for begin in range(kept, full, AT_ONCE):
            if most is not None and written >= most:
                return False
            rows = list(made(session, height, range(begin, min(begin + AT_ONCE, full))))
            session.execute(insert(AuditTile).values(rows).on_conflict_do_nothing())
            written += len(rows)
        height, full = height + 1, full >> HEIGHT
    return True


def made(session: Session, height: int, numbers: range) -> Iterator[dict[str, object]]:
    """Rows of full tiles that are not kept yet; those beneath them are."""
    tree = Tree(session)
    for number in numbers:
        hashes = tree.begun(height, number)
        yield {"height": height, "number": number, "root": complete(hashes), "hashes": b"".join(hashes)}


class Forest:
    """The tree of a log that is read from its beginning, event after event: what `audit verify` holds heads against. Keeps a
    hash for each complete subtree that is not yet part of a larger one."""

    def __init__(self) -> None:
        self.peaks: list[tuple[int, bytes]] = []
        self.size = 0
        self.full: list[tuple[int, int, bytes]] = []
        """Tiles that the last event completed: height, number, root."""

    def add(self, entry: bytes) -> None:
        self.size += 1
        self.full.clear()
        level, running = 0, leaf_hash(entry)
        while self.peaks and self.peaks[-1][0] == level:
            running = node_hash(self.peaks.pop()[1], running)
            level += 1
            if level % HEIGHT == 0:
                self.full.append((level // HEIGHT - 1, (self.size >> level) - 1, running))
        self.peaks.append((level, running))

    @property
    def root(self) -> bytes:
        if not self.peaks:
            return EMPTY
        running = self.peaks[-1][1]
        for _, peak in self.peaks[-2::-1]:
            running = node_hash(peak, running)
        return running


class Watch:
    """Hold the tiles and the checkpoints that are kept against the log, as it is read from its beginning."""

    def __init__(self, session: Session) -> None:
        self.session, self.forest = session, Forest()
        self.roots: dict[int, set[bytes]] = {}
        self.fault: str | None = None
        signed = select(Checkpoint, SigningKey).join(SigningKey, SigningKey.fingerprint == Checkpoint.key)
        for row, key in session.execute(signed):
            self.roots.setdefault(row.size, set()).add(row.root)
            self.fault = self.fault or wrong_note(row, key)

    def pass_on(self, rows: Iterable[Any]) -> Iterator[Any]:
        """The rows, each taken into the tree on its way. `fault` is the first thing that did not hold."""
        for row in rows:
            self.forest.add(row.body.encode())
            yield row
            if self.fault is None:
                self.fault = self.wrong_head() or self.wrong_tile()

    def wrong_head(self) -> str | None:
        expected = self.roots.get(self.forest.size)
        if expected is None or expected == {self.forest.root}:
            return None
        return f"the checkpoint of size {self.forest.size} was signed over another log"

    def beyond(self) -> str | None:
        """Once all events were read: what is kept of a log that was longer."""
        longest = max(self.roots, default=0)
        if longest > self.forest.size:
            return f"the log ends at event {self.forest.size}, and a checkpoint of size {longest} was signed"
        query = select(AuditTile.height, func.count(), func.max(AuditTile.number)).group_by(AuditTile.height)
        for height, count, last in self.session.execute(query):
            full = self.forest.size >> HEIGHT * (height + 1)
            if last >= full:
                return f"tile {last} on height {height} is of a log that was longer"
            if count != last + 1:
                return f"of the tiles on height {height}, {last + 1 - count} are missing"
        return None

    def wrong_tile(self) -> str | None:
        for height, number, expected in self.forest.full:
            query = select(AuditTile.root, AuditTile.hashes).where(
                AuditTile.height == height, AuditTile.number == number
            )
            kept = self.session.execute(query).one_or_none()
            if kept is not None and not kept.root == expected == complete(cut(kept.hashes)):
                return f"tile {number} on height {height} does not follow from the events"
        return None


def wrong_note(row: Checkpoint, key: SigningKey) -> str | None:
    """Whether what was handed out is what the row says, and was signed by the key that it names."""
    public = PublicKeys.read(key.statements.encode(), key.weights.encode())
    try:
        head = notes.read(notes.opened(row.note, row.origin, public.raw, public.verify))
    except ValueError as error:
        return f"the checkpoint of size {row.size}: {error}"
    if (head.size, head.root, public.fingerprint) != (row.size, row.root, row.key):
        return f"the checkpoint of size {row.size} is not what its note says"
    return None


def size(session: Session) -> int:
    """How many leaves the tree has: events that are committed, and those of this transaction."""
    return session.scalars(select(AuditHead.seq)).one()
