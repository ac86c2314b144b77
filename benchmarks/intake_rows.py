"""The rows of one ticket by the fewest plain statements: what intake is measured against. Nothing is checked or hashed."""

import hashlib
from typing import Any
from uuid import UUID, uuid4

import psycopg


def write(connection: psycopg.Connection[Any], dataset: int, model: int, ticket: UUID, ids: list[str]) -> None:
    """Ticket, tombstones by look-up, obligation, idempotency key and event, in one transaction."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ticket (id, client, dataset_id, reason, risk_tier, state, accepted, unknown, already_forgotten,"
            " pending_elsewhere, data_removed_at) VALUES (%s, 'bare', %s, 'other', 'low', 'pending', %s, 0, 0, 0, now())",
            (ticket, dataset, len(ids)),
        )
        cursor.execute(
            "INSERT INTO tombstone (dataset_id, ordinal, ticket_id) SELECT dataset_id, ordinal, %s FROM sample"
            " WHERE dataset_id = %s AND sample_id = ANY(%s)",
            (ticket, dataset, ids),
        )
        cursor.execute(
            "INSERT INTO obligation (ticket_id, model_id, state, samples) VALUES (%s, %s, 'pending', %s)",
            (ticket, model, len(ids)),
        )
        cursor.execute(
            "INSERT INTO idempotency (client, key, request_digest, ticket_id) VALUES ('bare', %s, %s, %s)",
            (str(uuid4()), hashlib.sha256(b"").digest(), ticket),
        )
        cursor.execute(
            "WITH head AS (UPDATE audit_head SET seq = seq + 1 RETURNING seq)"
            " INSERT INTO audit_event (seq, kind, ticket_id, body, hash) SELECT seq, 'bare', %s, %s, %s FROM head",
            (ticket, "{}" * 200, bytes(32)),
        )
