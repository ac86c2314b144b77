"""Celery tasks: each takes an id at most and calls one function. `celery -A app.queue:celery worker` runs them."""

from functools import cache
from typing import Any

from celery.signals import (
    after_task_publish,
    beat_init,
    celeryd_init,
    setup_logging,
    task_prerun,
    task_received,
    worker_init,
    worker_process_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from app import checkpoints, logs, presence, sweep, tracing
from app.config import settings
from app.db import bound, engine, transaction
from app.exports import follow
from app.queue import (
    CANARY,
    CHECKPOINT,
    DELIVER,
    EXPORT,
    HEAVY,
    PURGE,
    REFERENCE,
    RELAY,
    RUNG_BY,
    SWEEP,
    WORK,
    celery,
    nudge,
    ring,
    ring_references,
)
from app.tables import Role
from app.webhooks import relay
from app.webhooks.senders import Senders
from workers import schema, stopping
from workers.presence import heartbeat

__all__ = ["celery"]


@celeryd_init.connect
def no_banner(instance: Any, **_: object) -> None:
    """Before Celery's first word: its banner would be the one thing in the log that is no JSON."""
    instance.quiet = True
    logs.configure()


@setup_logging.connect
def lines_as_json(**_: object) -> None:
    """Celery's own lines, of worker and beat, as ours; with this it leaves logging and standard output alone."""
    logs.configure()


@worker_init.connect
def be_known(**_: object) -> None:
    """Children call themselves as their parent does, so it settles the name before it forks them."""
    presence.name()


@worker_init.connect
@beat_init.connect
def begin_on_its_own_schema(**_: object) -> None:
    """As the API. Asked once, by the parent: what runs goes on while a release migrates, and so do the children it replaces."""
    schema.wait()


@worker_ready.connect
def be_seen(sender: Any, **_: object) -> None:
    """From here on the worker tells that it is there."""
    heavy = HEAVY in sender.app.amqp.queues.consume_from
    heartbeat().start(Role.WORKER if heavy else Role.LIGHT)


@beat_init.connect
def be_seen_as_beat(**_: object) -> None:
    """So does beat."""
    heartbeat().start(Role.BEAT)


@task_received.connect
def hear(**_: object) -> None:
    """In the worker's parent, whose connection to the broker this is about."""
    heartbeat().hear()


@after_task_publish.connect
def send(**_: object) -> None:
    """Beat hears nothing, it sends. What a worker sends says nothing of what it hears."""
    if heartbeat().role is Role.BEAT:
        heartbeat().hear()


@worker_shutdown.connect
def leave(**_: object) -> None:
    """It ends in order, and is gone at once."""
    heartbeat().stop()


@task_prerun.connect
def say_who_rang(task: Any, **_: object) -> None:
    """From here on each line says which task it is of, and which request rang for it."""
    who = task.request.get(RUNG_BY)
    tracing.follow({name: task.request.get(name) for name in tracing.CARRIED if task.request.get(name)})
    logs.begin(task=task.name, **({"request_id": who} if who else {}))


@worker_init.connect  # one whose pool is threads forks no child
@worker_process_init.connect
def begin(**_: object) -> None:
    """A forked child must not share its parent's database connections; statements are bounded, and logs are as the
    settings say."""
    engine.cache_clear()
    conf = settings()
    bound(engine(), conf.worker_statement_seconds, 0, conf.idle_transaction_seconds)
    logs.configure()


@worker_process_init.connect
def hear_of_a_stop(**_: object) -> None:
    """A child may be signalled itself; the parent, and a worker that has no child, is by Celery."""
    stopping.forked.set()


@worker_shutting_down.connect
def tell_runs(**_: object) -> None:
    """The parent got a signal to stop: the run in its child is to hear of it."""
    stopping.tell()


@celery.task(name=WORK)
def work(model_id: int) -> None:
    """Work off what is due for one model."""
    from workers import pipeline  # torch is imported in the child that works, not in the parent that forks

    pipeline.work(model_id)
    ring(RELAY)  # what a run did is told without waiting for the next tick


@celery.task(name=REFERENCE)
def reference() -> None:
    """Train one reference of a bank that is being built."""
    from workers import references  # as above

    references.work()


@celery.task(name=SWEEP)
def sweep_due() -> None:
    """Find what is due and ring for it."""
    with transaction() as session:
        presence.swept(session)
    nudge(*sweep.due())
    ring_references(sweep.references_due())


@celery.task(name=RELAY)
def tell() -> None:
    """Write the deliveries that the audit log asks for, and ring for those that are due."""
    relay.fan_out()
    senders().wake()


@celery.task(name=DELIVER)
def deliver() -> None:
    """Wake the threads that call receivers."""
    senders().wake()


@cache
def senders() -> Senders:
    """This process's senders, made when they are first needed: a parent that forks has none."""
    return Senders()


@worker_shutting_down.connect
def begin_no_more_calls(**_: object) -> None:
    """Calls under way end by themselves, within their time."""
    senders().stop()


@celery.task(name=CANARY)
def canary() -> None:
    """Nothing: that it was received is all."""


@celery.task(name=CHECKPOINT)
def checkpoint() -> None:
    """Sign the log's growth and publish it."""
    if checkpoints.publish():
        ring(RELAY)  # webhooks are told


@celery.task(name=EXPORT)
def export() -> None:
    """Tell other people's systems what the audit log has for them."""
    follow.export()


@celery.task(name=PURGE)
def purge() -> None:
    """Drop what is no longer kept."""
    sweep.purge()
