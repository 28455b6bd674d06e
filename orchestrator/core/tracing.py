"""Traces, as a port: spans that follow an event from its sender to its job and its report.

A trace context is passed as text, a `traceparent` (W3C Trace Context) or an `X-Amzn-Trace-Id`.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from enum import Enum, auto
from types import TracebackType
from typing import Protocol

Value = str | int | float | bool


class SpanKind(Enum):
    """OpenTelemetry specification, Trace API, SpanKind."""

    INTERNAL = auto()
    CLIENT = auto()
    PRODUCER = auto()
    CONSUMER = auto()


class Span(Protocol):
    """A span that has begun."""

    def set(self, attributes: Mapping[str, Value | None]) -> None:
        """Add attributes; those without a value are left out."""

    def link(self, context: str | None) -> None:
        """Link to a span of another trace, unless it is None, not readable, or this span's own
        trace."""

    def fail(self, error: str) -> None:
        """Mark the span as failed; `error` is the class of the error."""


class Tracing(Protocol):
    """Begins spans, children of the current one."""

    def span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Value] = {},
        *,
        parent: str | None = None,
    ) -> AbstractContextManager[Span]:
        """A span for the life of the context; of `parent` if there is no current one. An exception
        marks it as failed."""

    def current(self) -> str | None:
        """The `traceparent` of the current span; None without one."""


class NoTracing:
    """No traces: each span is the same, and does nothing."""

    def span(self, *_: object, **__: object) -> AbstractContextManager[Span]:
        return NO_SPAN

    def current(self) -> str | None:
        return None


class _NoSpan:
    def __enter__(self) -> Span:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def set(self, attributes: Mapping[str, Value | None]) -> None: ...

    def link(self, context: str | None) -> None: ...

    def fail(self, error: str) -> None: ...


NO_SPAN = _NoSpan()
NO_TRACING: Tracing = NoTracing()
