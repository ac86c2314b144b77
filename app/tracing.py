"""Traces, where the extra `otel` is installed and OTEL_EXPORTER_OTLP_ENDPOINT says where they go. Otherwise nothing of
OpenTelemetry's SDK is imported, and a span costs a function call.

A span holds names, numbers and ids of batches and tickets, never a sample's; of what is raised only the kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from app.config import settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

Told = Callable[..., None]
"""What a span learns while it lasts: `tell(status=200)`."""
CARRIED = ("traceparent", "tracestate")
"""Headers that carry a trace from one process to the next."""


@lru_cache
def tracer() -> Tracer | None:
    """This process's tracer, made on first use: after the fork in a worker's child."""
    if not settings().otel_endpoint:
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        return None
    provider = TracerProvider(resource=Resource.create({"service.name": "expunge"}))
    provider.add_span_processor(BatchSpanProcessor(exporter()))
    return provider.get_tracer("expunge")


def exporter() -> SpanExporter:
    """To the collector that the standard variables of OpenTelemetry name."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


@contextmanager
def span(name: str, carried: Mapping[str, str] | None = None, **facts: Any) -> Iterator[Told]:
    """A span around the block; below the one that `carried` names, else below the one that lasts."""
    made = tracer()
    if made is None:
        yield nothing
        return
    from opentelemetry.trace import StatusCode

    above = extracted(carried) if carried else None
    with made.start_as_current_span(
        name, above, attributes=facts, record_exception=False, set_status_on_exception=False
    ) as running:

        def tell(**more: Any) -> None:
            running.set_attributes({key: value for key, value in more.items() if value is not None})

        try:
            yield tell
        except BaseException as error:
            running.set_attribute("error.type", type(error).__name__)
            running.set_status(StatusCode.ERROR)
            raise


def nothing(**_: Any) -> None:
    """Tell nobody."""


def carrier() -> dict[str, str]:
    """The span that lasts, as headers of a message."""
    if tracer() is None:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers


def follow(carried: Mapping[str, str]) -> None:
    """From here on spans without one above them are below the one that `carried` names, or begin a trace of their own."""
    if tracer() is not None:
        from opentelemetry.context import attach

        attach(extracted(carried))


def extracted(carried: Mapping[str, str]) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(dict(carried), Context())
