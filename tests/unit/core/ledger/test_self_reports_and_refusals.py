"""What an operation's records decide of self-reports, refusals and follow-ups, case by case."""

from datetime import timedelta
from typing import Any

import attrs
import pytest

from orchestrator.core.events.event_types import Kind
from orchestrator.core.identifiers import operation_id as operation_id_of
from orchestrator.core.ledger.operations import (
    end_alone,
    find_followed,
    is_reported_by_job,
    refused,
)
from orchestrator.core.ledger.record_parts import Job, OperationState, Report, ReportTry
from orchestrator.core.ledger.records import OperationRecord
from tests.desk import ORDER, SENT_AT, TENANT, Desk, credentials

PROVISIONING_ID = operation_id_of(TENANT, Kind.PROVISIONING, "k")
OPERATION = OperationRecord(
    operation_id=PROVISIONING_ID,
    tenant_id=TENANT,
    kind=Kind.PROVISIONING,
    request_key="k",
    opener="run-1",
    state=OperationState.GIVEN_BACK,
    start_number=1,
    opened_at=SENT_AT,
    job=Job(id="b-1", builder="IN_MEMORY", job_identifier="standard"),
    credentials=credentials("a", SENT_AT),
)
REFUSAL = Report(url="https://control.example", body={"status": "failed"})
UNTIL = SENT_AT + timedelta(seconds=60)
#: A refusal whose attempt is under way.
POSTING = attrs.evolve(
    REFUSAL,
    tries=2,
    may_have_arrived=True,
    posting_until=UNTIL,
    recent=(ReportTry(at=SENT_AT, answer="503"),),
)
ACCEPTED = attrs.evolve(REFUSAL, done_at=SENT_AT)
GIVEN_UP = attrs.evolve(POSTING, done_at=SENT_AT, trouble="410", posting_until=None)


@pytest.mark.parametrize(
    ("reported", "key", "is_self_report"),
    [
        (("IN_MEMORY", "b-1"), None, True),
        (("IN_MEMORY", "b-2"), None, False),
        (("JENKINS", "b-1"), None, False),
        (None, None, False),
        (None, OPERATION.start_key, True),
        (("IN_MEMORY", "b-2"), OPERATION.start_key, True),
    ],
)
def test_a_self_report_names_the_recorded_job_or_the_start_key(
    reported: tuple[str, str] | None, key: str | None, is_self_report: bool
) -> None:
    """The id of another job, or of another builder's, is no self-report."""
    assert is_reported_by_job(OPERATION, reported, key) is is_self_report


def test_a_job_that_is_not_recorded_reports_itself_by_its_start_key_alone() -> None:
    """A job's id alone doesn't count before the job is recorded: any sender can make it up."""
    without = attrs.evolve(OPERATION, job=None)
    assert not is_reported_by_job(without, ("IN_MEMORY", "b-1"), None)


@pytest.mark.parametrize(
    ("earlier", "expected"),
    [
        (None, REFUSAL),
        (POSTING, POSTING),
        (GIVEN_UP, REFUSAL),
        (ACCEPTED, ACCEPTED),
    ],
)
def test_a_new_refusal_continues_one_that_is_not_done(
    earlier: Report | None, expected: Report
) -> None:
    """Its tries and the attempt under way; one that was given up starts anew, and one that was
    accepted stays as it is."""
    given_back = refused(attrs.evolve(OPERATION, report=earlier), REFUSAL, SENT_AT)
    assert given_back.report == expected
    is_due = earlier is not ACCEPTED
    assert (given_back.due_at is not None, given_back.credentials is not None) == (is_due, is_due)
    assert given_back.due_at == (UNTIL if earlier is POSTING else SENT_AT if is_due else None)


@pytest.mark.parametrize("changes", [{"credentials": None}, {}])
def test_a_refusal_that_is_not_sent_leaves_only_an_accepted_report(changes: dict[str, Any]) -> None:
    """Without credentials, or with `callback.refusals` off, an earlier one that never arrived is
    dropped with its due time."""
    refusal = REFUSAL if changes else None
    earlier = attrs.evolve(OPERATION, due_at=SENT_AT, **changes)
    for report, stays in ((POSTING, None), (GIVEN_UP, None), (ACCEPTED, ACCEPTED)):
        given_back = refused(attrs.evolve(earlier, report=report), refusal, SENT_AT)
        assert (given_back.report, given_back.due_at) == (stays, None)


@pytest.mark.parametrize(
    ("kind", "key", "followed"),
    [
        (Kind.DEPLOYMENT, f"{PROVISIONING_ID}-2", PROVISIONING_ID),
        (Kind.DEPLOYMENT, PROVISIONING_ID, PROVISIONING_ID),
        (Kind.DEPLOYMENT, "anything", None),
        (Kind.PROVISIONING, f"{PROVISIONING_ID}-2", None),
    ],
)
def test_only_a_deployment_follows_the_operation_that_its_request_key_names(
    kind: Kind, key: str, followed: str | None
) -> None:
    """The key is the provisioning's id, or the key of its start."""
    assert find_followed(attrs.evolve(OPERATION, kind=kind, request_key=key)) == followed


@pytest.mark.parametrize("is_expired", [False, True])
async def test_a_job_without_an_operation_ends_although_its_run_has_expired(
    desk: Desk, is_expired: bool
) -> None:
    """The run keeps the link that it has, if the builder's answer has none."""
    attempt = await desk.claimed(ORDER, "a")
    await desk.finish(attempt, desk.job("b-1"))
    run, operation = await desk.run(ORDER, "a"), await desk.operation(of=attempt)
    await desk.ledger.put(attrs.evolve(run, link="https://log.example/1"))
    if is_expired:
        await desk.ledger.put(attrs.evolve(operation, opener="expired"))
    ended = await desk.transactions.run(
        lambda snapshot: end_alone(snapshot, operation, "failed in BUILD", None)
    )
    over, run = await desk.operation(of=attempt), await desk.run(ORDER, "a")
    assert (ended, over.state, over.ended_at) == (True, OperationState.OVER, desk.clock.now())
    assert run.link == "https://log.example/1"
    assert run.note == (None if is_expired else "failed in BUILD")
