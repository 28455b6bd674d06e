"""The results of a claim."""

import attrs

from orchestrator.core.ledger.records import RunRecord

#: The first pause of a run that waits for another one, in seconds.
BUSY_PAUSE_S = 15.0


@attrs.frozen
class Claimed:
    """The run is claimed; with a `stop_reason` only to end it."""

    run: RunRecord
    stop_reason: str | None = None


@attrs.frozen
class Duplicate:
    """The event, or its request, was handled by the run `run_id`."""

    run_id: str


@attrs.frozen
class InProgress:
    """Another attempt at the event is in progress."""

    run: RunRecord


@attrs.frozen
class Deferred:
    """The run is stored, and retried after the pause; `run_id` None: it is not stored."""

    run_id: str | None
    reason: str
    pause_s: float = BUSY_PAUSE_S


@attrs.frozen
class Refused:
    """The run is stored as failed: the event is not allowed in the tenant's state."""

    run_id: str
    reason: str


@attrs.frozen
class NothingToDo:
    """The run is stored as succeeded: there was nothing to do or, with an `operation_id`, only to
    check its job."""

    run_id: str
    operation_id: str | None = None


@attrs.frozen
class BodyDiffers:
    """The event key was used before, with another business body."""

    run: RunRecord


@attrs.frozen
class NotDue:
    """The run isn't due, or another claim was faster."""


@attrs.frozen
class NeedsForce:
    """A finished run is replayed only with force."""

    run: RunRecord


#: Why the run was not claimed.
NotClaimed = (
    Duplicate | InProgress | Deferred | Refused | NothingToDo | BodyDiffers | NotDue | NeedsForce
)
ClaimResult = Claimed | NotClaimed
