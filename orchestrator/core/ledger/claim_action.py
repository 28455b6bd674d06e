"""Chooses the action for an event that has a run already, by the run's state and the trigger.

| the run | a delivery | the sweep | a replay | a forced replay | a cancel |
| --- | --- | --- | --- | --- | --- |
| is unfinished, and due | resumes it | resumes it | resumes it | resumes it | resumes it |
| is unfinished, and not due | resumes it | leaves it | resumes it | resumes it | resumes it |
| has failed | resumes it | leaves it | resumes it | resumes it | finds it over |
| was cancelled | is refused | leaves it | resumes it | resumes it | finds it over |
| is done | is a duplicate | leaves it | needs force | restarts it | finds it over |
| is finished, and the content counts as new | begins it anew | | | | |

Another body is refused before, and a run whose lease hasn't expired is never touched.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from orchestrator.core.events.event import Event
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.guards import Timings, is_due
from orchestrator.core.ledger.records import RunRecord, RunStatus
from orchestrator.core.ledger.snapshot import Snapshot
from orchestrator.core.ledger.transitions import is_new_event


class Found(Enum):
    """The state of the event's run."""

    DUE = auto()
    NOT_DUE = auto()
    FAILED = auto()
    CANCELLED = auto()
    DONE = auto()
    #: The run is finished, and the event's content counts as a new event.
    NEW_EVENT = auto()


class Action(Enum):
    """The action for the event."""

    #: There is no run yet.
    BEGIN = auto()
    RESUME = auto()
    #: The run starts over, without its steps.
    RESTART = auto()
    BEGIN_ANEW = auto()
    LEAVE = auto()
    #: The run was cancelled, which only an operator can undo by a replay.
    REFUSE = auto()
    DUPLICATE = auto()
    NEED_FORCE = auto()


_RESUMED = dict.fromkeys(Trigger, Action.RESUME)
_OVER = {**_RESUMED, Trigger.SWEEP: Action.LEAVE, Trigger.CANCEL: Action.DUPLICATE}
ACTIONS: Mapping[Found, Mapping[Trigger, Action]] = {
    Found.DUE: _RESUMED,
    Found.NOT_DUE: {**_RESUMED, Trigger.SWEEP: Action.LEAVE},
    Found.FAILED: _OVER,
    Found.CANCELLED: {**_OVER, Trigger.DELIVERY: Action.REFUSE},
    Found.DONE: {
        **_OVER,
        Trigger.DELIVERY: Action.DUPLICATE,
        Trigger.REPLAY: Action.NEED_FORCE,
        Trigger.FORCED_REPLAY: Action.RESTART,
    },
    Found.NEW_EVENT: {Trigger.DELIVERY: Action.BEGIN_ANEW},
}


def choose_action(
    snapshot: Snapshot,
    run: RunRecord,
    event: Event[Mapping[str, Any]],
    trigger: Trigger,
    timings: Timings,
) -> Action:
    """The action for the event, whose run `run` may be claimed."""
    return ACTIONS[_find(snapshot, run, event, trigger, timings)][trigger]


def _find(
    snapshot: Snapshot,
    run: RunRecord,
    event: Event[Mapping[str, Any]],
    trigger: Trigger,
    timings: Timings,
) -> Found:
    # Only a delivery can count as a new event, not a replay.
    if trigger is Trigger.DELIVERY and is_new_event(snapshot, run, event, timings):
        return Found.NEW_EVENT
    if run.was_cancelled:
        return Found.CANCELLED
    match run.status:
        case RunStatus.SUCCEEDED | RunStatus.DUPLICATE:
            return Found.DONE
        case RunStatus.FAILED:
            return Found.FAILED
    return Found.DUE if is_due(run, snapshot.now) else Found.NOT_DUE
