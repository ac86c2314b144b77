"""The signature over a version's weights, in the form that OpenSSF's `model_signing verify key` takes.

A Sigstore bundle 0.3 around an in-toto statement: the file's digest as its one resource, and as the subject the digest over
all resources' digests. The key is on P-256, because that tool takes no Ed25519.
"""

import hashlib
from typing import Any

from app import signing
from expunge.evidence import dsse
from expunge.evidence.bundle import MODEL_SIGNATURE
from expunge.evidence.keys import pem

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SERIALIZATION = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []}


def signature(name: str, sha256: str) -> dict[str, Any]:
    """The bundle for one file of weights. The digest is taken from the database, so weights that were purged have one too."""
    pair = signing.keys()
    over_all = hashlib.sha256(bytes.fromhex(sha256)).hexdigest()
    resources = [{"name": ".", "algorithm": "sha256", "digest": sha256}]
    predicate = {"resources": resources, "serialization": SERIALIZATION}
    stated = dsse.statement(name, over_all, MODEL_SIGNATURE, predicate)
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": hashlib.sha256(pem(pair.public.weights)).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": dsse.envelope(dsse.IN_TOTO, dsse.canonical(stated), "", pair.sign_weights),
    }
