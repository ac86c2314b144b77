"""Logs: one JSON object a line, one id per ticket and batch in each. No line ever holds a sample or subject id."""

import logging

import structlog

from app.config import settings


def configure() -> None:
    """Set the process's logging up from its settings. Called once, where a process begins."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings().log_level]),
        cache_logger_on_first_use=False,
    )
