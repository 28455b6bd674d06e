"""Logs: one line an occurrence, on standard error, with the run, event and tenant it is about."""

import logging
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TextIO

import attrs
import structlog

from orchestrator.core.secrets import Redactor


@attrs.frozen
class _Patient:
    """A stream that may be gone or full, such as a pipe that nobody reads any more: what it can't
    take is lost, and nobody's work with it."""

    stream: TextIO

    def write(self, text: str) -> None:
        with suppress(OSError):
            self.stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()


def configure_logs(
    *, level: str, layout: Literal["json", "console"], redact: Sequence[str]
) -> None:
    """Set structlog up for the process; an app that we are mounted in has logs of its own.

    `redact` are the name patterns of `log.redact`.
    """
    redactor = Redactor(redact)

    def mask(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        masked: Mapping[str, Any] = redactor.redact(event)
        return masked

    render = (
        structlog.processors.JSONRenderer()
        if layout == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # Not rich's: it prints local variables, and with them any secret at hand.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    tracebacks = [structlog.processors.format_exc_info] if layout == "json" else []
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            mask,
            *tracebacks,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(_Patient(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
