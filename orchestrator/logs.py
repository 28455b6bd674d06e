"""Logs: one line an occurrence, on standard error, with the run, event and tenant it is about."""

import logging
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TextIO

import attrs
import structlog

from orchestrator.core.secrets.redaction import Redactor


@attrs.frozen
class _Patient:
    """A stream that may be gone, closed or full, such as a pipe that nobody reads any more: what it
    can't take is lost, and nobody's work with it."""

    stream: TextIO

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self.stream.write(text.encode(errors="backslashreplace").decode())

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self.stream.flush()


def configure_logs(
    *, level: str, layout: Literal["json", "console"], redact: Sequence[str]
) -> None:
    """Set structlog up for the process; an app that we are mounted in has logs of its own.

    `redact` are the name patterns of `log.redact`.
    """
    redactor = Redactor(redact)

    def mask(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        # An exception keeps its type, and with it its traceback.
        shown = [
            {name: value} if name == "exc_info" else redactor.redact({name: value})
            for name, value in event.items()
        ]
        return {name: value for entry in shown for name, value in entry.items()}

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
            _always_rendered([*tracebacks, render]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(_Patient(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )


def _always_rendered(processors: Sequence[Any]) -> Any:
    """The processors as one, of which the last renders. What can't be rendered becomes a line that
    says so, with the texts that are in it: nobody's work may fail for what the log can't show."""

    def render(logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        texts = {name: value for name, value in event.items() if type(value) is str}
        try:
            return _run(processors, logger, method, event)
        except Exception as error:  # noqa: BLE001 - the repr of any object may raise anything
            line = {"event": "(no text)", **texts, "not_rendered": type(error).__name__}
            return _run(processors[-1:], logger, method, line)

    return render


def _run(processors: Sequence[Any], logger: Any, method: str, event: Any) -> Any:
    for process in processors:
        event = process(logger, method, event)
    return event
