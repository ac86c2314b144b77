"""The statements that put a ticket on disk, few because each is a round trip that a client waits for.

`ACCEPT` does all that can be done on one look at the database, `OWE` what must be read after it. Between `ACCEPT` and
the commit nothing waits but on the audit log's head. The rest of a ticket's life is in tickets.py.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import Cursor

from app import audit
from app.errors import TooMany

# Takes the Idempotency-Key, finds the dataset and the samples, writes ticket, tombstones and key, counts what it met.
# A ticket costs one look-up an id and one row a sample. Samples that an earlier ticket named get a row of this ticket
# too, so that either can be cancelled. The steps depend on each other from top to bottom, so that a key in use, an
# unknown dataset or an external_id that is taken leaves the steps below it without rows.
#
# Planning it takes a millisecond, so its plan must be made once a connection and stay good. `unnest` hides the ids from
# the planner, which then keeps one plan for all tickets; and the look at earlier tickets is a subquery for each sample,
# which can only go by the indexes: a join might be planned as a scan while the tables are empty, and stay one.
ACCEPT = """
    WITH lock AS MATERIALIZED (
        SELECT coalesce(pg_try_advisory_xact_lock(hashtextextended(%(client)s || chr(31) || %(key)s, 0)), true) AS free
    ), earlier AS MATERIALIZED (
        SELECT request_digest, ticket_id FROM idempotency WHERE client = %(client)s AND key = %(key)s
    ), source AS MATERIALIZED (
        SELECT id FROM dataset WHERE name = %(dataset)s AND (SELECT free FROM lock) AND NOT EXISTS (SELECT FROM earlier)
    ), wanted AS MATERIALIZED (
        SELECT ordinal FROM sample WHERE dataset_id = (SELECT id FROM source)
        AND sample_id = ANY (ARRAY(SELECT unnest(%(sample_ids)s::text[])))
    ), owned AS MATERIALIZED (
        SELECT ordinal, subject FROM sample WHERE dataset_id = (SELECT id FROM source)
        AND subject = ANY (ARRAY(SELECT unnest(%(subject_ids)s::text[])))
    ), known AS MATERIALIZED (
        SELECT ordinal FROM wanted
        UNION ALL SELECT ordinal FROM owned WHERE ordinal NOT IN (SELECT ordinal FROM wanted)
    ), named AS MATERIALIZED (
        SELECT (SELECT bool_or(ticket.state = 'fulfilled') FROM tombstone JOIN ticket ON ticket.id = tombstone.ticket_id
                WHERE tombstone.dataset_id = (SELECT id FROM source) AND tombstone.ordinal = known.ordinal) AS forgotten
        FROM known
    ), met AS MATERIALIZED (
        SELECT count(*) AS samples,
               cardinality(%(sample_ids)s::text[]) - (SELECT count(*) FROM wanted)
               + CASE cardinality(%(subject_ids)s::text[]) WHEN 0 THEN 0
                 ELSE cardinality(%(subject_ids)s::text[]) - (SELECT count(DISTINCT subject) FROM owned) END AS unknown,
               count(*) FILTER (WHERE forgotten) AS already_forgotten,
               count(*) FILTER (WHERE NOT forgotten) AS pending_elsewhere
        FROM named
    ), made AS (
        INSERT INTO ticket (id, client, dataset_id, reason, risk_tier, external_id, state, accepted, unknown,
                            already_forgotten, pending_elsewhere, deadline_at, data_removed_at, salt)
        SELECT %(ticket_id)s, %(client)s, source.id, %(reason)s, %(risk_tier)s, %(external_id)s, 'pending',
               samples - already_forgotten - pending_elsewhere, unknown,
               already_forgotten, pending_elsewhere, %(deadline_at)s, now(), %(salt)s
        FROM met, source WHERE samples > 0
        ON CONFLICT (client, external_id) DO NOTHING
        RETURNING id, dataset_id
    ), buried AS (
        INSERT INTO tombstone (dataset_id, ordinal, ticket_id) SELECT dataset_id, ordinal, id FROM made, known
    ), kept AS (
        INSERT INTO idempotency (client, key, request_digest, ticket_id)
        SELECT %(client)s, %(key)s, %(digest)s, id FROM made WHERE %(key)s IS NOT NULL
        ON CONFLICT (client, key) DO NOTHING
        RETURNING ticket_id
    )
    SELECT (SELECT free FROM lock), (SELECT request_digest FROM earlier), (SELECT ticket_id FROM earlier),
           (SELECT id FROM source), EXISTS (SELECT FROM made), EXISTS (SELECT FROM kept),
           samples, unknown, already_forgotten, pending_elsewhere
    FROM met
"""

# An obligation for each model on the dataset, and the event that names those models. A statement after `ACCEPT`, never
# a part of it: see `owe_all`. The obligations come first, so that the lock on the log's head is held for the commit alone.
OWE = (
    """
    WITH owed AS (
        INSERT INTO obligation (ticket_id, model_id, state, samples, deadline_at)
        SELECT %(ticket_id)s, id, 'pending', %(samples)s, %(deadline_at)s FROM model WHERE dataset_id = %(dataset_id)s
        RETURNING model_id
    ), event AS MATERIALIZED (
        SELECT %(before)s || coalesce(string_agg(model_id::text, ','), '') || %(after)s AS body FROM owed
    ),
    """  # noqa: S608 - joined from constants
    + audit.CHAIN
    + "SELECT model_id FROM owed"
)


@dataclass(frozen=True)
class Counts:
    """Counts of one ticket: `samples` known in all, of which an earlier ticket had named some."""

    samples: int
    unknown: int
    already_forgotten: int
    pending_elsewhere: int

    @property
    def accepted(self) -> int:
        """Samples that this ticket is the first to name."""
        return self.samples - self.already_forgotten - self.pending_elsewhere


@dataclass(frozen=True)
class Met:
    """What `ACCEPT` came upon, in its order. Without `ticket_made` nothing was written."""

    key_free: bool
    earlier_digest: bytes | None
    earlier_ticket: UUID | None
    dataset_id: int | None
    ticket_made: bool
    key_kept: bool
    counts: Counts


def accept(opened: Cursor[Any], values: dict[str, Any]) -> Met:
    """Execute `ACCEPT`. Ids must be distinct within each list; unknown ones are counted, not kept.

    The statement looks before it takes the key's lock: a first request that commits in that moment is neither found
    open nor found done. Then its row is in the way of this one's, `key_kept` is False, and the caller must give up.

    The ticket's foreign key holds its dataset's row FOR KEY SHARE, so the statement ends only when no training takes
    its snapshot and no model is being registered: see `lineage.lock_for_snapshot`.
    """
    ((free, digest, ticket_id, dataset_id, made, kept, *counts),) = opened.execute(ACCEPT, values, prepare=True)
    return Met(free, digest, ticket_id, dataset_id, made, kept, Counts(*counts))


# Not before the ticket, so that what is refused or replayed counts nothing; not after `OWE`, which holds the lock on the
# log's head: one client's tickets wait for each other here, and nobody else's for them.
COUNT_IDS = """
    INSERT INTO daily_ids AS known (client, day, ids)
    VALUES (%(client)s, (now() AT TIME ZONE 'UTC')::date, %(ids)s)
    ON CONFLICT (client, day) DO UPDATE SET ids = known.ids + excluded.ids
    RETURNING ids, extract(epoch FROM (day + 1)::timestamp AT TIME ZONE 'UTC' - now())::float8
"""


def count_ids(opened: Cursor[Any], client: str, ids: int, most: int) -> None:
    """Count what a ticket names towards its client's day (UTC). Raises `TooMany`, and the caller rolls back."""
    found = opened.execute(COUNT_IDS, {"client": client, "ids": ids}, prepare=True).fetchone()
    assert found is not None
    if found[0] > most:
        raise TooMany(
            f"{most} ids a day are this client's limit, and {found[0] - ids} were named today. Send the rest tomorrow (UTC), "
            "or ask an administrator for a key with a higher limit.",
            found[1],
        )


def owe_all(opened: Cursor[Any], values: dict[str, Any], event: dict[str, Any]) -> list[int]:
    """An obligation for each model on the dataset, with the event, whose list `models` is still empty; returns their ids.

    Models are read by a statement that begins after the ticket's row stands. A registration that the row waited for is
    therefore seen here; one that comes later waits for the ticket, and leaves its samples out.
    """
    before, hole, after = event["body"].partition(HOLE)
    return [m for (m,) in opened.execute(OWE, values | event | {"before": before + hole, "after": after}, prepare=True)]


HOLE = '"models":['
"""Where the event's text takes the ids. In JSON only a name looks like this: a quote inside a value is escaped."""
