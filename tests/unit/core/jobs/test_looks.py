"""What follows from a builder's answer: each row of the table in `jobs.looks`."""

from datetime import datetime, timedelta

import attrs
import pytest

from orchestrator.core.events.event_types import Kind
from orchestrator.core.jobs.job_description import Answer, JobDescription, JobStatus, NotDescribed
from orchestrator.core.jobs.looks import Next, what_follows
from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.record_parts import Job, OperationState
from orchestrator.core.ledger.records import OperationRecord
from tests.desk import SENT_AT

TIMINGS = Timings(listing_lag_s=60, skew_s=2, deadline_s=3600)
#: Seconds after the job became known: an "unknown" is no proof yet, is one, the deadline is over.
SOON_S, LATER_S, OVERDUE_S = 30.0, 90.0, 3600.0
JOB = Job(id="b-1", builder="IN_MEMORY", job_identifier="standard")
RUNS = JobDescription(job=JOB, status=JobStatus.IN_PROGRESS)
OVER = JobDescription(job=JOB, status=JobStatus.FAILED)
NEWER = attrs.evolve(RUNS, job=attrs.evolve(JOB, id="b-2"), replaces="b-1")
NEWER_OVER = attrs.evolve(NEWER, status=JobStatus.FAILED)
END, STOP, WAIT, REPLACE = Next.END, Next.STOP, Next.WAIT, Next.REPLACE


def operation(*, is_to_stop: bool = False, has_reported: bool = False) -> OperationRecord:
    return OperationRecord(
        operation_id="o-1",
        tenant_id="t-1",
        kind=Kind.PROVISIONING,
        request_key="k",
        opener="r-1",
        state=OperationState.OPEN,
        start_number=1,
        opened_at=SENT_AT,
        job=JOB,
        job_since=SENT_AT,
        stop_reason="no more" if is_to_stop else None,
        told_by="r-2" if has_reported else None,
    )


def after(seconds: float) -> datetime:
    return SENT_AT + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("answer", "meanwhile", "to_stop", "at_the_deadline"),
    [
        (OVER, END, END, END),
        (NEWER, REPLACE, REPLACE, REPLACE),
        (NEWER_OVER, REPLACE, REPLACE, REPLACE),
        (RUNS, WAIT, STOP, STOP),
        (NotDescribed.UNKNOWN, WAIT, END, END),
        (NotDescribed.HIDDEN, WAIT, WAIT, END),
        (NotDescribed.NOT_ASKED, WAIT, STOP, STOP),
        (NotDescribed.FAILED, WAIT, WAIT, WAIT),
    ],
)
def test_the_table_of_answers_and_actions(
    answer: Answer, meanwhile: Next, to_stop: Next, at_the_deadline: Next
) -> None:
    """Between what is too soon to tell and the deadline, with a stop requested, and after it."""
    asked = operation(is_to_stop=True)
    now, late = after(LATER_S), after(OVERDUE_S)
    assert what_follows(operation(), answer, now, TIMINGS, stops_overdue=True) is meanwhile
    assert what_follows(asked, answer, now, TIMINGS, stops_overdue=True) is to_stop
    assert what_follows(operation(), answer, late, TIMINGS, stops_overdue=True) is at_the_deadline


@pytest.mark.parametrize("answer", [NotDescribed.UNKNOWN, NotDescribed.HIDDEN])
def test_a_job_that_is_unknown_soon_after_its_start_is_waited_for(answer: NotDescribed) -> None:
    """It isn't ended, even if a stop is requested, its end reported, or the deadline short."""
    asked = operation(is_to_stop=True, has_reported=True)
    short = attrs.evolve(TIMINGS, deadline_s=10)
    assert what_follows(asked, answer, after(SOON_S), short, stops_overdue=True) is WAIT


def test_a_job_that_reported_its_end_ends_once_it_is_unknown_and_not_while_it_is_hidden() -> None:
    """A builder that denies its description may still be running it."""
    reported = operation(has_reported=True)
    assert (
        what_follows(reported, NotDescribed.UNKNOWN, after(LATER_S), TIMINGS, stops_overdue=True)
        is END
    )
    assert (
        what_follows(reported, NotDescribed.HIDDEN, after(LATER_S), TIMINGS, stops_overdue=True)
        is WAIT
    )


def test_an_overdue_job_runs_on_where_it_may_not_be_stopped() -> None:
    """A stop that was requested counts nevertheless."""
    late = after(OVERDUE_S)
    assert what_follows(operation(), RUNS, late, TIMINGS, stops_overdue=False) is WAIT
    asked = operation(is_to_stop=True)
    assert what_follows(asked, RUNS, late, TIMINGS, stops_overdue=False) is STOP
