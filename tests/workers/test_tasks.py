"""The tasks that a worker registers, held against what is sent."""

from app import queue
from workers import tasks


def test_every_task_has_its_queue() -> None:
    assert {name for name in tasks.celery.tasks if name.startswith("expunge.")} == set(queue.ROUTES)
