"""Rows become response shapes, inside the transaction that read them."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import approvals, banks, dryrun, keys, manifests, runs, tickets, versions
from app.policy import stored
from app.schemas import (
    ApprovalView,
    AttemptReplayed,
    BankCost,
    BankView,
    BatchReplayed,
    BatchView,
    Counts,
    DatasetView,
    DeletionAccepted,
    DryRunView,
    KeyMade,
    KeyView,
    ModelDetail,
    ModelView,
    ObligationView,
    PolicyView,
    ProposalView,
    ReferenceView,
    ScheduleView,
    TicketView,
    VerdictView,
    VersionView,
)
from app.tables import (
    ApiKey,
    Approval,
    Batch,
    BatchState,
    Dataset,
    Model,
    Obligation,
    ObligationState,
    Policy,
    Proposal,
    Reference,
    ReferenceState,
    Schedule,
    Ticket,
    Verdict,
    Version,
)


def counts(ticket: Ticket) -> Counts:
    return Counts(
        accepted=ticket.accepted,
        unknown=ticket.unknown,
        already_forgotten=ticket.already_forgotten,
        pending_elsewhere=ticket.pending_elsewhere,
    )


def accepted(made: tickets.Accepted) -> DeletionAccepted:
    """Needs no read: what was just written is known."""
    counted = Counts(
        accepted=made.counts.accepted,
        unknown=made.counts.unknown,
        already_forgotten=made.counts.already_forgotten,
        pending_elsewhere=made.counts.pending_elsewhere,
    )
    href = f"/deletions/{made.ticket_id}"
    return DeletionAccepted(
        id=made.ticket_id, state=made.state, counts=counted, models=made.models, href=href, receipt=f"{href}/receipt"
    )


def ticket(row: Ticket) -> TicketView:
    return TicketView(
        id=row.id,
        client=row.client,
        dataset=row.dataset.name,
        reason=row.reason,
        risk_tier=row.risk_tier,
        external_id=row.external_id,
        state=row.state,
        counts=counts(row),
        created_at=row.created_at,
        deadline=row.deadline_at,
        closed_at=row.closed_at,
        data_removed_at=row.data_removed_at,
        data_releasable_at=row.data_releasable_at,
        obligations=[obligation(owed) for owed in row.obligations],
        receipt=f"/deletions/{row.id}/receipt",
        statement=f"/deletions/{row.id}/statement" if row.closed_at is not None else None,
    )


def obligation(row: Obligation) -> ObligationView:
    clean = f"{row.model.name}-v{row.version.number}" if row.version else None
    return ObligationView(
        model=row.model.name,
        state=row.state,
        samples=row.samples,
        clean_version=clean,
        clean_since=row.fulfilled_at,
        batch=row.batch_id,
        doing=doing(row),
        approval=row.approval.state if row.approval else None,
        progress=row.batch.progress if row.batch and row.state is ObligationState.BATCHED else float(clean is not None),
        audit=f"/models/{clean}/audit" if clean else None,
    )


def doing(row: Obligation) -> str | None:
    """One phrase for somebody who waits."""
    if row.state is ObligationState.PENDING:
        return row.model.held or "waits for its batch to close"
    if row.state is ObligationState.BATCHED and row.batch is not None:
        if row.batch.state is BatchState.READY:
            return "waits for a worker"
        return ": ".join(part for part in (row.batch.rung, row.batch.step) if part)
    if row.state is ObligationState.QUARANTINED and row.batch is not None:
        return f"held for an operator: {row.batch.failure}"
    return None


def dataset(row: Dataset) -> DatasetView:
    return DatasetView(
        name=row.name,
        samples=row.sample_count,
        subjects=row.subject_count,
        subjects_estimated=manifests.subjects_estimated(row.sample_count),
        manifest_sha256=row.manifest_digest,
        created_at=row.created_at,
    )


def model(session: Session, row: Model) -> ModelView:
    waiting = select(func.count()).select_from(Obligation)
    waiting = waiting.where(Obligation.model_id == row.id, Obligation.state == ObligationState.PENDING)
    current = session.get(Version, row.current_version_id) if row.current_version_id else None
    return ModelView(
        name=row.name,
        dataset=row.dataset.name,
        problem=row.problem,
        current_version=f"{row.name}-v{current.number}" if current else None,
        pending_obligations=session.scalar(waiting) or 0,
        held=row.held,
        stopped=row.stopped,
        created_at=row.created_at,
    )


def model_detail(session: Session, row: Model) -> ModelDetail:
    open_batch, referred = runs.running(session, row.id), banks.in_use(session, row.id)
    return ModelDetail(
        **model(session, row).model_dump(),
        versions=[version(v, row.current_version_id) for v in versions.line(session, row)],
        running=batch(session, open_batch) if open_batch else None,
        bank=referred.state if referred else None,
    )


def version(row: Version, current_id: int | None) -> VersionView:
    name = versions.name_of(row)
    return VersionView(
        version=name,
        model=row.model.name,
        kind=row.kind,
        parent=f"{row.model.name}-v{row.number - 1}" if row.parent_id else None,
        weights_sha256=row.weights_digest,
        weights_bytes=row.weights_bytes,
        published_at=row.published_at,
        superseded_at=row.superseded_at,
        weights_withdrawn_at=row.weights_withdrawn_at,
        weights_purged_at=row.weights_purged_at,
        records_bytes=row.records["bytes"] if row.records and row.records_digest else None,
        current=row.id == current_id,
        audit=f"/models/{name}/audit",
        weights=f"/models/{name}/weights",
    )


def batch(session: Session, row: Batch) -> BatchView:
    published = session.scalar(select(Version.number).where(Version.batch_id == row.id))
    owed = session.scalar(select(func.count()).select_from(Obligation).where(Obligation.batch_id == row.id))
    return BatchView(
        id=row.id,
        model=row.model.name,
        kind=row.kind,
        trigger=row.trigger,
        state=row.state,
        why=row.why,
        requested_by=row.requested_by,
        parent=f"{row.model.name}-v{row.parent_version.number}" if row.parent_version else None,
        version=f"{row.model.name}-v{published}" if published else None,
        obligations=owed or 0,
        attempt=row.attempt,
        rung=row.rung,
        step=row.step,
        progress=row.progress,
        failure=row.failure,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def verdicts(session: Session, batch_id: UUID) -> list[VerdictView]:
    """Every verdict of a batch, in the order they fell."""
    found = session.scalars(select(Verdict).where(Verdict.batch_id == batch_id).order_by(Verdict.id))
    return [verdict(row) for row in found]


def verdict(row: Verdict) -> VerdictView:
    return VerdictView(
        rung=row.rung,
        decision=row.decision,
        reasons=row.reasons,
        method=row.method,
        statistics=row.statistics,
        thresholds=row.thresholds,
        seconds=row.seconds,
        weights_sha256=row.weights_digest,
        truth=row.truth,
        at=row.created_at,
    )


def policy(row: Policy, name: str) -> PolicyView:
    body = stored(row.body)
    return PolicyView(
        model=name,
        number=row.number,
        author=row.author,
        approved_by=row.approved_by,
        created_at=row.created_at,
        policy=body,
    )


def proposal(row: Proposal, name: str) -> ProposalView:
    return ProposalView(
        id=row.id,
        model=name,
        state=row.state,
        base=row.base,
        loosens=row.loosens,
        author=row.author,
        created_at=row.created_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        why=row.why,
        policy=stored(row.body),
    )


def dry_run(found: dryrun.DryRun, name: str) -> DryRunView:
    return DryRunView(
        model=name,
        batches=len(found.batches),
        differing=found.changed,
        updates=found.ended("update"),
        updates_recorded=found.ended("update", recorded=True),
        retrains=found.ended("retrain"),
        unknown=found.ended("unknown"),
        notes=found.notes,
        items=[replayed(each) for each in found.batches],
    )


def replayed(found: dryrun.Replayed) -> BatchReplayed:
    attempts = [
        AttemptReplayed(**{name: getattr(each, name) for name in AttemptReplayed.model_fields})
        for each in found.attempts
    ]
    plain = {name: getattr(found, name) for name in BatchReplayed.model_fields if name != "attempts"}
    return BatchReplayed(**plain, attempts=attempts)


def approval(session: Session, row: Approval, name: str) -> ApprovalView:
    """One approval with who asked for it: the clients of the tickets that it names."""
    named = approvals.named(session, row)
    return ApprovalView(
        id=row.id,
        model=name,
        state=row.state,
        samples=row.samples,
        tickets=len(named),
        tickets_sha256=approvals.digest(named),
        clients=approvals.submitters(session, row),
        share=row.share,
        cap=row.cap,
        deadline=row.deadline_at,
        asked_at=row.asked_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        why=row.why,
        instead=row.instead,
        expires_at=row.expires_at,
        batch=row.batch_id,
    )


def schedule(row: Schedule) -> ScheduleView:
    return ScheduleView(id=row.id, model=row.model.name, cron=row.cron, author=row.author, next_at=row.next_at)


def bank(session: Session, row: Model, references: int) -> BankView:
    """The model's bank, with what one of so many references still costs."""
    made = banks.in_use(session, row.id)
    trained = (
        session.scalars(select(Reference).where(Reference.bank_id == made.id).order_by(Reference.number))
        if made
        else ()
    )
    by_state: dict[ReferenceState, list[ReferenceView]] = {state: [] for state in ReferenceState}
    for each in trained:
        shown = ReferenceView(number=each.number, progress=each.progress, failure=each.failure)
        by_state[each.state].append(shown)
    return BankView(
        model=row.name,
        state=made.state if made else None,
        version=f"{row.name}-v{made.version.number}" if made else None,
        wanted=made.wanted if made else 0,
        done=len(by_state[ReferenceState.DONE]),
        running=by_state[ReferenceState.RUNNING],
        failed=by_state[ReferenceState.FAILED],
        why=made.why if made else None,
        requested_by=made.requested_by if made else None,
        created_at=made.created_at if made else None,
        ready_at=made.ready_at if made else None,
        table_sha256=made.digest if made else None,
        cost=BankCost(**asdict(banks.quote(session, row, references))),
        facts=made.facts if made else None,
    )


def key(row: ApiKey) -> KeyView:
    return KeyView(**key_facts(row))


def key_made(made: keys.Made) -> KeyMade:
    return KeyMade(**key_facts(made.row), key=made.secret)


def key_facts(row: ApiKey) -> dict[str, Any]:
    return {name: getattr(row, name) for name in KeyView.model_fields}
