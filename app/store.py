"""Artifacts by digest: bytes in, their SHA-256 as the name, verified whenever they are read.

Local folder, S3, GCS or Azure, whichever `ARTIFACT_URL` names. A name is the digest of its bytes, so writing twice is
writing once, and a run that died half-way leaves nothing that could be mistaken for something else. That needs no
conditional writes: two who write one name write the same bytes, and an object shows whole or not at all.

A store that does not answer, or refuses, is `Unavailable`, after its requests were tried again for a while: bytes that
are gone, and those that cannot be had at the moment, are two things.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlparse

from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from app.config import settings
from app.errors import Corrupt, Gone, Unavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig  # a type, which is not there at run time

DIGEST = re.compile(r"[0-9a-f]{64}")
CLIENT: "ClientConfig" = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=30),  # without a byte
    "timeout": timedelta(hours=1),  # of one request in all: weights may be large
}
ABSENT = (NotFoundError, FileNotFoundError)


@lru_cache
def store() -> ObjectStore:
    """The object store of this process."""
    return opened(settings().artifacts)


def opened(address: str) -> ObjectStore:
    """The store of any address. A folder is made."""
    parts = urlparse(address)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return LocalStore(prefix=folder)
    client: ClientConfig = {**CLIENT, "allow_http": settings().store_http}
    return from_url(
        address, client_options=client, retry_config={"retry_timeout": timedelta(seconds=settings().store_seconds)}
    )


@contextmanager
def asking() -> Iterator[None]:
    """Whatever the store raises inside becomes `Unavailable`, but for an object that is not there."""
    try:
        yield
    except ABSENT:
        raise
    except (BaseError, OSError) as error:
        raise Unavailable(unavailable(error)) from error


def unavailable(error: Exception) -> str:
    kind = type(error).__name__
    return f"The artifact store cannot be used ({kind}): check ARTIFACT_URL, its credentials and that it answers."


def space() -> tuple[int, int] | None:
    """Size of the disk that the artifacts are on, and what an ordinary user may still write; None for a bucket."""
    parts = urlparse(settings().artifacts)
    try:
        found = shutil.disk_usage(unquote(parts.path)) if parts.scheme == "file" else None
    except OSError:  # nothing was stored yet, or this machine does not see the folder
        return None
    return found and (found.total, found.free)


def path(digest: str) -> str:
    if not DIGEST.fullmatch(digest):
        raise AssertionError("artifacts are named by a SHA-256 in hexadecimal")
    return f"sha256/{digest[:2]}/{digest}"


def put(data: bytes) -> str:
    """Keep the bytes; return their digest.

    Bytes that are there already are written again, whole and at once: that heals a damaged file, and it makes an old one
    young, so that it is not collected before the row that is about to name it.
    """
    digest = hashlib.sha256(data).hexdigest()
    try:
        with asking():
            store().put(path(digest), data)
    except ABSENT as error:  # the bucket
        raise Unavailable(unavailable(error)) from error
    return digest


def put_file(digest: str, file: IO[bytes]) -> None:
    """Keep a file's bytes, whose digest the caller has computed; memory flat."""
    try:
        with asking():
            store().put(path(digest), file, max_concurrency=4)
    except ABSENT as error:  # the bucket
        raise Unavailable(unavailable(error)) from error


def get(digest: str) -> bytes:
    """The bytes, verified. Raises `Gone` when they are not kept, `Corrupt` when they do not match their digest, and
    `Unavailable` when the store does not say."""
    data = b"".join(chunks(digest))
    if hashlib.sha256(data).hexdigest() != digest:
        raise Corrupt(damaged(digest))
    return data


def chunks(digest: str) -> Iterator[bytes]:
    """The bytes as they come, not verified: for `verify` and for streaming what `verify` has just passed."""
    try:
        with asking():
            chunks_of = iter(store().get(path(digest)).stream(min_chunk_size=2**20))
    except ABSENT:
        reached()
        raise Gone(f"Artifact sha256:{digest} is not kept any more, or was never stored here.") from None
    while True:
        with asking():
            chunk = next(chunks_of, None)
        if chunk is None:
            return
        yield bytes(chunk)


def reached() -> None:
    """Raise `Unavailable` unless the store can be listed: a bucket that is not there holds nothing, and says so of each
    object in the words of an object that is gone."""
    try:
        with asking():
            next(iter(store().list("sha256/", chunk_size=1)), None)
    except ABSENT as error:
        raise Unavailable(unavailable(error)) from error


def verify(digest: str) -> None:
    """Raise unless the stored bytes match their digest; memory flat."""
    for _ in verified(digest):
        pass


def verified(digest: str) -> Iterator[bytes]:
    """The bytes as they come, for whoever throws them away when `Corrupt` is raised at their end."""
    seen = hashlib.sha256()
    for chunk in chunks(digest):
        seen.update(chunk)
        yield chunk
    if seen.hexdigest() != digest:
        raise Corrupt(damaged(digest))


def collect(referenced: Callable[[], set[str]]) -> int:
    """Delete the artifacts that nothing refers to; returns how many.

    Young ones stay whatever is said: a run stores its bytes before the row that names them.
    """
    horizon = datetime.now(UTC) - timedelta(hours=1)
    with asking():
        old = [meta["path"] for page in store().list("sha256/") for meta in page if meta["last_modified"] < horizon]
    kept = {path(digest) for digest in referenced()} if old else set()
    deleted = 0
    for name in old:
        if name not in kept and still_old(name, horizon):
            delete(name.rpartition("/")[2])
            deleted += 1
    return deleted


def still_old(name: str, horizon: datetime) -> bool:
    """Whether nobody has written it again since it was listed, which takes long where there are many."""
    try:
        with asking():
            return bool(store().head(name)["last_modified"] < horizon)
    except ABSENT:
        return False


def damaged(digest: str) -> str:
    return f"Artifact sha256:{digest} was altered on disk. Restore it from a back-up; it is not used as it is."


def delete(digest: str) -> None:
    """Remove the bytes; one that is gone already is no error."""
    with suppress(*ABSENT), asking():
        store().delete(path(digest))
