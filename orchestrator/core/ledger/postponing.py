"""Postpones due items that the sweep couldn't handle, and gives them up after the last attempt.

A plain function of a snapshot. It writes `due_at`, the count of bugs, and the reason; bugs of a run
are counted by `core.ledger.breakdowns`.
"""

from datetime import datetime

from orchestrator.core.backoff import doubling_pause_s
from orchestrator.core.errors import TemporaryError
from orchestrator.core.evolve import evolve
from orchestrator.core.ledger.breakdowns import Breakdown, count
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.guards import Timings, is_claimable, is_due
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import OperationRecord, RunRecord, SecretsRecord
from orchestrator.core.ledger.report_attempt import ReportResult, after_report
from orchestrator.core.ledger.snapshot import Decision, Snapshot
from orchestrator.core.texts import shorten

#: The pause (seconds) of items that don't count their failures.
_PAUSE_S = 60.0


def postpone(
    snapshot: Snapshot, key: str, reason: str, bug: str | None, timings: Timings
) -> Decision[bool]:
    """Postpone an item that raised; `bug` is the exception's class if it is a bug.

    Nothing is written if the item is finished, or in progress elsewhere. True: it is given up.
    """
    match snapshot.due_item(key):
        case RunRecord() as run if bug is not None:
            breakdown = Breakdown(run_id=run.run_id, cause=bug, trigger=Trigger.SWEEP)
            return Decision(count(snapshot, breakdown, timings).writes, False)
        case RunRecord() as run if is_due(run, snapshot.now) and is_claimable(
            run, snapshot.now, timings
        ):
            pause_s = doubling_pause_s(TemporaryError.first_pause_s, run.waits)
            later = evolve(
                run, due_at=snapshot.later(pause_s), waits=run.waits + 1, note=shorten(reason)
            )
            return Decision((later,), False)
        case OperationRecord(due_at=datetime() as due_at) as operation:
            return _postpone_operation(snapshot, operation, due_at, reason, bug, timings)
        case SecretsRecord() as kept if is_due(kept, snapshot.now):
            return Decision((evolve(kept, due_at=snapshot.later(_PAUSE_S)),), False)
    return Decision((), False)


def _postpone_operation(
    snapshot: Snapshot,
    operation: OperationRecord,
    due_at: datetime,
    reason: str,
    bug: str | None,
    timings: Timings,
) -> Decision[bool]:
    """Postpone a check or a report; never due before one in progress elsewhere is over."""
    if bug is None and due_at > snapshot.now:
        return Decision((), False)
    bugs = operation.bugs + (bug is not None)
    pause_s = doubling_pause_s(TemporaryError.first_pause_s, bugs - 1) if bug else _PAUSE_S
    troubled = evolve(
        operation,
        bugs=bugs,
        trouble=shorten(reason),
        due_at=max(due_at, snapshot.later(pause_s)),
    )
    report = operation.report if operation.state is not OperationState.OPEN else None
    is_report = report is not None and report.done_at is None
    if bug is None or bugs < timings.max_attempts or not is_report:
        return Decision((troubled,), False)
    note = f"The report was not delivered: {reason}"
    given_up = ReportResult(note=note, is_done=True, is_trouble=True)
    return Decision(after_report(snapshot, troubled, given_up), True)
