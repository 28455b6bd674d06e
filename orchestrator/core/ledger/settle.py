"""Decisions about an attempt's writes: record steps and a job, renew the lease, settle.

Plain functions of a snapshot, like the claim. Each is refused to an attempt that lost the run.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import Ending, Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.identifiers import operation_id, own_operation_id
from orchestrator.core.ledger.guards import (
    Timings,
    is_mine,
    may_end_without_job,
    may_record,
    works_on,
)
from orchestrator.core.ledger.lifecycle import MOVES, TenantState
from orchestrator.core.ledger.operations import (
    OrphanedJob,
    erased_before,
    noted,
    refused,
    with_end,
)
from orchestrator.core.ledger.possible_start import PossibleStart, with_possible_start
from orchestrator.core.ledger.record_parts import (
    MAX_PAST_REASON,
    Failure,
    Job,
    OperationState,
    Report,
)
from orchestrator.core.ledger.records import (
    OperationRecord,
    PayloadRecord,
    Progress,
    Record,
    RunRecord,
    RunStatus,
    TenantRecord,
)
from orchestrator.core.ledger.snapshot import Decision, Snapshot
from orchestrator.core.ledger.transitions import (
    ended,
    kept,
    leased,
    new_run,
    own_operation,
    restarted,
    tie_to,
)
from orchestrator.core.ledger.waiting import wake_next
from orchestrator.core.texts import shorten


@attrs.frozen
class Saved:
    """It was written: the current run, the follow-ups, stored as runs of their own, and the
    operation that ended or was given back."""

    run: RunRecord
    follow_ups: "tuple[FollowUp, ...]" = ()
    ended: OperationRecord | None = None


@attrs.frozen
class Fenced:
    """Another attempt has the run; nothing was written."""


@attrs.frozen
class StartUnresolved:
    """A start may be out, so the operation can't end without a job; nothing was written."""


@attrs.frozen(kw_only=True)
class FollowUp:
    """An event that follows from a run: a run of its own, due at once."""

    event: Event[Mapping[str, Any]]
    payload: PayloadRecord
    tenant_id: str | None


@attrs.frozen(kw_only=True, slots=False)
class Settlement:
    """How an attempt ended.

    `progress` is what it had not recorded yet. A `retry` is due after `pause_s`.
    `possible_start` is a start whose answer is unknown.
    `ending`, with its `reason`, is how the reported operation ended, and `tier` that of the
    tenant; `report` is the one to send to the control plane, or the refusal of an operation that
    never began, `owed` the one to send if no deployment follows, `clean_up` the event
    whose operation holds the tenant next. `ends_without_job`: the operation that the run opened
    ends without a job. `note` is a sentence about the result.
    """

    status: RunStatus
    progress: Progress = attrs.field(factory=Progress)
    error: Failure | None = None
    pause_s: float = 0.0
    possible_start: PossibleStart | None = None
    ending: Ending | None = None
    reason: str | None = None
    tier: str | None = None
    report: Report | None = None
    owed: Report | None = None
    clean_up: FollowUp | None = None
    ends_without_job: bool = False
    note: str | None = None
    follow_ups: tuple[FollowUp, ...] = ()


def renew(
    snapshot: Snapshot, run_id: str, attempt: int, timings: Timings
) -> Decision[Saved | Fenced]:
    """Hold the run for another lease."""
    run = _mine(snapshot, run_id, attempt)
    if run is None:
        return Decision((), Fenced())
    renewed = leased(run, snapshot, timings)
    return Decision((renewed,), Saved(renewed))


def record(
    snapshot: Snapshot, run_id: str, attempt: int, progress: Progress, timings: Timings
) -> Decision[Saved | Fenced | OrphanedJob]:
    """Remember steps and the job during the attempt; this renews the lease."""
    run = _mine(snapshot, run_id, attempt)
    if run is None:
        return Decision((), Fenced())
    run = _remember(leased(run, snapshot, timings), progress)
    tied = _tie(snapshot, run, progress.job, timings)
    if isinstance(tied, OrphanedJob):
        return Decision((), tied)
    return Decision((run, *tied), Saved(run))


def settle(
    snapshot: Snapshot, run_id: str, attempt: int, settlement: Settlement, timings: Timings
) -> Decision[Saved | Fenced | OrphanedJob | StartUnresolved]:
    """End the attempt, with its effect on operation and tenant."""
    run = _mine(snapshot, run_id, attempt)
    if run is None:
        return Decision((), Fenced())
    settled = _settled(_remember(run, settlement.progress), settlement, snapshot)
    tied = _tie(snapshot, settled, settlement.progress.job, timings)
    if isinstance(tied, OrphanedJob):
        return Decision((), tied)
    settled = _with_canceller(snapshot, _with_the_end(snapshot, settled))
    others: tuple[Record, ...] = ()  # of an outcome; the ended operation is the first
    follow_ups = settlement.follow_ups
    if settlement.status.is_finished and settlement.ending is not None:
        others, cleans_up = _end(snapshot, settled, settlement, settlement.ending)
        follow_ups = (*follow_ups, *cleans_up)
    elif settlement.status is RunStatus.FAILED and settled.outcome_of is not None:
        others = _give_back_taken(snapshot, settled, settlement)
    elif settlement.status.is_finished and settlement.ends_without_job and settled.job is None:
        operation = snapshot.operation(settled.operation_id)
        if operation is None or not works_on(operation, settled):
            follow_ups = ()  # another run has ended it: nothing to give back
        elif operation.job is not None:
            # Another process has recorded a job meanwhile: its end ends the operation.
            settled, follow_ups = evolve(settled, job=operation.job), ()
        elif not may_end_without_job(operation, settled, settlement.possible_start):
            return Decision((), StartUnresolved())
        elif settlement.status is RunStatus.FAILED:
            others = _give_back(snapshot, operation, settlement)
    due = [record for follow_up in follow_ups for record in _due_at_once(snapshot, follow_up)]
    ended_one = others[0] if others and isinstance(others[0], OperationRecord) else None
    return Decision((settled, *tied, *others, *due), Saved(settled, follow_ups, ended_one))


def _tie(
    snapshot: Snapshot, run: RunRecord, job: Job | None, timings: Timings
) -> tuple[Record, ...] | OrphanedJob:
    """The items, besides the run, that record its new job."""
    if job is None:
        return ()
    operation = snapshot.operation(run.operation_id, expect_absent=True)
    if operation is None or (operation.kind is None and operation.start_number < run.start_number):
        operation = own_operation(run, operation)
    if not may_record(operation, run.start_number, job):
        return OrphanedJob(job)
    return () if operation.job is not None else tie_to(snapshot, operation, job, timings)


def _mine(snapshot: Snapshot, run_id: str, attempt: int) -> RunRecord | None:
    """The run, if that attempt still holds it."""
    run = snapshot.run(run_id)
    return run if run is not None and is_mine(run, attempt) else None


def _remember(run: RunRecord, progress: Progress) -> RunRecord:
    steps = {**run.steps, **{step.name: step for step in progress.steps}}
    return evolve(run, steps=steps, job=progress.job or run.job)


def _settled(run: RunRecord, settlement: Settlement, snapshot: Snapshot) -> RunRecord:
    is_retry = settlement.status is RunStatus.RETRY
    error = settlement.error
    return evolve(
        with_possible_start(ended(run, settlement.status, snapshot), settlement.possible_start),
        due_at=snapshot.later(settlement.pause_s) if is_retry else None,
        note=settlement.note,
        waits=run.waits + is_retry,
        bugs=run.bugs + (error is not None and error.is_bug),
        error=error,
    )


def _with_canceller(snapshot: Snapshot, run: RunRecord) -> RunRecord:
    """The run with the name of who cancelled the operation that it ends."""
    if not run.status.is_finished or not (run.outcome_of or run.was_cancelled):
        return run
    operation = snapshot.operation(run.outcome_of or run.operation_id)
    is_cancelled = operation is not None and operation.cancelled_by is not None
    return evolve(run, cancelled_by=operation.cancelled_by) if operation and is_cancelled else run


def _with_the_end(snapshot: Snapshot, run: RunRecord) -> RunRecord:
    """The run with the end of its job, which may be over by now if the run opened no operation."""
    if run.job is None or run.operation_id != own_operation_id(run.request_key):
        return run
    own = snapshot.operation(run.operation_id, expect_absent=True)
    if own is None or own.state is not OperationState.OVER or own.start_number != run.start_number:
        return run
    return with_end(run, run.job, own.reason)


def _give_back(
    snapshot: Snapshot, operation: OperationRecord, settlement: Settlement
) -> tuple[Record, ...]:
    """Give the operation of a run that failed without a job back: the tenant has its former
    state."""
    given_back = evolve(
        operation,
        state=OperationState.GIVEN_BACK,
        ended_at=snapshot.now,
        reason=settlement.error.message if settlement.error else None,
    )
    given_back = refused(given_back, settlement.report, snapshot.now)
    tenant = _held_tenant(snapshot, operation)
    if tenant is None:
        return (given_back,)
    former = _freed(snapshot, tenant, operation.former_state, given_back)
    former = evolve(former, asked=operation.former_asked)
    return (given_back, former, *wake_next(snapshot, former))


def _give_back_taken(
    snapshot: Snapshot, run: RunRecord, settlement: Settlement
) -> tuple[Record, ...]:
    """Undo the claim of an outcome of an unseen tenant that couldn't be handled at all."""
    operation = snapshot.operation(run.outcome_of or "")
    if operation is None or operation.state is not OperationState.OPEN:
        return ()
    is_taken_by_it = operation.opener == operation.outcome == run.run_id
    return _give_back(snapshot, operation, settlement) if is_taken_by_it else ()


def _held_tenant(snapshot: Snapshot, operation: OperationRecord) -> TenantRecord | None:
    """The tenant that the operation holds."""
    tenant = snapshot.tenant(operation.tenant_id) if operation.tenant_id else None
    is_held = tenant is not None and tenant.operation_id == operation.operation_id
    return tenant if is_held else None


def _freed(
    snapshot: Snapshot,
    tenant: TenantRecord,
    state: TenantState | None,
    operation: OperationRecord,
) -> TenantRecord:
    return evolve(
        tenant,
        state=state,
        operation_id=None,
        changed_at=snapshot.now,
        last_operation=operation.operation_id,
        reason=shorten(operation.reason, MAX_PAST_REASON) if operation.reason else None,
    )


def _end(
    snapshot: Snapshot, run: RunRecord, settlement: Settlement, ending: Ending
) -> tuple[tuple[Record, ...], tuple[FollowUp, ...]]:
    """An outcome ends its operation and moves the tenant, or has it cleaned up at once."""
    operation = snapshot.operation(run.outcome_of) if run.outcome_of else None
    if operation is None or operation.state is not OperationState.OPEN:
        return (), ()
    if operation.outcome != run.run_id:
        return (), ()
    report = settlement.report if operation.credentials else None
    owed = settlement.owed if operation.credentials and report is None else None
    # The deployment that follows is reported with them.
    is_kept = report is not None or ending == Ending(Kind.PROVISIONING, True)
    over = evolve(
        operation,
        state=OperationState.OVER,
        job=operation.job.with_log(run.link) if operation.job else None,
        ended_at=snapshot.now,
        succeeded=ending.succeeded,
        reason=settlement.reason,
        credentials=operation.credentials if is_kept else None,
        owed=owed,
    )
    over = noted(over, report, snapshot.now)
    moves, tier = MOVES[ending.kind], operation.tier or settlement.tier
    state = moves.succeeded if ending.succeeded else moves.failed
    held = _held_tenant(snapshot, operation)
    freed = _freed(snapshot, held, state, over) if held else None
    if freed is not None:
        owes = operation.operation_id if owed is not None else None
        freed = evolve(
            freed,
            tier=tier or freed.tier,
            owes=owes,
            registration_id=operation.registration_id or freed.registration_id,
        )
    if freed is not None and settlement.clean_up is not None:
        cleaned = _clean_up(snapshot, freed, over, tier, settlement.clean_up)
        return (over, *cleaned), (settlement.clean_up,)
    erased = erased_before(snapshot, operation) if report is None else ()
    if freed is None:
        return (over, *erased), ()
    return (over, freed, *wake_next(snapshot, freed), *erased), ()


def _clean_up(
    snapshot: Snapshot,
    tenant: TenantRecord,
    failed: OperationRecord,
    tier: str | None,
    follow_up: FollowUp,
) -> tuple[Record, ...]:
    """The clean-up holds the tenant as soon as the failed operation releases it.

    failure settled ── crash ✗ ── another request: the half-made tenant is free

    A failure that is delivered again may end a later start, too. Its clean-up is the same event
    then: its run is restarted, unless an attempt holds it.
    """
    run_id = follow_up.event.key
    wanted = operation_id(tenant.tenant_id, Kind.CLEAN_UP, run_id)
    former = snapshot.operation(wanted, expect_absent=True)
    opened = OperationRecord(
        operation_id=wanted,
        tenant_id=tenant.tenant_id,
        kind=Kind.CLEAN_UP,
        request_key=run_id,
        opener=run_id,
        state=OperationState.OPEN,
        start_number=former.start_number + 1 if former else 1,
        opened_at=snapshot.now,
        former_state=tenant.state,
        former_asked=tenant.asked,
        tier=tier,
        starts=former.starts_before_next if former else (),
        traceparent=failed.traceparent,
        version=former.version if former else 0,
    )
    held = evolve(tenant, state=MOVES[Kind.CLEAN_UP].during, operation_id=wanted)
    opener = snapshot.run(run_id, expect_absent=True)
    if opener is None or opener.status is RunStatus.RUNNING:
        return (opened, held)
    again = evolve(restarted(opener), status=RunStatus.RETRY, due_at=snapshot.now)
    return (opened, held, again)


def _due_at_once(snapshot: Snapshot, follow_up: FollowUp) -> tuple[Record, ...]:
    if snapshot.run(follow_up.event.key, expect_absent=True) is not None:
        return ()
    run = new_run(follow_up.event, follow_up.tenant_id, snapshot)
    return (run, kept(snapshot, follow_up.payload))
