"""One attempt at a batch: claim it, hold it by heartbeat, judge, publish or fail. Every write checks the lease epoch.

A claim and a publication are short transactions; between them no transaction is open. A worker that sleeps past its
lease finds its epoch gone: whatever it then writes matches no row and raises `StaleEpoch`.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session, joinedload

from app import audit, banks, batches, consent, disclosure, due, lineage, lockdown, policy, tickets
from app.config import settings
from app.db import among, changed
from app.errors import Conflict, StaleEpoch
from app.policy import Judgement, PolicyBody
from app.tables import (
    Batch,
    BatchKind,
    BatchState,
    Decision,
    Model,
    Obligation,
    ObligationState,
    Run,
    Ticket,
    TicketState,
    Trigger,
    Verdict,
    Version,
    VersionKind,
)
from expunge.evidence.measured import measured_sha256

RETRAIN = "retrain"
"""The last rung, which is exact: what bounds approximate ones is no concern of its."""
SPENT = "its attempts are spent: no more of this batch may be judged on one split of the audit's data"


class Stopped(Exception):
    """Approximate updates of the model were stopped while one was about to be published. The message says why."""


@dataclass(frozen=True)
class Kept:
    """What a version keeps of the training its weights come from: the artifact, and what the audit says of it.

    `of` names the version that was trained. `steps` and `journal_steps` are null where they were not recorded; those
    whose change was purged are `lost_steps`, those whose change was taken back out of the weights `undone_steps`.
    `purged_samples` counts what was forgotten since the training, and of which nothing is kept here.
    """

    digest: str
    bytes: int
    of: str
    quoted_bytes: int
    parts: list[str]
    epochs: int
    steps: int | None
    journal_steps: int | None
    lost_steps: int
    undone_steps: int
    purged_samples: int


@dataclass(frozen=True)
class Parent:
    """The version an update starts from."""

    id: int
    number: int
    weights_digest: str
    gradients_digest: str | None
    kept: Kept | None = None


@dataclass(frozen=True)
class Lease:
    """A worker's hold on a batch: plain values, so that nothing lazy crosses the transaction's edge."""

    batch_id: UUID
    epoch: int
    attempt: int
    kind: BatchKind
    model_id: int
    model: str
    problem: str
    dataset_id: int
    manifest_digest: str
    parent: Parent | None
    policy: PolicyBody


def claim(session: Session, model_id: int, worker: str) -> Lease | None:
    """Take the model's oldest claimable batch, or None when there is none or another worker is choosing one just now.

    Attempt and epoch rise by one. A batch whose attempts are spent is not taken but quarantined, or split to find the
    ticket that poisons it. Nothing is claimed on a database that was just restored.
    """
    if lockdown.unresolved(session) is not None:
        return None
    locked = select(Model).where(Model.id == model_id).with_for_update(key_share=True, skip_locked=True)
    model = session.scalar(locked)
    if model is None:
        return None
    held = (Batch.state == BatchState.RUNNING) & (Batch.lease_until >= func.now())
    if session.scalar(select(Batch.id).where(Batch.model_id == model_id, held)) is not None:
        return None
    query = select(Batch).where(Batch.model_id == model_id, batches.claimable())
    # A batch that was running comes first: only one may run, and it is the one.
    query = query.order_by((Batch.state == BatchState.RUNNING).desc(), Batch.created_at, Batch.id).limit(1)
    # Its late worker may be publishing just now, with the batch locked and waiting for the model: leave it to that.
    batch = session.scalar(query.with_for_update(skip_locked=True))
    if batch is None:
        return None
    if batch.attempt >= settings().max_attempts:
        give_up(session, batch, batch.failure or "its worker was lost in each attempt")
        return None
    if batch.kind is BatchKind.TRAIN and model.current_version_id is not None:
        batch.kind = BatchKind.RETRAIN  # another training was first
    if batch.kind is BatchKind.UNLEARN:
        check_kind(session, batch)
    if batch.kind is BatchKind.RETRAIN:
        barred = consent.barred(session, model)
        if barred is not None:
            put_off(session, batch, model, barred)
            return None
    batches.move(batch, BatchState.RUNNING)
    batch.attempt += 1
    batch.lease_epoch += 1
    batch.lease_until = func.now() + timedelta(seconds=settings().lease_seconds)
    batch.started_at = batch.started_at or func.now()
    batch.parent_version_id = model.current_version_id
    batch.rung, batch.step, batch.progress = None, "claimed", 0.0
    session.add(Run(batch_id=batch.id, epoch=batch.lease_epoch, worker=worker))
    audit.append(
        session,
        "run.claimed",
        worker,
        batch_id=batch.id,
        model_id=model_id,
        epoch=batch.lease_epoch,
        attempt=batch.attempt,
    )
    return lease_of(session, batch, model)


def put_off(session: Session, batch: Batch, model: Model, held: str) -> None:
    """Leave a retrain until a second person has consented to what it would leave out; looked at again each minute, and as
    soon as somebody has decided."""
    if batch.state is not BatchState.READY:
        batches.move(batch, BatchState.READY)
    batch.kind, batch.lease_until, batch.step = BatchKind.RETRAIN, None, "waits for approval"
    batch.not_before = func.now() + timedelta(minutes=1)
    batches.say_held(session, model, held)


def check_kind(session: Session, batch: Batch) -> None:
    """Turn a batch into a retrain when it has come to hold a ticket that gets no approximate answer.

    It closed without one. But where its last rung took over all that was owed, and then failed, those tickets are in it
    when it is tried again, and in one of its halves when it is split.
    """
    why = due.no_approximation(due.held_by(session, batch.id), policy.stored(batch.policy))
    if why is not None:
        batch.kind, batch.why = BatchKind.RETRAIN, why


def lease_of(session: Session, batch: Batch, model: Model) -> Lease:
    return Lease(
        batch_id=batch.id,
        epoch=batch.lease_epoch,
        attempt=batch.attempt,
        kind=batch.kind,
        model_id=model.id,
        model=model.name,
        problem=model.problem,
        dataset_id=model.dataset_id,
        manifest_digest=model.dataset.manifest_digest,
        parent=parent_of(session.get_one(Version, batch.parent_version_id)) if batch.parent_version_id else None,
        policy=policy.stored(batch.policy),
    )


def tickets_of(session: Session, lease: Lease) -> list[UUID]:
    """The tickets that a batch holds, oldest first."""
    mine = select(Obligation.ticket_id).where(Obligation.batch_id == lease.batch_id)
    batched = mine.where(Obligation.state == ObligationState.BATCHED)
    return list(session.scalars(batched.order_by(Obligation.created_at, Obligation.ticket_id)))


def parent_of(version: Version) -> Parent:
    kept = Kept(**version.records) if version.records_digest and version.records else None
    return Parent(version.id, version.number, version.weights_digest, version.gradients_digest, kept)


def heartbeat(session: Session, lease: Lease, *, rung: str | None, step: str, progress: float) -> bool:
    """Renew the lease and say what is being done; False when the batch is no longer ours."""
    renewed = update(Batch).where(
        Batch.id == lease.batch_id, Batch.lease_epoch == lease.epoch, Batch.state == BatchState.RUNNING
    )
    until = func.now() + timedelta(seconds=settings().lease_seconds)
    values = {"lease_until": until, "rung": rung, "step": step, "progress": progress}
    return changed(session, renewed.values(**values)) == 1


def fenced(session: Session, lease: Lease) -> Batch:
    """The batch, locked, if this lease still holds it; `StaleEpoch` otherwise, and nothing is written."""
    query = select(Batch).where(
        Batch.id == lease.batch_id, Batch.lease_epoch == lease.epoch, Batch.state == BatchState.RUNNING
    )
    batch = session.scalar(query.with_for_update())
    if batch is None:
        raise StaleEpoch("Another run has taken this batch over.")
    return batch


def absorb(session: Session, lease: Lease) -> bool:
    """Before a retrain reads anything: take every obligation the model still owes. False where that is more than may be
    forgotten without a second person's consent: then the run has ended, and the batch waits for it as a retrain.

    A retrain leaves out all tombstoned samples, so it owes all their tickets; batches that waited with some of them have
    nothing left to do. Tickets that come later see this training's end in the next batch.
    """
    lineage.lock_for_snapshot(session, lease.dataset_id)
    batch = fenced(session, lease)
    model = session.scalars(select(Model).where(Model.id == lease.model_id).with_for_update(key_share=True)).one()
    held = consent.barred(session, model)
    if held is not None:
        batch.attempt -= 1  # nothing was tried
        put_off(session, batch, model, held)
        end_run(session, lease.batch_id, lease.epoch, "ended", "waits for approval")
        return False
    stop_waiting(session, model)
    batches.take(session, batch, list(consent.OWED))
    consent.use(session, batch)
    consent.lapse(session, model)
    emptied = (
        update(Batch)
        .where(Batch.model_id == batch.model_id, Batch.state == BatchState.READY, Batch.kind == BatchKind.UNLEARN)
        .values(state=BatchState.CANCELLED, finished_at=func.now(), failure=f"absorbed by batch {batch.id}")
        .returning(Batch.id)
    )
    for batch_id in session.scalars(emptied).all():
        audit.append(
            session, "batch.absorbed", "expunge", batch_id=batch_id, model_id=batch.model_id, into=str(batch.id)
        )
    return True


def stop_waiting(session: Session, model: Model) -> None:
    """Nothing is left to wait for: a retrain takes the tickets that waited."""
    model.deferral = None
    batches.say_held(session, model, None)


def judged(session: Session, lease: Lease) -> list[tuple[str, str]]:
    """The rungs and weights of this batch that a verdict was passed on, each once, in order, whichever run it was in."""
    query = select(Verdict.rung, Verdict.weights_digest).where(Verdict.batch_id == lease.batch_id)
    query = query.where(Verdict.rung != RETRAIN).order_by(Verdict.id)
    return list(dict.fromkeys((rung, digest) for rung, digest in session.execute(query)))


def barred(session: Session, lease: Lease, rung: str) -> str | None:
    """Why this approximate rung need not even be tried; None when it may be."""
    stopped = session.scalar(select(Model.stopped).where(Model.id == lease.model_id))
    if stopped is not None:
        return due.stopped_says(stopped)
    before = judged(session, lease)
    spent = len(before) >= policy.attempts(lease.policy) and rung not in {tried for tried, _ in before}
    return SPENT if spent else None


def attempt(session: Session, lease: Lease, rung: str, weights_digest: str) -> int | None:
    """Which of the batch's attempts a verdict on these weights is, from 1; None when it has none left.

    A run after a crash that comes to the same bytes asks nothing new of the audit's data; one that comes to others does.
    """
    before = judged(session, lease)
    asked = (rung, weights_digest)
    number = before.index(asked) + 1 if asked in before else len(before) + 1
    return number if number <= policy.attempts(lease.policy) else None


def record_verdict(
    session: Session,
    lease: Lease,
    *,
    rung: str,
    weights_digest: str,
    judgement: Judgement,
    method: dict[str, Any],
    statistics: dict[str, Any],
    seconds: dict[str, Any],
    figures: dict[str, Any] | None = None,
) -> tuple[int, Judgement]:
    """Keep a rung's verdict, whatever it says: every attempt is in the audit. Returns its id and the judgement that
    stands: while the model is stopped no approximate rung is judged fit to be published."""
    batch = fenced(session, lease)
    thresholds = lease.policy.thresholds.model_dump()
    if rung != RETRAIN:
        number = attempt(session, lease, rung, weights_digest)
        assert number is not None, "nothing is judged when the attempts are spent"
        thresholds |= {"attempt": number, "attempt_error": policy.attempt_error(lease.policy, number)}
        stopped = session.scalar(select(Model.stopped).where(Model.id == lease.model_id))
        if stopped is not None and judgement.decision is Decision.PUBLISH:
            judgement = Judgement(Decision.INCONCLUSIVE, [due.stopped_says(stopped), *judgement.reasons])
    verdict = Verdict(
        batch_id=batch.id,
        epoch=lease.epoch,
        rung=rung,
        weights_digest=weights_digest,
        decision=judgement.decision,
        reasons=judgement.reasons,
        method=method,
        statistics=statistics,
        thresholds=thresholds,
        seconds=seconds,
        figures=figures,
    )
    session.add(verdict)
    session.flush()
    audit.append(
        session,
        "verdict.recorded",
        "expunge",
        batch_id=batch.id,
        model_id=batch.model_id,
        verdict=verdict.id,
        rung=rung,
        decision=judgement.decision,
        weights=weights_digest,
        reasons=judgement.reasons,
        measured=measured_sha256({"method": method, "statistics": statistics, "thresholds": thresholds}),
    )
    return verdict.id, judgement


def tell_records(session: Session, lease: Lease, what: str, **facts: Any) -> None:
    """Put what becomes of a training's records on the batch's timeline: quoted, refused, abandoned, unusable."""
    batch = fenced(session, lease)
    audit.append(session, f"records.{what}", "expunge", batch_id=batch.id, model_id=batch.model_id, **facts)


@dataclass(frozen=True)
class Candidate:
    """Weights that passed: what a version row says of them."""

    verdict_id: int
    kind: VersionKind
    weights_digest: str
    weights_bytes: int
    excluded_digest: str
    excluded_count: int
    forgotten: int
    environment: dict[str, Any]
    kept: Kept | None = None


def still_prepared(session: Session, digest: str) -> bool:
    """Whether a version that is current names these bytes: two models that were trained alike prepare the same."""
    return session.scalar(select(Version.id).where(Version.gradients_digest == digest).limit(1)) is not None


def publish(session: Session, lease: Lease, candidate: Candidate, purge: banks.Purge | None = None) -> Version:
    """The one place where a version comes to be: version, pointer, obligations, tickets and event in one commit.

    With it the reference bank ends, where the version was trained, or is purged of what was forgotten: `purge` is what a
    worker has rewritten of it, and `banks.Changed` is raised when the bank keeps something else by now.

    Raises `Locked` on a database that was just restored, `StaleEpoch` when the lease is gone or the model's current
    version is no longer the batch's parent, `Stopped` when approximate updates of the model were stopped since the verdict.
    That the verdict says publish about these bytes, and that a parent has one child, are constraints of the table.
    """
    lockdown.refuse(session)
    batch = fenced(session, lease)
    parent_id = lease.parent.id if lease.parent else None
    model = session.scalars(select(Model).where(Model.id == lease.model_id).with_for_update(key_share=True)).one()
    if model.current_version_id != parent_id:
        raise StaleEpoch("The model's current version has changed since this run began.")
    if model.stopped is not None and candidate.kind is VersionKind.UNLEARNED:
        raise Stopped(due.stopped_says(model.stopped))
    # Before anything is appended: whoever finishes a reference has its row, and then the log.
    banks.lock(session, model.id)
    version = Version(
        model_id=model.id,
        number=lease.parent.number + 1 if lease.parent else 1,
        kind=candidate.kind,
        parent_id=parent_id,
        batch_id=batch.id,
        verdict_id=candidate.verdict_id,
        decision="publish",
        weights_digest=candidate.weights_digest,
        weights_bytes=candidate.weights_bytes,
        manifest_digest=lease.manifest_digest,
        excluded_digest=candidate.excluded_digest,
        excluded_count=candidate.excluded_count,
        forgotten=candidate.forgotten,
        environment=candidate.environment,
        records_digest=candidate.kept.digest if candidate.kept else None,
        records=asdict(candidate.kept) if candidate.kept else None,
    )
    guard = disclosure.guard(session, model, version, lease.policy.lone)
    version.disclosure = guard.as_json() if guard else None
    session.add(version)
    session.flush()
    supersede(session, parent_id, func.now())
    model.current_version_id = version.id
    finish(session, batch, lease, BatchState.PUBLISHED, "published", f"{model.name}-v{version.number}")
    fulfilled = fulfil(session, batch, version, lease.policy)
    audit.append(
        session,
        "version.published",
        "expunge",
        batch_id=batch.id,
        model_id=model.id,
        version=f"{model.name}-v{version.number}",
        version_kind=version.kind,
        verdict=candidate.verdict_id,
        weights=version.weights_digest,
        manifest=version.manifest_digest,
        excluded=version.excluded_digest,
        records=version.records_digest,
        tickets=[str(ticket) for ticket in fulfilled],
    )
    if guard is not None:
        disclosure.tell(session, model, version, guard)
    if lease.parent is not None and lease.parent.kept is not None:
        tell_purged(session, version, f"{lease.model}-v{lease.parent.number}", lease.parent.kept.digest)
    if version.kind is VersionKind.UNLEARNED:
        banks.purge(session, model.id, purge)
    else:
        banks.ensure_after_training(session, version, lease.policy)
    return version


def supersede(session: Session, version_id: int | None, at: datetime | ColumnElement[datetime]) -> None:
    """The old version's gradient sum is of no use any more, and it holds what was forgotten. So do its records: what may
    stay of them is the new version's. Its outliers may be the very samples that were forgotten. No row names the bytes
    once this has committed: a worker that dies before it has deleted them leaves them to `sweep.purge`."""
    if version_id is not None:
        ended = update(Version).where(Version.id == version_id)
        session.execute(ended.values(superseded_at=at, gradients_digest=None, records_digest=None, exposure=None))


def tell_purged(session: Session, version: Version, parent: str, records: str) -> None:
    """Say that the parent's records are named no more, and which ones, if any, the new version has instead."""
    audit.append(
        session,
        "records.purged",
        "expunge",
        batch_id=version.batch_id,
        model_id=version.model_id,
        version=parent,
        records=records,
        into=version.records_digest,
        samples=version.forgotten,
    )


def fulfil(session: Session, batch: Batch, version: Version, policy: PolicyBody) -> list[UUID]:
    """Close the batch's obligations with the version; returns their tickets, each settled if this was its last."""
    at_once = version.kind is not VersionKind.UNLEARNED or policy.release == "publish"
    ticket_ids = session.scalars(
        update(Obligation)
        .where(Obligation.batch_id == batch.id, Obligation.state == ObligationState.BATCHED)
        .values(
            state=ObligationState.FULFILLED,
            version_id=version.id,
            fulfilled_at=func.now(),
            released_at=func.now() if at_once else None,
        )
        .returning(Obligation.ticket_id)
    ).all()
    tickets.settle(session, list(ticket_ids), batch.id)
    return list(ticket_ids)


def escalate(session: Session, lease: Lease, frm: str, to: str, reasons: list[str]) -> None:
    """Record that a rung did not suffice and which one follows."""
    batch = fenced(session, lease)
    audit.append(
        session,
        "batch.escalated",
        "expunge",
        batch_id=batch.id,
        model_id=batch.model_id,
        rung=frm,
        to=to,
        reasons=reasons,
    )


def finish(session: Session, batch: Batch, lease: Lease, state: BatchState, outcome: str, detail: str) -> None:
    """End the batch and its run."""
    batches.move(batch, state)
    batch.finished_at = func.now()
    batch.lease_until = None
    batch.step, batch.progress = "done", 1.0
    end_run(session, lease.batch_id, lease.epoch, outcome, detail)


def end_run(session: Session, batch_id: UUID, epoch: int, outcome: str, detail: str) -> None:
    run = update(Run).where(Run.batch_id == batch_id, Run.epoch == epoch)
    session.execute(run.values(outcome=outcome, detail=detail, finished_at=func.now()))


def nothing_left(session: Session, lease: Lease) -> None:
    """End a batch with no sample to forget, without a version.

    Either its obligations have gone elsewhere, or another batch forgot every one of its samples after these tickets came:
    then the model's current version is the clean one for them too.
    """
    batch = fenced(session, lease)
    assert lease.parent is not None
    current = session.get_one(Version, lease.parent.id)
    finish(session, batch, lease, BatchState.CANCELLED, "ended", "nothing left to forget")
    fulfilled = fulfil(session, batch, current, lease.policy)
    audit.append(
        session,
        "batch.cancelled",
        "expunge",
        batch_id=batch.id,
        model_id=batch.model_id,
        why="nothing left to forget",
        version=f"{lease.model}-v{current.number}",
        tickets=[str(ticket) for ticket in fulfilled],
    )


def give_back(session: Session, lease: Lease) -> None:
    """End a run whose worker is to stop."""
    free(session, fenced(session, lease), "its worker was told to stop")


def free(session: Session, batch: Batch, why: str) -> None:
    """End the run of a batch that the caller has locked: another worker may have the batch at once, and no attempt was spent. A
    worker that knows nothing of it hears so at its next heartbeat."""
    epoch = batch.lease_epoch
    end_run(session, batch.id, epoch, "given back", why)
    batches.move(batch, BatchState.READY)
    batch.attempt -= 1
    batch.lease_until, batch.not_before, batch.step = None, func.now(), "waiting for another worker"
    audit.append(session, "run.given_back", "expunge", batch_id=batch.id, model_id=batch.model_id, epoch=epoch, why=why)


def lock_running(session: Session, model_id: int) -> Batch | None:
    """The model's running batch, locked, for whoever locks the model next: in the order in which a publication does."""
    query = select(Batch).where(Batch.model_id == model_id, Batch.state == BatchState.RUNNING).with_for_update()
    return session.scalar(query.execution_options(populate_existing=True))


def fail(session: Session, lease: Lease, detail: str, *, again: bool) -> None:
    """End a run that raised. `again` says that another attempt may help; without it the batch is quarantined at once."""
    batch = fenced(session, lease)
    end_run(session, lease.batch_id, lease.epoch, "failed", detail)
    batch.failure = detail
    batch.lease_until = None
    audit.append(
        session, "run.failed", "expunge", batch_id=batch.id, model_id=batch.model_id, epoch=lease.epoch, why=detail
    )
    if again and batch.attempt < settings().max_attempts:
        batches.move(batch, BatchState.READY)
        wait = settings().retry_seconds * 2 ** (batch.attempt - 1)
        batch.not_before = func.now() + timedelta(seconds=wait)
        batch.step = "waiting for another attempt"
    else:
        give_up(session, batch, detail, split=again)


def give_up(session: Session, batch: Batch, why: str, *, split: bool = True) -> None:
    """Attempts are spent. A batch of several tickets is split in two to find the poison; one ticket is quarantined."""
    mine = Obligation.batch_id == batch.id
    order = select(Obligation).where(mine, Obligation.state == ObligationState.BATCHED)
    owed = session.scalars(order.order_by(Obligation.created_at, Obligation.ticket_id)).all()
    batch.lease_until, batch.finished_at, batch.failure = None, func.now(), why
    if split and batch.kind is BatchKind.UNLEARN and len(owed) > 1:
        batches.move(batch, BatchState.SPLIT)
        middle = len(owed) // 2
        halves = [bisect(session, batch, list(part)) for part in (owed[:middle], owed[middle:])]
        audit.append(
            session, "batch.split", "expunge", batch_id=batch.id, model_id=batch.model_id, why=why, into=halves
        )
        return
    batches.move(batch, BatchState.QUARANTINED)
    for obligation in owed:
        obligation.state = ObligationState.QUARANTINED
    session.flush()
    held_up = session.scalars(
        update(Ticket)
        .where(among(Ticket.id, [o.ticket_id for o in owed]), Ticket.state == TicketState.WORKING)
        .values(state=TicketState.QUARANTINED)
        .returning(Ticket.id)
    ).all()
    told = {"why": why, "tickets": sorted(str(ticket_id) for ticket_id in held_up)}
    audit.append(session, "batch.quarantined", "expunge", batch_id=batch.id, model_id=batch.model_id, **told)


def bisect(session: Session, batch: Batch, obligations: list[Obligation]) -> str:
    """One half of a split batch; returns its id."""
    half = Batch(
        model_id=batch.model_id,
        kind=batch.kind,
        trigger=Trigger.BISECTION,
        state=BatchState.READY,
        policy_id=batch.policy_id,
        policy=batch.policy,
        parent_version_id=batch.parent_version_id,
        why=f"half of batch {batch.id}, which failed",
        requested_by="expunge",
        split_from_id=batch.id,
    )
    session.add(half)
    session.flush()
    for obligation in obligations:
        obligation.batch_id = half.id
    session.flush()
    batches.closed(session, half)
    return str(half.id)


def backfill(session: Session, lease: Lease, truths: dict[int, dict[str, Any]], version: Version) -> None:
    """Put the true MU and UE, measured against the retrain just published, beside what was estimated.

    With them measured, the raw samples of the versions since the last training are released.
    """
    for verdict_id, truth in truths.items():
        values = {"truth": truth, "truth_version_id": version.id}
        session.execute(update(Verdict).where(Verdict.id == verdict_id, Verdict.truth.is_(None)).values(**values))
    ticket_ids = session.scalars(
        update(Obligation)
        .where(Obligation.model_id == lease.model_id, Obligation.state == ObligationState.FULFILLED)
        .where(Obligation.released_at.is_(None))
        .values(released_at=func.now())
        .returning(Obligation.ticket_id)
    ).all()
    tickets.release(session, list(ticket_ids))
    audit.append(
        session,
        "truth.measured",
        "expunge",
        batch_id=lease.batch_id,
        model_id=lease.model_id,
        version=f"{lease.model}-v{version.number}",
        verdicts={str(verdict_id): truth for verdict_id, truth in truths.items()},
    )


def unmeasured(session: Session, model_id: int) -> list[Verdict]:
    """Verdicts on approximate updates of the model for which no truth was measured yet, published or not."""
    query = (
        select(Verdict)
        .join(Batch, Batch.id == Verdict.batch_id)
        .where(Batch.model_id == model_id, Verdict.rung != "retrain", Verdict.truth.is_(None))
        .order_by(Verdict.id)
    )
    return list(session.scalars(query))


def running(session: Session, model_id: int) -> Batch | None:
    """The model's open batch, for those who watch."""
    query = (
        select(Batch).where(Batch.model_id == model_id, Batch.state.in_(batches.OPEN)).options(joinedload(Batch.model))
    )
    return session.scalar(query.order_by(Batch.created_at).limit(1))


def is_running(session: Session, model_id: int) -> bool:
    """Whether a worker has a batch of the model."""
    mine = select(Batch.id).where(Batch.model_id == model_id, Batch.state == BatchState.RUNNING)
    return session.scalar(mine.limit(1)) is not None


def stop_publishing(session: Session, model_id: int, why: str) -> None:
    """Publish no approximate update of the model from here on: all its batches retrain, until somebody resumes.

    A run under way counts: whatever it has not published yet it will not. Of a model that is stopped the first reason stays.
    """
    model = session.scalars(select(Model).where(Model.id == model_id).with_for_update(key_share=True)).one()
    if model.stopped is None:
        model.stopped = why
        audit.append(session, "model.stopped", "expunge", model_id=model_id, why=why)


def resume_publishing(session: Session, model: Model, why: str, by: str) -> None:
    """Let approximate updates be published again. Raises `Conflict` when they are."""
    locked = select(Model).where(Model.id == model.id).with_for_update(key_share=True)
    model = session.scalars(locked.execution_options(populate_existing=True)).one()
    if model.stopped is None:
        raise Conflict("Approximate updates of the model are not stopped.")
    stopped, model.stopped = model.stopped, None
    audit.append(session, "model.resumed", by, model_id=model.id, stopped=stopped, why=why)
