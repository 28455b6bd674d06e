"""Decides what follows from a builder's answer about an operation's job.

| the builder's answer | before the deadline | a stop is requested | at the deadline |
| --- | --- | --- | --- |
| over | ends | ends | ends |
| over or unknown, and a newer job has its key | replaces it | replaces it | replaces it |
| runs | waits | is stopped | is stopped, if overdue jobs are |
| unknown, soon after the start | waits | waits | waits |
| unknown | ends if there is a self-report of the end, else waits | ends | ends |
| hidden: it may run where the builder can't see it | waits | waits | ends |
| none: it can't describe jobs | waits | is stopped, and ends | is stopped, and ends |
| none: the query failed | waits | waits | waits |
"""

from datetime import datetime
from enum import Enum, auto

from orchestrator.core.jobs.job_description import Answer, JobDescription, NotDescribed
from orchestrator.core.ledger.guards import Timings, ends_unknown, is_gone_for_good, is_overdue
from orchestrator.core.ledger.records import OperationRecord


class Next(Enum):
    """The next action for the operation."""

    WAIT = auto()
    REPLACE = auto()
    STOP = auto()
    END = auto()


def what_follows(
    operation: OperationRecord,
    answer: Answer,
    now: datetime,
    timings: Timings,
    *,
    stops_overdue: bool,
) -> Next:
    """The table above. An operation whose builder can't describe jobs ends with its stop."""
    overdue = is_overdue(operation, now, timings)
    is_to_stop = operation.stop_reason is not None
    match answer:
        case JobDescription():
            if answer.replaces is not None:
                return Next.REPLACE
            if answer.is_over:
                return Next.END
            return Next.STOP if is_to_stop or (overdue and stops_overdue) else Next.WAIT
        case NotDescribed.UNKNOWN:
            return Next.END if ends_unknown(operation, now, timings) else Next.WAIT
        case NotDescribed.HIDDEN:
            is_gone = is_gone_for_good(operation, now, timings)
            return Next.END if is_gone and overdue else Next.WAIT
        case NotDescribed.NOT_ASKED:
            return Next.STOP if is_to_stop or overdue else Next.WAIT
        case NotDescribed.FAILED:
            return Next.WAIT
