"""Hold two signed heads of the log against each other: `expunge audit compare`, or `python -m expunge.evidence.heads OLD NEW`.

The service answers with a path between any two sizes. That history was not rewritten is shown by a path which leads from the one
root to the other, and by nothing else: without such a path two heads of different size say nothing of each other.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from expunge.evidence import merkle, notes
from expunge.evidence.fault import Fault, printable
from expunge.evidence.given import WHICH_PROOF, Proof, keys_of, proof_of, text_of
from expunge.evidence.keys import raw, signed_by
from expunge.evidence.notes import Checkpoint

OLD_KEY = ". Where the log's key was changed, give the PEM file of the old one too, by --key"


def head(note: str, name: str, keys: Sequence[Ed25519PublicKey], hint: str = "") -> tuple[Checkpoint, Ed25519PublicKey]:
    """The checkpoint that a note is, and which of the keys signed it. Raises `Fault` where it is none, or none of them did."""
    origin = note.partition("\n")[0]
    for key in keys:
        try:
            return notes.read(notes.opened(note, origin, raw(key), partial(signed_by, key))), key
        except notes.OtherKey:
            continue
        except ValueError as error:
            raise Fault(f"{name}: {error}") from None
    raise Fault(f"{name} is signed by another key{hint}")


def agree(one: Checkpoint, other: Checkpoint, names: tuple[str, str], proof: Proof | None) -> str:
    """That two heads are of one history, in a sentence. Raises `Fault` where they are not, and where nothing shows it."""
    (older, first), (newer, second) = sorted(zip((one, other), names, strict=True), key=lambda each: each[0].size)
    if one.origin != other.origin:
        raise Fault(
            f"{first} is of the log {older.origin}, {second} of the log {newer.origin}: nothing can relate two logs. After a"
            " restore from a back-up a log goes on under another name"
        )
    if older.size == newer.size:
        if older.root != newer.root:
            raise Fault(f"{first} and {second} are of one size and differ: somebody was shown another log")
        return f"{first} is {second}"
    if older.size == 0 and older.root == merkle.EMPTY:
        return f"{second} goes on from {first}, which is of a log without events"
    if proof is None:
        raise Fault(
            f"nothing shows that {second} ({newer.size} events) goes on from {first} ({older.size} events): get the answer to"
            f" GET /audit/consistency?first={older.size}&second={newer.size} and give it by --proof"
        )
    if (proof.first, proof.second) != (older.size, newer.size):
        raise Fault(
            f"the proof is for {proof.first} and {proof.second} events; {first} has {older.size} and {second} {newer.size}"
        )
    if not merkle.consistent(older.size, newer.size, older.root, newer.root, proof.path):
        raise Fault(
            f"{second} does not go on from {first}: the log was rewritten between, unless the proof was changed on its way"
        )
    return f"{second} goes on from {first}, {newer.size - older.size} events later"


def compare(old: Path, new: Path, keys: Sequence[str], proof: Path | None, say: Callable[[str], None]) -> bool:
    """Hold two files against each other and say how it went; whether they are of one history. Raises `ValueError` and `OSError`
    where something given cannot be used."""
    fingerprints, known = keys_of(keys)
    if len(known) < len(fingerprints):
        raise ValueError("a fingerprint does not tell who signed a checkpoint: give the key's PEM file by --key")
    try:
        one, other = (head(text_of(path), str(path), known, OLD_KEY)[0] for path in (old, new))
        told = agree(one, other, (str(old), str(new)), proof_of(proof) if proof is not None else None)
    except Fault as fault:
        say(printable(f"DOES NOT HOLD  {fault}"))
        return False
    say(printable(f"holds          {told}"))
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m expunge.evidence.heads", description=__doc__)
    parser.add_argument("old", type=Path, help="a checkpoint that you kept")
    parser.add_argument("new", type=Path, help="another one")
    parser.add_argument(
        "--key", action="append", required=True, help="PEM file of the key that signed; again where they are two"
    )
    parser.add_argument("--proof", type=Path, help=WHICH_PROOF)
    given = parser.parse_args()
    try:
        return 0 if compare(given.old, given.new, given.key, given.proof, print) else 1
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
