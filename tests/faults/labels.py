"""The labelled points: every place in the pipeline, the publication and the API where a process may be hurt.

A label names a function and a moment: `before` it begins, `after` it has returned, or once the transaction that it was
given has `committed`. The table is closed; tests/faults/test_labels.py holds it against the code.
"""

from dataclasses import dataclass
from enum import StrEnum


class Moment(StrEnum):
    BEFORE = "before"
    AFTER = "after"
    COMMITTED = "committed"


class Role(StrEnum):
    """Which of the service's processes may be met at the label."""

    API = "api"
    WORKER = "worker"
    BEAT = "beat"


@dataclass(frozen=True)
class Label:
    """One point. With `yields` it counts only where the function returned something: a claim, a closed batch."""

    name: str
    target: str
    moment: Moment
    role: Role = Role.WORKER
    yields: bool = False

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]

    @property
    def attribute(self) -> str:
        return self.target.partition(":")[2]


B, A, C = Moment.BEFORE, Moment.AFTER, Moment.COMMITTED

LABELS = (
    # a ticket comes in, or is taken back; an operator orders something
    Label("intake.accepting", "app.tickets:submit", B, Role.API),
    Label("intake.written", "app.tickets:submit", A, Role.API),
    Label("intake.committed", "app.tickets:submit", C, Role.API),
    Label("intake.answered", "app.queue:nudge", B, Role.API),
    Label("intake.rung", "app.queue:nudge", A, Role.API),
    Label("cancel.written", "app.tickets:cancel", A, Role.API),
    Label("cancel.committed", "app.tickets:cancel", C, Role.API),
    Label("registration.written", "app.versions:register", A, Role.API),
    Label("retrain.ordered", "app.batches:request_retrain", C, Role.API),
    Label("bank.ordered", "app.banks:order", C, Role.API),
    # the doorbell and the sweep
    Label("bell.ringing", "celery.app.base:Celery.send_task", B, Role.BEAT),
    Label("bell.rung", "celery.app.base:Celery.send_task", A, Role.BEAT),
    Label("schedule.written", "app.schedules:run_due", A, yields=True),
    Label("schedule.committed", "app.schedules:run_due", C, yields=True),
    Label("batch.closing", "app.batches:close_due", A, yields=True),
    Label("batch.closed", "app.batches:close_due", C, yields=True),
    Label("sweep.found", "app.sweep:due", A, yields=True),
    # the pipeline, step by step
    Label("work.begun", "workers.pipeline:work", B),
    Label("claim.written", "app.runs:claim", A, yields=True),
    Label("claim.committed", "app.runs:claim", C, yields=True),
    Label("run.announced", "workers.pipeline:announce", A),
    Label("run.begun", "workers.pipeline:run", B),
    Label("climb.begun", "workers.pipeline:climb", B),
    Label("forget.read", "app.lineage:forget_set", A),
    Label("task.prepared", "workers.rungs:task_for", A),
    Label("rung.begun", "workers.updates:approximate", B),
    Label("update.computed", "unlearning.iau:unlearn", A),
    Label("attempt.counted", "app.runs:attempt", A),
    Label("update.observed", "workers.updates:observe", A),
    Label("figures.drawn", "workers.figures:of_update", A),
    Label("forget.stored", "workers.artifacts:save_ordinals", A),
    Label("verdict.written", "app.runs:record_verdict", A),
    Label("verdict.recorded", "app.runs:record_verdict", C),
    Label("rung.escalating", "app.runs:escalate", A),
    Label("rung.escalated", "app.runs:escalate", C),
    Label("wait.begun", "workers.pipeline:waits", B),
    Label("wait.written", "app.deferral:defer", A, yields=True),
    Label("wait.committed", "app.deferral:defer", C, yields=True),
    Label("nothing.left", "app.runs:nothing_left", C),
    # the publication of an update
    Label("weights.storing", "workers.updates:publish", B),
    Label("weights.stored", "workers.records:of_update", B),
    Label("bank.rewriting", "workers.banks:without", B),
    Label("bank.rewritten", "workers.banks:without", A),
    Label("publish.begun", "app.runs:publish", B),
    Label("publish.written", "app.runs:publish", A),
    Label("publish.committed", "app.runs:publish", C),
    Label("bank.discarding", "workers.banks:discard", B),
    # after it
    Label("settle.begun", "workers.pipeline:settle", B),
    Label("anchor.known", "workers.rungs:anchor", A),
    Label("sum.shared", "app.runs:still_prepared", A),
    Label("parent.dropped", "app.store:delete", A),
    Label("version.preparing", "workers.rungs:prepare_next", B),
    Label("version.stored", "workers.artifacts:save_prepared", A),
    Label("version.prepared", "workers.rungs:prepare_next", A),
    Label("version.exposed", "workers.exposure:look_at", A),
    Label("settle.ended", "workers.pipeline:settle", A),
    # a retrain
    Label("retrain.begun", "workers.training:retrain", B),
    Label("absorb.begun", "app.runs:absorb", B),
    Label("absorb.written", "app.runs:absorb", A),
    Label("absorb.committed", "app.runs:absorb", C),
    Label("retrain.trained", "workers.training:train_without", A),
    Label("retrain.judged", "workers.training:judge", A),
    Label("truth.measured", "workers.training:measure", A),
    Label("truth.written", "app.runs:backfill", A),
    # a run that fails
    Label("failure.met", "workers.pipeline:failed", B),
    Label("failure.explained", "workers.pipeline:explained", A),
    Label("failure.written", "app.runs:fail", A),
    Label("failure.committed", "app.runs:fail", C),
    Label("batch.given_up", "app.runs:give_up", A),
    # a worker that is told to stop
    Label("return.written", "app.runs:give_back", A),
    Label("return.committed", "app.runs:give_back", C),
    # the reference bank
    Label("reference.claimed", "app.references:claim", C, yields=True),
    Label("reference.begun", "workers.references:reference", B),
    Label("reference.keeping", "workers.references:keep", B),
    Label("reference.written", "app.references:complete", A),
    Label("reference.finished", "app.references:complete", C),
    Label("reference.failed", "app.references:fail", C),
    Label("bank.assembling", "workers.banks:table_of", A),
    Label("bank.written", "app.banks:assembled", A),
    Label("bank.assembled", "app.banks:assembled", C),
    # the purge
    Label("purge.written", "app.versions:expire_weights", A),
    Label("purge.committed", "app.versions:expire_weights", C),
    Label("purge.collected", "app.store:collect", A),
)
BY_NAME = {label.name: label for label in LABELS}
