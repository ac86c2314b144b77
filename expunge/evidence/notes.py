"""Signed checkpoints of the log: c2sp.org/tlog-checkpoint within c2sp.org/signed-note, so that existing witnesses read them.

The text is three lines (origin, size, root in base64), then a blank line and one signature a line. The origin is also the
name of the key.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

ED25519 = b"\x01"
DASH = "— "


class OtherKey(ValueError):
    """The note has no signature of the key asked about."""


@dataclass(frozen=True)
class Checkpoint:
    """A tree head: so many leaves, with this root, of the log that calls itself `origin`."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def check_name(name: str) -> str:
    """Raise `ValueError` unless it can name a key: what a signed note would take for something else."""
    if not name or "+" in name or not name.isprintable() or any(character.isspace() for character in name):
        raise ValueError("a log's origin has neither spaces nor plus signs, such as example.com/expunge")
    return name


def key_id(name: str, public: bytes) -> bytes:
    """The first four bytes of the hash that names an Ed25519 key."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public).digest()[:4]


def verifier_key(name: str, public: bytes) -> str:
    """The key as witnesses' tools take it."""
    return f"{name}+{key_id(name, public).hex()}+{base64.b64encode(ED25519 + public).decode()}"


def sign(text: str, name: str, public: bytes, signer: Callable[[bytes], bytes]) -> str:
    """The note: the text and one signature. `text` ends with a newline."""
    line = base64.b64encode(key_id(name, public) + signer(text.encode())).decode()
    return f"{text}\n{DASH}{name} {line}\n"


def opened(note: str, name: str, public: bytes, verify: Callable[[bytes, bytes], bool]) -> str:
    """The text of a note that the named key signed. Signatures of other keys, such as witnesses', are passed over.

    Raises:
        OtherKey: the key did not sign it.
        ValueError: it is no note, or the signature is over another text.
    """
    text, blank, signatures = note.rpartition("\n\n")
    text += "\n"
    if not blank or not signatures.endswith("\n") or any(ord(c) < 0x20 and c != "\n" for c in note):
        raise ValueError("this is no signed note")
    wanted = key_id(name, public)
    for line in signatures[:-1].split("\n"):
        signer, _, encoded = line.removeprefix(DASH).rpartition(" ")
        if not line.startswith(DASH) or not signer:
            raise ValueError("a signature line of the note cannot be read")
        try:
            signature = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise ValueError("a signature of the note is not base64") from None
        if (signer, signature[:4]) == (name, wanted):
            if not verify(text.encode(), signature[4:]):
                raise ValueError("the note's signature is not over this text")
            return text
    raise OtherKey(f"the note is not signed by the key of {name}")


def read(text: str) -> Checkpoint:
    """The checkpoint that a note's text is. Raises `ValueError` where it is none."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0]:
        raise ValueError("this is no checkpoint: it has not three lines")
    if not lines[1].isascii() or not lines[1].isdigit() or (lines[1][0] == "0" and lines[1] != "0"):
        raise ValueError("this is no checkpoint: its second line is no size")
    try:
        root = base64.b64decode(lines[2], validate=True)
    except binascii.Error:
        root = b""
    if len(root) != hashlib.sha256().digest_size or base64.b64encode(root).decode() != lines[2]:
        raise ValueError("this is no checkpoint: its third line is no root")
    return Checkpoint(lines[0], int(lines[1]), root)
