"""A SaaS control plane's events turned into jobs, once each.

The public names. Each is imported when it is first asked for, so that the command line
answers at once and importing the package loads neither the web nor AWS.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.app import create_app, open_orchestrator, setup
    from orchestrator.core import handlers, payloads
    from orchestrator.core.dispatch import Handled, Orchestrator
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
    from orchestrator.core.events import Event
    from orchestrator.core.extension import Extension
    from orchestrator.core.jobs import JobReport, JobStatus, SomeNotDescribed
    from orchestrator.core.records import Job
    from orchestrator.core.registry import HandlerRegistry
    from orchestrator.core.run import Run
    from orchestrator.intake.keys import ORCHESTRATOR, REGISTRY
    from orchestrator.settings import Settings, SettingsError, load_settings

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
    "JobReport",
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
    "core.dispatch": ("Handled", "Orchestrator"),
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
    "core.events": ("Event",),
    "core.extension": ("Extension",),
    "core.jobs": ("JobReport", "JobStatus", "SomeNotDescribed"),
    "core.records": ("Job",),
    "core.registry": ("HandlerRegistry",),
    "core.run": ("Run",),
    "intake.keys": ("ORCHESTRATOR", "REGISTRY"),
    "settings": ("Settings", "SettingsError", "load_settings"),
}


def __getattr__(name: str) -> Any:
    if name in ("handlers", "payloads"):
        return importlib.import_module(f"orchestrator.core.{name}")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"orchestrator.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
