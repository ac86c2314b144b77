"""A ticket's salted commitment to the ids that it named: what stands in the log instead of them.

Each id becomes HMAC-SHA-256(salt, kind || 0x00 || id), and the sorted codes are the leaves of a Merkle tree, whose root is the
commitment. Who has the salt shows that a ticket named an id, and which; once the salt is destroyed, 256 bits nobody knows
stand between the root and any guess, however few ids there are, and the log holds as it did.
"""

import hashlib
import hmac
from collections.abc import Iterable

from expunge.evidence.merkle import leaf_hash, root_of

SALT_BYTES = 32
SAMPLE, SUBJECT = b"sample", b"subject"


def code(salt: bytes, kind: bytes, identifier: str) -> bytes:
    """What one id became."""
    return hmac.digest(salt, kind + b"\x00" + identifier.encode(), hashlib.sha256)


def commitment(salt: bytes, sample_ids: Iterable[str], subject_ids: Iterable[str]) -> str:
    """The root, in hexadecimal; the order of the ids is of no account, and each is to come once."""
    codes = [code(salt, SAMPLE, each) for each in sample_ids]
    codes += [code(salt, SUBJECT, each) for each in subject_ids]
    return root_of([leaf_hash(each) for each in sorted(codes)]).hex()
