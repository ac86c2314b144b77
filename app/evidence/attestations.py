"""The report as in-toto attestations about the weights: where they come from, what was tested, which policy they satisfy.

Predicates that are in use elsewhere, so that tools which know nothing of unlearning can demand them before a deployment.
"""

import hashlib
from importlib.metadata import version as installed
from typing import Any

from app import signing
from app.evidence import Report
from app.tables import VersionKind
from expunge.evidence import dsse
from expunge.evidence.bundle import PREDICATES
from expunge.evidence.measured import measured_sha256

Statement = dict[str, Any]


def weights_file(report: Report) -> str:
    return f"{report.version.version}.safetensors"


def about(report: Report, kind: str, predicate: dict[str, Any]) -> Statement:
    return dsse.statement(weights_file(report), report.version.weights_sha256, PREDICATES[kind], predicate)


def statements(report: Report, commitments: dict[str, str]) -> dict[str, Statement]:
    """By their short names. `commitments` are the tickets' to their samples, as the log has them."""
    return {
        "provenance": about(report, "provenance", provenance(report, commitments)),
        "test-result": about(report, "test-result", test_result(report)),
        "svr": about(report, "svr", summary_of_verification(report)),
    }


def signed(statement: Statement) -> dict[str, Any]:
    """The statement in its envelope. Raises `NotConfigured` where the installation cannot sign."""
    pair = signing.keys()
    return dsse.envelope(dsse.IN_TOTO, dsse.canonical(statement), pair.public.fingerprint, pair.sign)


def policy_of(report: Report) -> dict[str, Any]:
    """The policy that judged, as a resource."""
    return {"name": "policy", "digest": {"sha256": hashlib.sha256(dsse.canonical(report.policy)).hexdigest()}}


def provenance(report: Report, commitments: dict[str, str]) -> dict[str, Any]:
    """SLSA provenance v1: from which weights, data and tickets these weights were made, by what."""
    lineage, verdict = report.lineage, report.verdict
    inputs = [
        {"name": f"manifest of {lineage.dataset}", "digest": {"sha256": lineage.manifest_sha256}},
        {
            "name": "ordinals left out of training",
            "digest": {"sha256": lineage.excluded_ordinals_sha256},
            "annotations": {"count": lineage.samples_excluded},
        },
    ]
    if lineage.parents and report.version.kind is VersionKind.UNLEARNED:
        parent = lineage.parents[0]
        inputs.append({"name": f"{parent.version}.safetensors", "digest": {"sha256": parent.weights_sha256}})
    for ticket, committed in commitments.items():
        inputs.append({"name": f"ids named by ticket {ticket}, salted", "digest": {"sha256": committed}})
    began = min((run.started_at for run in report.runs), default=report.version.published_at)
    return {
        "buildDefinition": {
            "buildType": f"urn:expunge:{report.version.kind}:v1",
            "externalParameters": {
                "batch": str(report.batch),
                "why": report.why,
                "policy": policy_of(report)["digest"],
                "problem": lineage.problem,
                "tickets": len(lineage.tickets),
                "samples": lineage.forgotten_by_this_version,
            },
            "internalParameters": {"rung": verdict.rung, "method": verdict.method, "environment": report.environment},
            "resolvedDependencies": inputs,
        },
        "runDetails": {
            "builder": {"id": "urn:expunge:worker", "version": {"expunge": installed("expunge")}},
            "metadata": {
                "invocationId": str(report.batch),
                "startedOn": began.isoformat(),
                "finishedOn": report.version.published_at.isoformat(),
            },
            "byproducts": [{"name": "what was measured", "digest": {"sha256": measured(report)}}],
        },
    }


def measured(report: Report) -> str:
    return measured_sha256(report.verdict.model_dump(mode="json"))


def test_result(report: Report) -> dict[str, Any]:
    """The verdict as a test result v0.1: an estimate whose whole interval lies within its threshold has passed; one of too few
    samples to claim a rate, or whose assumption was contradicted, is a warning."""
    passed: list[str] = []
    warned: list[str] = []
    failed: list[str] = []
    for estimate in report.validation.estimates:
        if not estimate.claimed or estimate.assumption_is == "contradicted":
            warned.append(estimate.name)
        else:
            (passed if estimate.standing == "within" else failed).append(estimate.name)
    if report.version.kind is not VersionKind.UNLEARNED:
        passed.append("trained without the samples")
    return {
        "result": "FAILED" if failed else "WARNED" if warned else "PASSED",
        "configuration": [policy_of(report), {"name": "thresholds", "annotations": report.verdict.thresholds}],
        "url": report.version.audit,
        "passedTests": passed,
        "warnedTests": warned,
        "failedTests": failed,
    }


def summary_of_verification(report: Report) -> dict[str, Any]:
    """A Simple Verification Result v0.2: that the version satisfies its policy, and by which properties."""
    exact = report.version.kind is not VersionKind.UNLEARNED
    properties = ["EXPUNGE_PUBLISHED_BY_VERDICT"]
    if exact:
        properties.append("EXPUNGE_TRAINED_WITHOUT_FORGOTTEN_SAMPLES")
    else:
        estimates = report.validation.estimates
        within = [each.name for each in estimates if each.claimed and each.standing == "within"]
        properties += ["EXPUNGE_APPROXIMATE_UPDATE", *(f"EXPUNGE_{name.upper()}_WITHIN_THRESHOLD" for name in within)]
    return {
        "verifier": {"id": f"urn:expunge:verdict:{installed('expunge')}", "policies": [policy_of(report)]},
        "timeCreated": report.verdict.at.isoformat(),
        "properties": properties,
    }
