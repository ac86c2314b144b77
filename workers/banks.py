"""A reference bank's bytes: the table put together from finished references, purged of what is forgotten, read.

Bytes are stored before the row that names them, and those that no row names any more are deleted after the commit. Each
loop here ends: another turn means that another worker has got something done.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog

from app import banks, coverage, lineage, references, store
from app.banks import Changed, Held, Purge
from app.db import transaction
from app.errors import Corrupt, Gone
from unlearning.bank import NEVER, Bank, Reference, assemble
from unlearning.calibration import facts_of
from unlearning.problem import Indices
from workers import artifacts
from workers.context import Context

log = structlog.get_logger()


@dataclass(frozen=True)
class Table:
    """A bank's table as a verdict may lean on it: what it holds, the bytes it was read from, and what its row says."""

    bank: Bank
    digest: str
    facts: dict[str, Any]


def load_bank(context: Context) -> Table | None:
    """The table of the run's model as it is now, verified. None where there is none, or none that can be read."""
    tried = None
    while True:
        with transaction() as session:
            found = banks.held(session, context.lease.model_id)
        if found is None or found.digest is None or found.digest == tried:
            return None
        tried = found.digest
        try:
            return Table(artifacts.load_bank(tried), tried, found.facts or {})
        except (Corrupt, Gone) as error:  # gone: perhaps replaced while we were about to read it
            log.warning("bank.unusable", bank=found.bank_id, error=error.code)


def assemble_whole() -> None:
    """Put every whole group of finished references that is not in its bank's table yet there."""
    with transaction() as session:
        waiting = references.whole(session)
    for model_id in waiting:
        while not assembled(model_id):
            log.info("bank.changed", model=model_id)


def assembled(model_id: int) -> bool:
    """One attempt at the table of a model's bank; False when another worker has changed the bank meanwhile."""
    with transaction() as session:
        seen, gone = banks.held(session, model_id), lineage.forgotten(session, model_id)
    if seen is None or not seen.whole:
        return True
    try:
        finished = scores_of(seen)
        if finished is None:
            return False
        table = table_of(seen, finished, ordinals(gone))
        digest, size = artifacts.save_bank(table, seen.bank_id)
        with transaction() as session:
            told = facts(table, size)
            banks.assembled(session, seen, seen.whole, digest, told, gone)
            coverage.check_bank(session, seen.model_id, told)
    except Changed:
        return False
    except (Corrupt, Gone, ValueError) as error:
        return retired(seen, error)
    discard(seen)
    return True


def scores_of(seen: Held) -> list[Reference] | None:
    """The scores of whole groups; None where some cannot be read: those references are then trained again."""
    found = []
    for number in seen.whole:
        try:
            found.append(artifacts.load_reference(seen.scores[number]))
        except (Corrupt, Gone) as error:
            with transaction() as session:
                references.lose(session, seen.model_id, number, seen.scores[number], error.detail)
    return found if len(found) == len(seen.whole) else None


def table_of(seen: Held, finished: list[Reference], gone: Indices) -> Bank:
    """The table that there is, with the references put to it. Raises `ValueError` where they do not go together."""
    if seen.digest is None:
        return assemble(finished, seen.samples).without(gone)
    return artifacts.load_bank(seen.digest).extended(finished).without(gone)


def retired(seen: Held, error: Exception) -> bool:
    """End a bank that cannot be put together; False when it has changed meanwhile."""
    try:
        with transaction() as session:
            banks.retire_seen(session, seen, str(error))
    except Changed:
        return False
    discard(seen)
    return True


def facts(table: Bank, size: int) -> dict[str, Any]:
    """What a table's row says of it."""
    return facts_of(table) | {"bytes": size}


def without(model_id: int, forget: Indices) -> Purge | None:
    """What a model's bank keeps, rewritten and stored without the rows of these samples; None where it keeps nothing.

    A table that cannot be read ends its bank: what it holds of the samples is lost with it, and the publication goes on.
    """
    with transaction() as session:
        seen = banks.held(session, model_id)
    if seen is None or not seen.digests:
        return None
    scores = {}
    for number, old in seen.scores.items():
        new = scores_without(old, seen.bank_id, forget)
        if new != old:
            scores[number] = new
    if seen.digest is None:
        return Purge(seen, None, scores, 0, None)
    try:
        table = artifacts.load_bank(seen.digest)
    except (Corrupt, Gone) as error:
        return Purge(seen, None, scores, 0, None, unusable=error.detail)
    rows = int((table.reference_GN[:, forget] != NEVER).any(axis=0).sum())
    if not rows:
        return Purge(seen, seen.digest, scores, 0, seen.facts)
    left = table.without(forget)
    digest, size = artifacts.save_bank(left, seen.bank_id)
    now = {"samples": int((left.reference_GN != NEVER).all(axis=0).sum()), "bytes": size}
    return Purge(seen, digest, scores, rows, (seen.facts or {}) | now)


def scores_without(digest: str, bank_id: int, forget: Indices) -> str | None:
    """The digest of a reference's scores without these samples; the same where it has none, None where none can be read."""
    try:
        scores = artifacts.load_reference(digest)
    except (Corrupt, Gone):
        return None
    if not np.isin(scores.out_N, forget).any():
        return digest
    return artifacts.save_reference(scores.without(forget), bank_id)


def discard(seen: Held | None) -> None:
    """After a commit: delete the bytes that no row names any more."""
    if seen is None or not seen.digests:
        return
    with transaction() as session:
        kept = banks.named(session, seen.digests)
    for digest in seen.digests - kept:
        store.delete(digest)


def ordinals(found: array[int]) -> Indices:
    return np.asarray(found, dtype=np.int64)
