"""Work under way and its end: remember, hold on, tie a job to its operation, settle.

Plain functions of a view, like the claim. Each is refused to whoever lost the run.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import attrs

from orchestrator.core.claims import ended, kept, leased, new_run
from orchestrator.core.conditions import (
    Terms,
    is_mine,
    is_unseen,
    may_let_go,
    may_record,
    works_on,
)
from orchestrator.core.events import Event
from orchestrator.core.lifecycle import MOVES, Ending, TenantState
from orchestrator.core.records import (
    Failure,
    Job,
    JobRecord,
    OperationRecord,
    OperationState,
    PayloadRecord,
    Progress,
    Record,
    RunRecord,
    RunStatus,
    TenantRecord,
    job_key,
    operation_key,
    run_key,
)
from orchestrator.core.views import Move, View


@attrs.frozen
class Written:
    """It was written; the run now stands so, and these events are kept as runs of their own."""

    run: RunRecord
    follow_ups: "tuple[FollowUp, ...]" = ()


@attrs.frozen
class Fenced:
    """The run is in other hands; nothing was written."""


@attrs.frozen
class Orphaned:
    """The job can't be the operation's; nothing was written. Whoever sees this stops it."""

    job: Job


@attrs.frozen
class Uncertain:
    """A start may be out, so the operation can't end without a job; nothing was written."""


@attrs.frozen
class Adopted:
    """The job is the operation's, now or before."""

    operation: OperationRecord


@attrs.frozen(kw_only=True)
class FollowUp:
    """An event that a run amounts to: a run of its own, due at once."""

    event: Event[Mapping[str, Any]]
    payload: PayloadRecord
    tenant_id: str | None


@attrs.frozen(kw_only=True)
class Settlement:
    """How an attempt ended.

    `progress` is what it had not recorded yet. A `retry` is due after `pause_s`.
    `possible_until` is when a start of it may last have been sent without our knowing.
    `ending`, with its `reason`, is what the event reports of an operation, and `tier` what
    it says of the tenant. `lets_go`: the operation that the run opened ends without a job.
    """

    status: RunStatus
    progress: Progress = attrs.field(factory=Progress)
    error: Failure | None = None
    pause_s: float = 0.0
    possible_until: datetime | None = None
    ending: Ending | None = None
    reason: str | None = None
    tier: str | None = None
    lets_go: bool = False
    follow_ups: tuple[FollowUp, ...] = ()


def renew(view: View, run_id: str, attempt: int, terms: Terms) -> Move[Written | Fenced]:
    """Hold the run for another lease."""
    run = _mine(view, run_id, attempt)
    if run is None:
        return Move((), Fenced())
    renewed = leased(run, view, terms)
    return Move((renewed,), Written(renewed))


def record(
    view: View, run_id: str, attempt: int, progress: Progress, terms: Terms
) -> Move[Written | Fenced | Orphaned]:
    """Remember what was done while the work goes on; it holds the run for another lease."""
    run = _mine(view, run_id, attempt)
    if run is None:
        return Move((), Fenced())
    run = _remember(leased(run, view, terms), progress)
    tied = _tie(view, run, progress.job)
    if isinstance(tied, Orphaned):
        return Move((), tied)
    return Move((run, *tied), Written(run))


def adopt(
    view: View, operation_id: str, number: int, job: Job, run_id: str | None
) -> Move[Adopted | Orphaned]:
    """Tie a job to the operation whose start made it, whoever has found it.

    `run_id` is the run that started it, where that is known: as long as nothing is recorded
    of it, its own operation isn't even there.
    """
    operation = view.operation(operation_id)
    run = view.run(run_id) if operation is None and run_id is not None else None
    if run is not None and run.operation_id == operation_id:
        operation = _own_operation(run, version=0)
    if operation is None or not may_record(operation, number, job):
        return Move((), Orphaned(job))
    adopted = attrs.evolve(operation, job=operation.job or job)
    return Move(_tie_to(view, operation, job), Adopted(adopted))


def settle(
    view: View, run_id: str, attempt: int, settlement: Settlement
) -> Move[Written | Fenced | Orphaned | Uncertain]:
    """End the attempt, and with it what it does to operation and tenant."""
    run = _mine(view, run_id, attempt)
    if run is None:
        return Move((), Fenced())
    settled = _settled(_remember(run, settlement.progress), settlement, view)
    tied = _tie(view, settled, settlement.progress.job)
    if isinstance(tied, Orphaned):
        return Move((), tied)
    others: tuple[Record, ...] = ()
    follow_ups = settlement.follow_ups
    if settlement.status.is_finished and settlement.ending is not None:
        others = _end(view, settled, settlement, settlement.ending)
    elif settlement.status.is_finished and settlement.lets_go and settled.job is None:
        operation = view.operation(settled.operation_id)
        if operation is None or not works_on(operation, settled):
            follow_ups = ()  # it was ended by others: there is nothing to let go of
        elif operation.job is not None:
            # Somebody found it meanwhile: its end is the operation's, not ours.
            settled, follow_ups = attrs.evolve(settled, job=operation.job), ()
        elif not may_let_go(operation, settled, settlement.possible_until):
            return Move((), Uncertain())
        elif settlement.status is RunStatus.FAILED:
            others = _give_back(view, operation, settlement)
    due = [record for follow_up in follow_ups for record in _due_at_once(view, follow_up)]
    return Move((settled, *tied, *others, *due), Written(settled, follow_ups))


def _mine(view: View, run_id: str, attempt: int) -> RunRecord | None:
    """The run, if whoever claimed that attempt still has it."""
    run = view.run(run_id)
    return run if run is not None and is_mine(run, attempt) else None


def _remember(run: RunRecord, progress: Progress) -> RunRecord:
    steps = {**run.steps, **{step.name: step for step in progress.steps}}
    return attrs.evolve(run, steps=steps, job=progress.job or run.job)


def _settled(run: RunRecord, settlement: Settlement, view: View) -> RunRecord:
    is_retry = settlement.status is RunStatus.RETRY
    error = settlement.error
    return attrs.evolve(
        ended(run, settlement.status, view),
        due_at=view.now + timedelta(seconds=settlement.pause_s) if is_retry else None,
        possible_until=None if run.job else settlement.possible_until,
        waits=run.waits + is_retry,
        bugs=run.bugs + (error is not None and error.is_bug),
        error=error,
    )


def _tie(view: View, run: RunRecord, job: Job | None) -> tuple[Record, ...] | Orphaned:
    """What the run's new job is written into besides the run."""
    if job is None:
        return ()
    view.guess_absent(operation_key(run.operation_id))
    operation = view.operation(run.operation_id)
    if operation is None or (operation.kind is None and operation.start_number < run.start_number):
        operation = _own_operation(run, version=operation.version if operation else 0)
    if not may_record(operation, run.start_number, job):
        return Orphaned(job)
    return _tie_to(view, operation, job)


def _tie_to(view: View, operation: OperationRecord, job: Job) -> tuple[Record, ...]:
    if operation.job is not None:
        return ()
    tied = attrs.evolve(operation, job=job)
    view.guess_absent(job_key(job.builder, job.id))
    if view.job(job.builder, job.id) is not None:
        return (tied,)
    known = JobRecord(
        builder=job.builder,
        job_id=job.id,
        operation_id=operation.operation_id,
        start_number=operation.start_number,
    )
    return (tied, known)


def _own_operation(run: RunRecord, *, version: int) -> OperationRecord:
    """The operation of a run that opens none: it holds no tenant."""
    return OperationRecord(
        operation_id=run.operation_id,
        tenant_id=run.tenant_id,
        kind=None,
        request_key=run.request_key,
        opener=run.run_id,
        state=OperationState.OPEN,
        start_number=run.start_number,
        opened_at=run.started_at,
        version=version,
    )


def _give_back(
    view: View, operation: OperationRecord, settlement: Settlement
) -> tuple[Record, ...]:
    """A run that failed without a job leaves its tenant as it found it."""
    given_back = attrs.evolve(
        operation,
        state=OperationState.GIVEN_BACK,
        ended_at=view.now,
        reason=settlement.error.message if settlement.error else None,
        credentials=None,
    )
    return (given_back, *_release(view, operation, operation.former_state, tier=None))


def _release(
    view: View, operation: OperationRecord, state: TenantState | None, *, tier: str | None
) -> tuple[Record, ...]:
    """The tenant that the operation holds, free and in that state; `tier` None: as it was."""
    tenant = view.tenant(operation.tenant_id) if operation.tenant_id else None
    if tenant is None or tenant.operation_id != operation.operation_id:
        return ()
    freed = attrs.evolve(
        tenant, state=state, operation_id=None, changed_at=view.now, tier=tier or tenant.tier
    )
    return (freed,)


def _end(view: View, run: RunRecord, settlement: Settlement, ending: Ending) -> tuple[Record, ...]:
    """An outcome ends its operation and moves the tenant; of an unseen one it says all."""
    moves = MOVES[ending.kind]
    state = moves.succeeded if ending.succeeded else moves.failed
    if run.tenant_id is None:
        return ()
    if run.outcome_of is None:
        tenant = view.tenant(run.tenant_id)
        if not is_unseen(tenant):
            return ()
        version = tenant.version if tenant else 0
        return (
            TenantRecord(
                tenant_id=run.tenant_id,
                state=state,
                changed_at=view.now,
                tier=settlement.tier,
                version=version,
            ),
        )
    operation = view.operation(run.outcome_of)
    if operation is None or operation.state is not OperationState.OPEN:
        return ()
    if operation.outcome != run.run_id:
        return ()
    over = attrs.evolve(
        operation,
        state=OperationState.OVER,
        ended_at=view.now,
        succeeded=ending.succeeded,
        reason=settlement.reason,
    )
    return (over, *_release(view, operation, state, tier=operation.tier or settlement.tier))


def _due_at_once(view: View, follow_up: FollowUp) -> tuple[Record, ...]:
    view.guess_absent(run_key(follow_up.event.key))
    if view.run(follow_up.event.key) is not None:
        return ()
    run = new_run(follow_up.event, follow_up.tenant_id, view)
    return (run, kept(view, follow_up.payload))
