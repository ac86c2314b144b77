"""The independent checker: did the service keep what it promised? It knows the data, and nothing of the service's code.

It reads Postgres by SQL of its own, the artifacts' files, and what the clients and the trainings have noted, and names the
first thing that does not hold. `python -m tests.chaos.checker DATABASE ARTIFACTS NOTES TRAININGS` checks by hand.
"""

import hashlib
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from tests.chaos import history
from tests.chaos.facts import Facts, Row, gather

FINAL = {"fulfilled", "cancelled"}


@dataclass(frozen=True)
class Violation:
    """What was promised, and what is the case instead."""

    promise: str
    says: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.says}"


def nothing_lost(facts: Facts) -> Iterator[str]:
    """Every ticket that was answered 202 is there, and nobody's ticket is there besides."""
    promised = {note["ticket"] for note in facts.promised}
    for ticket in sorted(promised - facts.tickets.keys()):
        yield f"ticket {ticket} was answered 202 and is not there"
    for ticket in sorted(facts.tickets.keys() - promised):
        yield f"ticket {ticket} is there, and nobody was answered so"


def one_ticket_a_key(facts: Facts) -> Iterator[str]:
    """Whoever repeats a request with its key gets the same ticket; whoever changes it is refused."""
    tickets: dict[str, str] = {}
    bodies: dict[str, object] = {}
    for note in facts.notes:
        if note["kind"] != "submit":
            continue
        body = (note["dataset"], note["ordinals"], note["reason"])
        if note["status"] == 202:
            if tickets.setdefault(note["key"], note["ticket"]) != note["ticket"]:
                yield f"one key made tickets {tickets[note['key']]} and {note['ticket']}"
            if bodies.setdefault(note["key"], body) != body:
                yield f"another body with the key of ticket {note['ticket']} was taken for it"
        elif note["status"] == 422 and note["code"] == "idempotency_key_reused" and bodies.get(note["key"]) == body:
            yield f"the same request as that of ticket {tickets[note['key']]} was refused"


def all_final(facts: Facts) -> Iterator[str]:
    """Every ticket, obligation and batch has come to its end."""
    for ticket, row in facts.tickets.items():
        if row["state"] not in FINAL:
            yield f"ticket {ticket} is still {row['state']}"
    held = {row["batch_id"] for row in facts.table("obligation") if row["state"] not in FINAL}
    for row in facts.table("obligation"):
        if row["state"] not in FINAL:
            yield f"model {row['model_id']} still owes ticket {row['ticket_id']}: {row['state']}"
    for batch, row in facts.batches.items():
        if row["state"] in ("ready", "running") or (row["state"] == "quarantined" and batch in held):
            yield f"batch {batch} is still {row['state']}"


def cancelled_as_told(facts: Facts) -> Iterator[str]:
    """A cancellation that was confirmed has happened, one that was refused has not."""
    told: dict[str, list[Row]] = {}
    for note in facts.notes:
        if note["kind"] == "cancel":
            told.setdefault(note["ticket"], []).append(note)
    for ticket, row in facts.tickets.items():
        notes = told.get(ticket, [])
        confirmed = any(note["status"] == 200 for note in notes)
        maybe = any(note["lost"] for note in notes)
        if confirmed and row["state"] != "cancelled":
            yield f"ticket {ticket} was said to be cancelled and is {row['state']}"
        if row["state"] == "cancelled" and not confirmed and not maybe:
            yield f"ticket {ticket} is cancelled, and nobody asked for it"
        if row["state"] == "cancelled" and facts.dead.get(ticket):
            yield f"ticket {ticket} is cancelled and still holds tombstones"


def tombstones_stand(facts: Facts) -> Iterator[str]:
    """Each ticket that stands has a tombstone for each of its samples, and none besides."""
    for note in facts.promised:
        row = facts.tickets.get(note["ticket"])
        if row is None or row["state"] == "cancelled":
            continue
        found, wanted = facts.dead.get(note["ticket"], set()), set(note["ordinals"])
        if found != wanted:
            yield f"ticket {note['ticket']} lacks {len(wanted - found)} tombstones and has {len(found - wanted)} too many"


def trainings_left_them_out(facts: Facts) -> Iterator[str]:
    """No training read a sample of a ticket that was answered before the training looked at the tombstones."""
    answered: dict[int, list[Row]] = {}
    for note in facts.promised:
        row = facts.tickets.get(note["ticket"])
        if row is not None and row["state"] != "cancelled":
            answered.setdefault(row["dataset_id"], []).append(note)
    for read in facts.trainings:
        for note in answered.get(read["dataset"], []):
            met = set(note["ordinals"]) & set(read["ordinals"])
            if note["at"] <= read["looked"] and met:
                yield f"training {read['training']} read {len(met)} samples of ticket {note['ticket']}, tombstoned before"


def one_child(facts: Facts) -> Iterator[str]:
    """A model's versions are one line: each but the first has the one before it as parent, and no two share it."""
    for model in facts.models:
        line = sorted((v for v in facts.versions.values() if v["model_id"] == model), key=lambda v: v["number"])
        parents = [version["parent_id"] for version in line]
        if len(set(parents)) != len(parents):
            yield f"two versions of model {model} share a parent"
        for number, (version, parent) in enumerate(zip(line, [None, *line], strict=False), start=1):
            if version["number"] != number or version["parent_id"] != (parent and parent["id"]):
                yield f"version {version['number']} of model {model} does not follow the one before it"


def verdict_on_these_bytes(facts: Facts) -> Iterator[str]:
    """Each version rests on a verdict `publish` of its own batch on exactly its weights."""
    verdicts = {row["id"]: row for row in facts.table("verdict")}
    for version in facts.versions.values():
        verdict = verdicts.get(version["verdict_id"])
        name = f"version {version['number']} of model {version['model_id']}"
        if verdict is None or verdict["decision"] != "publish":
            yield f"{name} was published without a verdict that says so"
        elif (verdict["weights_digest"], verdict["batch_id"]) != (version["weights_digest"], version["batch_id"]):
            yield f"{name} rests on a verdict about other weights"


def artifacts_intact(facts: Facts) -> Iterator[str]:
    """What a row names has the bytes that its digest says; weights are there until they are purged."""
    for version in facts.versions.values():
        if version["weights_purged_at"] is None and facts.hash_of(version["weights_digest"]) is None:
            yield f"the weights of version {version['number']} of model {version['model_id']} are gone"
    named = {row["weights_digest"] for row in facts.versions.values()}
    named |= {row[column] for row in facts.versions.values() for column in ("gradients_digest", "records_digest")}
    named |= {row["digest"] for table in ("bank", "reference") for row in facts.table(table)}
    for digest in sorted(named - {None}):
        if facts.hash_of(digest) not in (None, digest):
            yield f"artifact {digest} does not have the bytes that its name says"


def pointer_at_the_newest(facts: Facts) -> Iterator[str]:
    """The pointer is at the newest version of the line, which nothing that was forgotten is in."""
    for model, row in facts.models.items():
        line = [version for version in facts.versions.values() if version["model_id"] == model]
        newest = max(line, key=lambda version: version["number"], default=None)
        if row["current_version_id"] != (newest and newest["id"]):
            yield f"model {model} does not point at its newest version: a fulfilled ticket's samples may be in use again"


def fulfilled_by_a_version_without_them(facts: Facts) -> Iterator[str]:
    """An obligation is fulfilled by a version of its model, and every version leaves out what its digest says: the samples
    of each ticket that it or a version before it has fulfilled, and of each that owed nothing then."""
    for row in facts.table("obligation"):
        version = facts.versions.get(row["version_id"])
        if row["state"] == "fulfilled" and (version is None or version["model_id"] != row["model_id"]):
            yield f"model {row['model_id']} owes ticket {row['ticket_id']} no more, by no version of its own"
    for version in facts.versions.values():
        left_out, doubtful = excluded(facts, version)
        some = (extra for many in range(len(doubtful) + 1) for extra in combinations(doubtful, many))
        if version["excluded_digest"] not in {digest_of(left_out.union(*extra)) for extra in some}:
            yield (
                f"version {version['number']} of model {version['model_id']} left out {version['excluded_count']} samples,"
                f" and not the {len(left_out)} that its tickets name"
            )


def excluded(facts: Facts, version: Row) -> tuple[set[int], list[set[int]]]:
    """What a version must leave out; and sets of samples that it may have: of tickets cancelled after it was begun."""
    at = {event["batch_id"]: event["seq"] for event in facts.events if event["kind"] == "version.published"}
    published = at.get(version["batch_id"], 0)
    accepted = {e["ticket_id"]: e["seq"] for e in facts.events if e["kind"] == "ticket.accepted"}
    begun = min((e["seq"] for e in facts.events if e["batch_id"] == version["batch_id"]), default=0)
    ended = {e["ticket_id"]: e["seq"] for e in facts.events if e["kind"] == "ticket.cancelled"}
    owed = {row["ticket_id"]: row for row in facts.table("obligation") if row["model_id"] == version["model_id"]}
    dataset = facts.models[version["model_id"]]["dataset_id"]
    left_out: set[int] = set()
    for ticket, row in facts.tickets.items():
        if row["dataset_id"] != dataset or ticket in ended:
            continue
        obligation = owed.get(ticket)
        if obligation is None:
            counts = accepted.get(ticket, 0) < published
        else:
            fulfilled = facts.versions.get(obligation["version_id"])
            counts = fulfilled is not None and fulfilled["number"] <= version["number"]
        if counts:
            left_out |= facts.dead.get(ticket, set())
    named = {note["ticket"]: set(note["ordinals"]) for note in facts.promised}
    doubtful = [t for t, seq in ended.items() if accepted.get(t, 0) < published and seq > begun and t in named]
    return left_out, [named[ticket] for ticket in doubtful if facts.tickets[ticket]["dataset_id"] == dataset]


def digest_of(ordinals: set[int]) -> str:
    return hashlib.sha256(b"".join(struct.pack("<q", ordinal) for ordinal in sorted(ordinals))).hexdigest()


CHECKS: dict[str, Callable[[Facts], Iterator[str]]] = {
    "a ticket answered 202 is never lost": nothing_lost,
    "a repeated request gives one ticket": one_ticket_a_key,
    "a cancellation is what was answered": cancelled_as_told,
    "a tombstone stands for each sample": tombstones_stand,
    "a tombstoned sample is read by no later training": trainings_left_them_out,
    "two versions never share a parent": one_child,
    "nothing is published without a verdict on exactly those bytes": verdict_on_these_bytes,
    "an artifact has the bytes that its name says": artifacts_intact,
    "the pointer never moves to a version that holds a fulfilled ticket's samples": pointer_at_the_newest,
    "every obligation is fulfilled by a version without its samples": fulfilled_by_a_version_without_them,
    "the log is unbroken": history.chain,
    "every state of a ticket and its event commit together": history.explained_tickets,
    "every state of a batch and its event commit together": history.explained_batches,
    "every version and its event commit together": history.explained_versions,
    "a run that lost its lease changes nothing": history.leases,
    "every ticket ends": all_final,
}


def violations(facts: Facts) -> Iterator[Violation]:
    for promise, check in CHECKS.items():
        for says in check(facts):
            yield Violation(promise, says)


def first_violation(facts: Facts) -> Violation | None:
    return next(violations(facts), None)


if __name__ == "__main__":
    database, *paths = sys.argv[1:]
    found = first_violation(gather(database, *map(Path, paths)))
    sys.stdout.write(f"{found or 'every promise is kept'}\n")
    sys.exit(found is not None)
