"""Attempts at a report, as items of the ledger, also of operations that have expired."""

from typing import Any

import attrs
import pytest

from orchestrator.core.ledger.record_parts import OperationState, Report
from orchestrator.core.ledger.records import OperationRecord
from orchestrator.core.ledger.report_attempt import (
    ReportAttempt,
    ReportResult,
    begin_report,
    end_report,
)
from orchestrator.core.ledger.snapshot import Snapshot
from tests.desk import SENT_AT, Desk, credentials

ACCEPTED = ReportResult(note="Reported.", is_done=True, is_trouble=False)


def with_due_report(desk: Desk) -> OperationRecord:
    """An operation that ended by its deadline, without the run of an outcome."""
    return OperationRecord(
        operation_id="o-1",
        tenant_id="t-1",
        kind=None,
        request_key="k",
        opener="r-1",
        state=OperationState.OVER,
        start_number=1,
        opened_at=desk.clock.now(),
        due_at=desk.clock.now(),
        credentials=credentials("e", SENT_AT),
        report=Report(url="https://cp.example/webhook", body={"x": 1}),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


def snapshot_of(desk: Desk, operation: OperationRecord | None) -> Snapshot:
    snapshot = Snapshot(desk.clock.now())
    snapshot.learn({with_due_report(desk).key: operation})
    return snapshot


def begun(desk: Desk, operation: OperationRecord) -> tuple[OperationRecord, ReportAttempt]:
    decision = begin_report(snapshot_of(desk, operation), operation.operation_id)
    (written,) = decision.writes
    assert isinstance(written, OperationRecord)
    assert decision.result is not None
    return written, decision.result


def test_an_attempt_continues_the_trace_of_its_operation(desk: Desk) -> None:
    """The control plane finds what the report is about."""
    operation = with_due_report(desk)
    assert begun(desk, operation)[1].traceparent == operation.traceparent


def test_a_report_that_is_done_needs_no_outcomes_run(desk: Desk) -> None:
    """There is none to note it on: the sweep ended the operation."""
    written, attempt = begun(desk, with_due_report(desk))
    (done,) = end_report(snapshot_of(desk, written), attempt, ACCEPTED).writes
    assert isinstance(done, OperationRecord)
    assert done.report is not None
    assert (done.report.done_at, done.credentials) == (desk.clock.now(), None)


def test_an_operation_that_is_gone_is_not_reported(desk: Desk) -> None:
    """It expired before an attempt began, or before its answer came."""
    assert begin_report(snapshot_of(desk, None), "o-1").writes == ()
    _, attempt = begun(desk, with_due_report(desk))
    assert end_report(snapshot_of(desk, None), attempt, ACCEPTED).writes == ()


@pytest.mark.parametrize("changes", [{"report": None}, {}], ids=["dropped", "not begun"])
def test_an_answer_to_no_attempt_changes_nothing(desk: Desk, changes: dict[str, Any]) -> None:
    """The answer to a report of an operation that was opened again meanwhile isn't written."""
    _, attempt = begun(desk, with_due_report(desk))
    other = attrs.evolve(with_due_report(desk), **changes)
    assert end_report(snapshot_of(desk, other), attempt, ACCEPTED).writes == ()
