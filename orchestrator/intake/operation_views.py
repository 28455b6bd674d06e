"""Operations as the routes show them."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import attrs

from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.guards import Timings, has_begun_anew
from orchestrator.core.ledger.record_parts import Job, OperationState, PastStart, Report
from orchestrator.core.ledger.records import OperationRecord, RunRecord, RunStatus
from orchestrator.core.urls import shown_url
from orchestrator.intake.run_views import reason_of

#: An operation is slow after this share of its deadline.
_SLOW_SHARE = 0.5


@attrs.frozen(kw_only=True)
class OperationView:
    """An operation; `job` is null if no job of it is known.

    `run_id` is the run that opened it, `outcome_run_id` the one that ended it. The job was recorded
    at `job_since`, and is stopped at `deadline_at` unless it is over by then. `by` is who replayed
    it into its current start, `cancelled_by` who cancelled it. `kind` is null for a run that is its
    own operation and holds no tenant.
    """

    operation_id: str
    tenant_id: str | None
    kind: Kind | None
    state: OperationState
    tier: str | None
    run_id: str
    outcome_run_id: str | None
    start_number: int
    opened_at: datetime
    ended_at: datetime | None
    succeeded: bool | None
    reason: str | None
    job: Job | None
    job_since: datetime | None
    deadline_at: datetime | None
    by: str | None
    cancelled_by: str | None


@attrs.frozen(kw_only=True)
class StartView:
    """A start of an operation. Its job ran from `job_since` to `ended_at`; `reported_at` is when
    the report of an earlier start was accepted or given up."""

    number: int
    run_id: str
    outcome_run_id: str | None
    state: OperationState
    opened_at: datetime
    ended_at: datetime | None
    succeeded: bool | None
    reason: str | None
    job: Job | None
    job_since: datetime | None
    reported_at: datetime | None
    by: str | None
    cancelled_by: str | None


@attrs.frozen(kw_only=True)
class ReportTryView:
    """An attempt to deliver a report. `answer` is the HTTP status or a sentence, null if unknown:
    its process crashed."""

    at: datetime
    answer: str | None


@attrs.frozen(kw_only=True)
class ReportView:
    """The report to the control plane: `count` attempts, of which `tries` are the last ten that are
    over. `next_at` is when it is sent next; null once it was accepted or given up at `done_at`."""

    url: str
    count: int
    tries: list[ReportTryView]
    done_at: datetime | None
    trouble: str | None
    next_at: datetime | None


@attrs.frozen(kw_only=True)
class OperationHistory(OperationView):
    """An operation with its starts, the oldest first and the current one last, and its report."""

    starts: list[StartView]
    report: ReportView | None


def view_operation(
    operation: OperationRecord, runs: Mapping[str, RunRecord], timings: Timings
) -> OperationView:
    """`runs` has those by id that are known, such as its opener."""
    is_open = operation.state is OperationState.OPEN
    deadline_at = None
    if is_open and operation.job_since is not None:
        deadline_at = operation.job_since + timedelta(seconds=timings.deadline_s)
    return OperationView(
        operation_id=operation.operation_id,
        tenant_id=operation.tenant_id,
        kind=operation.kind,
        state=operation.state,
        tier=operation.tier,
        run_id=operation.opener,
        outcome_run_id=operation.outcome,
        start_number=operation.start_number,
        opened_at=operation.opened_at,
        ended_at=operation.ended_at,
        succeeded=operation.succeeded,
        reason=_reason(operation, _opener(operation, runs)),
        job=operation.job,
        job_since=operation.job_since,
        deadline_at=deadline_at,
        by=operation.by,
        cancelled_by=operation.cancelled_by,
    )


def view_history(
    operation: OperationRecord, runs: Mapping[str, RunRecord], timings: Timings
) -> OperationHistory:
    """`runs` as for `view_operation`."""
    return OperationHistory(
        **attrs.asdict(view_operation(operation, runs, timings), recurse=False),
        starts=[_start(start) for start in (*operation.starts, operation.as_past)],
        report=_report(operation.report, operation) if operation.report else None,
    )


def is_slow(
    operation: OperationRecord, runs: Mapping[str, RunRecord], now: datetime, timings: Timings
) -> bool:
    """Whether it waits without a job, or has used half of the time until its deadline."""
    if operation.state is not OperationState.OPEN:
        return False
    if operation.job_since is None:
        opener = _opener(operation, runs)
        return opener is not None and opener.status is RunStatus.RETRY
    return operation.job_since + timedelta(seconds=timings.deadline_s * _SLOW_SHARE) <= now


def openers_without_job(operations: Iterable[OperationRecord]) -> list[str]:
    """The runs that say why these operations have no job yet."""
    return [
        operation.opener
        for operation in operations
        if operation.state is OperationState.OPEN and operation.job is None
    ]


def _opener(operation: OperationRecord, runs: Mapping[str, RunRecord]) -> RunRecord | None:
    """The run that opened it; None if it is unknown, or another request by now."""
    opener = runs.get(operation.opener)
    return None if opener is None or has_begun_anew(opener, operation) else opener


def _reason(operation: OperationRecord, opener: RunRecord | None) -> str | None:
    """Why it ended so; while it is open, why it is stopped, can't be checked, or has no job yet."""
    known = operation.reason or operation.stop_reason or operation.trouble
    is_waiting = operation.state is OperationState.OPEN and operation.job is None
    return reason_of(opener) if known is None and is_waiting and opener is not None else known


def _start(start: PastStart) -> StartView:
    return StartView(
        number=start.number,
        run_id=start.opener,
        outcome_run_id=start.outcome,
        state=start.state,
        opened_at=start.opened_at,
        ended_at=start.ended_at,
        succeeded=start.succeeded,
        reason=start.reason,
        job=start.job,
        job_since=start.job_since,
        reported_at=start.reported_at,
        by=start.by,
        cancelled_by=start.cancelled_by,
    )


def _report(report: Report, operation: OperationRecord) -> ReportView:
    is_due = report.done_at is None and operation.state is not OperationState.OPEN
    return ReportView(
        url=shown_url(report.url),
        count=report.tries,
        tries=[ReportTryView(at=one.at, answer=one.answer) for one in report.recent],
        done_at=report.done_at,
        trouble=report.trouble,
        next_at=operation.due_at if is_due else None,
    )
