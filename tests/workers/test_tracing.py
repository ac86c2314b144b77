"""One ticket is one trace, from the request to the publication; and without a collector nothing of it is imported."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app import queue, tracing
from app.config import settings
from app.main import app
from tests.app import story
from tests.workers.conftest import Line


class Spans:
    """Everything that this process has traced."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self.exporter = exporter

    def all(self) -> list[ReadableSpan]:
        made = tracing.tracer()
        assert made is not None
        made.span_processor.force_flush()  # type: ignore[attr-defined]  # of the SDK's tracer, which this is
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.all() if span.name == name]
        return found


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    kept = InMemorySpanExporter()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(tracing, "exporter", lambda: kept)
    settings.cache_clear()
    tracing.tracer.cache_clear()
    yield Spans(kept)
    made = tracing.tracer()
    assert made is not None
    made.span_processor.shutdown()  # type: ignore[attr-defined]  # as above
    tracing.tracer.cache_clear()


def submit(headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A ticket over HTTP; returns the headers of the message that rang for it."""
    rung: list[dict[str, Any]] = []
    monkeypatch.setattr(queue, "rung", {})
    monkeypatch.setattr(queue.celery, "send_task", lambda task, **options: rung.append(options))
    key = {"Authorization": f"Bearer {story.key()}"}
    body = {"dataset": "clusters", "sample_ids": ["train-0001", "train-0002"], "reason": "other"}
    with TestClient(app) as http:
        assert http.post("/deletions", json=body, headers=key | headers).status_code == 202
    (options,) = rung
    return dict(options["headers"])


def test_a_ticket_is_one_trace(lenient: Line, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    above = "4bf92f3577b34da6a3ce929d0e0e4736"
    carried = submit({"traceparent": f"00-{above}-00f067aa0ba902b7-01"}, monkeypatch)
    tracing.follow(carried)
    lenient.work()
    names = ["request", "intake", "claim", "run", "load", "unlearn", "validate", "publish"]
    found = {name: spans.named(name) for name in names if name != "claim"}
    found["claim"] = next(span for span in spans.all() if span.name == "claim")
    assert {f"{span.context.trace_id:032x}" for span in found.values()} == {above}
    assert below(found["intake"], found["request"])
    for name in ("run", "claim"):
        assert below(found[name], found["request"])
    for name in ("load", "unlearn", "validate", "publish"):
        assert below(found[name], found["run"])
    assert dict(found["request"].attributes or {})["route"] == "/deletions"
    assert dict(found["run"].attributes or {})["model"] == "lenient"
    assert "train-0001" not in "".join(span.to_json() for span in spans.all())


def below(span: ReadableSpan, parent: ReadableSpan) -> bool:
    return span.parent is not None and span.parent.span_id == parent.context.span_id


def test_what_is_raised_is_named_by_kind_alone(spans: Spans) -> None:
    with pytest.raises(ValueError, match="Jane"), tracing.span("load"):
        raise ValueError("train-0001 of Jane")
    span = spans.named("load")
    assert dict(span.attributes or {})["error.type"] == "ValueError"
    assert "Jane" not in span.to_json()


def test_a_message_without_a_trace_begins_one(spans: Spans) -> None:
    with tracing.span("outer"):
        carried = tracing.carrier()
    tracing.follow(carried)
    tracing.follow({})
    with tracing.span("own"):
        pass
    assert spans.named("own").parent is None
    assert spans.named("own").context.trace_id != spans.named("outer").context.trace_id


def ran(*environment: str, first: str = "") -> str:
    """What a process's carrier holds after a span, and which modules of OpenTelemetry's SDK and exporters it has. FastAPI
    brings the bare interface along, which does nothing by itself."""
    code = (
        f"import sys; {first}\n"
        "import app.main, app.queue, workers.tasks\n"
        "from app import tracing\n"
        "with tracing.span('request') as tell: tell(status=200)\n"
        "tracing.follow({})\n"
        "parts = ('opentelemetry.sdk', 'opentelemetry.exporter')\n"
        "print(tracing.carrier(), [name for name in sys.modules if name.startswith(parts) and sys.modules[name]])"
    )
    argv = ["env", *environment, sys.executable, "-c", code]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.service
def test_nothing_is_imported_without_a_collector() -> None:
    assert ran("-u", "OTEL_EXPORTER_OTLP_ENDPOINT") == "{} []"


@pytest.mark.service
def test_without_the_extra_a_collector_changes_nothing() -> None:
    hidden = "sys.modules['opentelemetry.sdk'] = None"  # importing it raises ImportError, as if it were not installed
    assert ran("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", first=hidden) == "{} []"
