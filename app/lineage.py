"""Who learned from what: look-up of samples and subjects, tombstones, and what a training run may read.

Every read of training data goes through `tombstoned`: the manifest says what there is, the tombstones what no longer
may be read. Ordinals, not ids, travel from here on; they are the positions in the Problem's training samples.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, select, text
from sqlalchemy.orm import Session

from app.tables import Dataset

# A model still holds a sample unless it fulfilled an obligation to some ticket that names the sample, or such a ticket
# owes it nothing: then the ticket is older than the model, which never read the sample, or found it forgotten already.
# A ticket that is just being accepted has no obligations yet, so it is no witness for itself.
STILL_HELD = """
    SELECT mine.ordinal FROM tombstone AS mine
    WHERE mine.ticket_id {tickets}
      AND NOT EXISTS (
        SELECT FROM tombstone AS other
        LEFT JOIN obligation ON obligation.ticket_id = other.ticket_id AND obligation.model_id = model.id
        WHERE other.dataset_id = mine.dataset_id AND other.ordinal = mine.ordinal
          AND (obligation.state = 'fulfilled'
               OR (obligation.state IS NULL AND other.ticket_id <> mine.ticket_id))
      )
"""


def packed(query: str) -> TextClause:
    """A query of distinct ordinals, as one value: eight bytes each, ascending. Postgres lets go of half a gigabyte in one
    value, which is 67 million."""
    one = f"SELECT string_agg(int8send(ordinal), ''::bytea ORDER BY ordinal) FROM ({query}) AS found (ordinal)"  # noqa: S608 - constants of this file
    return text(one)


HELD_BY_MODEL = text(
    "SELECT model.id, (SELECT count(*) FROM ("  # noqa: S608 - joined from constants of this file
    + STILL_HELD.format(tickets="= :ticket_id")
    + ") AS held) AS samples FROM model WHERE model.dataset_id = :dataset_id ORDER BY model.id"
)

# Samples of the ticket that a model's last training read, whatever updates have forgotten since: all but those that a
# version up to that training was published without, and those whose ticket is older than the model.
TRAINED_ON = text(
    """
    SELECT model.id, (
        SELECT count(*) FROM tombstone AS mine
        WHERE mine.ticket_id = :ticket_id AND NOT EXISTS (
            SELECT FROM tombstone AS other
            JOIN ticket ON ticket.id = other.ticket_id
            LEFT JOIN obligation ON obligation.ticket_id = other.ticket_id AND obligation.model_id = model.id
            LEFT JOIN version ON version.id = obligation.version_id
            WHERE other.dataset_id = mine.dataset_id AND other.ordinal = mine.ordinal AND other.ticket_id <> :ticket_id
              AND (version.number <= (SELECT max(number) FROM version AS exact
                                      WHERE exact.model_id = model.id AND exact.kind IN ('trained', 'retrained'))
                   OR (obligation.state IS NULL AND ticket.created_at < model.created_at))
        )
    ) AS samples FROM model WHERE model.dataset_id = :dataset_id ORDER BY model.id
    """
)

FORGET_SET = packed(
    "SELECT DISTINCT held.ordinal FROM model, LATERAL ("  # noqa: S608 - joined from constants of this file
    + STILL_HELD.format(tickets="IN (SELECT ticket_id FROM obligation WHERE batch_id = :batch_id)")
    + ") AS held WHERE model.id = :model_id"
)

# What a version does not hold once the batch is published: samples of tickets that its model has fulfilled or never
# owed, and of the batch's own.
NOT_HELD = packed(
    """
    SELECT DISTINCT tombstone.ordinal FROM tombstone
    LEFT JOIN obligation ON obligation.ticket_id = tombstone.ticket_id AND obligation.model_id = :model_id
    WHERE tombstone.dataset_id = :dataset_id
      AND (obligation.ticket_id IS NULL OR obligation.state = 'fulfilled' OR obligation.batch_id = :batch_id)
    """
)

# Tombstoned samples that nothing may read for a model any more: all but those it still holds and owes an approximate
# answer on. A ticket over unlawful training gets none.
FORGOTTEN = packed(
    "SELECT ordinal FROM tombstone WHERE dataset_id = (SELECT dataset_id FROM model WHERE id = :model_id) "  # noqa: S608 - as above
    "EXCEPT (SELECT held.ordinal FROM model, LATERAL ("
    + STILL_HELD.format(
        tickets="IN (SELECT ticket_id FROM obligation WHERE model_id = :model_id"
        " AND state IN ('pending', 'batched', 'quarantined'))"
    )
    + ") AS held WHERE model.id = :model_id "
    "EXCEPT SELECT tombstone.ordinal FROM tombstone JOIN ticket ON ticket.id = tombstone.ticket_id "
    "WHERE tombstone.dataset_id = (SELECT dataset_id FROM model WHERE id = :model_id) "
    "AND ticket.reason = 'unlawful_training')"
)

TOMBSTONED = packed("SELECT DISTINCT ordinal FROM tombstone WHERE dataset_id = :dataset_id")


def held_by_model(session: Session, dataset_id: int, ticket_id: UUID) -> dict[int, int]:
    """For each model trained on the dataset, how many of the ticket's samples it still holds."""
    rows = session.execute(HELD_BY_MODEL, {"dataset_id": dataset_id, "ticket_id": ticket_id})
    return {row.id: row.samples for row in rows}


def trained_on_by_model(session: Session, dataset_id: int, ticket_id: UUID) -> dict[int, int]:
    """For each model on the dataset, how many of the ticket's samples its last training read: those that an approximate
    update made it forget since are counted, too."""
    rows = session.execute(TRAINED_ON, {"dataset_id": dataset_id, "ticket_id": ticket_id})
    return {row.id: row.samples for row in rows}


def forget_set(session: Session, batch_id: UUID, model_id: int) -> array[int]:
    """Ordinals that the batch must make its model forget, ascending, without those it forgot before."""
    return ordinals(session, FORGET_SET, {"batch_id": batch_id, "model_id": model_id})


def not_held(session: Session, batch_id: UUID, model_id: int, dataset_id: int) -> array[int]:
    """Ordinals that a version published by the batch no longer holds, ascending."""
    return ordinals(session, NOT_HELD, {"batch_id": batch_id, "model_id": model_id, "dataset_id": dataset_id})


def forgotten(session: Session, model_id: int) -> array[int]:
    """Tombstoned ordinals that nothing may read for the model any more, ascending: it has forgotten or never held them, or
    will be trained anew without them. The others wait for an update, which reads them, and is judged by them."""
    return ordinals(session, FORGOTTEN, {"model_id": model_id})


def tombstoned(session: Session, dataset_id: int) -> array[int]:
    """Ordinals that no training may read from now on, ascending."""
    return ordinals(session, TOMBSTONED, {"dataset_id": dataset_id})


def ordinals(session: Session, query: TextClause, values: dict[str, Any]) -> array[int]:
    """What `packed` has made one value of: a row each would cost three times as much, most of it in this process."""
    found = array("q", session.scalar(query, values) or b"")
    if sys.byteorder == "little":
        found.byteswap()  # Postgres sends its numbers with the highest byte first
    return found


def digest(ordinals: array[int]) -> str:
    """SHA-256 of ascending ordinals as little-endian 64-bit integers."""
    words = array("q", ordinals)
    if words.itemsize != 8:
        raise AssertionError("array('q') is 64 bits wide")
    return hashlib.sha256(words.tobytes()).hexdigest()


def lock_for_snapshot(session: Session, dataset_id: int) -> None:
    """Let no ticket on the dataset commit until this transaction ends.

    A ticket's foreign key holds its dataset's row FOR KEY SHARE; FOR UPDATE waits for tickets on their way and keeps
    later ones waiting. What is read after this line is therefore one consistent picture: every tombstone seen belongs
    to an obligation seen, and the other way round.
    """
    session.execute(select(Dataset.id).where(Dataset.id == dataset_id).with_for_update())
