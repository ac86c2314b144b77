"""A ticket's salted commitment to the ids that it named: what stands in the log instead of them.

Each id has a nonce, HMAC-SHA-256(salt, kind || 0x00 || id), and becomes the code SHA-256(nonce || kind || 0x00 || id). The sorted
codes are the leaves of a Merkle tree, whose root is the commitment. Who has the salt can show of any one id that the ticket
named it, by its nonce and a path, and gives nothing away about the others. Once the salt is destroyed, 256 bits that nobody
knows stand between the root and any guess, however few ids there are, and the log holds as it did.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from expunge.evidence.merkle import complete, included, inclusion, leaf_hash, root_of

SALT_BYTES = 32
SAMPLE, SUBJECT = "sample", "subject"


@dataclass(frozen=True)
class Disclosure:
    """That a ticket named one id: for whoever is told that id, and not the salt."""

    nonce: bytes
    index: int
    size: int
    path: list[bytes]


def nonce(salt: bytes, kind: str, identifier: str) -> bytes:
    return hmac.digest(salt, named(kind, identifier), hashlib.sha256)


def code(own: bytes, kind: str, identifier: str) -> bytes:
    """What one id became, under its own nonce."""
    return hashlib.sha256(own + named(kind, identifier)).digest()


def named(kind: str, identifier: str) -> bytes:
    return kind.encode() + b"\x00" + identifier.encode()


def codes(salt: bytes, sample_ids: Iterable[str], subject_ids: Iterable[str]) -> list[bytes]:
    made = [code(nonce(salt, SAMPLE, each), SAMPLE, each) for each in sample_ids]
    made += [code(nonce(salt, SUBJECT, each), SUBJECT, each) for each in subject_ids]
    return sorted(made)


def commitment(salt: bytes, sample_ids: Iterable[str], subject_ids: Iterable[str]) -> str:
    """The root, in hexadecimal; the order of the ids is of no account, and each is to come once."""
    return root_of([leaf_hash(each) for each in codes(salt, sample_ids, subject_ids)]).hex()


def disclose(
    salt: bytes, sample_ids: Iterable[str], subject_ids: Iterable[str], kind: str, identifier: str
) -> Disclosure:
    """Show that the ticket of these ids named one of them. Raises `ValueError` where it did not."""
    every, own = codes(salt, sample_ids, subject_ids), nonce(salt, kind, identifier)
    leaves = [leaf_hash(each) for each in every]
    index = every.index(code(own, kind, identifier))
    path = inclusion(lambda level, at: complete(leaves[at << level : (at + 1) << level]), index, len(leaves))
    return Disclosure(own, index, len(leaves), path)


def discloses(root: str, kind: str, identifier: str, shown: Disclosure) -> bool:
    """Whether the disclosure shows that the ticket with this commitment named the id."""
    leaf = leaf_hash(code(shown.nonce, kind, identifier))
    return included(leaf, shown.index, shown.size, shown.path, bytes.fromhex(root))
