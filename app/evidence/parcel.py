"""The evidence bundle of a version: everything that somebody without access to the service needs to check it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app import evidence, pages, signing
from app.evidence import Report, attestations, paper
from app.evidence.bom import bom
from app.evidence.log import Slice, slice_of
from app.evidence.weights import signature
from app.tables import Version
from expunge.evidence import archive, bundle
from expunge.evidence.keys import pem


@dataclass(frozen=True)
class Evidence:
    """What a bundle is made of, read in one transaction."""

    report: Report
    log: Slice


def gather(session: Session, version: Version) -> Evidence:
    """Raises `NotConfigured` where the installation cannot sign. To be called before anything is written.

    The report is read first: a ticket that is answered in between is in the slice and not in the report, never the other way.
    """
    report = evidence.report(session, version)
    return Evidence(report, slice_of(session, version))


def attested(found: Evidence) -> dict[str, dict[str, Any]]:
    """The signed attestations by their short names."""
    made = attestations.statements(found.report, found.log.commitments)
    return {kind: attestations.signed(statement) for kind, statement in made.items()}


def how_to_check(version: str, fingerprint: str) -> str:
    text = Path(__file__).with_name("how-to-check.md").read_text(encoding="utf-8")
    return text.format(version=version, fingerprint=fingerprint)


def build(found: Evidence) -> bytes:
    """The archive. The same report and checkpoint give the same bytes, as long as one release exports them; the report itself
    tells of some things as they stand when it is read, such as what was served since and what still holds the samples."""
    report, pair = found.report, signing.keys()
    version, digest = report.version.version, report.version.weights_sha256
    files = {
        "HOW-TO-CHECK.md": how_to_check(version, pair.public.fingerprint).encode(),
        bundle.REPORT: (report.model_dump_json(indent=1) + "\n").encode(),
        "report.html": pages.standalone("audit.html", {"report": report}).encode(),
        "report.pdf": paper.pdf(report),
        bundle.METRICS: bundle.line([verdict.model_dump(mode="json") for verdict in report.attempts_at_a_verdict]),
        bundle.BOM: bundle.line(bom(report)),
        bundle.WEIGHTS: bundle.line(signature(attestations.weights_file(report), digest)),
        bundle.LOG: bundle.line(found.log.as_json()),
        bundle.CHECKPOINT: found.log.head.note.encode(),
        bundle.STATEMENTS_KEY: pem(pair.public.statements),
        bundle.WEIGHTS_KEY: pem(pair.public.weights),
    }
    if found.log.earlier is not None:
        files[bundle.EARLIER] = found.log.earlier.note.encode()
    if found.log.earlier_key is not None:
        files[bundle.EARLIER_KEY] = found.log.earlier_key.encode()
    for kind, envelope in attested(found).items():
        files[bundle.attestation(kind)] = bundle.line(envelope)
    return archive.pack(bundle.sealed(files, version, digest, pair))
