"""Every error that the orchestrator raises on purpose.

    OrchestratorError
    ├── BadEvent                no readable event; no run is stored
    │   └── UnconfirmedSubscription  SNS requests a confirmation that only an operator may give
    ├── EventTooLarge           too large to be stored; no run is
    ├── RunNotFound             no run with the id
    ├── TenantNotFound          no tenant with the id
    ├── PermanentError          a retry would fail again
    │   ├── UnsupportedEventType
    │   ├── InvalidPayload        names every mismatch, each with its path
    │   ├── EventKeyReused        same event key, another business body
    │   ├── NotAllowed            not in the tenant's state; an operator may replay with force
    │   └── Cancelled             an operator has cancelled the event's operation
    ├── TemporaryError          worth a retry, after `retry_after_s`
    │   ├── BeingHandled        another attempt holds the lease of the event's run
    │   ├── Waiting             stored, until another run is done
    │   ├── TakenOver           another attempt has taken the run over
    │   ├── HandedBack          this attempt was cancelled
    │   ├── QuotaReached        a quota refuses it; pauses begin at 30 s
    │   ├── NotPermitted        access denied
    │   ├── SecretNotFound      not in its store yet
    │   ├── SecretBlank         the stored value is empty
    │   ├── UnreadableItems     another release wrote items of the ledger (`core.ledger.ledger`)
    │   ├── SomeNotDescribed    a builder described some jobs only (`core.jobs.job_description`)
    │   └── Overloaded          too many events at once
    └── HandlerFailed           a bug in a handler; the cause is chained
        └── AttemptFailed       a bug outside of the handler: in the claim, the model, the settle
    RegistrationError           a handler that can't be registered; raised at start

A handler chooses by raising `PermanentError` or `TemporaryError`; any other exception is a
bug. Adapters turn foreign errors into these two at the edge. `intake/problems.py` has the HTTP
status of each.
"""

import math
from collections.abc import Sequence

import attrs

#: The maximum number of mismatches that are reported for an event.
MOST_ERRORS = 100


@attrs.frozen
class PayloadMismatch:
    """A mismatch in a body; `path` is a JSONPath such as `$.tenant.id`."""

    path: str
    message: str


class OrchestratorError(Exception):
    """The root. `run_id` is the run that records the failure, if there is one."""

    run_id: str | None = None


class BadEvent(OrchestratorError):
    """The body can't be read as an event: not an object, a broken envelope, two types."""


class UnconfirmedSubscription(BadEvent):
    """Not an event: a message of SNS about the subscription itself; the message says what to do."""


class EventTooLarge(OrchestratorError):
    """The event doesn't fit into the ledger."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"The event is too large to be stored: {size} bytes as stored, at most {limit}. Send "
            "less, or a reference to it."
        )


class RunNotFound(OrchestratorError):
    """No run has the id, or its event is no longer stored."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"There is no run {run_id!r}.")


class TenantNotFound(OrchestratorError):
    """The ledger has never seen the tenant."""

    def __init__(self, tenant_id: str) -> None:
        super().__init__(f"There is no tenant {tenant_id!r}.")


class PermanentError(OrchestratorError):
    """A retry won't help until the event or the configuration is changed.

    Of more than `MOST_ERRORS` mismatches the first are kept, with a note that there are more.
    """

    def __init__(self, message: str, *, errors: Sequence[PayloadMismatch] = ()) -> None:
        super().__init__(message)
        rest = (PayloadMismatch("$", "and more"),) if len(errors) > MOST_ERRORS else ()
        self.errors = (*errors[:MOST_ERRORS], *rest)


def event_mismatch(message: str) -> PermanentError:
    """A PermanentError about the event as a whole; the message is its only mismatch."""
    return PermanentError(message, errors=[PayloadMismatch("$", message)])


class UnsupportedEventType(PermanentError):
    """No handler is registered for the type."""

    def __init__(self, event_type: str) -> None:
        super().__init__(f"Unsupported event type: {event_type}")


class InvalidPayload(PermanentError):
    """The body does not fit the handler's model."""

    def __init__(self, errors: Sequence[PayloadMismatch]) -> None:
        super().__init__("", errors=errors)
        listed = "; ".join(f"{error.path} {error.message}" for error in self.errors)
        self.args = (f"The payload does not fit: {listed}.",)


class EventKeyReused(PermanentError):
    """An event with the same type, source and id was received with another business body."""

    def __init__(self, event_id: str, run_id: str) -> None:
        super().__init__(
            f"The event id {event_id!r} came before with another body: give a new event a new id."
        )
        self.run_id = run_id


class NotAllowed(PermanentError):
    """The event is not allowed in the tenant's state."""

    def __init__(self, message: str, run_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class Cancelled(PermanentError):
    """The event's operation was cancelled: nothing more is done for it."""


class TemporaryError(OrchestratorError):
    """A retry may succeed.

    `retry_after_s` is the pause in seconds that the cause names; None: pauses grow from
    `first_pause_s`. `nothing_done`: it is certain that the call had no effect.
    """

    first_pause_s = 5.0

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, nothing_done: bool = False
    ) -> None:
        super().__init__(message)
        if retry_after_s is not None and not math.isfinite(retry_after_s):
            raise ValueError(f"retry_after_s is {retry_after_s!r}: give a number of seconds.")
        self.retry_after_s = retry_after_s
        self.nothing_done = nothing_done


class SecretNotFound(TemporaryError):
    """A secret that is not in its store yet."""

    def __init__(self, name: str, place: str) -> None:
        super().__init__(f"There is no secret {name!r} in {place}: store it there.")


class SecretBlank(TemporaryError):
    """A secret that is empty or white space."""


class BeingHandled(TemporaryError):
    """Another delivery of the same event is in progress."""

    def __init__(self, run_id: str) -> None:
        super().__init__("The same event is being handled right now: retry later.")
        self.run_id = run_id


class Waiting(TemporaryError):
    """The run is stored and retried: it waits for another run. Without a `run_id` nothing is
    stored, since too many wait already."""

    def __init__(self, message: str, run_id: str | None, *, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.run_id = run_id


class TakenOver(TemporaryError):
    """The attempt outlived its lease; its writes since then are refused."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"The run {run_id} was taken over by another attempt.")
        self.run_id = run_id


class HandedBack(TemporaryError):
    """The attempt was cancelled: at shutdown, or on Lambda before the function's time is over."""

    def __init__(self) -> None:
        super().__init__("The attempt was cancelled and handed back.", retry_after_s=1)


class NotPermitted(TemporaryError):
    """Access denied: temporary, since an operator can grant it."""


class QuotaReached(TemporaryError):
    """A quota is exceeded: an operator raises it, or jobs that end free it, so pauses begin at
    30 s."""

    first_pause_s = 30.0


class Overloaded(TemporaryError):
    """Too many events at once, of all senders or of one of them."""

    def __init__(self, limit: int, *, sender: str | None = None) -> None:
        whose = (
            f"{limit} events of the sender {sender}, its http.sender_share,"
            if sender
            else f"http.max_concurrency events ({limit})"
        )
        super().__init__(f"{whose} are being handled already: retry later.", retry_after_s=1)


class HandlerFailed(OrchestratorError):
    """A handler raised an exception that is neither permanent nor temporary: a bug."""

    def __init__(self, event_type: str, run_id: str) -> None:
        super().__init__(f"The handler of {event_type} failed; run {run_id} keeps the cause.")
        self.run_id = run_id


class AttemptFailed(HandlerFailed):
    """Code outside of the handler raised an exception that is neither permanent nor temporary.

    `run_id` None: the event was not stored, so only its sender has it.
    """

    def __init__(self, event_type: str, run_id: str | None) -> None:
        kept = f"run {run_id} records it" if run_id else "send it again"
        OrchestratorError.__init__(
            self, f"The attempt at {event_type} failed outside of the handler; {kept}."
        )
        self.run_id = run_id


class RegistrationError(Exception):
    """A handler or an extension that can't be used; the message says where it is and why."""
