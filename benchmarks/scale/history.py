"""A history of tickets as long as one likes, written by plain SQL: what reads are measured over.

Each ticket names one sample, has one obligation that an early version fulfilled, and three events in the log. The events'
hashes are zeros: what is measured reads them, and nothing here verifies them.
"""

import psycopg

CLIENTS = 10
OWNER = "client-7"
"""One of them, whose list of tickets is read."""

STATEMENTS = (
    """
    INSERT INTO ticket (id, client, dataset_id, reason, risk_tier, state, accepted, unknown, already_forgotten,
                        pending_elsewhere, created_at, data_removed_at, data_releasable_at, closed_at)
    SELECT md5('history ' || i)::uuid, 'client-' || i %% %(clients)s::bigint, %(dataset)s, 'other', 'low', 'fulfilled',
           1, 0, 0, 0, then_, then_, then_, then_
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS i,
         LATERAL (SELECT now() - make_interval(secs => %(last)s::bigint - i) AS then_) AS at
    """,
    """
    INSERT INTO tombstone (dataset_id, ordinal, ticket_id)
    SELECT %(dataset)s, i, md5('history ' || i)::uuid FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS i
    """,
    """
    INSERT INTO obligation (ticket_id, model_id, state, samples, version_id, fulfilled_at, released_at)
    SELECT md5('history ' || i)::uuid, %(model)s, 'fulfilled', 1, %(version)s, now(), now()
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS i
    """,
    """
    INSERT INTO audit_event (seq, kind, ticket_id, model_id, body, hash)
    SELECT head.seq + 3 * (i - %(first)s::bigint) + nth, kind, md5('history ' || i)::uuid, %(model)s::bigint,
           json_build_object('actor', 'expunge', 'at', now(), 'batch', null, 'data', '{}'::json, 'kind', kind,
                             'model', %(model)s::bigint, 'ticket', md5('history ' || i)::uuid)::text,
           decode(repeat('00', 32), 'hex')
    FROM audit_head AS head, generate_series(%(first)s::bigint, %(last)s::bigint) AS i,
         unnest(ARRAY['ticket.accepted', 'ticket.working', 'ticket.fulfilled']) WITH ORDINALITY AS told (kind, nth)
    """,
    "UPDATE audit_head SET seq = (SELECT max(seq) FROM audit_event)",
)


def extend(address: str, first: int, last: int, *, dataset: int, model: int, version: int) -> None:
    """Write the tickets numbered `first` to `last`, inclusive, and let Postgres look at its tables anew."""
    values = {"first": first, "last": last, "dataset": dataset, "model": model, "version": version, "clients": CLIENTS}
    with psycopg.connect(address) as connection:
        for statement in STATEMENTS:
            connection.execute(statement, values if "%(" in statement else None)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE ticket, tombstone, obligation, audit_event")


def ticket_id(connection: psycopg.Connection[tuple[str]], number: int) -> str:
    """The id of a ticket of the history."""
    (found,) = connection.execute("SELECT md5('history ' || %s)::uuid::text", (number,)).fetchone() or ("",)
    return found
