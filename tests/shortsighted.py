"""The service's queue with a visibility timeout shorter than any run, for workers of tests: the broker hands a message that
is being worked on to whoever asks next. `celery -A tests.shortsighted:celery worker` runs it."""

from app.queue import celery

celery.conf.visibility_timeout = 1
celery.conf.broker_transport_options = celery.conf.broker_transport_options | {"visibility_timeout": 1}

__all__ = ["celery"]
