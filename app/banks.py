"""A model's reference bank: ordered, grown, assembled, purged, retired. How its references are trained: references.py.

A bank belongs to a version that was trained and serves every update that descends from it; the next training ends it.
Whoever locks more than one row does so in this order: the batch, the model, the bank, its references, tickets; and
appends to the log last.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import audit, lineage, policy
from app.db import changed
from app.errors import Conflict, Unprocessable
from app.policy import PolicyBody
from app.tables import EXACT, Bank, BankState, Model, Reference, ReferenceState, Version

GROUP = 4
"""References come by groups of four: `unlearning.division`."""
SHARE = 0.75
"""Of a training, what one reference costs: it leaves a quarter of the subjects out."""
OPEN = [ReferenceState.PENDING, ReferenceState.RUNNING]


class Changed(Exception):
    """What a worker had read of a bank is no longer so, and nothing was written: read it again."""


@dataclass(frozen=True)
class Held:
    """What a bank keeps as bytes: its table, and the scores of finished references that are not in it yet, by number."""

    bank_id: int
    model_id: int
    digest: str | None
    scores: dict[int, str]
    facts: dict[str, Any] | None
    samples: int
    """Of the training set, live or not."""

    @property
    def whole(self) -> list[int]:
        """Numbers of the references whose whole group is finished, and not in the table."""
        groups = {number // GROUP for number in self.scores}
        ready = [g for g in sorted(groups) if all(GROUP * g + part in self.scores for part in range(GROUP))]
        return [GROUP * group + part for group in ready for part in range(GROUP)]

    @property
    def digests(self) -> set[str]:
        return {digest for digest in (self.digest, *self.scores.values()) if digest is not None}


@dataclass(frozen=True)
class Purge:
    """What replaces `seen` when samples are forgotten: bytes without their rows, stored already.

    `scores` maps a reference's number to what replaces its scores; None where they cannot be read and it must be trained
    again. `unusable` says why the table cannot be read, which ends the bank; `samples` of the table had a row.
    """

    seen: Held
    digest: str | None
    scores: dict[int, str | None]
    samples: int
    facts: dict[str, Any] | None
    unusable: str | None = None


@dataclass(frozen=True)
class Quote:
    """What a bank of so many references would cost, or what is left to do of one. `seconds` are those of one worker, None
    where the last training's are not known; `bytes` are the rows of the training set."""

    references: int
    trainings: int
    seconds: float | None
    bytes: int


def in_use(session: Session, model_id: int) -> Bank | None:
    """The model's bank, unless it is retired."""
    return session.scalar(select(Bank).where(Bank.model_id == model_id, Bank.state != BankState.RETIRED))


def anchor(session: Session, model_id: int) -> Version | None:
    """The model's newest version that was trained, not unlearned."""
    trained = select(Version).where(Version.model_id == model_id, Version.kind.in_(EXACT))
    return session.scalar(trained.order_by(Version.number.desc()).limit(1))


def lock(session: Session, model_id: int) -> Bank | None:
    """The model's bank, locked with all its references: from here to the commit no worker changes it."""
    query = select(Bank).where(Bank.model_id == model_id, Bank.state != BankState.RETIRED)
    bank = session.scalar(query.with_for_update(key_share=True).execution_options(populate_existing=True))
    if bank is not None:
        rows = select(Reference).where(Reference.bank_id == bank.id).order_by(Reference.number)
        session.scalars(rows.with_for_update(key_share=True).execution_options(populate_existing=True)).all()
    return bank


def held(session: Session, model_id: int) -> Held | None:
    """What the model's bank keeps as bytes just now; None where there is no bank in use."""
    bank = in_use(session, model_id)
    if bank is None:
        return None
    finished = select(Reference.number, Reference.digest).where(Reference.bank_id == bank.id)
    finished = finished.where(Reference.state == ReferenceState.DONE, Reference.digest.is_not(None))
    scores = {number: digest for number, digest in session.execute(finished) if digest is not None}
    return Held(bank.id, model_id, bank.digest, scores, bank.facts, bank.model.dataset.sample_count)


def named(session: Session, digests: set[str]) -> set[str]:
    """Those of the digests that a bank or a reference names."""
    tables = session.scalars(select(Bank.digest).where(Bank.digest.in_(digests)))
    scores = session.scalars(select(Reference.digest).where(Reference.digest.in_(digests)))
    return {digest for digest in (*tables, *scores) if digest is not None}


def order(session: Session, model: Model, version: Version | None, wanted: int, why: str, by: str) -> Bank:
    """A bank of `wanted` references for the version; where there is one, it grows to them, and those of its references
    that have failed get their attempts back. One that has as many already is returned as it is.

    Call it before anything is appended to the log: it locks the model, the bank and its references.

    Raises:
        Conflict: the policy says `never`, nothing was trained yet, or the version is not the newest that was.
        Unprocessable: not a multiple of four, or more than the policy's `bank.most`.
    """
    session.execute(select(Model.id).where(Model.id == model.id).with_for_update(key_share=True))
    rules = policy.stored(policy.current(session, model.id).body).bank
    if rules.build == "never":
        raise Conflict("The model's policy says `bank.build` never. Replace the policy first.")
    newest = anchor(session, model.id)
    if version is None or newest is None:
        raise Conflict("The model has no trained version yet. Order the bank after its first training.")
    if version.id != newest.id:
        raise Conflict(f"Version {newest.number} has been trained since. Order its bank instead.")
    if wanted < GROUP or wanted % GROUP:
        raise Unprocessable(f"References come by groups of {GROUP}: ask for a multiple of it.")
    if wanted > rules.most:
        raise Unprocessable(f"The policy allows {rules.most} references (`bank.most`). Ask for fewer, or replace it.")
    bank = lock(session, model.id)
    if bank is None:
        return create(session, version, wanted, why, by)
    assert bank.version_id == version.id, "a training retires the bank of the line before"
    grow(session, bank, wanted, why, by)
    return bank


def create(session: Session, version: Version, wanted: int, why: str, by: str) -> Bank:
    """A new bank, with its references to be trained. The caller has locked the model, which has none in use."""
    bank = Bank(
        model_id=version.model_id,
        version_id=version.id,
        state=BankState.BUILDING,
        wanted=wanted,
        why=why,
        requested_by=by,
    )
    session.add(bank)
    session.flush()
    add(session, bank, range(wanted))
    told = {"bank": bank.id, "version": version.number, "references": wanted, "why": why}
    audit.append(session, "bank.ordered", by, model_id=bank.model_id, **told)
    return bank


def grow(session: Session, bank: Bank, wanted: int, why: str, by: str) -> None:
    """Add references up to `wanted`, and let those that failed be tried again."""
    failed = update(Reference).where(Reference.bank_id == bank.id, Reference.state == ReferenceState.FAILED)
    again = {"state": ReferenceState.PENDING, "attempt": 0, "not_before": func.now(), "failure": None}
    revived = changed(session, failed.values(**again))
    missing = range(bank.wanted, wanted)
    add(session, bank, missing)
    bank.wanted = max(bank.wanted, wanted)
    if missing or revived:
        told = {"bank": bank.id, "references": bank.wanted, "added": len(missing), "tried_again": revived, "why": why}
        audit.append(session, "bank.grown", by, model_id=bank.model_id, **told)


def add(session: Session, bank: Bank, numbers: range) -> None:
    session.add_all(Reference(bank_id=bank.id, number=n, state=ReferenceState.PENDING) for n in numbers)
    session.flush()


def ensure_after_training(session: Session, version: Version, body: PolicyBody) -> None:
    """In the transaction that publishes a training: end the bank of the line before, and order the new one's where the
    policy says so. The caller has locked the model, and the bank by `lock` before it appended anything."""
    bank = lock(session, version.model_id)
    if bank is not None:
        retire(session, bank, f"version {version.number} was trained")
    if body.bank.build == "training":
        wanted = min(body.bank.references, body.bank.most)
        create(session, version, wanted, "the policy builds a bank after every training", "expunge")


def retire(session: Session, bank: Bank, why: str) -> None:
    """End a bank that the caller has locked. No row names its bytes any more, and a worker that trains one of its
    references has lost its lease."""
    bank.state, bank.digest, bank.retired_at = BankState.RETIRED, None, func.now()
    mine = update(Reference).where(Reference.bank_id == bank.id)
    session.execute(mine.values(digest=None))
    ended = mine.where(Reference.state.in_(OPEN)).values(
        state=ReferenceState.FAILED,
        failure="the bank was retired",
        lease_until=None,
        lease_epoch=Reference.lease_epoch + 1,
    )
    session.execute(ended)
    audit.append(session, "bank.retired", "expunge", model_id=bank.model_id, bank=bank.id, why=why)


def retire_seen(session: Session, seen: Held, why: str) -> None:
    """Retire a bank whose table cannot be used, provided that it still is the one seen."""
    bank = lock(session, seen.model_id)
    if bank is None or held(session, seen.model_id) != seen:
        raise Changed
    retire(session, bank, why)


def assembled(
    session: Session, seen: Held, numbers: list[int], digest: str, facts: dict[str, Any], forgotten: array[int]
) -> None:
    """Put a table in use that holds these references too. Their own scores are named no more.

    The table's bytes are stored already, and hold no row of `forgotten`. With the bank locked nothing is published that
    would forget more, so no row outlives its publication. The model is locked before it, for whoever stops the model's
    updates over what the table says.

    Raises:
        Changed: another worker was first, or more was forgotten meanwhile.
    """
    session.execute(select(Model.id).where(Model.id == seen.model_id).with_for_update(key_share=True))
    bank = lock(session, seen.model_id)
    if bank is None or held(session, seen.model_id) != seen or forgotten != lineage.forgotten(session, seen.model_id):
        raise Changed
    session.execute(
        update(Reference).where(Reference.bank_id == bank.id, Reference.number.in_(numbers)).values(digest=None)
    )
    in_table = (Reference.bank_id == bank.id) & (Reference.state == ReferenceState.DONE) & Reference.digest.is_(None)
    seconds = session.scalar(select(func.sum(Reference.seconds)).where(in_table))
    bank.state, bank.digest, bank.facts = BankState.READY, digest, facts | {"seconds": float(seconds or 0.0)}
    bank.ready_at = bank.ready_at or func.now()
    told = {"bank": bank.id, "table": digest, "references": facts["references"], "samples": facts["samples"]}
    audit.append(session, "bank.ready", "expunge", model_id=bank.model_id, **told)


def purge(session: Session, model_id: int, wanted: Purge | None) -> None:
    """In the transaction that publishes an update: what is forgotten leaves the bank. The caller has locked the bank.

    Raises:
        Changed: the bank keeps other bytes than those that were rewritten; None says that it kept none.
    """
    bank, now = lock(session, model_id), held(session, model_id)
    as_seen = now == wanted.seen if wanted is not None else now is None or not now.digests
    if not as_seen:
        raise Changed
    if bank is None or wanted is None:
        return
    if wanted.unusable is not None:
        retire(session, bank, wanted.unusable)
        return
    bank.digest, bank.facts = wanted.digest, wanted.facts
    for number, digest in wanted.scores.items():
        row = session.get_one(Reference, (bank.id, number))
        row.digest = digest
        if digest is None:
            train_again(row)
    if wanted.digest != wanted.seen.digest or wanted.scores:
        told = {"bank": bank.id, "table": wanted.digest, "samples": wanted.samples, "references": len(wanted.scores)}
        audit.append(session, "bank.purged", "expunge", model_id=model_id, **told)


def train_again(row: Reference) -> None:
    """A finished reference whose scores are gone, locked by the caller."""
    row.state, row.attempt, row.digest, row.progress = ReferenceState.PENDING, 0, None, 0.0


def quote(session: Session, model: Model, references: int) -> Quote:
    """What is still to be spent on a bank of `references` for the model as it stands."""
    bank, trained = in_use(session, model.id), anchor(session, model.id)
    done = select(func.count()).select_from(Reference).where(Reference.state == ReferenceState.DONE)
    finished = session.scalar(done.where(Reference.bank_id == bank.id)) if bank is not None else 0
    trainings = max(0, references - (finished or 0))
    seconds = trained.verdict.seconds.get("train") if trained is not None else None
    row = 8 + 5 * (references // GROUP)  # a class, and for each group a loss and which reference it is from
    return Quote(
        references,
        trainings,
        None if seconds is None else SHARE * seconds * trainings,
        row * model.dataset.sample_count,
    )
