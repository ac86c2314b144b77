"""What lies where in an evidence bundle, and what its signed manifest says."""

import hashlib
from typing import Any

from expunge.evidence.dsse import canonical, envelope
from expunge.evidence.keys import SigningKeys

FORMAT = 1
MANIFEST = "manifest.dsse.json"
MANIFEST_TYPE = "application/vnd.expunge.bundle+json"
REPORT = "report.json"
BOM = "bom.cdx.json"
WEIGHTS = "weights.sig"
LOG = "log.json"
CHECKPOINT = "checkpoint.txt"
EARLIER = "checkpoint-before.txt"
METRICS = "metrics.json"
STATEMENTS_KEY, WEIGHTS_KEY = "keys/statements.pem", "keys/weights.pem"
EARLIER_KEY = "keys/earlier.pem"
"""What the earlier checkpoint is signed with, where that is another key."""
MODEL_SIGNATURE = "https://model_signing/signature/v1.0"
PREDICATES = {
    "provenance": "https://slsa.dev/provenance/v1",
    "test-result": "https://in-toto.io/attestation/test-result/v0.1",
    "svr": "https://in-toto.io/attestation/svr/v0.2",
}


def attestation(kind: str) -> str:
    return f"attestations/{kind}.dsse.json"


def sealed(files: dict[str, bytes], version: str, weights_sha256: str, pair: SigningKeys) -> dict[str, bytes]:
    """The files with a signed manifest of them, which names each by digest and length."""
    listed = {name: {"sha256": sha256(data), "bytes": len(data)} for name, data in files.items()}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": version,
        "weights_sha256": weights_sha256,
        "files": listed,
    }
    signed = envelope(MANIFEST_TYPE, canonical(manifest), pair.public.fingerprint, pair.sign)
    return files | {MANIFEST: line(signed)}


def line(value: Any) -> bytes:
    """JSON as the bundle's files have it."""
    return canonical(value) + b"\n"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
