"""The checker's half about the log: the chain, the events that must explain every state, and who wrote with which lease."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator

from tests.chaos.facts import Facts, Row

ENDS = {
    "published": {"version.published"},
    "split": {"batch.split"},
    "cancelled": {"batch.cancelled", "batch.absorbed", "batch.deferred"},
    "quarantined": {"batch.quarantined"},
}


def chain(facts: Facts) -> Iterator[str]:
    """Every hash follows from all events before it, numbers have no gaps, and the head is the last."""
    running, last = bytes(32), 0
    for row in facts.table("event"):
        if row["seq"] != last + 1:
            yield f"event {last + 1} is missing"
        running = hashlib.sha256(running + row["seq"].to_bytes(8, "big") + row["body"].encode()).digest()
        last = row["seq"]
        if running != row["hash"]:
            yield f"event {last}: its hash does not follow from those before it"
            return
        body = json.loads(row["body"])
        if (row["kind"], row["ticket_id"], row["batch_id"], row["model_id"]) != (
            body["kind"], body["ticket"], body["batch"], body["model"]
        ):  # fmt: skip
            yield f"event {last}: its columns differ from what was hashed"
    head = facts.table("head")[0]
    if (head["seq"], head["hash"]) != (last, running):
        yield f"the head says event {head['seq']}, the log ends at {last}"


def explained_tickets(facts: Facts) -> Iterator[str]:
    """A ticket was accepted once, and ended by the events that its state tells of, and no others."""
    of = events_by(facts, "ticket_id")
    for ticket, row in facts.tickets.items():
        kinds = Counter(event["kind"] for event in of.get(ticket, []))
        wanted = {
            "ticket.accepted": 1,
            "ticket.fulfilled": int(row["state"] == "fulfilled"),
            "ticket.cancelled": int(row["state"] == "cancelled"),
            "ticket.data_releasable": int(row["data_releasable_at"] is not None),
        }
        for kind, times in wanted.items():
            if kinds[kind] != times:
                yield f"ticket {ticket} is {row['state']} and has {kinds[kind]} events {kind}, not {times}"
    for ticket in of.keys() - facts.tickets.keys():
        yield f"the log tells of ticket {ticket}, which is not there"


def explained_batches(facts: Facts) -> Iterator[str]:
    """A batch was closed once and ended by one event of its kind; each claim is a run, each run a claim."""
    of = events_by(facts, "batch_id")
    runs = Counter(row["batch_id"] for row in facts.table("run"))
    for batch, row in facts.batches.items():
        kinds = Counter(event["kind"] for event in of.get(batch, []))
        if kinds["batch.closed"] != 1:
            yield f"batch {batch} has {kinds['batch.closed']} events batch.closed"
        if kinds["run.claimed"] != runs[batch] or runs[batch] != row["lease_epoch"]:
            yield (
                f"batch {batch} is at epoch {row['lease_epoch']} with {runs[batch]} runs and {kinds['run.claimed']} claims"
            )
        ends = ENDS.get(row["state"])
        if ends is not None and not any(kinds[end] for end in ends):
            yield f"batch {batch} is {row['state']}, and no event says how"
        if row["state"] != "published" and kinds["version.published"]:
            yield f"batch {batch} is {row['state']} and has published"
        if kinds["version.published"] > 1:
            yield f"batch {batch} has published {kinds['version.published']} times"


def explained_versions(facts: Facts) -> Iterator[str]:
    """Each version has its own event, which names its weights and its verdict; each event its version."""
    told = {event["batch_id"]: event for event in facts.events if event["kind"] == "version.published"}
    for version in facts.versions.values():
        name = f"version {version['number']} of model {version['model_id']}"
        event = told.pop(version["batch_id"], None)
        if event is None:
            yield f"{name} has no event version.published"
            continue
        data = event["data"]
        if (data["weights"], data["verdict"], data["excluded"]) != (
            version["weights_digest"], version["verdict_id"], version["excluded_digest"]
        ):  # fmt: skip
            yield f"{name} is not what its event says"
    for event in told.values():
        yield f"event {event['seq']} tells of a version that is not there"
    recorded = Counter(e["data"]["verdict"] for e in facts.events if e["kind"] == "verdict.recorded")
    for verdict in facts.table("verdict"):
        if recorded.pop(verdict["id"], 0) != 1:
            yield f"verdict {verdict['id']} has no event verdict.recorded of its own"
    for verdict in recorded:
        yield f"the log tells of verdict {verdict}, which is not there"


def leases(facts: Facts) -> Iterator[str]:
    """Whatever a run wrote, it wrote while no later run had claimed its batch, and before the batch had ended."""
    epochs: dict[str, int] = {}
    ended: dict[str, int] = {}
    verdicts = {row["id"]: row for row in facts.table("verdict")}
    for event in facts.events:
        batch, kind, data = event["batch_id"], event["kind"], event["data"]
        if kind == "run.claimed":
            if data["epoch"] != epochs.get(batch, 0) + 1:
                yield f"event {event['seq']}: epoch {data['epoch']} was claimed after epoch {epochs.get(batch, 0)}"
            epochs[batch] = data["epoch"]
            continue
        if kind == "batch.retried":
            ended.pop(batch, None)
        wrote = None
        if kind in ("run.failed", "run.given_back"):
            wrote = data["epoch"]
        elif kind in ("verdict.recorded", "version.published") and data["verdict"] in verdicts:
            wrote = verdicts[data["verdict"]]["epoch"]
        if wrote is not None and wrote != epochs.get(batch):
            yield f"event {event['seq']}: a run of epoch {wrote} wrote {kind} after epoch {epochs.get(batch)} had begun"
        if wrote is not None and batch in ended:
            yield f"event {event['seq']}: {kind} was written after event {ended[batch]} had ended the batch"
        if batch is not None and kind in set().union(*ENDS.values()):
            ended[batch] = event["seq"]


def events_by(facts: Facts, column: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for event in facts.events:
        if event[column] is not None:
            found.setdefault(event[column], []).append(event)
    return found
