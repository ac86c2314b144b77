"""The order of events: claim, load, climb the ladder, publish. No transaction is open while a network runs."""

from itertools import pairwise
from typing import Any

import numpy as np
import structlog

from app import batches, deferral, lineage, logs, presence, runs, store, sweep
from app.db import transaction
from app.errors import Corrupt, Gone, ServiceError, StaleEpoch, whereabouts
from app.policy import Judgement
from app.queue import ring_references
from app.tables import BatchKind, Decision, Version, VersionKind
from app.tracing import span
from unlearning.gradients import NonFinite
from unlearning.parallel import OutOfStep
from unlearning.training import Diverged
from workers import exposure, stopping, torchrun
from workers.context import Context
from workers.problems import Refused
from workers.pulse import Pulse
from workers.rungs import anchor, prepare_next, task_for
from workers.stopping import Stopping
from workers.torchrun import Failed
from workers.training import retrain
from workers.updates import approximate

log = structlog.get_logger()

TICKETS_A_LINE = 200


def work(model_id: int) -> None:
    """Work off everything of the model that is due, batch after batch, until nothing is, another worker has it, or this one
    is to stop."""
    worker = presence.name()
    while not stopping.asked():
        with transaction() as session:
            batches.close_due(session, model_id)
        with span("claim"), transaction() as session:
            lease = runs.claim(session, model_id, worker)
        if lease is None:
            return
        said: dict[str, Any] = {"batch": str(lease.batch_id), "model": lease.model, "epoch": lease.epoch}
        with logs.about(**said), span("run", **said):
            announce(lease)
            mine = run(lease)
        if not mine:
            return


def announce(lease: runs.Lease) -> None:
    """Say which tickets the run took, so that each is found in the log under its id; so many a line."""
    with transaction() as session:
        taken = [str(ticket_id) for ticket_id in runs.tickets_of(session, lease)]
    for first in range(0, max(len(taken), 1), TICKETS_A_LINE):
        part = taken[first : first + TICKETS_A_LINE]
        log.info("run.claimed", kind=lease.kind, attempt=lease.attempt, of=len(taken), tickets=part)


def run(lease: runs.Lease) -> bool:
    """One attempt at a batch. Whatever it raises becomes a failed run. False when the batch has gone to another, or was
    given back: then this worker leaves the model alone."""
    with Pulse(lease) as pulse:
        context = Context(lease, pulse)
        torchrun.sweep(context.asker.home)
        try:
            version = climb(context)
        except StaleEpoch:
            log.warning("run.superseded")
            return False
        except Stopping:
            pulse.give_back()
            return False
        except Exception as error:  # noqa: BLE001 - a user's Problem may raise anything, and the ticket must outlive it
            failed(lease, error)
            return True
    if version is not None:
        log.info("run.published", version=version.number)
        if lease.policy.bank.build == "training" and version.kind is not VersionKind.UNLEARNED:
            ring_references(sweep.references_due())
        settle(context, version)
    return True


def climb(context: Context) -> Version | None:
    """The batch's way up the ladder; None when there was nothing left to forget, or its tickets wait for another
    batch or for a second person's consent."""
    lease = context.lease
    if lease.kind is not BatchKind.UNLEARN:
        return retrain(context)
    with transaction() as session:
        forget = np.asarray(lineage.forget_set(session, lease.batch_id, lease.model_id), dtype=np.int64)
    if len(forget) == 0:
        with transaction() as session:
            runs.nothing_left(session, lease)
        return None
    with span("load"):
        task = task_for(context, forget)
    for rung, following in pairwise(lease.policy.ladder):
        outcome = approximate(context, rung, task)
        if isinstance(outcome, Version):
            return outcome
        if following == runs.RETRAIN and waits(lease, outcome):
            return None
        with transaction() as session:
            runs.escalate(session, lease, rung, following, outcome.reasons)
    return retrain(context)


def waits(lease: runs.Lease, judgement: Judgement) -> bool:
    """Whether the batch ends here, to wait for what may settle its verdict. An escalation never does: it is settled."""
    if judgement.decision is not Decision.INCONCLUSIVE or judgement.settle is None:
        return False
    with transaction() as session:
        deferred = deferral.defer(session, lease, judgement.settle)
    if deferred and judgement.settle.kind == "references":
        ring_references(sweep.references_due())
    return deferred


def failed(lease: runs.Lease, error: Exception) -> None:
    """Put the failure on record."""
    detail, again = explained(error)
    log.error("run.failed", why=detail)
    try:
        with transaction() as session:
            runs.fail(session, lease, detail, again=again)
    except StaleEpoch:
        log.warning("run.superseded")


def explained(error: Exception) -> tuple[str, bool]:
    """What is put on record of a failure, and whether another attempt may help. What a user's code raised is named by kind
    and place, never by its text: that may hold somebody's id."""
    if isinstance(error, ServiceError):
        detail = error.detail
    elif isinstance(error, Failed):
        return str(error), error.again
    elif isinstance(error, Refused | Diverged | NonFinite | OutOfStep):
        detail = str(error)
    else:
        detail = whereabouts(error)
    # A missing or damaged parent, or a set-up that does not fit, will be the same in a minute.
    return detail, not isinstance(error, Refused | Corrupt | Gone)


def settle(context: Context, version: Version) -> None:
    """After the commit: drop what the parent has no more, prepare the new version, look for outliers if that is asked. None
    of it holds a ticket of this batch up."""
    parent = context.lease.parent
    torchrun.discard(context.asker)
    try:
        anchor_T = anchor(context, version)
        if parent is not None and parent.gradients_digest is not None:
            with transaction() as session:
                shared = runs.still_prepared(session, parent.gradients_digest)
            if not shared:
                store.delete(parent.gradients_digest)
        if parent is not None and parent.kept is not None:
            store.delete(parent.kept.digest)
        prepare_next(context, version, anchor_T)
    except Exception as error:  # noqa: BLE001 - the next update computes what is missing
        log.warning("version.not_prepared", version=version.number, error=type(error).__name__)
    exposure.look_at(context, version)
