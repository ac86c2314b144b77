"""The report as in-toto attestations about the weights: where they come from, what was tested, which policy they satisfy.

Predicates that are in use elsewhere, so that tools which know nothing of unlearning can demand them before a deployment. What
they claim follows from the report alone, in `expunge.evidence.claims`: whoever checks a bundle makes them again.
"""

import json
from typing import Any

from app import signing
from app.evidence import Report
from expunge.evidence import claims, dsse
from expunge.evidence.bundle import PREDICATES

Statement = dict[str, Any]


def weights_file(report: Report) -> str:
    return f"{report.version.version}.safetensors"


def statements(report: Report, commitments: dict[str, str]) -> dict[str, Statement]:
    """By their short names. `commitments` are the tickets' to their samples, as the log has them."""
    said = json.loads(report.model_dump_json())
    predicates = {
        "provenance": claims.provenance(said, commitments),
        "test-result": claims.test_result(said),
        "svr": claims.summary(said),
    }
    name, digest = weights_file(report), report.version.weights_sha256
    return {kind: dsse.statement(name, digest, PREDICATES[kind], predicate) for kind, predicate in predicates.items()}


def signed(statement: Statement) -> dict[str, Any]:
    """The statement in its envelope. Raises `NotConfigured` where the installation cannot sign."""
    pair = signing.keys()
    return dsse.envelope(dsse.IN_TOTO, dsse.canonical(statement), pair.public.fingerprint, pair.sign)
