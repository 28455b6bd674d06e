"""Transitions of a run from one attempt to the next, and of an operation to its job, used by the
decisions."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import ENDS, OPENS
from orchestrator.core.evolve import evolve
from orchestrator.core.identifiers import digest, own_operation_id
from orchestrator.core.ledger.guards import (
    Timings,
    is_opened_since,
    is_what_was_asked,
    is_window_over,
    last_possible_send,
)
from orchestrator.core.ledger.history import with_last_attempt
from orchestrator.core.ledger.record_parts import Job, OperationState
from orchestrator.core.ledger.records import (
    JobRecord,
    OperationRecord,
    PayloadRecord,
    RunRecord,
    RunStatus,
)
from orchestrator.core.ledger.snapshot import Snapshot
from orchestrator.core.ledger.waiting import find_first_before


def new_run(
    event: Event[Mapping[str, Any]], tenant_id: str | None, snapshot: Snapshot
) -> RunRecord:
    """The run of a new event: without an attempt yet, and due at once."""
    return RunRecord(
        run_id=event.key,
        request_key=event.key,
        event_type=event.type,
        source=event.source,
        event_id=event.id,
        event_time=event.time,
        sent_at=event.sent_at,
        body_digest=event.body_digest,
        tenant_id=tenant_id,
        status=RunStatus.RETRY,
        attempt=0,
        first_seen=snapshot.now,
        started_at=snapshot.now,
        due_at=snapshot.now,
        operation_id=own_operation_id(event.key),
    )


def kept(snapshot: Snapshot, payload: PayloadRecord) -> PayloadRecord:
    """The payload of a new run; an existing one, of a run that has expired, is overwritten."""
    former = snapshot.payload(payload.run_id, expect_absent=True)
    return evolve(payload, version=former.version if former else 0)


def leased(run: RunRecord, snapshot: Snapshot, timings: Timings) -> RunRecord:
    """The run with a new lease, due when the lease expires."""
    until = snapshot.later(timings.lease_s)
    return evolve(run, lease_until=until, due_at=until + timedelta(seconds=timings.skew_s))


def ended(run: RunRecord, status: RunStatus, snapshot: Snapshot) -> RunRecord:
    """The run after its attempt, no longer due."""
    return evolve(
        run,
        status=status,
        ended_at=snapshot.now,
        lease_until=None,
        due_at=None,
        takeovers=0,
        ends_by_records=run.ends_by_records and not status.is_finished,
    )


def next_attempt(run: RunRecord, snapshot: Snapshot, timings: Timings) -> RunRecord:
    """The run under its next attempt; a start that an earlier one may have sent stays possible.

    One that ends by its records sends no start any more: its last possible start stays as
    recorded, and so does the reason of the failure.
    """
    is_taken_over = run.status is RunStatus.RUNNING
    is_forgotten = is_taken_over and not run.ends_by_records
    run = with_last_attempt(run, snapshot.now)
    takeovers = run.takeovers + is_taken_over
    possible_until = run.possible_until if run.ends_by_records else last_possible_send(run)
    return evolve(
        leased(run, snapshot, timings),
        status=RunStatus.RUNNING,
        attempt=run.attempt + 1,
        started_at=snapshot.now,
        ended_at=None,
        possible_until=None if run.job else possible_until,
        sent_to=None if is_forgotten else run.sent_to,
        sent_job=None if is_forgotten else run.sent_job,
        takeovers=takeovers,
        ends_by_records=run.ends_by_records or takeovers >= timings.max_takeovers,
        duplicate_of=None,
        note=None,
        error=run.error if run.ends_by_records else None,
        is_replay=run.is_replay and run.ends_by_records,
        by=run.by if run.ends_by_records else None,
        waits_for=None,
        cancelled_by=None,
    )


def is_new_event(
    snapshot: Snapshot, run: RunRecord, event: Event[Mapping[str, Any]], timings: Timings
) -> bool:
    """Whether a delivered event that is identified only by its content is a new event, not the one
    that the run has finished.

    It is once the deduplication window has passed. Before that a request is new once the tenant has
    another latest request, or while one of another kind waits; an outcome is new once an operation
    of its kind has been opened again. An event received before the run was first seen is the
    finished one: a queue may redeliver it.
    """
    if not event.identified_by_content or not run.status.is_finished:
        return False
    if event.received_at is not None and event.received_at <= run.first_seen:
        return False
    if is_window_over(run, snapshot.now, timings):
        return True
    opens, ends = OPENS.get(event.type), ENDS.get(event.type)
    if run.tenant_id is None or not (opens or ends) or run.status is RunStatus.FAILED:
        return False
    tenant = snapshot.tenant(run.tenant_id)
    if ends is not None:
        held_by = tenant.operation_id if tenant else None
        return is_opened_since(run, ends.kind, snapshot.operation(held_by) if held_by else None)
    return not is_what_was_asked(run, tenant) or bool(
        find_first_before(snapshot, tenant, None, other_than=opens)
    )


def as_new_event(run: RunRecord, event: Event[Mapping[str, Any]], snapshot: Snapshot) -> RunRecord:
    """The run of content that counts as a new event, with an operation of its own."""
    request_key = digest(run.run_id, snapshot.now.isoformat())
    return evolve(
        restarted(run),
        request_key=request_key,
        first_seen=snapshot.now,
        event_time=event.time,
        sent_at=event.sent_at,
        operation_id=own_operation_id(request_key),
        start_number=1,
        outcome_of=None,
    )


def restarted(run: RunRecord) -> RunRecord:
    """The run starts over: without its steps, and with the next start number."""
    return evolve(
        run,
        steps={},
        job=None,
        possible_until=None,
        waits=0,
        bugs=0,
        start_number=run.start_number + 1,
    )


def tie_to(
    snapshot: Snapshot, operation: OperationRecord, job: Job, timings: Timings
) -> "tuple[OperationRecord, *tuple[JobRecord, ...]]":
    """The operation with its new job, and the item that leads from the job to it."""
    pause_s = 0.0 if operation.stop_reason else timings.look_after_s
    due_at = snapshot.later(pause_s)
    tied = evolve(operation, job=job, job_since=snapshot.now, due_at=due_at)
    if snapshot.job(job.builder, job.id, expect_absent=True) is not None:
        return (tied,)
    known = JobRecord(
        builder=job.builder,
        job_id=job.id,
        operation_id=operation.operation_id,
        start_number=operation.start_number,
    )
    return (tied, known)


def own_operation(run: RunRecord, former: OperationRecord | None) -> OperationRecord:
    """The operation of a run that opens none, which holds no tenant."""
    return OperationRecord(
        operation_id=run.operation_id,
        tenant_id=run.tenant_id,
        kind=None,
        request_key=run.request_key,
        opener=run.run_id,
        state=OperationState.OPEN,
        start_number=run.start_number,
        opened_at=run.started_at,
        starts=former.starts_before_next if former else (),
        by=run.by,
        version=former.version if former else 0,
    )
