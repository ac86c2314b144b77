"""Check an evidence bundle without the service: `expunge verify`, or `python -m expunge.evidence.verify BUNDLE`.

Each check relies on those before it, and the first that fails is named. What is shown is that the parts are as the holder of
the key made them, that they say the same, and that the log they come from had them in it. Whether the holder measured what it
says is shown by no signature; who runs the service is trusted for that.
"""

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from expunge.evidence import bundle, dsse, heads, merkle
from expunge.evidence.agreement import attestations
from expunge.evidence.archive import unpack
from expunge.evidence.fault import Fault, printable
from expunge.evidence.given import WHICH_KEY, WHICH_PROOF, Options, Proof, options_of
from expunge.evidence.keys import PublicKeys, fingerprint, statements_key
from expunge.evidence.opened import Opened
from expunge.evidence.story import story

__all__ = ["CHECKS", "Fault", "Options", "options_of", "run", "verify"]


def container(opened: Opened) -> str:
    """The archive is byte for byte as it was made."""
    try:
        opened.files = unpack(opened.raw)
    except ValueError as error:
        raise Fault(str(error)) from None
    return f"{len(opened.files)} files, byte for byte as they were packed"


def signer(opened: Opened) -> str:
    """The manifest is signed by the bundle's key, which is the one that the reader expects."""
    try:
        statements, weights = opened.part(bundle.STATEMENTS_KEY), opened.part(bundle.WEIGHTS_KEY)
        opened.public = PublicKeys.read(statements, weights)
    except ValueError as error:
        raise Fault(f"the keys cannot be read: {error}") from None
    found, wanted = opened.keys.fingerprint, opened.options.fingerprint
    if wanted is not None and wanted != found:
        raise Fault(f"the bundle is signed by the key {found}, not by the one expected")
    opened.manifest = opened.envelope(bundle.MANIFEST, bundle.MANIFEST_TYPE)
    if opened.part(bundle.MANIFEST) != rewritten(opened.read(bundle.MANIFEST), found):
        raise Fault(f"{bundle.MANIFEST} was changed outside what is signed")
    if opened.manifest.get("format") != bundle.FORMAT:
        raise Fault(f"the bundle has format {opened.manifest.get('format')}; this reads {bundle.FORMAT}")
    told = "as expected" if wanted else "which came with the bundle: compare it with one from elsewhere, by --key"
    return f"signed by the key {found}, {told}"


def rewritten(found: Any, key: str) -> bytes:
    """The envelope as it is written for one signature of this key: what stands around the payload is not signed."""
    payload, signature = base64.b64decode(found["payload"]), base64.b64decode(found["signatures"][0]["sig"])
    again = dsse.envelope(found["payloadType"], payload, key, lambda _: signature)
    return bundle.line(again)


def contents(opened: Opened) -> str:
    """Every file is the one that the manifest names, and there is no other."""
    listed = opened.manifest["files"]
    for name in sorted(listed.keys() | opened.files.keys() - {bundle.MANIFEST}):
        if name not in opened.files:
            raise Fault(f"{name} is missing")
        if name not in listed:
            raise Fault(f"{name} is not in the manifest")
        data = opened.files[name]
        if (bundle.sha256(data), len(data)) != (listed[name]["sha256"], listed[name]["bytes"]):
            raise Fault(f"{name} was changed: its digest is not the manifest's")
    opened.report = opened.read(bundle.REPORT)
    version = opened.report["version"]
    named = (opened.manifest["version"], opened.manifest["weights_sha256"])
    if (version["version"], version["weights_sha256"]) != named:
        raise Fault("report.json is about another version than the manifest")
    return f"{len(listed)} files, each with the digest that the manifest has"


def weights(opened: Opened) -> str:
    """The weights' signature is by the bundle's key and over the weights that were judged."""
    digest, report = opened.manifest["weights_sha256"], opened.report
    if report["verdict"]["weights_sha256"] != digest:
        raise Fault("report.json: the verdict is on other weights than those published")
    try:
        inside = opened.read(bundle.WEIGHTS)["dsseEnvelope"]
        stated = dsse.opened(inside, dsse.IN_TOTO, opened.keys.verify_weights)
    except (ValueError, KeyError, TypeError) as error:
        raise Fault(f"{bundle.WEIGHTS}: {error}") from None
    resources = stated["predicate"]["resources"]
    if stated["predicateType"] != bundle.MODEL_SIGNATURE or [each["digest"] for each in resources] != [digest]:
        raise Fault(f"{bundle.WEIGHTS} is about other weights than the manifest")
    if opened.options.weights is None:
        return f"signed: SHA-256 {digest}"
    with opened.options.weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise Fault(f"{opened.options.weights} has SHA-256 {found}, the version has {digest}")
    return f"signed, and the file given has them: SHA-256 {digest}"


def head(opened: Opened) -> str:
    """The checkpoint is signed by the bundle's key, and of one history with earlier heads: the bundle's and the reader's."""
    known = [opened.keys.statements]
    opened.head, _ = heads.head(opened.part(bundle.CHECKPOINT).decode(), bundle.CHECKPOINT, known)
    told = f"{opened.head.origin}, {opened.head.size} events"
    if bundle.EARLIER_KEY in opened.files:
        known.append(earlier_key(opened))
    earlier = None
    if bundle.EARLIER in opened.files:
        earlier, by = heads.head(opened.part(bundle.EARLIER).decode(), bundle.EARLIER, known)
        path = [bytes.fromhex(step) for step in opened.read(bundle.LOG)["consistency"]]
        proof = Proof(earlier.size, opened.head.size, path)
        heads.agree(earlier, opened.head, (bundle.EARLIER, bundle.CHECKPOINT), proof)
        told += told_of_key(opened, fingerprint(by))
    if opened.options.checkpoint is None:
        return told
    kept, name = opened.options.checkpoint, "the checkpoint given"
    mine, _ = heads.head(kept, name, [*known, *opened.options.keys], heads.OLD_KEY)
    if earlier is not None and mine.size == earlier.size:
        return f"{told}; {heads.agree(mine, earlier, (name, bundle.EARLIER), None)}"
    return f"{told}; {heads.agree(mine, opened.head, (name, bundle.CHECKPOINT), opened.options.proof)}"


def earlier_key(opened: Opened) -> Ed25519PublicKey:
    try:
        return statements_key(opened.part(bundle.EARLIER_KEY))
    except ValueError as error:
        raise Fault(f"{bundle.EARLIER_KEY}: {error}") from None


def told_of_key(opened: Opened, by: str) -> str:
    """Of an earlier head, where the log's key was changed since."""
    if by == opened.keys.fingerprint:
        return ""
    expected = "as expected" if by in opened.options.expected else "which came with the bundle"
    return f"; {bundle.EARLIER} is signed by the key {by}, {expected}"


def entries(opened: Opened) -> str:
    """Every event of the slice is in the tree that the checkpoint is the head of."""
    log, top = opened.read(bundle.LOG), opened.head
    assert top is not None, "it was read before"
    if (log["origin"], log["size"]) != (top.origin, top.size):
        raise Fault(f"{bundle.LOG} is a slice of another log, or of another size, than {bundle.CHECKPOINT}")
    hashes = [bytes.fromhex(each) for each in log["hashes"]]
    for entry in log["entries"]:
        path = [hashes[step] for step in entry["path"]]
        leaf = merkle.leaf_hash(entry["body"].encode())
        if not merkle.included(leaf, entry["seq"] - 1, top.size, path, top.root):
            raise Fault(f"{bundle.LOG}: event {entry['seq']} is not in the log that the checkpoint is the head of")
        opened.events.append({"seq": entry["seq"]} | json.loads(entry["body"]))
    return f"{len(opened.events)} events, each in the log"


CHECKS: dict[str, Callable[[Opened], str]] = {
    "container": container,
    "signature": signer,
    "contents": contents,
    "weights": weights,
    "attestations": attestations,
    "checkpoint": head,
    "log": entries,
    "story": story,
}


NOTHING = Options()


def verify(raw: bytes, options: Options = NOTHING) -> Iterator[tuple[str, str]]:
    """Each check that holds, by name, with what it found. Raises `Fault` at the first that does not."""
    opened = Opened(raw, options)
    for name, check in CHECKS.items():
        try:
            yield name, check(opened)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
            raise Fault(f"{name}: a part is not of the form that it has in a bundle ({type(error).__name__})") from None


def run(path: Path, options: Options, say: Callable[[str], None]) -> bool:
    """Check a file and say how it went, a line a check; whether all of it holds."""
    try:
        raw = path.read_bytes()
        for name, found in verify(raw, options):
            say(printable(f"holds          {name}: {found}"))
    except OSError as error:
        say(printable(f"cannot be read: {error.filename or path}: {error.strerror}"))
        return False
    except Fault as fault:
        say(printable(f"DOES NOT HOLD  {fault}"))
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m expunge.evidence.verify", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", action="append", default=[], help=WHICH_KEY)
    parser.add_argument("--weights", type=Path, help="the weights, to be held against the signature")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint of the log that you kept")
    parser.add_argument("--proof", type=Path, help=WHICH_PROOF)
    given = parser.parse_args()
    try:
        options = options_of(given.key, given.weights, given.checkpoint, given.proof)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0 if run(given.bundle, options, print) else 1


if __name__ == "__main__":
    sys.exit(main())
