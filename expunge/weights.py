"""A version's weights on their way into a file: hashed as they come, and in their place only when whole and right."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx

from expunge.errors import Corrupt, NotUnderstood

DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]+):")


@dataclass(frozen=True)
class Weights:
    """A file of weights that match their digest."""

    path: Path
    sha256: str
    size: int


def promised(response: httpx.Response, wanted: str | None) -> str:
    """The SHA-256 that the answer names. Raises `Corrupt` where that is not the one that was asked for."""
    found = DIGEST.search(response.headers.get("repr-digest", ""))
    try:
        named = base64.b64decode(found[1], validate=True).hex() if found else ""
    except binascii.Error:
        named = ""
    if len(named) != 64:
        raise NotUnderstood(
            "The answer names no digest (Repr-Digest), so its bytes cannot be verified. Is a proxy between?"
        )
    if wanted is not None and named != wanted.lower():
        raise Corrupt(f"The service holds other weights: their SHA-256 is {named}. Nothing was written.")
    return named


class Download:
    """A file that does not exist under its name until `finish`; what was there before stays until then."""

    def __init__(self, to: Path, expected: str) -> None:
        self.to, self.expected = to, expected
        self.part = to.with_name(f".{to.name}.{uuid4().hex}.part")
        self.hash, self.size = hashlib.sha256(), 0
        self.file = self.part.open("xb")

    def write(self, chunk: bytes) -> None:
        self.file.write(chunk)
        self.hash.update(chunk)
        self.size += len(chunk)

    def finish(self) -> Weights:
        """Put the file in its place. Raises `Corrupt` where its bytes are not those that were promised."""
        self.file.close()
        if self.hash.hexdigest() != self.expected:
            raise Corrupt(
                f"{self.size} bytes came that do not match their digest. {self.to} was not written: ask again."
            )
        self.part.replace(self.to)
        return Weights(self.to, self.expected, self.size)

    def discard(self) -> None:
        """Close and remove what is not in its place; after `finish` there is nothing left to remove."""
        self.file.close()
        self.part.unlink(missing_ok=True)
