"""Decisions about an attempt to send a report: begun before it is sent, ended by its answer.

Plain functions of a snapshot; the report sender runs them.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import attrs

from orchestrator.core.evolve import evolve
from orchestrator.core.ledger.guards import may_send_report
from orchestrator.core.ledger.operations import erased_before
from orchestrator.core.ledger.record_parts import (
    OperationState,
    Report,
    ReportTry,
    WebhookCredentials,
)
from orchestrator.core.ledger.records import OperationRecord, Record
from orchestrator.core.ledger.snapshot import Decision, Snapshot

#: How long one attempt at a report may take, in seconds; no other attempt begins meanwhile.
POSTING_S = 60.0


@attrs.frozen(kw_only=True)
class ReportAttempt:
    """One attempt at a report, exclusive until it is over. `earlier` is the report before it,
    `traceparent` the span that opened the operation."""

    operation_id: str
    until: datetime
    tries: int
    url: str
    body: Mapping[str, Any]
    credentials: WebhookCredentials
    earlier: Report
    traceparent: str | None = None


@attrs.frozen(kw_only=True)
class ReportResult:
    """The result of an attempt: done (`note` says how), or retried after the pause. `answer` is the
    HTTP status, or a sentence if there was no answer."""

    note: str
    is_done: bool
    is_trouble: bool
    may_have_arrived: bool = False
    pause_s: float = 0.0
    answer: str | None = None

    @property
    def name(self) -> str:
        """`accepted`, `given_up` or `retry`."""
        if not self.is_done:
            return "retry"
        return "given_up" if self.is_trouble else "accepted"


def begin_report(snapshot: Snapshot, operation_id: str) -> Decision[ReportAttempt | None]:
    """Begin an exclusive attempt to send the operation's report; None if none is to be sent now."""
    operation = snapshot.operation(operation_id)
    if operation is None or not may_send_report(operation, snapshot.now):
        return Decision((), None)
    report, credentials = operation.report, operation.credentials
    assert report is not None  # noqa: S101 - else nothing may be posted
    assert credentials is not None  # noqa: S101 - they are kept as long as there is a report
    until = snapshot.later(POSTING_S)
    begun = evolve(
        operation,
        due_at=until,
        # The process may crash before the answer: the next attempt must assume that it was sent.
        report=evolve(
            report,
            tries=report.tries + 1,
            may_have_arrived=True,
            posting_until=until,
            recent=_with_try(report, None),
        ),
    )
    posting = ReportAttempt(
        operation_id=operation_id,
        until=until,
        tries=report.tries + 1,
        url=report.url,
        body=report.body,
        credentials=credentials,
        earlier=report,
        traceparent=operation.traceparent,
    )
    return Decision((begun,), posting)


def end_report(snapshot: Snapshot, posting: ReportAttempt, posted: ReportResult) -> Decision[None]:
    """Store the attempt's result, unless it comes too late; once it is done the credentials are
    erased."""
    operation = snapshot.operation(posting.operation_id)
    report = operation.report if operation else None
    if operation is None or report is None or report.posting_until != posting.until:
        return Decision((), None)
    return Decision(after_report(snapshot, operation, posted), None)


def after_report(
    snapshot: Snapshot, operation: OperationRecord, posted: ReportResult
) -> tuple[Record, ...]:
    """The items to write after an attempt at the operation's report."""
    assert operation.report is not None  # noqa: S101 - it was posted
    ended = evolve(
        operation.report,
        may_have_arrived=posted.may_have_arrived,
        posting_until=None,
        trouble=posted.note if posted.is_trouble else None,
        done_at=snapshot.now if posted.is_done else None,
        recent=_with_try(operation.report, posted.answer),
    )
    if operation.state is OperationState.OPEN:
        # A refusal of an operation that was opened again: credentials and due time are the new
        # attempt's.
        return (evolve(operation, report=ended),)
    if not posted.is_done:
        later = snapshot.later(posted.pause_s)
        return (evolve(operation, due_at=later, report=ended),)
    done = evolve(operation, due_at=None, credentials=None, report=ended)
    return (done, *erased_before(snapshot, operation), *_noted(snapshot, operation, posted))


def _with_try(report: Report, answer: str | None) -> tuple[ReportTry, ...]:
    """The report's last attempts, with the one that is under way; none is before it was begun."""
    if report.posting_until is None:
        return report.recent
    began_at = report.posting_until - timedelta(seconds=POSTING_S)
    return report.tried(began_at, answer)


def _noted(
    snapshot: Snapshot, operation: OperationRecord, posted: ReportResult
) -> tuple[Record, ...]:
    is_refusal = operation.state is OperationState.GIVEN_BACK
    run_id = operation.opener if is_refusal else operation.outcome
    run = snapshot.run(run_id) if run_id else None
    if run is None:
        return ()
    note = f"{run.note} {posted.note}" if run.note else posted.note
    return (evolve(run, note=note),)
