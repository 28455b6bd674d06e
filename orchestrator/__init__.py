"""Turns a SaaS control plane's events into jobs, once each.

The public names. Each is imported on first access, so that the command line starts fast and
importing the package loads neither aiohttp nor the AWS SDK.
"""

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.app import create_app, open_orchestrator, setup
    from orchestrator.core.dispatch.orchestrator import Handled, Orchestrator
    from orchestrator.core.errors import (
        BadEvent,
        HandlerFailed,
        InvalidPayload,
        OrchestratorError,
        PayloadMismatch,
        PermanentError,
        RegistrationError,
        TemporaryError,
        UnsupportedEventType,
    )
    from orchestrator.core.events import payloads
    from orchestrator.core.events.event import Event
    from orchestrator.core.handlers import builtin as handlers
    from orchestrator.core.handlers.extension import Extension
    from orchestrator.core.handlers.registry import HandlerRegistry
    from orchestrator.core.handlers.run import Run
    from orchestrator.core.jobs.job_description import JobDescription, JobStatus, SomeNotDescribed
    from orchestrator.core.ledger.record_parts import Job
    from orchestrator.intake.app_keys import ORCHESTRATOR, REGISTRY
    from orchestrator.settings import Settings, SettingsError, load_settings

    JobReport = JobDescription

__all__ = [
    "ORCHESTRATOR",
    "REGISTRY",
    "BadEvent",
    "Event",
    "Extension",
    "Handled",
    "HandlerFailed",
    "HandlerRegistry",
    "InvalidPayload",
    "Job",
    "JobDescription",
    "JobStatus",
    "Orchestrator",
    "OrchestratorError",
    "PayloadMismatch",
    "PermanentError",
    "RegistrationError",
    "Run",
    "Settings",
    "SettingsError",
    "SomeNotDescribed",
    "TemporaryError",
    "UnsupportedEventType",
    "create_app",
    "handlers",
    "load_settings",
    "open_orchestrator",
    "payloads",
    "setup",
]

_HOMES = {
    "app": ("create_app", "open_orchestrator", "setup"),
    "core.dispatch.orchestrator": ("Handled", "Orchestrator"),
    "core.errors": (
        "BadEvent",
        "HandlerFailed",
        "InvalidPayload",
        "OrchestratorError",
        "PayloadMismatch",
        "PermanentError",
        "RegistrationError",
        "TemporaryError",
        "UnsupportedEventType",
    ),
    "core.events.event": ("Event",),
    "core.handlers.extension": ("Extension",),
    "core.jobs.job_description": ("JobDescription", "JobStatus", "SomeNotDescribed"),
    "core.ledger.record_parts": ("Job",),
    "core.handlers.registry": ("HandlerRegistry",),
    "core.handlers.run": ("Run",),
    "intake.app_keys": ("ORCHESTRATOR", "REGISTRY"),
    "settings": ("Settings", "SettingsError", "load_settings"),
}
#: Public names that are modules.
_MODULES = {"handlers": "core.handlers.builtin", "payloads": "core.events.payloads"}
#: Deprecated names of the previous release, to be removed in the next.
_FORMER_NAMES = {"JobReport": "JobDescription"}


def __getattr__(name: str) -> Any:
    if name in _FORMER_NAMES:
        now = _FORMER_NAMES[name]
        warnings.warn(
            f"orchestrator.{name} was renamed to orchestrator.{now}.",
            DeprecationWarning,
            stacklevel=2,
        )
        return __getattr__(now)
    if name in _MODULES:
        return importlib.import_module(f"orchestrator.{_MODULES[name]}")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"orchestrator.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
