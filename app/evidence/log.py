"""The slice of the log that tells of a version, with proofs that anyone can check against a signed checkpoint."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app import checkpoints
from app.tables import AuditEvent, Checkpoint, Obligation, SigningKey, Version
from app.tree import Tree
from expunge.evidence import claims, merkle


@dataclass(frozen=True)
class Slice:
    """Events with their paths, the checkpoint that these lead to, and one from before the batch began, if there is any."""

    entries: list[dict[str, Any]]
    hashes: list[str]
    head: Checkpoint
    earlier: Checkpoint | None
    earlier_key: str | None
    """PEM of the key that signed it, where that is another than the head's."""
    consistency: list[str]

    def as_json(self) -> dict[str, Any]:
        told = {"origin": self.head.origin, "size": self.head.size, "consistency": self.consistency}
        return told | {"hashes": self.hashes, "entries": self.entries}

    @property
    def commitments(self) -> dict[str, str]:
        """Of each ticket that the slice tells the acceptance of, the commitment to the ids that it named."""
        return claims.commitments(json.loads(entry["body"]) for entry in self.entries)


def slice_of(session: Session, version: Version) -> Slice:
    """Everything that is told of the version's batch, and the acceptance of each ticket that it answers.

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
    old_key = session.get_one(SigningKey, earlier.key).statements if earlier and earlier.key != head.key else None
    return Slice(entries, [step.hex() for step in places], head, earlier, old_key, [step.hex() for step in proof])


def told_of(version: Version) -> Any:
    """The events of its batch, the acceptance of each ticket that it answers, and the end of later batches that found nothing
    left to forget: it answers their tickets too."""
    mine = Obligation.version_id == version.id
    tickets = select(Obligation.ticket_id).where(mine)
    accepted = (AuditEvent.kind == "ticket.accepted") & AuditEvent.ticket_id.in_(tickets)
    batches = select(Obligation.batch_id).where(mine)
    ended = (AuditEvent.kind == "batch.cancelled") & AuditEvent.batch_id.in_(batches)
    query = select(AuditEvent.seq, AuditEvent.body)
    return query.where(or_(AuditEvent.batch_id == version.batch_id, accepted, ended)).order_by(AuditEvent.seq)


def before(session: Session, head: Checkpoint, seq: int) -> Checkpoint | None:
    """The newest checkpoint of the same log that was signed before event `seq`, by whichever key: what was told then still
    stands."""
    query = select(Checkpoint).where(Checkpoint.origin == head.origin, Checkpoint.size < seq, Checkpoint.size > 0)
    ours_first = (Checkpoint.key == head.key).desc()
    return session.scalar(query.order_by(Checkpoint.size.desc(), ours_first).limit(1))


def entry(session: Session, ticket_id: UUID, kind: str) -> dict[str, Any] | None:
    """One event of a ticket with its whole proof; None where there is no such event."""
    query = select(AuditEvent.seq, AuditEvent.body).where(AuditEvent.ticket_id == ticket_id, AuditEvent.kind == kind)
    row = session.execute(query.order_by(AuditEvent.seq.desc()).limit(1)).one_or_none()
    if row is None:
        return None
    head = checkpoints.covering(session, row.seq)
    path = merkle.inclusion(Tree(session).node, row.seq - 1, head.size)
    return {"seq": row.seq, "body": row.body, "path": [step.hex() for step in path], "checkpoint": head.note}
