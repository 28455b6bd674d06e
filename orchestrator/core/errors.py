"""Every error that the orchestrator raises on purpose.

    OrchestratorError
    ├── BadEvent                never became an event; no run is kept
    ├── PermanentError          will fail again however often it is tried
    │   ├── UnsupportedEventType
    │   ├── InvalidPayload        says every mismatch, each with its path
    │   └── EventKeyReused        same event key, another business body
    ├── TemporaryError          worth another try, after `retry_after_s`
    │   ├── BeingHandled        the same event is in other hands right now
    │   └── Overloaded          as many events are in hand as there may be
    └── HandlerFailed           a bug in a handler; the cause is chained
    RegistrationError           a handler that can't be registered; raised at start

A handler says what it wants by raising `PermanentError` or `TemporaryError`;
whatever else it raises is a bug. Adapters turn foreign errors into these two at the
edge. What each means over HTTP is decided in `intake/problems.py`.
"""

import math
from collections.abc import Sequence

import attrs


@attrs.frozen
class PayloadMismatch:
    """One place in a body that does not fit: `path` is a JSONPath such as `$.tenant.id`."""

    path: str
    message: str


class OrchestratorError(Exception):
    """The root. `run_id` names the run that keeps the failure, where there is one."""

    run_id: str | None = None


class BadEvent(OrchestratorError):
    """The body can't be read as an event: not an object, a broken envelope, two types."""


class PermanentError(OrchestratorError):
    """Trying again won't help until somebody changes the event or the configuration."""

    def __init__(self, message: str, *, errors: Sequence[PayloadMismatch] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class UnsupportedEventType(PermanentError):
    """No handler is registered for the type."""

    def __init__(self, event_type: str) -> None:
        super().__init__(f"Unsupported event type: {event_type}")


class InvalidPayload(PermanentError):
    """The body does not fit the handler's model."""


class EventKeyReused(PermanentError):
    """An event with the same type, source and id came before with another business body."""

    def __init__(self, event_id: str, run_id: str) -> None:
        super().__init__(
            f"The event id {event_id!r} came before with another body: give a new event a new id."
        )
        self.run_id = run_id


class TemporaryError(OrchestratorError):
    """It may work later.

    `retry_after_s` is the pause in seconds that the cause asks for, or None where the
    cause doesn't say.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        if retry_after_s is not None and not math.isfinite(retry_after_s):
            raise ValueError(f"retry_after_s is {retry_after_s!r}: give a number of seconds.")
        self.retry_after_s = retry_after_s


class BeingHandled(TemporaryError):
    """Another delivery of the same event is being handled right now."""

    def __init__(self, run_id: str) -> None:
        super().__init__("The same event is being handled right now: ask again later.")
        self.run_id = run_id


class Overloaded(TemporaryError):
    """As many events are in hand as there may be."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"As many events are in hand as there may be: {limit}.", retry_after_s=1)


class HandlerFailed(OrchestratorError):
    """A handler raised something that is neither permanent nor temporary: a bug."""

    def __init__(self, event_type: str, run_id: str) -> None:
        super().__init__(f"The handler of {event_type} failed; run {run_id} keeps the cause.")
        self.run_id = run_id


class RegistrationError(Exception):
    """A handler or an extension that can't be used; the message says where it stands and why."""
