"""What a version's attestations claim, out of its report: made so by whoever signs them, and made again by whoever checks.

`report` is the JSON of report.json. Nothing else goes in but what the log has of the tickets, so that an attestation which
says anything else than the report and the log is found. Whatever changes here changes what bundles are held against, and so
needs another `bundle.FORMAT`.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from expunge.evidence.dsse import canonical
from expunge.evidence.measured import measured_sha256

Json = dict[str, Any]
FEW = 50
"""Below so many samples no rate is claimed: a contract with `app.policy`."""
UPDATE = "unlearned"
"""The kind of a version that was not trained: an approximate update of the one before."""
ESTIMATED = ("mu", "ue")
"""What an update is judged by."""
TRAINED = "trained without the samples"
WITHOUT = "EXPUNGE_TRAINED_WITHOUT_SAMPLES_FORGOTTEN_AT_PUBLICATION"
PASSED, WARNED, FAILED = "passed", "warned", "failed"


def commitments(events: Iterable[Json]) -> dict[str, str]:
    """Of each ticket that the events tell the acceptance of, the commitment to the ids that it named."""
    found = {event["ticket"]: event["data"].get("commitment") for event in events if event["kind"] == "ticket.accepted"}
    return {ticket: committed for ticket, committed in found.items() if committed is not None}


def policy(report: Json) -> Json:
    """The policy that judged, as a resource."""
    return {"name": "policy", "digest": {"sha256": hashlib.sha256(canonical(report["policy"])).hexdigest()}}


def provenance(report: Json, committed: dict[str, str]) -> Json:
    """SLSA provenance v1: from which weights, data and tickets these weights were made, by what."""
    version, lineage, verdict, environment = (report[part] for part in ("version", "lineage", "verdict", "environment"))
    began = [run["started_at"] for run in report["runs"]] or [version["published_at"]]
    builder: Json = {"id": "urn:expunge:worker"}
    if "expunge" in environment:  # the release of the worker that made the weights, whichever exports them
        builder["version"] = {"expunge": environment["expunge"]}
    return {
        "buildDefinition": {
            "buildType": f"urn:expunge:{version['kind']}:v1",
            "externalParameters": {
                "batch": report["batch"],
                "why": report["why"],
                "policy": policy(report)["digest"],
                "problem": lineage["problem"],
                "tickets": len(lineage["tickets"]),
                "samples": lineage["forgotten_by_this_version"],
            },
            "internalParameters": {"rung": verdict["rung"], "method": verdict["method"], "environment": environment},
            "resolvedDependencies": inputs(report, committed),
        },
        "runDetails": {
            "builder": builder,
            "metadata": {
                "invocationId": report["batch"],
                "startedOn": min(began, key=datetime.fromisoformat),
                "finishedOn": version["published_at"],
            },
            "byproducts": [{"name": "what was measured", "digest": {"sha256": measured_sha256(verdict)}}],
        },
    }


def inputs(report: Json, committed: dict[str, str]) -> list[Json]:
    """What the weights were made from: data, what was left out of it, for an update the parent, and the tickets' ids, salted."""
    lineage = report["lineage"]
    found: list[Json] = [
        {"name": f"manifest of {lineage['dataset']}", "digest": {"sha256": lineage["manifest_sha256"]}},
        {
            "name": "ordinals left out of training",
            "digest": {"sha256": lineage["excluded_ordinals_sha256"]},
            "annotations": {"count": lineage["samples_excluded"]},
        },
    ]
    if report["version"]["kind"] == UPDATE:
        parent = lineage["parents"][0]
        found.append({"name": f"{parent['version']}.safetensors", "digest": {"sha256": parent["weights_sha256"]}})
    named = [
        each["ticket"] for each in lineage["tickets"] if each["ticket"] in committed
    ]  # earlier releases logged none
    return [*found, *({"name": salted(ticket), "digest": {"sha256": committed[ticket]}} for ticket in named)]


def salted(ticket: str) -> str:
    return f"ids named by ticket {ticket}, salted"


def outcomes(report: Json) -> dict[str, str]:
    """How each test went. An estimate whose whole interval lies within its threshold has passed; one of too few samples to claim
    a rate, or whose assumption was contradicted, is a warning and no more. A training has nothing to estimate: it passes."""
    if report["version"]["kind"] != UPDATE:
        return {TRAINED: PASSED}
    return {each["name"]: outcome(each, report["verdict"]) for each in report["validation"]["estimates"]}


def outcome(estimate: Json, verdict: Json) -> str:
    if not estimate["claimed"] or estimate["assumption_is"] == "contradicted":
        return WARNED
    found, limit = verdict["statistics"][estimate["name"]], verdict["thresholds"].get(estimate["name"])
    within = limit is not None and -limit <= found["low"] <= found["high"] <= limit
    return PASSED if within else FAILED


def test_result(report: Json) -> Json:
    """The verdict as a test result v0.1."""
    went = outcomes(report)
    return {
        "result": next((worst.upper() for worst in (FAILED, WARNED) if worst in went.values()), "PASSED"),
        "configuration": [policy(report), {"name": "thresholds", "annotations": report["verdict"]["thresholds"]}],
        "url": report["version"]["audit"],
        **{f"{how}Tests": [name for name in went if went[name] == how] for how in (PASSED, WARNED, FAILED)},
    }


def summary(report: Json) -> Json:
    """A Simple Verification Result v0.2: that the version satisfies its policy, and by which properties, as of its verdict."""
    properties = ["EXPUNGE_PUBLISHED_BY_VERDICT"]
    if report["version"]["kind"] == UPDATE:
        passed = [name.upper() for name, how in outcomes(report).items() if how == PASSED]
        properties += ["EXPUNGE_APPROXIMATE_UPDATE", *(f"EXPUNGE_{name}_WITHIN_THRESHOLD" for name in passed)]
    else:
        properties.append(WITHOUT)
    return {
        "verifier": {"id": "urn:expunge:verdict", "policies": [policy(report)]},
        "timeCreated": report["verdict"]["at"],
        "properties": properties,
    }
