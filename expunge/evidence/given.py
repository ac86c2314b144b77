"""What a reader has from elsewhere, and holds evidence against: keys, weights, a checkpoint, a proof.

A key that came with a bundle shows only that one hand made all of it.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from expunge.evidence.keys import fingerprint, statements_key

FINGERPRINT = re.compile("[0-9a-f]{64}")
WHICH_KEY = (
    "The key that must have signed: its fingerprint, or a PEM file. Again for keys that signed earlier checkpoints"
)
WHICH_PROOF = "What GET /audit/consistency answered for the sizes of the two checkpoints"


@dataclass(frozen=True)
class Proof:
    """That the log of `second` events begins with the log of `first` (RFC 9162, 2.1.4)."""

    first: int
    second: int
    path: list[bytes]


@dataclass(frozen=True)
class Options:
    """What a bundle is held against."""

    fingerprint: str | None = None
    """Of the key that must have signed the bundle."""
    weights: Path | None = None
    checkpoint: str | None = None
    """A head that the reader kept: this log must have gone on from it, or lead to it."""
    proof: Proof | None = None
    """That leads from the smaller of the kept head and the bundle's to the larger."""
    expected: frozenset[str] = frozenset()
    """Fingerprints of keys, besides the bundle's, that earlier heads may be signed with."""
    keys: tuple[Ed25519PublicKey, ...] = ()
    """Those of them that were given as such."""


def options_of(
    keys: Sequence[str], weights: Path | None, checkpoint: Path | None, proof: Path | None = None
) -> Options:
    """What was given on the command line. Raises `ValueError` and `OSError`, each naming what cannot be used."""
    if proof is not None and checkpoint is None:
        raise ValueError("a proof leads from or to a checkpoint that you kept: give that too, by --checkpoint")
    fingerprints, known = keys_of(keys)
    return Options(
        fingerprint=fingerprints[0] if fingerprints else None,
        weights=weights,
        checkpoint=text_of(checkpoint) if checkpoint is not None else None,
        proof=proof_of(proof) if proof is not None else None,
        expected=frozenset(fingerprints[1:]),
        keys=tuple(known),
    )


def keys_of(keys: Sequence[str]) -> tuple[list[str], list[Ed25519PublicKey]]:
    """The fingerprints of keys that were given as such or by PEM files, in order, and the keys themselves where they were."""
    fingerprints, known = list[str](), list[Ed25519PublicKey]()
    for key in keys:
        plain = key.lower().replace(":", "")
        if FINGERPRINT.fullmatch(plain):
            fingerprints.append(plain)
            continue
        try:
            known.append(statements_key(Path(key).read_bytes()))
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
        fingerprints.append(fingerprint(known[-1]))
    return fingerprints, known


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: this is no text in UTF-8") from None


def proof_of(path: Path) -> Proof:
    """Of the JSON that the service answers with."""
    text = text_of(path)
    try:
        found = json.loads(text)
        first, second, steps = found["first"], found["second"], [bytes.fromhex(step) for step in found["path"]]
        if not (type(first) is type(second) is int):
            raise TypeError("sizes are whole numbers")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path}: this is no proof such as GET /audit/consistency answers with") from None
    return Proof(first, second, steps)
