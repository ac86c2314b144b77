"""Artifacts by digest: bytes in, their SHA-256 as the name, verified whenever they are read.

Local folder, S3, GCS or Azure, whichever `ARTIFACT_URL` names. A name is the digest of its bytes, so writing twice is
writing once, and a run that died half-way leaves nothing that could be mistaken for something else.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlparse

from obstore.exceptions import NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from app.config import settings
from app.errors import Corrupt, Gone

DIGEST = re.compile(r"[0-9a-f]{64}")


@lru_cache
def store() -> ObjectStore:
    """The object store of this process."""
    address = settings().artifacts
    parts = urlparse(address)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return LocalStore(prefix=folder)
    return from_url(address)


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
    store().put(path(digest), data)
    return digest


def get(digest: str) -> bytes:
    """The bytes, verified. Raises `Gone` when they are not kept, `Corrupt` when they do not match their digest."""
    data = b"".join(chunks(digest))
    if hashlib.sha256(data).hexdigest() != digest:
        raise Corrupt(damaged(digest))
    return data


def chunks(digest: str) -> Iterator[bytes]:
    """The bytes as they come, not verified: for `verify` and for streaming what `verify` has just passed."""
    try:
        found = store().get(path(digest))
    except (NotFoundError, FileNotFoundError):
        raise Gone(f"Artifact sha256:{digest} is not kept any more, or was never stored here.") from None
    for chunk in found.stream(min_chunk_size=2**20):
        yield bytes(chunk)


def verify(digest: str) -> None:
    """Raise unless the stored bytes match their digest; memory flat."""
    seen = hashlib.sha256()
    for chunk in chunks(digest):
        seen.update(chunk)
    if seen.hexdigest() != digest:
        raise Corrupt(damaged(digest))


def collect(referenced: Callable[[], set[str]]) -> int:
    """Delete the artifacts that nothing refers to; returns how many.

    Young ones stay whatever is said: a run stores its bytes before the row that names them.
    """
    horizon = datetime.now(UTC) - timedelta(hours=1)
    old = [meta["path"] for page in store().list("sha256/") for meta in page if meta["last_modified"] < horizon]
    kept = {path(digest) for digest in referenced()} if old else set()
    doomed = [name for name in old if name not in kept]
    for name in doomed:
        delete(name.rpartition("/")[2])
    return len(doomed)


def damaged(digest: str) -> str:
    return f"Artifact sha256:{digest} was altered on disk. Restore it from a back-up; it is not used as it is."


def delete(digest: str) -> None:
    """Remove the bytes; one that is gone already is no error."""
    try:
        store().delete(path(digest))
    except (NotFoundError, FileNotFoundError):
        return
