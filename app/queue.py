"""The Celery object and the doorbell. A message carries an id and wakes a worker; all truth is in Postgres.

Losing a message, or all of Redis, costs latency: beat wakes the sweep every few seconds, and the sweep finds what is due.
Doubling a message costs nothing: the second worker finds the batch held and goes away. So delivery is at least once
(`acks_late`), results are not kept, and a broker that is down is reported and otherwise ignored.

Two queues: a worker that trains hears nothing else for hours, so whatever takes moments has a queue of its own, `light`,
and a worker of its own that needs neither torch nor a GPU. A worker that is told no queues serves both.
"""

import time
from collections.abc import Iterable
from typing import Any

import structlog
from celery import Celery

from app import logs, tracing
from app.config import settings

log = structlog.get_logger()

WORK = "expunge.work"
SWEEP = "expunge.sweep"
PURGE = "expunge.purge"
REFERENCE = "expunge.reference"
RELAY = "expunge.relay"
DELIVER = "expunge.deliver"
CHECKPOINT = "expunge.checkpoint"
EXPORT = "expunge.export"
CANARY = "expunge.canary"
"""Does nothing: by it an idle worker of the heavy queue hears that it still hears."""
RUNG_BY = "expunge_request_id"
"""Header of a message: the id of the request that rang."""

HEAVY = "celery"
LIGHT = "light"
ROUTES = {
    WORK: HEAVY,
    REFERENCE: HEAVY,
    CANARY: HEAVY,
    SWEEP: LIGHT,
    PURGE: LIGHT,
    RELAY: LIGHT,
    DELIVER: LIGHT,
    CHECKPOINT: LIGHT,
    EXPORT: LIGHT,
}
"""Every task's queue."""


def make_celery() -> Celery:
    """Celery as configured for doorbells. Worker and beat load `workers.tasks`; the API only sends, by name."""
    conf = settings()
    # Longer than any run: a shorter one would hand a running message to a second worker (which would find it held).
    visibility = conf.task_seconds + 3600
    celery = Celery("expunge", broker=conf.broker, include=["workers.tasks"])
    celery.conf.update(
        task_queues={HEAVY: {}, LIGHT: {}},
        task_default_queue=HEAVY,
        task_routes={task: {"queue": queue} for task, queue in ROUTES.items()},
        task_acks_late=True,
        task_reject_on_worker_lost=True,  # safe: a claim is fenced and attempts are counted in Postgres
        task_acks_on_failure_or_timeout=True,  # the sweep, not the broker, decides about another attempt
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_time_limit=conf.task_seconds,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the lease, not the broker, says who may go on
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": visibility,
            # kombu sweeps unacknowledged messages every interval x throttle seconds, 100 s by default
            "unacked_restore_interval": 2,
            "unacked_restore_throttle": 1,
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            # One more try at once, for a connection that had gone stale; by default kombu goes on for six seconds.
            "max_retries": 1,
            "interval_start": 0,
            "global_keyprefix": "expunge:",
        },
        visibility_timeout=visibility,
        beat_schedule={
            # A tick that waited out the next one is worth nothing: it expires instead of piling up where nobody listens.
            "sweep": {"task": SWEEP, "schedule": conf.sweep_seconds, "options": {"expires": conf.sweep_seconds}},
            "relay": {"task": RELAY, "schedule": conf.sweep_seconds, "options": {"expires": conf.sweep_seconds}},
            "canary": {"task": CANARY, "schedule": conf.sweep_seconds, "options": {"expires": conf.sweep_seconds}},
            "checkpoint": {
                "task": CHECKPOINT,
                "schedule": conf.checkpoint_seconds,
                "options": {"expires": conf.checkpoint_seconds},
            },
            "export": {"task": EXPORT, "schedule": conf.export_seconds, "options": {"expires": conf.export_seconds}},
            "purge": {"task": PURGE, "schedule": 3600.0, "options": {"expires": 3600.0}},
        },
        timezone="UTC",
    )
    return celery


celery = make_celery()


rung: dict[int, float] = {}
"""When this process last rang for a model because of a ticket, by the monotonic clock."""


def due(model_ids: Iterable[int]) -> list[int]:
    """Those of the models for which a ticket may ring now: one ring a second, a model and a process.

    A ring costs more than the ticket, and a worker that is awake finds the tickets after the first by itself. The one
    that comes too late for it is found by the sweep.
    """
    now = time.monotonic()
    ready = [model_id for model_id in model_ids if now - rung.get(model_id, -1.0) >= 1.0]
    rung.update(dict.fromkeys(ready, now))
    return ready


def nudge(*model_ids: int) -> None:
    """Ring for these models, after the commit; a route does so after its answer, since a broker that hangs takes its
    time-out. Whatever is wrong with the broker is no error of the caller's, whose work is
    on disk already: the sweep catches up."""
    for model_id in model_ids:
        try:
            send(WORK, model_id)
        except Exception as error:  # noqa: BLE001 - a wrong password or a missing module must not fail what was committed
            log.warning("nudge.lost", model=model_id, error=type(error).__name__)
            return  # the next one would only wait for the same time-out


def ring_references(count: int) -> None:
    """Ring once for each reference that waits, after the commit, so that they spread over all workers. A bell too many
    finds nothing to do."""
    for _ in range(count):
        if not ring(REFERENCE):
            return


def ring(task: str) -> bool:
    """Ring once for a task that takes nothing; says whether the broker took it."""
    try:
        send(task)
    except Exception as error:  # noqa: BLE001 - as with `nudge`: the next tick catches up
        log.warning("nudge.lost", task=task, error=type(error).__name__)
        return False
    return True


def send(task: str, *args: Any) -> None:
    """Publish without Celery's retries: they would keep a web request waiting on a broker that is down. The message says
    which request rang, so that a worker's lines can."""
    rung_by = logs.request_id()
    headers = tracing.carrier() | ({RUNG_BY: rung_by} if rung_by else {})
    celery.send_task(task, args=args, retry=False, ignore_result=True, headers=headers or None)
