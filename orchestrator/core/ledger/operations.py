"""Decisions about operations under way: their jobs, and the reports of their outcomes.

Plain functions of a snapshot, like the claim; a start, a check or a settle runs them.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs

from orchestrator.core.events.event_types import Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.identifiers import is_operation_id, read_start_key
from orchestrator.core.ledger.guards import (
    Timings,
    has_begun_anew,
    is_due,
    is_under_way,
    may_record,
    may_refuse,
    may_replace,
)
from orchestrator.core.ledger.record_parts import Job, OperationState, Report
from orchestrator.core.ledger.records import OperationRecord, Record, RunRecord, SecretsRecord
from orchestrator.core.ledger.snapshot import Decision, Snapshot
from orchestrator.core.ledger.transitions import own_operation, tie_to

#: How long (seconds) a job may take to end after a stop, before a harder one is sent.
_HEED_S = 30.0


@attrs.frozen
class OrphanedJob:
    """The job can't be the operation's; nothing was written. The caller stops it."""

    job: Job


@attrs.frozen
class Adopted:
    """The job is the operation's, now or before."""

    operation: OperationRecord


def adopt(
    snapshot: Snapshot,
    operation_id: str,
    number: int,
    job: Job,
    run_id: str | None,
    timings: Timings,
) -> Decision[Adopted | OrphanedJob]:
    """Record a job with the operation whose start made it, after a start, a lookup or a message.

    `run_id` is the run that started it, if known: before the job is recorded, the run's own
    operation may not exist, or may have the start before.
    """
    operation = snapshot.operation(operation_id)
    is_behind = operation is None or (operation.kind is None and operation.start_number < number)
    run = snapshot.run(run_id) if is_behind and run_id is not None else None
    if run is not None and run.operation_id == operation_id:
        operation = own_operation(run, operation)
    if operation is None or not may_record(operation, number, job):
        return Decision((), OrphanedJob(job))
    if operation.job is not None:
        return Decision((), Adopted(operation))
    tied, *others = tie_to(snapshot, operation, job, timings)
    return Decision((tied, *others), Adopted(tied))


def replace(
    snapshot: Snapshot, operation_id: str, number: int, former: Job, job: Job, timings: Timings
) -> Decision[OperationRecord | None]:
    """Replace a job that was built again by the newer one, which is due to be checked at once.

    None: the end of the former one is claimed, or the operation has neither of the two. It may
    have the newer one already:

    first  ─ reads job A ─────────────────── replace A by B ✗ as if B were orphaned: it is stopped
    second ─ reads job A ── replace A by B
    """
    operation = snapshot.operation(operation_id)
    if operation is not None and operation.job and may_record(operation, number, job):
        return Decision((), operation)
    if not may_replace(operation, number, former):
        return Decision((), None)
    built_again = evolve(
        operation, told_by=None, rebuilds=operation.rebuilds + 1, stops=0, stopped_at=None
    )
    tied, *others = tie_to(snapshot, built_again, job, timings)
    due = evolve(tied, due_at=snapshot.now)
    return Decision((due, *others, *_secrets_of_newer(snapshot, operation)), due)


def _secrets_of_newer(snapshot: Snapshot, operation: OperationRecord) -> Sequence[SecretsRecord]:
    """The start's secrets, noted anew: the newer job may take as long as the first, and no check
    queries it once a replay's job has replaced it. A job of a tenant can't be replaced so."""
    kept = snapshot.secrets(operation.start_key) if operation.kind is None else None
    return () if kept is None else (evolve(kept, noted_at=snapshot.now),)


def begin_look(
    snapshot: Snapshot, operation_id: str, timings: Timings
) -> Decision[OperationRecord | None]:
    """Begin a check of the operation's job, if it is due; no other check begins before the next due
    time."""
    operation = snapshot.operation(operation_id)
    is_open = operation is not None and operation.state is OperationState.OPEN
    if (
        operation is None
        or not is_open
        or operation.job is None
        or not is_due(operation, snapshot.now)
    ):
        return Decision((), None)
    looked_at = evolve(operation, due_at=snapshot.later(timings.look_after_s))
    return Decision((looked_at,), looked_at)


def ask_again(snapshot: Snapshot, operation_id: str, number: int, after_s: float) -> Decision[bool]:
    """Make a check of the operation's job due in `after_s` seconds, unless it is due earlier.
    False: nothing was written."""
    operation = snapshot.operation(operation_id)
    if not is_under_way(operation, number) or operation.job is None:
        return Decision((), False)
    due_at = snapshot.later(after_s)
    if operation.due_at is not None and operation.due_at <= due_at:
        return Decision((), False)
    return Decision((evolve(operation, due_at=due_at),), True)


def is_reported_by_job(
    operation: OperationRecord, reported: tuple[str, str] | None, start_key: object
) -> bool:
    """Whether a report has the builder and id of the operation's job (`reported`), or the key of
    its current start.

    Any sender can name a tenant, but only the job knows these two.
    """
    job = operation.job
    if reported is not None and job is not None and job.is_same_as(*reported):
        return True
    return start_key == operation.start_key


def ask_to_stop(
    snapshot: Snapshot, operation_id: str, number: int, reason: str, by: str | None = None
) -> Decision[OperationRecord | None]:
    """Request a stop of the operation's job; the first reason counts, and the first name (`by`) of
    who cancels it. None: it is over."""
    operation = snapshot.operation(operation_id)
    if not is_under_way(operation, number):
        return Decision((), None)
    updated = evolve(
        operation,
        stop_reason=operation.stop_reason or reason,
        cancelled_by=operation.cancelled_by or by,
    )
    return Decision(() if updated == operation else (updated,), updated)


def count_stops(operation: OperationRecord, ways: Sequence[str], now: datetime) -> int:
    """The number of the stop that is due: 1 is the first way; one more than there are ways means
    that the job ignored all. Each way gets its time before the next."""
    is_next_due = (
        operation.stopped_at is None or operation.stopped_at + timedelta(seconds=_HEED_S) <= now
    )
    return min(operation.stops + is_next_due, len(ways) + 1)


def note_stop(
    snapshot: Snapshot, seen: OperationRecord, number: int, ways: Sequence[str]
) -> Decision[OperationRecord | None]:
    """Record that the builder accepted a stop of the job; after the last way the operation's reason
    says so. `seen` is the operation as it was read. None: there is nothing to write."""
    operation = snapshot.operation(seen.operation_id)
    if not is_under_way(operation, seen.start_number) or operation.job is None:
        return Decision((), None)
    if operation.rebuilds != seen.rebuilds or number <= operation.stops:
        return Decision((), None)
    reason = operation.stop_reason or ""
    if number > len(ways):
        job = operation.job
        reason += (
            f" The job {job.id} obeyed none of {', '.join(ways)}: end it on {job.builder} by hand."
        )
    noted = evolve(operation, stops=number, stopped_at=snapshot.now, stop_reason=reason)
    return Decision((noted,), noted)


def end_alone(
    snapshot: Snapshot, seen: OperationRecord, reason: str | None, link: str | None
) -> Decision[bool]:
    """Record that the job of a run without an operation of its own is over, in the run. `seen` is
    the job's operation as it was read, `link` leads to its log. False: it was over before, or has
    another job by now."""
    operation = snapshot.operation(seen.operation_id)
    if not is_under_way(operation, seen.start_number) or operation.kind is not None:
        return Decision((), False)
    if operation.rebuilds != seen.rebuilds:
        return Decision((), False)
    over = evolve(
        operation,
        state=OperationState.OVER,
        job=operation.job.with_log(link) if operation.job else None,
        ended_at=snapshot.now,
        due_at=None,
        succeeded=reason is None,
        reason=reason,
    )
    run = snapshot.run(operation.opener)
    if run is None or operation.job is None:
        return Decision((over,), True)
    return Decision(
        (over, evolve(with_end(run, operation.job, reason), link=link or run.link)), True
    )


def find_in_progress(snapshot: Snapshot, operation: OperationRecord) -> RunRecord | None:
    """The run that the operation's end waits for: another outcome's, or, as long as no job of it is
    known, the one that opened it."""
    outcome = snapshot.run(operation.outcome) if operation.outcome else None
    if outcome is not None and not outcome.status.is_finished:
        return outcome
    opener = None if operation.job else snapshot.run(operation.opener)
    if opener is None or opener.status.is_finished or has_begun_anew(opener, operation):
        return None
    return opener


def with_end(run: RunRecord, job: Job, reason: str | None) -> RunRecord:
    """The run, with the end of its job added to its note; `reason` is why that failed."""
    end = reason or f"The job {job.id} succeeded."
    return evolve(run, note=" ".join(filter(None, (run.note, end))))


def noted(operation: OperationRecord, report: Report | None, now: datetime) -> OperationRecord:
    """The operation with a report that is due at once, or once an attempt at an earlier report is
    over.

    refusal: begin ── post ·················· 204    60 s
    opened again ── a job ── over: report ✗ beside it ··· report
    """
    if report is None:
        return evolve(operation, report=None, due_at=None)
    until = operation.report.posting_until if operation.report else None
    return evolve(operation, report=report, due_at=max(now, until) if until else now)


def refused(operation: OperationRecord, refusal: Report | None, now: datetime) -> OperationRecord:
    """The operation, given back; its refusal is due unless an earlier report was accepted.

    refusal: begin ── post ··· opened again ··· given back ── the same refusal, after 60 s
    """
    earlier = operation.report
    if refusal is None or operation.credentials is None or not may_refuse(earlier):
        accepted = earlier if earlier is not None and earlier.was_accepted else None
        return evolve(operation, credentials=None, report=accepted, due_at=None)
    if earlier is not None and earlier.done_at is None:
        refusal = evolve(
            refusal,
            tries=earlier.tries,
            may_have_arrived=earlier.may_have_arrived,
            posting_until=earlier.posting_until,
            recent=earlier.recent,
        )
    return noted(operation, refusal, now)


def erased_before(snapshot: Snapshot, operation: OperationRecord) -> tuple[Record, ...]:
    """The operation that a deployment followed, whose credentials are no longer needed."""
    followed = find_followed(operation)
    before = snapshot.operation(followed) if followed else None
    is_its_own = (
        before is not None
        and before.tenant_id == operation.tenant_id
        and before.kind is Kind.PROVISIONING
        and before.state is OperationState.OVER
    )
    if before is None or not is_its_own or before.credentials is None or before.report is not None:
        return ()
    return (evolve(before, credentials=None, owed=None),)


def find_followed(operation: OperationRecord) -> str | None:
    """The operation that the service's own deployment follows, by the key of its request."""
    if operation.kind is not Kind.DEPLOYMENT:
        return None
    started = read_start_key(operation.request_key)
    named = started[0] if started else operation.request_key
    return named if is_operation_id(named) else None
