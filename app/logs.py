"""Logs: one JSON object a line, with the ids of the request, ticket or batch that it is about. No line ever holds a sample
or subject id, nor the text of an exception that is not ours.

What is being done is a dictionary in a context variable. Threads that FastAPI starts for a request share it, so that a
route may add to it (`note`) what the line about the whole request then says too.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger
from typing_extensions import override

from app.config import settings
from app.errors import whereabouts

doing: ContextVar[dict[str, Any] | None] = ContextVar("doing", default=None)
"""What the lines of this context are about, by name."""
FOREIGN = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "celery", "celery.task", "celery.redirected")
QUIET = ("uvicorn.access", "httpx", "httpx2", "httpcore", "alembic")
"""Heard only when something is wrong: they name URLs, which may hold an external id, or say the same at every scrape."""


@contextmanager
def about(**facts: Any) -> Iterator[None]:
    """Every line inside says what it is about, beside what is said around it."""
    token = begin(**(doing.get() or {}) | facts)
    try:
        yield
    finally:
        doing.reset(token)


def begin(**facts: Any) -> Token[dict[str, Any] | None]:
    """From here on this, and nothing that was said before, is what the lines of this context are about."""
    return doing.set(facts)


def note(**facts: Any) -> None:
    """From here on the lines of the request, or of whatever is being done, say this too."""
    now = doing.get()
    if now is not None:
        now.update(facts)


def request_id() -> str | None:
    """The id of the request that is being answered, or that rang for what is being done."""
    now = doing.get()
    return None if now is None else now.get("request_id")


def add_doing(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {**(doing.get() or {}), **event}


def hide_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Of a library's line about an exception, kind and place are kept and its text is not: a user's code may have raised it,
    with somebody's id in it."""
    record: logging.LogRecord = event["_record"]
    failed = event.pop("exc_info", None) or record.exc_info
    if failed and failed is not True and failed[1] is not None:
        event["event"], event["error"] = "exception", whereabouts(failed[1])
    event["logger"] = record.name
    return event


STAMP: list[Any] = [
    add_doing,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


class Plain(structlog.stdlib.ProcessorFormatter):
    """Lines of libraries as JSON, like ours."""

    def __init__(self) -> None:
        super().__init__(
            processors=[self.remove_processors_meta, structlog.processors.JSONRenderer()],
            foreign_pre_chain=[*STAMP, hide_exception],
            keep_exc_info=False,
        )


class Console(logging.Handler):
    """To standard output, whatever that is at the time: one process, one stream of lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(Plain())

    @override
    def emit(self, record: logging.LogRecord) -> None:
        with suppress(
            OSError, ValueError
        ):  # nobody reads it any more; logging's own complaint would print the arguments
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()


def configure() -> None:
    """Set the process's logging up from its settings. Called once, where a process begins."""
    level = logging.getLevelNamesMapping()[settings().log_level]
    structlog.configure(
        processors=[*STAMP, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    adopt()
    logging.captureWarnings(True)
    logging.getLogger().setLevel(max(level, logging.INFO))  # libraries' own DEBUG lines hold messages and addresses


def adopt() -> None:
    """Let libraries' lines go through the same JSON, whatever handlers they made for themselves. Needs no settings."""
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, Console)] + [Console()]
    for name in FOREIGN:
        theirs = logging.getLogger(name)
        theirs.handlers, theirs.propagate = [], True
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
