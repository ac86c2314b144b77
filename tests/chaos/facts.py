"""What the checker has to go by: rows of Postgres, the artifacts' files, the clients' notes, the trainings' own notes.

Nothing of the product is imported here, and nothing is taken from it but the data.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

Row = dict[str, Any]
TABLES = {
    "dataset": "SELECT id, name, sample_count, manifest_digest FROM dataset",
    "model": "SELECT id, name, dataset_id, current_version_id FROM model",
    "ticket": "SELECT id::text, client, dataset_id, reason, state, accepted, unknown, already_forgotten,"
    " pending_elsewhere, data_removed_at, data_releasable_at, closed_at FROM ticket",
    "tombstone": "SELECT dataset_id, ordinal, ticket_id::text FROM tombstone",
    "obligation": "SELECT ticket_id::text, model_id, state, batch_id::text, version_id, fulfilled_at FROM obligation",
    "batch": "SELECT id::text, model_id, kind, state, parent_version_id, lease_epoch, attempt FROM batch",
    "run": "SELECT batch_id::text, epoch, outcome FROM run",
    "verdict": "SELECT id, batch_id::text, epoch, rung, weights_digest, decision FROM verdict",
    "version": "SELECT id, model_id, number, kind, parent_id, batch_id::text, verdict_id, weights_digest, manifest_digest,"
    " excluded_digest, excluded_count, superseded_at, weights_purged_at, gradients_digest, records_digest FROM version",
    "bank": "SELECT id, model_id, state, digest FROM bank",
    "reference": "SELECT bank_id, number, state, digest FROM reference",
    "occurrence": "SELECT schedule_id, scheduled_for, batch_id::text FROM occurrence",
    "schedule": "SELECT id, model_id FROM schedule",
    "event": "SELECT seq, kind, ticket_id::text, batch_id::text, model_id, body, hash FROM audit_event ORDER BY seq",
    "head": "SELECT seq, hash FROM audit_head",
}


@dataclass(frozen=True)
class Facts:
    """Everything, as it stood at one moment."""

    rows: dict[str, list[Row]]
    notes: list[Row]
    trainings: list[Row]
    artifacts: Path

    def table(self, name: str) -> list[Row]:
        return self.rows[name]

    @cached_property
    def tickets(self) -> dict[str, Row]:
        return {row["id"]: row for row in self.table("ticket")}

    @cached_property
    def versions(self) -> dict[int, Row]:
        return {row["id"]: row for row in self.table("version")}

    @cached_property
    def batches(self) -> dict[str, Row]:
        return {row["id"]: row for row in self.table("batch")}

    @cached_property
    def models(self) -> dict[int, Row]:
        return {row["id"]: row for row in self.table("model")}

    @cached_property
    def datasets(self) -> dict[str, Row]:
        return {row["name"]: row for row in self.table("dataset")}

    @cached_property
    def events(self) -> list[Row]:
        """With the body parsed; `data` is what the event tells."""
        return [row | {"data": json.loads(row["body"])["data"]} for row in self.table("event")]

    @cached_property
    def dead(self) -> dict[str, set[int]]:
        """Tombstoned ordinals by ticket."""
        found: dict[str, set[int]] = {}
        for row in self.table("tombstone"):
            found.setdefault(row["ticket_id"], set()).add(row["ordinal"])
        return found

    @cached_property
    def promised(self) -> list[Row]:
        """Notes of requests that were answered 202."""
        return [note for note in self.notes if note["kind"] == "submit" and note["status"] == 202]

    def file(self, digest: str) -> Path:
        return self.artifacts / "sha256" / digest[:2] / digest

    def hash_of(self, digest: str) -> str | None:
        """The SHA-256 of the artifact that has this name; None where it is not kept."""
        try:
            return hashlib.sha256(self.file(digest).read_bytes()).hexdigest()
        except FileNotFoundError:
            return None


def gather(database: str, artifacts: Path, notes: Path, trainings: Path) -> Facts:
    """Read everything; the rows in one transaction, as of one moment."""
    with psycopg.connect(database, row_factory=dict_row) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        rows = {name: connection.execute(query.encode()).fetchall() for name, query in TABLES.items()}
    return Facts(rows, lines(notes), lines(trainings), artifacts)


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
