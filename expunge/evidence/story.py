"""Whether the log tells of what a bundle's report and provenance tell."""

from typing import Any

from expunge.evidence import bundle, claims
from expunge.evidence.agreement import agrees, difference
from expunge.evidence.fault import Fault
from expunge.evidence.measured import measured_sha256
from expunge.evidence.opened import Opened


def story(opened: Opened) -> str:
    """The log tells of this publication, this verdict and these tickets, and the provenance of all of it."""
    published = publication(opened)
    recorded = judgement(opened, published["verdict"])
    attempts(opened)
    committed = tickets(opened, published["tickets"])
    timeline(opened)
    agrees(opened, "provenance", claims.provenance(opened.report, committed))
    tied = "" if recorded.get("measured") else " (recorded by a release that did not log what was measured)"
    answered = len(opened.report["lineage"]["tickets"])
    named = "1 ticket" if answered == 1 else f"{answered} tickets"
    return f"the log tells of this publication, its verdict{tied} and {named}"


def publication(opened: Opened) -> dict[str, Any]:
    """What the log tells of the version, which is what the report says."""
    version, lineage = opened.report["version"], opened.report["lineage"]
    published: dict[str, Any] = publishing(opened)["data"]
    told = (published["weights"], published["manifest"], published["excluded"])
    if told != (version["weights_sha256"], lineage["manifest_sha256"], lineage["excluded_ordinals_sha256"]):
        raise Fault("the log tells of other weights or other data than the report")
    if published["version_kind"] != version["kind"]:
        raise Fault(f"the log says that the version was {published['version_kind']}, the report {version['kind']}")
    return published


def judgement(opened: Opened, verdict_id: int) -> dict[str, Any]:
    """What the log tells of the verdict, which is the report's."""
    verdict = opened.report["verdict"]
    recorded: dict[str, Any] = one(opened, "verdict.recorded", verdict=verdict_id)["data"]
    if recorded["decision"] != "publish" or recorded["weights"] != opened.report["version"]["weights_sha256"]:
        raise Fault("the log's verdict is not to publish these weights")
    for part in ("rung", "decision", "reasons"):
        if recorded[part] != verdict[part]:
            raise Fault(f"the log's verdict has another {part} than the report's")
    if recorded.get("measured") not in (None, measured_sha256(verdict)):
        raise Fault("the log's verdict rests on other measurements than the report's")
    return recorded


def attempts(opened: Opened) -> None:
    """Every verdict that the log tells of the batch is in the report, in order, and there is no other."""
    batch, listed = opened.report["batch"], opened.report["attempts_at_a_verdict"]
    told = [each["data"] for each in opened.events if (each["kind"], each["batch"]) == ("verdict.recorded", batch)]
    if len(told) != len(listed):
        raise Fault(f"the log tells of {len(told)} verdicts of the batch, the report of {len(listed)}")
    for verdict, data in zip(listed, told, strict=True):
        said = (verdict["rung"], verdict["decision"], verdict["reasons"], verdict["weights_sha256"])
        if said != (data["rung"], data["decision"], data["reasons"], data["weights"]):
            raise Fault(f"{bundle.REPORT}: an attempt by {verdict['rung']} is another than the log tells")
        if data.get("measured") not in (None, measured_sha256(verdict)):
            raise Fault(f"{bundle.REPORT}: an attempt by {verdict['rung']} rests on other measurements than the log's")


def timeline(opened: Opened) -> None:
    """Each event of the report's timeline is the log's, word for word, and none is left out before its last, nor up to the
    publication."""
    told = {event["seq"]: event for event in opened.events}
    listed = {event["seq"] for event in opened.report["timeline"]}
    last = max(listed | {publishing(opened)["seq"]})
    for seq, event in told.items():
        if event["batch"] == opened.report["batch"] and seq <= last and seq not in listed:
            raise Fault(f"{bundle.REPORT}: event {seq} of the batch is left out of the timeline")
    for event in opened.report["timeline"]:
        if event["seq"] not in told or difference(event, told[event["seq"]]) is not None:
            raise Fault(f"{bundle.REPORT}: event {event['seq']} of the timeline is not what the log tells")


def tickets(opened: Opened, answered: list[str]) -> dict[str, str]:
    """What the log commits to of the report's tickets: those that the publication answered, and those that came later and found
    nothing left to forget. Each was accepted."""
    listed = [ticket["ticket"] for ticket in opened.report["lineage"]["tickets"]]
    named = set(listed)
    published, version = publishing(opened), opened.report["version"]["version"]
    ended = [
        event["data"]
        for event in opened.events
        if event["kind"] == "batch.cancelled"
        and event["model"] == published["model"]
        and event["seq"] > published["seq"]
        and event["data"].get("version", version) == version  # earlier releases did not log it
    ]
    later = {ticket for data in ended for ticket in data.get("tickets", [])}
    if len(named) < len(listed) or not set(answered) <= named <= later.union(answered):
        raise Fault("the log tells that the version answers other tickets than the report")
    accepted = {event["ticket"] for event in opened.events if event["kind"] == "ticket.accepted"}
    for ticket in sorted(named - accepted):
        raise Fault(f"the log's slice does not tell that ticket {ticket} was accepted")
    committed = claims.commitments(opened.events)
    inputs = opened.attested["provenance"]["buildDefinition"]["resolvedDependencies"]
    stated = {each["name"]: each["digest"]["sha256"] for each in inputs}
    for ticket in sorted(named):
        if stated.get(claims.salted(ticket)) != committed.get(ticket):
            raise Fault(f"the provenance commits to other samples of ticket {ticket} than the log")
    return committed


def publishing(opened: Opened) -> dict[str, Any]:
    """The event of the report's publication."""
    return one(opened, "version.published", version=opened.report["version"]["version"])


def one(opened: Opened, kind: str, **wanted: Any) -> dict[str, Any]:
    """The one event of the kind in the report's batch that tells what is wanted."""
    mine = [event for event in opened.events if (event["kind"], event["batch"]) == (kind, opened.report["batch"])]
    found = [event for event in mine if wanted.items() <= event["data"].items()]
    if len(found) != 1:
        raise Fault(f"the log's slice has {len(found)} events {kind} of this version and its batch, not one")
    return found[0]
