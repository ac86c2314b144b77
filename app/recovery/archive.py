"""Where back-ups and journals lie: a folder or a bucket, by the same address as artifacts have, and what is written there.

backups/<name>/manifest.json        written last: without it there is no back-up
backups/<name>/tables/<table>.gz    the rows as COPY's text
artifacts/sha256/...                of all back-ups, each once
journal/<number>.jsonl.gz           see journal.py
"""

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

import obstore
from obstore.store import ObjectStore

from app import store
from app.errors import Corrupt, NotFound, Unprocessable

FORMAT = 1
CHUNK = 2**20


def open_archive(place: str) -> ObjectStore:
    """The folder or bucket of that path or address."""
    return store.opened(place if "://" in place else Path(place).expanduser().resolve().as_uri())


@dataclass(frozen=True)
class Head:
    """How far an audit log goes, and its hash there."""

    seq: int
    hash: str


@dataclass(frozen=True)
class Part:
    """One table's rows: the file's digest and size, and how they were read."""

    table: str
    columns: list[str]
    rows: int
    bytes: int
    sha256: str
    partition: bool
    """Whether it is one dataset's part of the table `sample`."""


@dataclass(frozen=True)
class Manifest:
    """What a back-up holds. `missing` are artifacts that were deleted while it was taken: nothing needed them any more.
    `damaged` are those whose bytes were not what their name says, or not there although a row named them."""

    name: str
    taken_at: datetime
    expunge: str
    schema: str
    head: Head
    parts: list[Part]
    artifacts: dict[str, int]
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def text(self) -> bytes:
        body = {"format": FORMAT} | asdict(self) | {"taken_at": self.taken_at.isoformat()}
        return (json.dumps(body, indent=1, sort_keys=True) + "\n").encode()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text()).hexdigest()


def check_digest(what: str, found: str, expected: str | None) -> None:
    """Raise `Corrupt` where somebody kept another SHA-256 of it. Whoever may write to an archive may change a part and the
    digest beside it; what was printed and kept elsewhere they cannot."""
    if expected is not None and found != expected.strip().lower().removeprefix("sha256:"):
        raise Corrupt(f"{what} has the SHA-256 {found}, which is not the one that you kept.")


def read_manifest(archive: ObjectStore, name: str, sha256: str | None = None) -> Manifest:
    """Raises `NotFound`, `Unprocessable` for one that this release cannot read, and `Corrupt` where it has not this SHA-256."""
    try:
        with store.asking():
            data = bytes(archive.get(f"backups/{name}/manifest.json").bytes())
    except store.ABSENT:
        raise NotFound(f"There is no back-up {name!r} here.") from None
    check_digest(f"The manifest of back-up {name!r}", hashlib.sha256(data).hexdigest(), sha256)
    try:
        body = json.loads(data)
    except ValueError:
        raise Unprocessable(f"The manifest of back-up {name!r} is damaged.") from None
    if body.pop("format", None) != FORMAT:
        raise Unprocessable(
            f"Back-up {name!r} was written by another release, in a format that this one does not read."
        )
    body["head"], body["taken_at"] = Head(**body["head"]), datetime.fromisoformat(body["taken_at"])
    return Manifest(**body | {"parts": [Part(**part) for part in body["parts"]]})


def names(archive: ObjectStore) -> list[str]:
    """The back-ups that are whole, oldest first: their names begin with their time."""
    with store.asking():
        found = [meta["path"] for page in archive.list("backups/") for meta in page]
    return sorted(path.split("/")[1] for path in found if path.endswith("/manifest.json"))


class Hashed:
    """A file being written, and the digest and size of what it holds."""

    def __init__(self, file: Any) -> None:
        self.file, self.digest, self.size = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        self.file.write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing waits here; gzip asks."""


@contextmanager
def zipped(archive: ObjectStore, path: str) -> Iterator[tuple[IO[bytes], Hashed]]:
    """Write a compressed object: what to write to, and what its bytes come to once the block has ended."""
    with store.asking(), obstore.open_writer(archive, path, buffer_size=8 * CHUNK) as file:
        hashed = Hashed(file)
        with gzip.GzipFile("", "wb", 6, cast("IO[bytes]", hashed), mtime=0) as out:
            yield cast("IO[bytes]", out), hashed


def chunks(archive: ObjectStore, path: str) -> Iterator[bytes]:
    """An object's bytes as they come. Raises `NotFound`."""
    try:
        with store.asking():
            for chunk in archive.get(path).stream(min_chunk_size=CHUNK):
                yield bytes(chunk)
    except store.ABSENT:
        raise NotFound(f"{path} is missing.") from None


class Checked:
    """A stream of chunks as a file to read, whose digest is known at its end."""

    def __init__(self, source: Iterable[bytes]) -> None:
        self.source, self.rest, self.digest = iter(source), memoryview(b""), hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """So many bytes, or fewer at the end. No byte of a chunk is moved but once, however small the reads are."""
        taken: list[memoryview] = []
        wanted = size
        while size < 0 or wanted > 0:
            if not self.rest:
                chunk = next(self.source, None)
                if chunk is None:
                    break
                self.digest.update(chunk)
                self.rest = memoryview(chunk)
            part = self.rest if size < 0 else self.rest[:wanted]
            taken.append(part)
            self.rest = self.rest[len(part) :]
            wanted -= len(part)
        return b"".join(taken)

    def finish(self, path: str, expected: str) -> None:
        """Raise `Corrupt` unless the whole had the digest `expected`."""
        for chunk in self.source:
            self.digest.update(chunk)
        if self.digest.hexdigest() != expected:
            raise Corrupt(f"{path} is not what was written there: its digest differs. Nothing was restored.")
