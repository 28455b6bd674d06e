"""Logs: one line an occurrence, on standard error, with the run, event and tenant it is about."""

import logging
import sys
from typing import Literal

import structlog


def configure_logs(*, level: str, layout: Literal["json", "console"]) -> None:
    """Set structlog up for the process; an app that we are mounted in has logs of its own."""
    render = (
        structlog.processors.JSONRenderer()
        if layout == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    tracebacks = [structlog.processors.format_exc_info] if layout == "json" else []
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *tracebacks,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
