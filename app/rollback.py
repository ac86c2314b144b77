"""Serve an earlier training again, because the one after it disappoints: as a new version with the old bytes.

The line goes forward all the same, so that everything that follows from it (lineage, budget, what was served when) stays as it
reads. What was forgotten since is the limit: a version that still holds a sample which the current one does not is never
served again, whoever asks. And it must be one that was trained: an update's bank and budget ended with the training after it.
"""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import audit, banks, batches, disclosure, lockdown, policy, runs, versions
from app.errors import Conflict, Gone
from app.tables import EXACT, Batch, BatchKind, BatchState, Decision, Model, Trigger, Verdict, Version, VersionKind
from expunge.evidence.measured import measured_sha256


def roll_back(session: Session, model: Model, target: Version, why: str, by: str) -> Version:
    """Publish the target's weights as the model's next version.

    Raises `Locked` on a restored database, `Conflict` for a target that holds forgotten samples, is no training, or is current,
    and `Gone` where its weights are not kept. That the bytes are what their digest says is for the caller to see to before,
    outside of any transaction: they may be many. A batch that runs is taken from its worker, and begins anew from the new
    version. Bank, guard of lone samples and deferral follow the policy in force, as after any training.
    """
    lockdown.refuse(session)
    running = runs.lock_running(session, model.id)
    session.scalars(select(Model.id).where(Model.id == model.id).with_for_update(key_share=True)).one()
    session.refresh(model)
    if running is None and runs.is_running(session, model.id):
        raise Conflict("A worker has begun with a batch of the model just now. Ask again.")
    assert model.current_version_id is not None, "a version that is named has one after it, or is current"
    current = session.get_one(Version, model.current_version_id)
    # Locked as `versions.hand_out` does: a purge or a withdrawal comes before, and is seen, or after.
    found = select(Version).where(Version.id == target.id).with_for_update(key_share=True)
    target = session.scalars(found.execution_options(populate_existing=True)).one()
    refuse(target, current)
    banks.lock(session, model.id)
    at = moment(session, current)
    batch = made_for(session, model, current, target, why, by, at)
    version = made_again(batch, current, target, judged_again(session, batch, target, why), at)
    body = policy.stored(policy.current(session, model.id).body)
    guard = disclosure.guard(session, model, version, body.lone)
    version.disclosure = guard.as_json() if guard else None
    session.add(version)
    session.flush()
    records = current.records_digest
    runs.supersede(session, current.id, at)
    model.current_version_id = version.id
    if model.deferral is not None:  # it waited for references to the version before
        runs.stop_waiting(session, model)
    tell(session, model, batch, version)
    if guard is not None:
        disclosure.tell(session, model, version, guard)
    if records is not None:
        runs.tell_purged(session, version, versions.name_of(current), records)
    if running is not None:
        runs.free(session, running, f"the model was rolled back to {versions.name_of(target)}")
    banks.ensure_after_training(session, version, body)
    return version


def moment(session: Session, current: Version) -> datetime:
    """Now, by the clock, since this transaction may have begun long before it had its locks: what it ends was published in
    between, it may be, and what was served at a time goes by these times alone."""
    at: datetime = session.scalars(select(func.greatest(func.clock_timestamp(), current.published_at))).one()
    return at


def made_again(batch: Batch, current: Version, target: Version, verdict: Verdict, at: datetime) -> Version:
    """The target's row once more, as the child of the current version."""
    return Version(
        model_id=target.model_id,
        number=current.number + 1,
        published_at=at,
        kind=VersionKind.RETRAINED,
        parent_id=current.id,
        batch_id=batch.id,
        verdict_id=verdict.id,
        decision=Decision.PUBLISH,
        weights_digest=target.weights_digest,
        weights_bytes=target.weights_bytes,
        manifest_digest=target.manifest_digest,
        excluded_digest=target.excluded_digest,
        excluded_count=target.excluded_count,
        forgotten=0,
        environment=target.environment,
    )


def tell(session: Session, model: Model, batch: Batch, version: Version) -> None:
    """The events of any batch that published, all of them after the rows: the log's head is locked for the commit alone."""
    verdict = session.get_one(Verdict, version.verdict_id)
    batches.closed(session, batch)
    common = {"batch_id": batch.id, "model_id": model.id}
    audit.append(
        session,
        "verdict.recorded",
        batch.requested_by,
        **common,
        verdict=verdict.id,
        rung=verdict.rung,
        decision=verdict.decision,
        weights=verdict.weights_digest,
        reasons=verdict.reasons,
        measured=measured_sha256(vars(verdict)),
    )
    audit.append(
        session,
        "version.published",
        batch.requested_by,
        **common,
        version=f"{model.name}-v{version.number}",
        version_kind=version.kind,
        verdict=verdict.id,
        weights=version.weights_digest,
        manifest=version.manifest_digest,
        excluded=version.excluded_digest,
        records=None,
        tickets=[],
    )


def may_serve_again(session: Session, target: Version) -> None:
    """Raise what would keep `roll_back` from serving it, as far as is known before anything is locked."""
    assert target.model.current_version_id is not None, "a version that is named has one after it, or is current"
    refuse(target, session.get_one(Version, target.model.current_version_id))


def refuse(target: Version, current: Version) -> None:
    """Raise unless the target may be served again."""
    name, now = versions.name_of(target), versions.name_of(current)
    if target.id == current.id:
        raise Conflict(f"{name} is the current version.")
    if target.excluded_digest != current.excluded_digest:
        raise Conflict(
            f"{name} was trained on other samples than {now} is without: it may hold what was forgotten since, and is not "
            "served again. Order a retrain."
        )
    if target.kind not in EXACT:
        raise Conflict(f"{name} is an update of an earlier training. Name one that was trained, or order a retrain.")
    if target.weights_withdrawn_at is not None or target.weights_purged_at is not None:
        raise Gone(f"The weights of {name} are not given out any more. Order a retrain.")


def made_for(
    session: Session, model: Model, current: Version, target: Version, why: str, by: str, at: datetime
) -> Batch:
    """The batch that the new version belongs to. Nothing is worked off in it; its policy is the one that judged the target."""
    judged_by = target.batch
    batch = Batch(
        model_id=model.id,
        kind=BatchKind.RETRAIN,
        trigger=Trigger.OPERATOR,
        state=BatchState.PUBLISHED,
        policy_id=judged_by.policy_id,
        policy=judged_by.policy,
        parent_version_id=current.id,
        why=f"rolled back to {versions.name_of(target)}: {why}",
        requested_by=by,
        rung=runs.RETRAIN,
        step="done",
        progress=1.0,
        started_at=at,
        finished_at=at,
    )
    session.add(batch)
    session.flush()
    return batch


def judged_again(session: Session, batch: Batch, target: Version, why: str) -> Verdict:
    """The verdict on the same bytes, which were trained without all that is forgotten by now."""
    name, before = versions.name_of(target), target.verdict
    verdict = Verdict(
        batch_id=batch.id,
        epoch=0,
        rung=runs.RETRAIN,
        weights_digest=target.weights_digest,
        decision=Decision.PUBLISH,
        reasons=[f"the weights of {name}, which lack the same samples: {why}"],
        method=before.method | {"rolled_back_to": name},
        statistics=before.statistics,
        thresholds=before.thresholds,
        seconds={},
    )
    session.add(verdict)
    session.flush()
    return verdict
