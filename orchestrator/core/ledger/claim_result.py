"""What a claim comes to."""

import attrs

from orchestrator.core.ledger.records import RunRecord

#: How long a run that waits for another one's work is left alone at first, in seconds.
BUSY_PAUSE_S = 15.0


@attrs.frozen
class Claimed:
    """The run is ours to work on; with a `stop_reason` only to its end."""

    run: RunRecord
    stop_reason: str | None = None


@attrs.frozen
class Duplicate:
    """The event, or what it asks for, was handled by the run `run_id`."""

    run_id: str


@attrs.frozen
class InProgress:
    """The event is being handled right now."""

    run: RunRecord


@attrs.frozen
class Deferred:
    """The run is kept, to be tried again after the pause; `run_id` None: nothing is kept of it."""

    run_id: str | None
    reason: str
    pause_s: float = BUSY_PAUSE_S


@attrs.frozen
class Refused:
    """The run is kept as failed: the event is not allowed where the tenant stands."""

    run_id: str
    reason: str


@attrs.frozen
class NothingToDo:
    """The run is kept as succeeded: there was nothing to do, or, with an `operation_id`,
    nothing but to ask its builder how the job stands."""

    run_id: str
    operation_id: str | None = None


@attrs.frozen
class BodyDiffers:
    """The event key was used before, with another business body."""

    run: RunRecord


@attrs.frozen
class NotDue:
    """The sweep came too early, or somebody was quicker."""


@attrs.frozen
class NeedsForce:
    """What is over is replayed only if somebody insists."""

    run: RunRecord


#: Why the run isn't ours to work on.
NotClaimed = (
    Duplicate | InProgress | Deferred | Refused | NothingToDo | BodyDiffers | NotDue | NeedsForce
)
ClaimResult = Claimed | NotClaimed
