"""Attempts that failed outside of the handler: counted; the last ends the run by its records.

    claim, attempt or settle raises ──► count: `retry`, after a pause ──► the next attempt
                                          └── the last ──► claim by the records ──► settle

Plain functions of a snapshot, like the claim. They read the ledger's items and nothing of the
event: its content may be what made the attempts fail.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from orchestrator.core.backoff import doubling_pause_s
from orchestrator.core.errors import TemporaryError
from orchestrator.core.events.event import Event, own_outcome_key
from orchestrator.core.events.event_types import ENDS, OPENS, Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.identifiers import operation_id, read_outcome_id
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.guards import (
    Timings,
    is_claimable,
    is_due,
    is_mine,
    is_under_way,
    last_possible_send,
)
from orchestrator.core.ledger.history import BROKE_DOWN
from orchestrator.core.ledger.operations import find_in_progress
from orchestrator.core.ledger.record_parts import Failure, OperationState
from orchestrator.core.ledger.records import (
    OperationRecord,
    PayloadRecord,
    Record,
    RunRecord,
    RunStatus,
)
from orchestrator.core.ledger.settle import Fenced, Saved
from orchestrator.core.ledger.snapshot import Decision, Snapshot
from orchestrator.core.ledger.transitions import ended, kept, new_run, next_attempt
from orchestrator.core.texts import shorten

USED_UP = (
    "All attempts (runs.max_attempts) failed outside of the handler, so the run was ended by its "
    "records in the ledger; the log has the causes."
)
DIED = Failure(
    type="LeaseExpired",
    message="The processes that held the run's lease crashed (runs.max_takeovers), so it was "
    "ended by its records in the ledger.",
)


@attrs.frozen(kw_only=True)
class Breakdown:
    """An attempt that raised an unexpected exception; `cause` is the exception's class.

    `attempt` is the number of the claimed one; None: the claim itself raised, and `trigger` caused
    it. `outcome` is an event of the service's own that may not be stored yet, with its payload if
    it could be encoded: no sender would retry it. `delivered` is the event of a delivery: one with
    another body doesn't belong to the run.
    """

    run_id: str
    cause: str
    attempt: int | None = None
    trigger: Trigger = Trigger.DELIVERY
    outcome: Event[Mapping[str, Any]] | None = None
    payload: PayloadRecord | None = None
    delivered: Event[Mapping[str, Any]] | None = None


def count(snapshot: Snapshot, breakdown: Breakdown, timings: Timings) -> Decision[RunRecord | None]:
    """Count a bug; returns the run, or None if it must not be counted.

    After the last of `runs.max_attempts` the run is to be ended by its records.
    """
    run = snapshot.run(breakdown.run_id)
    begun: tuple[Record, ...] = ()
    if run is None:
        run = _begun(snapshot, breakdown.outcome)
        if run is None:
            return Decision((), None)
        begun = () if breakdown.payload is None else (kept(snapshot, breakdown.payload),)
    elif not may_count(run, breakdown, snapshot, timings):
        return Decision((), None)
    bugs = run.bugs + 1
    is_last = bugs >= timings.max_attempts or run.ends_by_records
    pause_s = 0.0 if is_last else doubling_pause_s(TemporaryError.first_pause_s, run.bugs)
    was_running = run.status is RunStatus.RUNNING
    counted = evolve(
        ended(run, RunStatus.RETRY, snapshot),
        due_at=snapshot.later(pause_s),
        possible_until=None if run.job else last_possible_send(run),
        sent_to=None if was_running else run.sent_to,
        sent_job=None if was_running else run.sent_job,
        waits=run.waits + 1,
        bugs=bugs,
        ends_by_records=is_last,
        error=Failure(type=shorten(breakdown.cause), message=USED_UP if is_last else BROKE_DOWN),
    )
    return Decision((counted, *begun), counted)


def may_count(run: RunRecord, breakdown: Breakdown, snapshot: Snapshot, timings: Timings) -> bool:
    """Whether the run still has the attempt that failed or, if a claim failed, is claimable.

    first  ─ claim ✗ raises ·························· count ✗ would undo the second's writes
    second ─────────────────── claim ── StartBuild ─────────── settle
    """
    if breakdown.attempt is not None:
        return is_mine(run, breakdown.attempt)
    delivered = breakdown.delivered
    if delivered is not None and not delivered.has_body_of(run.body_digest):
        return False
    is_open = not run.status.is_finished
    # A failed run that is delivered again is a new attempt; only a cancel forbids that.
    is_delivered_again = (
        breakdown.trigger is Trigger.DELIVERY
        and run.status is RunStatus.FAILED
        and not run.was_cancelled
    )
    is_asked_for = breakdown.trigger is not Trigger.SWEEP or is_due(run, snapshot.now)
    is_at_rest = is_claimable(run, snapshot.now, timings)
    return (is_open or is_delivered_again) and is_asked_for and is_at_rest


def _begun(snapshot: Snapshot, outcome: Event[Mapping[str, Any]] | None) -> RunRecord | None:
    """The run of an outcome of the service's own, if the start that it ends is still under way."""
    start = read_outcome_id(outcome.id) if outcome else None
    if outcome is None or start is None:
        return None
    operation = snapshot.operation(start[0])
    if not is_under_way(operation, start[1]) or operation.rebuilds != start[2]:
        return None
    return new_run(outcome, operation.tenant_id, snapshot)


def claim_by_records(
    snapshot: Snapshot, run_id: str, timings: Timings
) -> Decision[RunRecord | None]:
    """The next attempt at a run, which only ends it; None if the run isn't due, or is over."""
    run = snapshot.run(run_id)
    if run is None or run.status.is_finished or not run.ends_by_records:
        return Decision((), None)
    if not is_claimable(run, snapshot.now, timings) or not is_due(run, snapshot.now):
        return Decision((), None)
    claimed = next_attempt(run, snapshot, timings)
    return Decision((claimed,), claimed)


def go_on_by_records(snapshot: Snapshot, run_id: str, attempt: int) -> Decision[Saved | Fenced]:
    """Assign the run to the operation that it opened or is to end, which no claim has done yet."""
    run = snapshot.run(run_id)
    if run is None or not is_mine(run, attempt):
        return Decision((), Fenced())
    opens = OPENS.get(run.event_type)
    if opens is not None:
        going_on = _with_its_operation(snapshot, run, opens)
        return Decision(() if going_on == run else (going_on,), Saved(going_on))
    ends = _to_be_ended(snapshot, run)
    if ends is None:
        return Decision((), Saved(run))
    ending = evolve(run, outcome_of=ends.operation_id)
    return Decision((ending, evolve(ends, outcome=run_id)), Saved(ending))


def fail_alone(
    snapshot: Snapshot, run_id: str, attempt: int, error: Failure, note: str
) -> Decision[Saved | Fenced]:
    """End the run alone, without the operation that it should have ended."""
    run = snapshot.run(run_id)
    if run is None or not is_mine(run, attempt):
        return Decision((), Fenced())
    failed = evolve(ended(run, RunStatus.FAILED, snapshot), error=error, note=note)
    return Decision((failed,), Saved(failed))


def _with_its_operation(snapshot: Snapshot, run: RunRecord, opens: Kind) -> RunRecord:
    """The run with its own open operation; a clean-up's is opened before the run begins."""
    if run.tenant_id is None:
        return run
    for wanted in (run.operation_id, operation_id(run.tenant_id, opens, run.request_key)):
        operation = snapshot.operation(wanted)
        is_open = operation is not None and operation.state is OperationState.OPEN
        if operation is not None and is_open and operation.opener == run.run_id:
            return evolve(
                run,
                operation_id=wanted,
                start_number=operation.start_number,
                job=operation.job or run.job,
            )
    return run


def _to_be_ended(snapshot: Snapshot, run: RunRecord) -> OperationRecord | None:
    """The operation that an outcome of the service's own ends, if no outcome has claimed it."""
    ending, start = ENDS.get(run.event_type), read_outcome_id(run.event_id)
    is_own = run.run_id == own_outcome_key(run.event_type, run.event_id)
    if ending is None or start is None or not is_own:
        return None
    operation = snapshot.operation(start[0])
    if not is_under_way(operation, start[1]) or operation.kind is not ending.kind:
        return None
    if operation.rebuilds != start[2]:
        return None
    # A run in progress ends the operation: this one, if it is claimed already.
    return None if find_in_progress(snapshot, operation) else operation
