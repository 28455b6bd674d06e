"""The end of an operation by its job: what the event that ends it says."""

from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from orchestrator.core.events.event import Event
from orchestrator.core.jobs.job_description import Answer, JobDescription, JobStatus, NotDescribed
from orchestrator.core.jobs.outcome import OutcomeMaker
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import OperationRecord, Progress, RunStatus
from tests.desk import NOT_PROVISIONED, ORDER, PROVISIONED, PROVISIONING, Desk

Concluded = Event[Mapping[str, Any]]


async def ended(
    desk: Desk,
    operation: OperationRecord,
    answer: Answer,
    reason: str | None = None,
    **options: Any,
) -> Concluded:
    """The event that ends the operation after the answer."""
    concluded = list[Concluded]()

    async def handle_outcome(event: Concluded) -> None:
        concluded.append(event)

    maker = OutcomeMaker(transactions=desk.transactions, handle_outcome=handle_outcome, **options)
    await maker.end(operation, answer, reason)
    (event,) = concluded
    return event


async def provisioning(desk: Desk, **changes: Any) -> OperationRecord:
    attempt = await desk.provision()
    return attrs.evolve(await desk.operation(of=attempt), **changes)


async def self_reported(desk: Desk, event_type: str, **body: Any) -> OperationRecord:
    """An operation whose job has sent a self-report."""
    operation = await provisioning(desk)
    named = {"tenantId": "t-2", "ORCHESTRATOR_RUN_ID": operation.start_key, **body}
    await desk.claim(event_type, "self", job="b-1", is_outranked=True, body=named)
    (operation,) = [r for r in desk.ledger._items.values() if isinstance(r, OperationRecord)]
    assert operation.told_by is not None
    return operation


def said(event: Concluded) -> tuple[str, bool, object]:
    """Its type, whether a clean-up may follow, and why."""
    cleans_up = event.body["endedJob"].get("cleansUp", True)
    return event.type, cleans_up, event.body.get("reason")


GONE = "IN_MEMORY doesn't know the job b-1 any more"


async def test_a_job_that_is_only_unknown_has_failed_without_a_clean_up(desk: Desk) -> None:
    """How it ended is unknown; by the setting a clean-up follows nevertheless."""
    reason = f"{GONE}: it was deleted or discarded, and has reported no end."
    operation = await provisioning(desk)
    for answer in (NotDescribed.UNKNOWN, NotDescribed.HIDDEN):
        assert said(await ended(desk, operation, answer)) == (NOT_PROVISIONED, False, reason)
    event = await ended(desk, operation, NotDescribed.UNKNOWN, cleans_up_unknown=True)
    assert said(event) == (NOT_PROVISIONED, True, reason)


async def test_an_unknown_job_that_was_to_stop_is_cleaned_up(desk: Desk) -> None:
    """The event has the reason of the stop, and a clean-up may follow."""
    operation = await provisioning(desk, stop_reason="Cancelled.")
    event_type, cleans_up, reason = said(await ended(desk, operation, NotDescribed.UNKNOWN))
    assert (event_type, cleans_up) == (NOT_PROVISIONED, True)
    assert str(reason).startswith(f"Cancelled. {GONE}")


async def test_an_unknown_job_ends_as_its_self_report_says(desk: Desk) -> None:
    """Success or failure; stored facts outrank the report's."""
    odd = {"tier": "GOLD", "operationId": "x", "endedJob": {"id": "x"}, "extra": 1}
    operation = await self_reported(desk, PROVISIONED, **odd)
    event = await ended(desk, attrs.evolve(operation, tier="BASIC"), NotDescribed.UNKNOWN)
    assert said(event) == (PROVISIONED, True, None)
    body = event.body
    assert (body["tier"], body["operationId"]) == ("BASIC", operation.operation_id)
    assert (body["endedJob"]["id"], body["tenantId"], body["extra"]) == ("b-1", "t-1", 1)
    assert event.ends_start == body["ORCHESTRATOR_RUN_ID"] == operation.start_key


async def test_an_unknown_job_fails_as_its_self_report_says(desk: Desk) -> None:
    """The event has the report's reason, and a clean-up may follow."""
    operation = await self_reported(desk, NOT_PROVISIONED, reason="no quota")
    reason = f"{GONE}, which reported a failure: no quota."
    event = await ended(desk, operation, NotDescribed.UNKNOWN)
    assert said(event) == (NOT_PROVISIONED, True, reason)


async def test_a_job_ends_although_its_self_report_cannot_be_read(desk: Desk) -> None:
    """The type of the report still says how the job ended."""
    operation = await self_reported(desk, PROVISIONED, extra=1)
    desk.ledger.damage_payloads()
    event = await ended(desk, operation, NotDescribed.UNKNOWN)
    assert said(event) == (PROVISIONED, True, None)
    assert "extra" not in event.body


async def test_the_builders_link_is_the_jobs(desk: Desk) -> None:
    """The link is the one of the builder's answer, else the recorded one."""
    operation = await provisioning(desk)
    assert operation.job is not None
    job = attrs.evolve(operation.job, log_url="https://old")
    operation = attrs.evolve(operation, job=job)
    for log_url, shown in (("https://new", "https://new"), (None, "https://old")):
        report = JobDescription(job=attrs.evolve(job, log_url=log_url), status=JobStatus.SUCCEEDED)
        assert (await ended(desk, operation, report)).body["endedJob"]["logUrl"] == shown


async def test_the_job_of_a_run_that_opened_nothing_ends_alone(desk: Desk) -> None:
    """The run shows it, and no event follows; so does a run that is settled only afterwards."""
    attempt = await desk.claimed(ORDER, "a")
    await desk.finish(attempt, desk.job("b-1"))
    operation = await desk.operation(of=attempt)
    report = JobDescription(job=desk.job("b-1"), status=JobStatus.FAILED, message="no quota")

    async def handle_outcome(event: Concluded) -> None:
        raise AssertionError

    maker = OutcomeMaker(transactions=desk.transactions, handle_outcome=handle_outcome)
    assert await maker.end(operation, report) == attempt.run.run_id
    assert (await desk.operation(of=attempt)).state is OperationState.OVER
    run = await desk.run(ORDER, "a")
    assert (run.status, run.note) == (RunStatus.SUCCEEDED, "The job b-1 failed: no quota.")


@pytest.mark.parametrize("event_type", [ORDER, PROVISIONING])
async def test_a_run_that_is_settled_after_its_jobs_end_shows_that(
    desk: Desk, event_type: str
) -> None:
    """A run that opened nothing shows its own start's end beside its own note."""
    attempt = await desk.claimed(event_type, "a")
    await attempt.record(Progress(job=desk.job("b-1")))
    operation = await desk.operation(of=attempt)
    over = attrs.evolve(operation, state=OperationState.OVER, reason="The job b-1 failed.")
    await desk.ledger.put(over)
    await desk.finish(attempt, note="Started.")
    note = "Started. The job b-1 failed." if event_type == ORDER else "Started."
    assert (await desk.run(event_type, "a")).note == note


@pytest.mark.parametrize("changes", [{}, {"state": OperationState.OVER, "start_number": 7}])
async def test_a_run_shows_no_end_that_is_not_its_jobs(desk: Desk, changes: Any) -> None:
    """The job runs, or what is over is another start's."""
    attempt = await desk.claimed(ORDER, "a")
    await attempt.record(Progress(job=desk.job("b-1")))
    await desk.ledger.put(attrs.evolve(await desk.operation(of=attempt), **changes))
    await desk.finish(attempt, note="Started.")
    assert (await desk.run(ORDER, "a")).note == "Started."
