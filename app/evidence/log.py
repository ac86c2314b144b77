"""The slice of the log that tells of a version, with proofs that anyone can check against a signed checkpoint."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app import checkpoints
from app.tables import AuditEvent, Checkpoint, Obligation, Version
from app.tree import Tree
from expunge.evidence import merkle


@dataclass(frozen=True)
class Slice:
    """Events with their paths, the checkpoint that these lead to, and one from before the batch began, if there is any."""

    entries: list[dict[str, Any]]
    hashes: list[str]
    head: Checkpoint
    earlier: Checkpoint | None
    consistency: list[str]

    def as_json(self) -> dict[str, Any]:
        told = {"origin": self.head.origin, "size": self.head.size, "consistency": self.consistency}
        return told | {"hashes": self.hashes, "entries": self.entries}

    @property
    def commitments(self) -> dict[str, str]:
        """Of each ticket that the slice tells the acceptance of, the commitment to the ids that it named."""
        events = [json.loads(entry["body"]) for entry in self.entries]
        found = {e["ticket"]: e["data"].get("commitment") for e in events if e["kind"] == "ticket.accepted"}
        return {ticket: committed for ticket, committed in found.items() if committed is not None}


def slice_of(session: Session, version: Version) -> Slice:
    """Everything that is told of the version's batch, and the acceptance of each ticket it answers.

    Raises `NotConfigured` where the installation cannot sign; to be called before anything is written.
    """
    rows = session.execute(told_of(version)).all()
    head = checkpoints.covering(session, rows[-1].seq)
    earlier = before(session, head, rows[0].seq)
    tree = Tree(session)
    places: dict[bytes, int] = {}
    entries = [
        {
            "seq": row.seq,
            "body": row.body,
            "path": [
                places.setdefault(step, len(places)) for step in merkle.inclusion(tree.node, row.seq - 1, head.size)
            ],
        }
        for row in rows
    ]
    proof = merkle.consistency(tree.node, earlier.size, head.size) if earlier is not None else []
    return Slice(entries, [step.hex() for step in places], head, earlier, [step.hex() for step in proof])


def told_of(version: Version) -> Any:
    """The events of its batch, and the acceptance of each ticket that it answers."""
    tickets = select(Obligation.ticket_id).where(Obligation.version_id == version.id)
    accepted = (AuditEvent.kind == "ticket.accepted") & AuditEvent.ticket_id.in_(tickets)
    query = select(AuditEvent.seq, AuditEvent.body).where(or_(AuditEvent.batch_id == version.batch_id, accepted))
    return query.order_by(AuditEvent.seq)


def before(session: Session, head: Checkpoint, seq: int) -> Checkpoint | None:
    """The newest checkpoint of the same log and key that was signed before event `seq`: what was told then still stands."""
    query = select(Checkpoint).where(
        Checkpoint.origin == head.origin, Checkpoint.key == head.key, Checkpoint.size < seq
    )
    return session.scalar(query.where(Checkpoint.size > 0).order_by(Checkpoint.size.desc()).limit(1))


def entry(session: Session, ticket_id: UUID, kind: str) -> dict[str, Any] | None:
    """One event of a ticket with its whole proof; None where there is no such event."""
    query = select(AuditEvent.seq, AuditEvent.body).where(AuditEvent.ticket_id == ticket_id, AuditEvent.kind == kind)
    row = session.execute(query.order_by(AuditEvent.seq.desc()).limit(1)).one_or_none()
    if row is None:
        return None
    head = checkpoints.covering(session, row.seq)
    path = merkle.inclusion(Tree(session).node, row.seq - 1, head.size)
    return {"seq": row.seq, "body": row.body, "path": [step.hex() for step in path], "checkpoint": head.note}
