"""Every error that the orchestrator raises on purpose.

    OrchestratorError
    ├── BadEvent                never became an event; no run is kept
    │   └── UnconfirmedSubscription  SNS asks for what only an operator can do
    ├── EventTooLarge           too large to be kept; no run is
    ├── RunNotFound             asked for by its id, and not there
    ├── TenantNotFound          asked for by its id, and never seen
    ├── PermanentError          will fail again however often it is tried
    │   ├── UnsupportedEventType
    │   ├── InvalidPayload        says every mismatch, each with its path
    │   ├── EventKeyReused        same event key, another business body
    │   ├── NotAllowed            not where the tenant stands; an operator may insist
    │   └── Cancelled             an operator has stopped what the event asked for
    ├── TemporaryError          worth another try, after `retry_after_s`
    │   ├── BeingHandled        the same event is in other hands right now
    │   ├── Waiting             kept, until another run is done
    │   ├── TakenOver           this attempt has lost its run to another
    │   ├── HandedBack          this attempt was asked to stop
    │   ├── QuotaReached        refused, and nobody gains from asking soon
    │   ├── NotPermitted        the other side doesn't let us
    │   ├── SecretNotFound      somebody has yet to store it
    │   ├── SecretBlank         what is stored is empty
    │   ├── UnreadableItems     another release wrote items of the ledger (`core.ledger.ledger`)
    │   ├── SomeNotDescribed    a builder could tell of some jobs only (`core.jobs.job_description`)
    │   └── Overloaded          as many events are in hand as there may be
    └── HandlerFailed           a bug in a handler; the cause is chained
        └── AttemptFailed       a bug beside the handler: in the claim, the model, the settle
    RegistrationError           a handler that can't be registered; raised at start

A handler says what it wants by raising `PermanentError` or `TemporaryError`;
whatever else it raises is a bug. Adapters turn foreign errors into these two at the
edge. What each means over HTTP is decided in `intake/problems.py`.
"""

import math
from collections.abc import Sequence

import attrs

#: So many mismatches of one event are named.
MOST_ERRORS = 100


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


class UnconfirmedSubscription(BadEvent):
    """No event: a message of SNS about the subscription itself, and what to do about it."""


class EventTooLarge(OrchestratorError):
    """The ledger can't keep the event."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"The event is too large to be kept: {size} bytes packed, {limit} fit. Send less, or "
            "a reference to it."
        )


class RunNotFound(OrchestratorError):
    """No run has the id, or its event is kept no longer."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"There is no run {run_id!r}.")


class TenantNotFound(OrchestratorError):
    """The ledger has never seen the tenant."""

    def __init__(self, tenant_id: str) -> None:
        super().__init__(f"There is no tenant {tenant_id!r}.")


class PermanentError(OrchestratorError):
    """Trying again won't help until somebody changes the event or the configuration.

    Of many `errors` the first are kept, and that there are more.
    """

    def __init__(self, message: str, *, errors: Sequence[PayloadMismatch] = ()) -> None:
        super().__init__(message)
        rest = (PayloadMismatch("$", "and more"),) if len(errors) > MOST_ERRORS else ()
        self.errors = (*errors[:MOST_ERRORS], *rest)


def event_mismatch(message: str) -> PermanentError:
    """What the event as a whole asks for is not to be had; the message is its one mismatch."""
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
    """An event with the same type, source and id came before with another business body."""

    def __init__(self, event_id: str, run_id: str) -> None:
        super().__init__(
            f"The event id {event_id!r} came before with another body: give a new event a new id."
        )
        self.run_id = run_id


class NotAllowed(PermanentError):
    """Where the tenant stands, the event is not allowed."""

    def __init__(self, message: str, run_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class Cancelled(PermanentError):
    """What the event asked for is to be stopped: nothing more is done for it."""


class TemporaryError(OrchestratorError):
    """It may work later.

    `retry_after_s` is the pause in seconds that the cause asks for; None where it doesn't
    say: then pauses grow from `first_pause_s`. A builder that is sure that it started
    nothing says so with `nothing_done`.
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
    """A secret that somebody has yet to store."""

    def __init__(self, name: str, place: str) -> None:
        super().__init__(f"There is no secret {name!r} in {place}: store it there.")


class SecretBlank(TemporaryError):
    """A secret that is there, with nothing but white space in it."""


class BeingHandled(TemporaryError):
    """Another delivery of the same event is being handled right now."""

    def __init__(self, run_id: str) -> None:
        super().__init__("The same event is being handled right now: retry later.")
        self.run_id = run_id


class Waiting(TemporaryError):
    """The run is kept and tried again: it waits for what another one does. Without a `run_id`
    nothing is kept, since too many wait already."""

    def __init__(self, message: str, run_id: str | None, *, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.run_id = run_id


class TakenOver(TemporaryError):
    """The attempt outlived its lease; what it did since doesn't count."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"The run {run_id} was taken over by another attempt.")
        self.run_id = run_id


class HandedBack(TemporaryError):
    """The attempt was asked to stop: at shutdown, or where nothing goes on after the answer."""

    def __init__(self) -> None:
        super().__init__("The attempt was cancelled and handed back.", retry_after_s=1)


class NotPermitted(TemporaryError):
    """The other side doesn't let us: somebody will mend that."""


class QuotaReached(TemporaryError):
    """A quota is lifted by people, or by jobs that end; nobody gains from asking each 5 s."""

    first_pause_s = 30.0


class Overloaded(TemporaryError):
    """Too many events at once."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"http.max_concurrency events ({limit}) are being handled already: retry later.",
            retry_after_s=1,
        )


class HandlerFailed(OrchestratorError):
    """A handler raised something that is neither permanent nor temporary: a bug."""

    def __init__(self, event_type: str, run_id: str) -> None:
        super().__init__(f"The handler of {event_type} failed; run {run_id} keeps the cause.")
        self.run_id = run_id


class AttemptFailed(HandlerFailed):
    """What surrounds the handler raised something that is neither permanent nor temporary.

    `run_id` None: the event was not kept, so that nobody but its sender has it.
    """

    def __init__(self, event_type: str, run_id: str | None) -> None:
        kept = f"run {run_id} records it" if run_id else "send it again"
        OrchestratorError.__init__(
            self, f"The attempt at {event_type} failed outside of the handler; {kept}."
        )
        self.run_id = run_id


class RegistrationError(Exception):
    """A handler or an extension that can't be used; the message says where it stands and why."""
