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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expunge.evidence import bundle, dsse, merkle, notes
from expunge.evidence.archive import unpack
from expunge.evidence.keys import PublicKeys
from expunge.evidence.measured import measured_sha256


class Fault(Exception):
    """The first thing that does not hold, in one sentence."""


@dataclass(frozen=True)
class Options:
    """What the reader has from elsewhere. A key that came with the bundle shows only that one hand made all of it."""

    fingerprint: str | None = None
    weights: Path | None = None
    checkpoint: str | None = None
    """A head that the reader kept: this log must have gone on from it, or lead to it."""


@dataclass
class Opened:
    """The bundle as far as it was checked."""

    raw: bytes
    options: Options
    files: dict[str, bytes] = field(default_factory=dict)
    public: PublicKeys | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    attested: dict[str, dict[str, Any]] = field(default_factory=dict)
    head: notes.Checkpoint | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def keys(self) -> PublicKeys:
        assert self.public is not None
        return self.public

    def read(self, name: str) -> Any:
        """A file's JSON."""
        try:
            return json.loads(self.part(name))
        except (ValueError, RecursionError):
            raise Fault(f"{name} is no JSON") from None

    def part(self, name: str) -> bytes:
        if name not in self.files:
            raise Fault(f"{name} is missing")
        return self.files[name]


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
    if wanted is not None and wanted.lower().replace(":", "") != found:
        raise Fault(f"the bundle is signed by the key {found}, not by the one expected")
    opened.manifest = envelope(opened, bundle.MANIFEST, bundle.MANIFEST_TYPE)
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


def envelope(opened: Opened, name: str, kind: str) -> Any:
    try:
        return dsse.opened(opened.read(name), kind, opened.keys.verify)
    except ValueError as error:
        raise Fault(f"{name}: {error}") from None


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


def attestations(opened: Opened) -> str:
    """Each attestation is signed, about these weights, and says what the report says."""
    version, digest = opened.manifest["version"], opened.manifest["weights_sha256"]
    for kind, predicate_type in bundle.PREDICATES.items():
        name = bundle.attestation(kind)
        stated = envelope(opened, name, dsse.IN_TOTO)
        subject = [{"name": f"{version}.safetensors", "digest": {"sha256": digest}}]
        if stated["subject"] != subject or stated["predicateType"] != predicate_type:
            raise Fault(f"{name} is about something else than this version")
        opened.attested[kind] = stated["predicate"]
    provenance = opened.attested["provenance"]
    (byproduct,) = provenance["runDetails"]["byproducts"]
    if byproduct["digest"]["sha256"] != measured_sha256(opened.report["verdict"]):
        raise Fault("report.json does not have the measurements that the provenance names")
    recount(opened)
    component = opened.read(bundle.BOM)["metadata"]["component"]
    if component["version"] != version or component["hashes"] != [{"alg": "SHA-256", "content": digest}]:
        raise Fault(f"{bundle.BOM} is about other weights than the manifest")
    return f"{len(opened.attested)} attestations and the bill of materials are about these weights"


def recount(opened: Opened) -> None:
    """Hold the test result against the figures: what passed has its whole interval within its threshold."""
    verdict = opened.report["verdict"]
    for name in opened.attested["test-result"]["passedTests"]:
        found, limit = verdict["statistics"].get(name), verdict["thresholds"].get(name)
        if found is None or limit is None:
            continue  # of a retrain, where nothing was estimated
        if not -limit <= found["low"] <= found["high"] <= limit:
            raise Fault(f"{bundle.attestation('test-result')} says that {name} passed, the report's interval says not")


def head(opened: Opened) -> str:
    """The checkpoint is signed by the bundle's key, and goes on from earlier heads of the log."""
    log = opened.read(bundle.LOG)
    opened.head = note(opened, opened.part(bundle.CHECKPOINT).decode(), bundle.CHECKPOINT)
    if bundle.EARLIER in opened.files:
        earlier = note(opened, opened.part(bundle.EARLIER).decode(), bundle.EARLIER)
        if earlier.origin != opened.head.origin:
            raise Fault(f"{bundle.EARLIER} is a head of another log")
        path = [bytes.fromhex(step) for step in log["consistency"]]
        if not merkle.consistent(earlier.size, opened.head.size, earlier.root, opened.head.root, path):
            raise Fault(f"{bundle.CHECKPOINT} does not go on from {bundle.EARLIER}: the log was rewritten between")
    kept = opened.options.checkpoint
    if kept is None:
        return f"{opened.head.origin}, {opened.head.size} events"
    mine = note(opened, kept, "the checkpoint given")
    if (mine.size, mine.root) == (opened.head.size, opened.head.root):
        return f"{opened.head.origin}, {opened.head.size} events: the checkpoint given"
    if mine.size == opened.head.size:
        raise Fault("the checkpoint given and the bundle's are of one size and differ: somebody was shown another log")
    return (
        f"{opened.head.origin}, {opened.head.size} events; the checkpoint given has {mine.size}: ask the service for the proof"
        " between the two (GET /audit/consistency)"
    )


def note(opened: Opened, text: str, name: str) -> notes.Checkpoint:
    try:
        origin = text.partition("\n")[0]
        return notes.read(notes.opened(text, origin, opened.keys.raw, opened.keys.verify))
    except ValueError as error:
        raise Fault(f"{name}: {error}") from None


def entries(opened: Opened) -> str:
    """Every event of the slice is in the tree that the checkpoint is the head of."""
    log, top = opened.read(bundle.LOG), opened.head
    assert top is not None
    hashes = [bytes.fromhex(each) for each in log["hashes"]]
    for entry in log["entries"]:
        path = [hashes[step] for step in entry["path"]]
        leaf = merkle.leaf_hash(entry["body"].encode())
        if not merkle.included(leaf, entry["seq"] - 1, top.size, path, top.root):
            raise Fault(f"{bundle.LOG}: event {entry['seq']} is not in the log that the checkpoint is the head of")
        opened.events.append(json.loads(entry["body"]))
    return f"{len(opened.events)} events, each in the log"


def story(opened: Opened) -> str:
    """The log tells of this publication, this verdict and these tickets."""
    report, version = opened.report, opened.report["version"]
    published = one(opened, "version.published", version=version["version"])
    lineage = report["lineage"]
    told = (published["weights"], published["manifest"], published["excluded"])
    if told != (version["weights_sha256"], lineage["manifest_sha256"], lineage["excluded_ordinals_sha256"]):
        raise Fault("the log tells of other weights or other data than the report")
    recorded = one(opened, "verdict.recorded", verdict=published["verdict"])
    if recorded["decision"] != "publish" or recorded["weights"] != version["weights_sha256"]:
        raise Fault("the log's verdict is not to publish these weights")
    if recorded.get("measured") not in (None, measured_sha256(report["verdict"])):
        raise Fault("the log's verdict rests on other measurements than the report's")
    dependencies = opened.attested["provenance"]["buildDefinition"]["resolvedDependencies"]
    named = {each["name"]: each["digest"]["sha256"] for each in dependencies}
    accepted = {event["ticket"]: event["data"] for event in opened.events if event["kind"] == "ticket.accepted"}
    for ticket in lineage["tickets"]:
        if ticket["ticket"] not in accepted:
            raise Fault(f"the log's slice does not tell that ticket {ticket['ticket']} was accepted")
        committed = accepted[ticket["ticket"]].get("commitment")
        if named.get(f"ids named by ticket {ticket['ticket']}, salted") != committed:
            raise Fault(f"the provenance commits to other samples of ticket {ticket['ticket']} than the log")
    tied = "" if recorded.get("measured") else " (recorded by a release that did not log what was measured)"
    return f"the log tells of this publication, its verdict{tied} and {len(lineage['tickets'])} tickets"


def one(opened: Opened, kind: str, **wanted: Any) -> dict[str, Any]:
    """What the one event of the kind tells."""
    found = [
        event["data"] for event in opened.events if event["kind"] == kind and wanted.items() <= event["data"].items()
    ]
    if len(found) != 1:
        raise Fault(f"the log's slice has {len(found)} events {kind} of this version, not one")
    return dict(found[0])


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


def verify(raw: bytes, options: Options = Options()) -> Iterator[tuple[str, str]]:
    """Each check that holds, by name, with what it found. Raises `Fault` at the first that does not."""
    opened = Opened(raw, options)
    for name, check in CHECKS.items():
        try:
            yield name, check(opened)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise Fault(f"{name}: a part is not of the form that it has in a bundle ({type(error).__name__})") from None


def run(path: Path, options: Options, say: Callable[[str], None]) -> bool:
    """Check a file and say how it went, a line a check; whether all of it holds."""
    try:
        raw = path.read_bytes()
        for name, found in verify(raw, options):
            say(f"holds          {name}: {found}")
    except OSError as error:
        say(f"cannot be read: {path}: {error.strerror}")
        return False
    except Fault as fault:
        say(f"DOES NOT HOLD  {fault}")
        return False
    return True


def options_of(key: str | None, weights: Path | None, checkpoint: Path | None) -> Options:
    """What was given on the command line. `key` is a fingerprint, or names a PEM file. Raises `ValueError`."""
    fingerprint = key
    if key is not None and Path(key).is_file():
        pem = Path(key).read_bytes()
        fingerprint = PublicKeys.statements_fingerprint(pem)
    return Options(fingerprint, weights, checkpoint.read_text(encoding="utf-8") if checkpoint else None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m expunge.evidence.verify", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", help="the key that must have signed: its fingerprint, or a PEM file")
    parser.add_argument("--weights", type=Path, help="the weights, to be held against the signature")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint of the log that you kept")
    given = parser.parse_args()
    try:
        options = options_of(given.key, given.weights, given.checkpoint)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0 if run(given.bundle, options, print) else 1


if __name__ == "__main__":
    sys.exit(main())
