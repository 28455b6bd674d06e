"""Configures structured, redacted logs on standard error, with run, event and tenant."""

import io
import json
import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TextIO

import attrs
import msgspec
import structlog

from orchestrator.core.secrets.redaction import Redactor
from orchestrator.core.texts import printable
from orchestrator.core.urls import without_userinfo

log = structlog.get_logger("orchestrator.libraries")


@attrs.frozen
class _Patient:
    """A stream that may be closed or full, such as a pipe without a reader: what can't be written
    is dropped, and no error is raised."""

    stream: TextIO

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self.stream.write(text.encode(errors="backslashreplace").decode())

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self.stream.flush()


class _Forwarding(logging.Handler):
    """Writes the lines of libraries, such as asyncio's and aiohttp's, in the service's format.

    Only the first line of a message, and of an exception its class and where it was raised: the
    rest may quote what a client has sent, such as a credential in a malformed header.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - the values may not fit the text, or raise anything
            text = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        log.log(level, text.partition("\n")[0], logger=record.name, **_described(record.exc_info))


def _described(exc_info: Any) -> Mapping[str, str]:
    if not exc_info or exc_info[1] is None:
        return {}
    error = exc_info[1]
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else None
    return {"error": type(error).__name__, **({"raised_at": place} if place else {})}


def configure_logs(
    *,
    level: str,
    layout: Literal["json", "console"],
    redact: Sequence[str],
    is_final: bool = False,
) -> None:
    """Configure structlog for the process, and that libraries log through it; not called when the
    service is mounted in another app.

    `redact` are the name patterns of `log.redact`. `is_final`: it isn't called again, so that each
    logger may keep this configuration with its first line.
    """
    redactor = Redactor(redact)

    def mask(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        shown: dict[str, Any] = {}
        for name, value in event.items():
            # An exception must stay one, so that its traceback is logged.
            if name == "exc_info" or redactor.is_plain(name, value):
                shown[name] = value
            else:
                shown |= redactor.redact({name: value})
        return shown

    is_json = layout == "json"
    tracebacks = [structlog.processors.format_exc_info] if is_json else []
    render = structlog.processors.JSONRenderer(serializer=_to_json) if is_json else _to_terminal()
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
        logger_factory=structlog.WriteLoggerFactory(_Patient(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=is_final,
    )
    # Instead of any other, such as that of Lambda's runtime: each line is written once.
    logging.getLogger().handlers[:] = [_Forwarding()]


def _to_terminal() -> Any:
    """The console renderer; control characters of names, texts and tracebacks are escaped."""
    render = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        # As they were written: what became of an event before its details.
        sort_keys=False,
        exception_formatter=_write_traceback,
    )

    def render_printable(logger: Any, method: str, event: Mapping[str, Any]) -> str:
        shown = {
            printable(name): printable(value) if type(value) is str else value
            for name, value in event.items()
        }
        return render(logger, method, shown)

    return render_printable


def _write_traceback(stream: TextIO, exc_info: Any) -> None:
    """Write a traceback with control characters escaped, and without rich: that prints local
    variables, which may hold secrets."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write("\n".join(map(printable, text.getvalue().split("\n"))))


def _to_json(line: Mapping[str, Any], *, default: Any) -> str:
    """The line as JSON, control characters beyond ASCII escaped; what msgspec refuses, such as half
    a surrogate pair, json writes."""
    try:
        text = msgspec.json.encode(line, enc_hook=default).decode()
        is_plain = text.isprintable()
        return text if is_plain else "".join(map(_escaped, text))
    except Exception:  # noqa: BLE001 - json may fail, too: then the line says so
        return json.dumps(line, default=default)


def _escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _always_rendered(processors: Sequence[Any]) -> Any:
    """The processors as one that never raises; the last of them renders. An event that can't be
    rendered becomes a line with its texts and `not_rendered`, since logging must not fail a run."""

    def render(logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        texts = {name: value for name, value in event.items() if type(value) is str}
        try:
            return without_userinfo(_run(processors, logger, method, event))
        except Exception as error:  # noqa: BLE001 - the repr of any object may raise anything
            line = {"event": "(no text)", **texts, "not_rendered": type(error).__name__}
            return without_userinfo(_run(processors[-1:], logger, method, line))

    return render


def _run(processors: Sequence[Any], logger: Any, method: str, event: Any) -> Any:
    for process in processors:
        event = process(logger, method, event)
    return event
