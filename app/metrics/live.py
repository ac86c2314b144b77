"""What is open now, asked of Postgres in a few statements whose cost grows with what is open and never with history.

Pending obligations and open batches are found by partial indexes, the obligations of a batch by the batch. Models, their
policies in force, banks in use and versions whose weights are kept are read whole: there are as many as an operator made.
"""

from dataclasses import dataclass
from time import monotonic
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app import presence
from app.db import transaction
from app.presence import Present

SLACK_BOUNDS = (0, 3600, 6 * 3600, 86_400, 3 * 86_400, 7 * 86_400, 30 * 86_400)
TIMEOUT = "SET LOCAL statement_timeout = '2s'"

MODELS = """
    SELECT model.id, model.name, held IS NOT NULL AS held, stopped IS NOT NULL AS stopped,
           (in_force.body #>> '{batching,deadline_margin_seconds}')::float AS margin
    FROM model LEFT JOIN LATERAL (
        SELECT body FROM policy WHERE policy.model_id = model.id ORDER BY number DESC LIMIT 1
    ) AS in_force ON true
    ORDER BY model.id
"""
# OFFSET 0 keeps the planner from turning the look at each open batch into a join that reads all obligations there ever were.
OBLIGATIONS = f"""
    WITH open AS (
        SELECT model_id, state, created_at, deadline_at FROM obligation WHERE state = 'pending'
        UNION ALL
        SELECT mine.* FROM batch CROSS JOIN LATERAL (
            SELECT model_id, state, created_at, deadline_at FROM obligation
            WHERE batch_id = batch.id AND state = 'batched' OFFSET 0
        ) AS mine WHERE batch.state IN ('ready', 'running')
        UNION ALL
        SELECT mine.* FROM batch CROSS JOIN LATERAL (
            SELECT model_id, state, created_at, deadline_at FROM obligation
            WHERE batch_id = batch.id AND state = 'quarantined' OFFSET 0
        ) AS mine WHERE batch.state = 'quarantined'
    ), told AS (
        SELECT model_id, state, created_at, extract(epoch FROM deadline_at - now())::float AS slack FROM open
    )
    SELECT model_id, state, count(*) AS count, extract(epoch FROM now() - min(created_at))::float AS oldest,
           min(slack) AS slack, count(slack) AS with_deadline, coalesce(sum(slack), 0) AS slack_sum,
           ARRAY[{", ".join(f"count(*) FILTER (WHERE slack <= {bound})" for bound in SLACK_BOUNDS)}] AS within
    FROM told GROUP BY model_id, state
"""  # noqa: S608 - joined from constants
BATCHES = """
    SELECT model_id, state, coalesce(rung, '') AS rung, count(*) AS count FROM (
        SELECT model_id, state, rung FROM batch WHERE state IN ('ready', 'running')
        UNION ALL SELECT model_id, state, rung FROM batch WHERE state = 'quarantined'
    ) AS open GROUP BY model_id, state, coalesce(rung, '')
"""
BANKS = """
    SELECT bank.model_id, bank.wanted, coalesce((bank.facts ->> 'references')::int, 0) AS assembled,
           count(*) FILTER (WHERE reference.state = 'pending') AS pending,
           count(*) FILTER (WHERE reference.state = 'running') AS running,
           count(*) FILTER (WHERE reference.state = 'done') AS done,
           count(*) FILTER (WHERE reference.state = 'failed') AS failed
    FROM bank LEFT JOIN reference ON reference.bank_id = bank.id
    WHERE bank.state <> 'retired' GROUP BY bank.id
"""
ARTIFACTS = """
    SELECT coalesce(sum(weights_bytes), 0)::float AS weights,
           coalesce(sum((records ->> 'bytes')::bigint) FILTER (WHERE records_digest IS NOT NULL), 0)::float AS records,
           (SELECT coalesce(sum((facts ->> 'bytes')::bigint), 0) FROM bank WHERE digest IS NOT NULL)::float AS banks
    FROM version WHERE weights_purged_at IS NULL
"""
WEBHOOKS = """
    SELECT count(*) FILTER (WHERE disabled_at IS NULL) AS enabled,
           count(*) FILTER (WHERE disabled_at IS NOT NULL) AS disabled,
           coalesce(max(head.seq - endpoint.cursor) FILTER (WHERE disabled_at IS NULL), 0) AS lag,
           coalesce(sum(due.count) FILTER (WHERE disabled_at IS NULL), 0)::float AS due,
           coalesce(max(due.oldest) FILTER (WHERE disabled_at IS NULL), 0) AS oldest
    FROM webhook_endpoint AS endpoint CROSS JOIN audit_head AS head CROSS JOIN LATERAL (
        SELECT count(*) AS count, extract(epoch FROM now() - min(due_at))::float AS oldest FROM webhook_delivery
        WHERE endpoint_id = endpoint.id AND state = 'pending' AND due_at <= now() OFFSET 0
    ) AS due
"""
EXPORTS = """
    SELECT name, head.seq - progress.seq AS lag, (failed_at IS NOT NULL)::int AS failing
    FROM export_cursor AS progress CROSS JOIN audit_head AS head
"""
HEAD = """
    SELECT seq, (SELECT extract(epoch FROM (body::jsonb ->> 'at')::timestamptz)::float FROM audit_event AS last
                 WHERE last.seq = head.seq) AS at
    FROM audit_head AS head
"""
CONNECTIONS = """
    SELECT coalesce(state, 'unknown') AS state, count(*) AS count,
           current_setting('max_connections')::int AS most
    FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'expunge' GROUP BY state
"""
QUERIES = {
    "models": MODELS,
    "obligations": OBLIGATIONS,
    "batches": BATCHES,
    "banks": BANKS,
    "artifacts": ARTIFACTS,
    "webhooks": WEBHOOKS,
    "exports": EXPORTS,
    "connections": CONNECTIONS,
}


@dataclass(frozen=True)
class Snapshot:
    """The rows of each of `QUERIES`, who is there, and what asking for it took."""

    rows: dict[str, list[dict[str, Any]]]
    present: list[Present]
    seconds: float
    taken: float
    """By the monotonic clock."""


def take() -> Snapshot:
    """Ask all of `QUERIES`, in one read-only transaction in which each may take two seconds."""
    begun = monotonic()
    with transaction() as session:
        session.execute(text(TIMEOUT))
        rows = {name: ask(session, query) for name, query in QUERIES.items()}
        present = presence.everyone(session)
    return Snapshot(rows, present, monotonic() - begun, begun)


def ask(session: Session, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in session.execute(text(query)).mappings()]


def head(session: Session) -> Any:
    """The audit log's last number, and when that event was written; by primary keys, so never kept back."""
    return session.execute(text(HEAD)).one()
