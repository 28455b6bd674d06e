"""Traces by OpenTelemetry: the setting `telemetry.traces`, and the extra `otel`.

Requests to the service, to AWS and to other web servers get spans by OpenTelemetry's own
instrumentations; the core's spans are added to these. OpenTelemetry is imported only here, and only
if traces are on.
"""

import asyncio
import os
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog
import yarl
from aiohttp.typedefs import Middleware

from orchestrator.core.tracing import NO_TRACING, Span, SpanKind, Tracing, Value
from orchestrator.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry import trace

#: The instrumentations' switch to the stable names of HTTP attributes.
_STABLE_NAMES = "OTEL_SEMCONV_STABILITY_OPT_IN"
_PROPAGATORS = "OTEL_PROPAGATORS"
_SERVICE_NAME = "OTEL_SERVICE_NAME"
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
#: How long (seconds) an export may take, retries included.
_EXPORT_S = 3.0
#: How long (seconds) the exports at the end may take together: they delay the end of the process,
#: which a platform kills 30 s after SIGTERM.
_LAST_EXPORTS_S = 3.0

log = structlog.get_logger("orchestrator.tracing")


def choose_tracing(is_on: bool) -> Tracing:
    """Traces, if they are on: by the process's tracer provider if your app has set one, else by a
    provider that exports as OpenTelemetry's own variables say (`OTEL_EXPORTER_OTLP_ENDPOINT`).

    Raises:
        SettingsError: the extra `otel` isn't installed.
    """
    if not is_on:
        return NO_TRACING
    try:
        return OpenTelemetryTracing(_find_provider())
    except ImportError as error:
        raise SettingsError(
            "telemetry.traces is true, and OpenTelemetry is not installed: install "
            "saas-orchestrator[otel], or set it to false."
        ) from error


def _find_provider() -> "trace.TracerProvider":
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        return provider
    named = {} if _SERVICE_NAME in os.environ else {"service.name": "saas-orchestrator"}
    # Not shut down at exit, which waits up to 30 s: `traced_aws` exports what is left.
    own = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    timeout_s = None if any(name in os.environ for name in _TIMEOUTS) else _EXPORT_S
    own.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=timeout_s)))
    trace.set_tracer_provider(own)
    return own


class OpenTelemetryTracing:
    """Spans by a tracer provider."""

    def __init__(self, provider: "trace.TracerProvider") -> None:
        os.environ.setdefault(_STABLE_NAMES, "http")
        from opentelemetry import propagate
        from opentelemetry.propagators.aws import AwsXRayPropagator
        from opentelemetry.propagators.composite import CompositePropagator
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.provider = provider
        self._tracer = provider.get_tracer("orchestrator", version("saas-orchestrator"))
        self._w3c = TraceContextTextMapPropagator()
        self._x_ray = AwsXRayPropagator()
        if _PROPAGATORS not in os.environ:
            # If there are both headers `traceparent` counts, since it is read last.
            propagate.set_global_textmap(CompositePropagator([self._x_ray, self._w3c]))

    @contextmanager
    def span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Value] = {},
        *,
        parent: str | None = None,
    ) -> Iterator[Span]:
        from opentelemetry import trace
        from opentelemetry.trace import SpanKind as Kind

        context = None
        if parent is not None and not trace.get_current_span().get_span_context().is_valid:
            context = self._read(parent)
        with self._tracer.start_as_current_span(
            name,
            context=context,
            kind=Kind[kind.name],
            attributes=dict(attributes),
            # An exception's message may quote what only the log masks.
            record_exception=False,
            set_status_on_exception=False,
        ) as begun:
            span = _OpenSpan(self, begun)
            try:
                yield span
            except BaseException as error:
                span.fail(type(error).__name__)
                raise

    def current(self) -> str | None:
        carrier: dict[str, str] = {}
        self._w3c.inject(carrier)
        return carrier.get("traceparent")

    def context_of(self, text: str) -> "trace.SpanContext":
        """The span that a `traceparent` or an `X-Amzn-Trace-Id` names; one that isn't valid if it
        can't be read."""
        from opentelemetry import trace

        return trace.get_current_span(self._read(text)).get_span_context()

    def _read(self, text: str) -> Any:
        from opentelemetry.context import Context

        if "Root=" in text:
            return self._x_ray.extract({"X-Amzn-Trace-Id": text}, Context())
        return self._w3c.extract({"traceparent": text}, Context())


class _OpenSpan:
    def __init__(self, tracing: OpenTelemetryTracing, span: "trace.Span") -> None:
        self._tracing = tracing
        self._span = span

    def set(self, attributes: Mapping[str, Value | None]) -> None:
        self._span.set_attributes(
            {name: value for name, value in attributes.items() if value is not None}
        )

    def link(self, context: str | None) -> None:
        if context is None:
            return
        other, own = self._tracing.context_of(context), self._span.get_span_context()
        if other.is_valid and other.trace_id != own.trace_id:
            self._span.add_link(other)

    def fail(self, error: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("error.type", error)
        self._span.set_status(StatusCode.ERROR)


def traced_requests(tracing: Tracing) -> Sequence[Middleware]:
    """The middleware with a span for each request to the service; none without traces, or if the
    process instruments all apps."""
    if not isinstance(tracing, OpenTelemetryTracing):
        return ()
    from opentelemetry.instrumentation.aiohttp_server import (
        AioHttpServerInstrumentor,
        create_aiohttp_middleware,
    )

    every_app = AioHttpServerInstrumentor()
    if every_app.is_instrumented_by_opentelemetry:
        return ()
    # The middleware uses what only this sets up; it replaces `web.Application` for that moment by
    # a subclass, of which aiohttp warns.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        every_app.instrument(tracer_provider=tracing.provider)
    every_app.uninstrument()
    return (create_aiohttp_middleware(tracer_provider=tracing.provider),)


def traced_sessions(tracing: Tracing) -> list[aiohttp.TraceConfig]:
    """What gives each request of an aiohttp session a span, and passes the trace on."""
    if not isinstance(tracing, OpenTelemetryTracing):
        return []
    from opentelemetry.instrumentation._semconv import _StabilityMode
    from opentelemetry.instrumentation.aiohttp_client import create_trace_config

    return [
        create_trace_config(
            url_filter=without_secrets,
            tracer_provider=tracing.provider,
            # The variable for stable names is read only by the global instrumentation.
            sem_conv_opt_in_mode=_StabilityMode.HTTP,
        )
    ]


def without_secrets(url: yarl.URL) -> str:
    """The URL without user, password, query and fragment."""
    return str(url.with_user(None).with_query(None).with_fragment(None))


@asynccontextmanager
async def traced_aws(tracing: Tracing, *, export_s: float = _LAST_EXPORTS_S) -> AsyncIterator[None]:
    """Requests of the AWS SDK get spans for the life of the context; then all are exported, for at
    most `export_s` seconds."""
    if not isinstance(tracing, OpenTelemetryTracing):
        yield
        return
    from opentelemetry.instrumentation.botocore import AiobotocoreInstrumentor

    instrumentor = AiobotocoreInstrumentor()  # type: ignore[no-untyped-call]
    is_first = not instrumentor.is_instrumented_by_opentelemetry
    if is_first:
        instrumentor.instrument(tracer_provider=tracing.provider)
    try:
        yield
    finally:
        if is_first:
            instrumentor.uninstrument()
        flush = getattr(tracing.provider, "force_flush", None)
        if flush is not None:
            await _finish_within(export_s, flush)


async def _finish_within(seconds: float, flush: Callable[[], object]) -> None:
    """Wait so long for an export. The SDK waits for each batch of a full queue, whatever time it is
    given (opentelemetry-python, issue 4568), so it runs in a thread that delays no exit."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        try:
            flush()
        finally:
            with suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="last-exports", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        log.warning("spans not exported", after_s=seconds)
