"""Traces by OpenTelemetry: which provider is used, what a span has, and nothing when off."""

import threading
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from structlog.testing import capture_logs
from yarl import URL

from orchestrator.adapters.tracing import (
    OpenTelemetryTracing,
    choose_tracing,
    traced_aws,
    traced_requests,
    traced_sessions,
    without_secrets,
)
from orchestrator.core.tracing import NO_TRACING, SpanKind

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Iterator[OpenTelemetryTracing]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    before = propagate.get_global_textmap()
    yield OpenTelemetryTracing(provider)
    propagate.set_global_textmap(before)
    provider.shutdown()


async def test_without_the_setting_nothing_is_traced() -> None:
    """No span, no middleware, no session that is watched; the SDK stays as it is."""
    assert choose_tracing(False) is NO_TRACING
    assert not traced_requests(NO_TRACING)
    assert not traced_sessions(NO_TRACING)
    async with traced_aws(NO_TRACING):
        with NO_TRACING.span("process", parent=TRACEPARENT) as span:
            span.set({"a": 1})
            span.link(TRACEPARENT)
            span.fail("Oops")
            assert NO_TRACING.current() is None


@pytest.mark.parametrize("text", ["", "nonsense", "00-0-0-00", "Root=1;Parent=2", "Root=", "é"])
def test_a_context_that_cannot_be_read_is_none(
    tracing: OpenTelemetryTracing, exporter: InMemorySpanExporter, text: str
) -> None:
    """A sender may say anything: the span is the first of its trace, and links to nothing."""
    with tracing.span("process", parent=text) as span:
        span.link(text)
    (done,) = exporter.get_finished_spans()
    assert done.parent is None
    assert not done.links


def test_a_span_has_failed_if_an_exception_leaves_it(
    tracing: OpenTelemetryTracing, exporter: InMemorySpanExporter
) -> None:
    """The span has the error's class, and not its message, which only the log masks."""
    with pytest.raises(ValueError, match="hunter2"), tracing.span("start", SpanKind.CLIENT):
        raise ValueError("hunter2")
    (done,) = exporter.get_finished_spans()
    assert done.status.status_code is StatusCode.ERROR
    assert done.attributes == {"error.type": "ValueError"}
    assert "hunter2" not in done.to_json()


def test_a_parent_counts_only_without_a_current_span(
    tracing: OpenTelemetryTracing, exporter: InMemorySpanExporter
) -> None:
    """An event within a request is the request's; its own trace is linked to."""
    with tracing.span("request"), tracing.span("process", parent=TRACEPARENT) as span:
        span.link(TRACEPARENT)
    inner, outer = exporter.get_finished_spans()
    assert inner.context is not None
    assert outer.context is not None
    assert inner.context.trace_id == outer.context.trace_id
    assert [link.context.span_id for link in inner.links] == [int("00f067aa0ba902b7", 16)]


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    """User, password, query and fragment are removed."""
    url = URL("https://user:hunter2@control.example/webhook?key=hunter2#hunter2")
    assert without_secrets(url) == "https://control.example/webhook"


def test_the_providers_own_trace_is_not_replaced(tracing: OpenTelemetryTracing) -> None:
    """The span of your app that calls the library is the parent of its events."""
    with tracing.provider.get_tracer("app").start_as_current_span("app") as span:
        current = tracing.current()
        assert current is not None
        assert f"{span.get_span_context().span_id:016x}" in current
    assert tracing.current() is None
    assert not trace.get_current_span().get_span_context().is_valid


class HangingExporter(SpanExporter):
    """Exports to a collector that never answers, until the test is over."""

    def __init__(self) -> None:
        self.answered = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.answered.wait()
        return SpanExportResult.FAILURE


async def test_a_collector_that_hangs_does_not_hold_up_the_end() -> None:
    """The end doesn't wait for spans that are left, which the SDK's own limit doesn't bound."""
    exporter, provider = HangingExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    before = propagate.get_global_textmap()
    try:
        tracing = OpenTelemetryTracing(provider)
        with capture_logs() as logs:
            async with traced_aws(tracing, export_s=0.01):
                with tracing.span("process"):
                    pass
        assert [line["event"] for line in logs] == ["spans not exported"]
    finally:
        exporter.answered.set()
        propagate.set_global_textmap(before)
        provider.shutdown()
