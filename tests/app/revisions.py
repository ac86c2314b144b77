"""Rows as each revision of the schema had them, in its own columns: what a migration finds on a database in use.

A new revision gets an entry, with a row in each table that it makes and a value in each column that it adds.
"""

from typing import Any

BATCHES = ["00000000-0000-0000-0000-00000000000b", "00000000-0000-0000-0000-00000000000c"]
TICKETS = ["00000000-0000-0000-0000-00000000000d", "00000000-0000-0000-0000-00000000000e"]
ENDPOINT, DELIVERY = "00000000-0000-0000-0000-0000000000e1", "00000000-0000-0000-0000-0000000000e2"
CLOSED = '{"batching": {"max_wait_seconds": 0}}'
PARTITION = """
    CREATE TABLE sample_1 (LIKE sample INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
    INSERT INTO sample_1 SELECT 1, n, 's-' || n, 'p-' || n / 2 FROM generate_series(0, 19) AS n;
    ALTER TABLE sample_1 ADD UNIQUE (dataset_id, sample_id);
    ALTER TABLE sample_1 ADD PRIMARY KEY (dataset_id, ordinal);
    CREATE INDEX ON sample_1 (dataset_id, subject);
    ALTER TABLE sample ATTACH PARTITION sample_1 FOR VALUES IN (1)
"""

Row = tuple[str, dict[str, Any]]


def version(number: int, kind: str, parent: int | None, digest: str) -> list[Row]:
    """A batch, its run, its verdict and the version that it published."""
    batch = BATCHES[number - 1]
    return [
        ("batch", {
            "id": batch, "model_id": 1, "kind": "train" if parent is None else "unlearn", "trigger": "size",
            "state": "published", "policy_id": 1, "policy": CLOSED, "why": "large enough", "requested_by": "expunge",
            "attempt": 1, "lease_epoch": 1, "progress": 1.0, "parent_version_id": parent,
        }),
        ("run", {"batch_id": batch, "epoch": 1, "worker": "w:1", "outcome": "published", "detail": f"m-v{number}"}),
        ("verdict", {
            "id": number, "batch_id": batch, "epoch": 1, "rung": "retrain" if parent is None else "iau",
            "weights_digest": digest, "decision": "publish", "reasons": "{}", "method": "{}", "statistics": "{}",
            "thresholds": "{}", "seconds": "{}",
        }),
        ("version", {
            "id": number, "model_id": 1, "number": number, "kind": kind, "parent_id": parent, "batch_id": batch,
            "verdict_id": number, "decision": "publish", "weights_digest": digest, "weights_bytes": 5,
            "manifest_digest": "m" * 64, "excluded_digest": "e" * 64, "excluded_count": number - 1,
            "forgotten": number - 1, "environment": "{}", "superseded_at": "2026-02-01Z" if number == 1 else None,
        }),
    ]  # fmt: skip


def ticket(identity: str, state: str) -> Row:
    values = {
        "id": identity, "client": "tool", "dataset_id": 1, "reason": "erasure_request", "risk_tier": "standard",
        "external_id": f"case-{state}", "state": state, "accepted": 1, "unknown": 0, "already_forgotten": 0,
        "pending_elsewhere": 0, "deadline_at": "2026-03-01Z", "data_removed_at": "2026-02-01Z",
    }  # fmt: skip
    return "ticket", values


ROWS: dict[str, list[Row]] = {
    "0001": [
        ("api_key", {"client": "tool", "prefix": "abc", "digest": b"d", "scopes": "{admin}"}),
        ("dataset", {"id": 1, "name": "people", "sample_count": 20, "subject_count": 10, "manifest_digest": "m" * 64}),
        ("model", {"id": 1, "name": "m", "problem": "digits", "dataset_id": 1}),
        ("policy", {"id": 1, "model_id": 1, "number": 1, "body": CLOSED, "author": "engineer"}),
        *version(1, "trained", None, "1" * 64),
        *version(2, "unlearned", 1, "2" * 64),
        ticket(TICKETS[0], "fulfilled"),
        ticket(TICKETS[1], "pending"),
        ("tombstone", {"dataset_id": 1, "ordinal": 3, "ticket_id": TICKETS[0]}),
        ("tombstone", {"dataset_id": 1, "ordinal": 4, "ticket_id": TICKETS[1]}),
        ("obligation", {"ticket_id": TICKETS[0], "model_id": 1, "state": "fulfilled", "samples": 1, "version_id": 2,
                        "batch_id": BATCHES[1]}),
        ("obligation", {"ticket_id": TICKETS[1], "model_id": 1, "state": "pending", "samples": 1}),
        ("idempotency", {"client": "tool", "key": "k", "request_digest": b"b", "ticket_id": TICKETS[0]}),
        ("schedule", {"id": 1, "model_id": 1, "cron": "0 3 * * 0", "enabled": True, "author": "ops", "next_at": "2026-03-01Z"}),
        ("occurrence", {"schedule_id": 1, "scheduled_for": "2026-02-01Z", "note": "ordered", "batch_id": BATCHES[0]}),
    ],
    "0002": [("UPDATE version", {"id": 2, "records_digest": "3" * 64, "records": '{"steps": 3}'})],
    "0003": [
        ("bank", {"id": 1, "model_id": 1, "version_id": 1, "state": "ready", "wanted": 4, "digest": "4" * 64, "facts": "{}",
                  "why": "asked for", "requested_by": "operator"}),
        ("reference", {"bank_id": 1, "number": 0, "state": "done", "attempt": 1, "lease_epoch": 1, "progress": 1.0}),
        ("UPDATE model", {"id": 1, "deferral": '{"until": "2026-03-01T00:00:00+00:00"}'}),
    ],
    "0004": [
        ("UPDATE api_key", {"id": 1, "requests_per_minute": 5, "ids_per_day": 100}),
        ("daily_ids", {"client": "tool", "day": "2026-02-01", "ids": 7}),
    ],
    "0005": [
        ("approval", {"id": 1, "model_id": 1, "state": "requested", "samples": 1, "share": 0.3, "cap": 0.2}),
        ("UPDATE obligation", {"ticket_id": TICKETS[1], "approval_id": 1}),
        ("UPDATE policy", {"id": 1, "approved_by": "another"}),
        ("proposal", {"id": 1, "model_id": 1, "state": "proposed", "base": 1, "body": CLOSED, "loosens": "{window}",
                      "author": "operator"}),
    ],
    "0006": [("UPDATE version", {"id": 1, "weights_fetched_at": "2026-02-01Z", "disclosure": '{"samples": 1}'})],
    "0007": [
        ("tally", {"name": "batches", "model_id": 1, "labels": "[]", "value": 2.0}),
    ],
    "0008": [
        ("restoration", {"backup": "b", "taken_at": "2026-02-01Z", "schema": "0006", "seq": 0, "hash": b"h",
                         "resolved_at": "2026-02-02Z", "resolved_by": "ada"}),
    ],
    "0009": [
        ("webhook_endpoint", {"id": ENDPOINT, "client": "tool", "url": "https://example.com/hook", "every_client": False,
                              "cursor": 0, "secret_number": 1, "secret_check": b"c"}),
        ("webhook_delivery", {"id": DELIVERY, "endpoint_id": ENDPOINT, "seq": 1, "part": 0, "type": "ticket.accepted",
                              "body": "{}", "state": "delivered", "attempt": 1, "claimed": False, "tries": 1,
                              "give_up_at": "2026-02-04Z", "ended_at": "2026-02-01Z"}),
        ("webhook_attempt", {"delivery_id": DELIVERY, "number": 1, "outcome": "delivered", "status": 200, "seconds": 0.1}),
    ],
    "0011": [
        ("worker", {"name": "celery@a", "role": "worker", "host": "a", "pid": 7, "seen_at": "2026-02-01Z",
                    "heard_at": "2026-02-01Z"}),
    ],
    "0012": [
        ("audit_tile", {"height": 0, "number": 0, "root": b"r", "hashes": b"h"}),
        ("signing_key", {"fingerprint": "f" * 64, "statements": "PEM", "weights": "PEM"}),
        ("checkpoint", {"size": 1, "origin": "expunge/a", "key": "f" * 64, "root": b"r", "note": "n"}),
        ("UPDATE ticket", {"id": TICKETS[0], "salt": b"s"}),
    ],
    "0013": [("UPDATE verdict", {"id": 2, "figures": '{"n_f": 3}'})],
    "0014": [
        ("web_session", {"digest": b"d", "key_id": 1, "expires_at": "2026-02-02Z"}),
    ],
    "0015": [("export_cursor", {"name": "mlflow", "seq": 1, "failed_at": "2026-02-01Z", "failure": "No answer."})],
    "0016": [("UPDATE version", {"id": 2, "exposure": '{"found": 0, "outliers": []}'})],
}  # fmt: skip
