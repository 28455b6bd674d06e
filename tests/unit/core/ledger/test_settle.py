"""Work under way and its end: jobs recorded, operations given back or ended, outcomes."""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest

from orchestrator.core.events.event_types import ENDS
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.lease import RunLease, claim_run
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.operations import Adopted, OrphanedJob
from orchestrator.core.ledger.possible_start import PossibleStart
from orchestrator.core.ledger.record_parts import Failure, OperationState, Step
from orchestrator.core.ledger.records import JobRecord, Progress, RunStatus, run_key
from orchestrator.core.ledger.settle import Saved, Settlement, StartUnresolved
from tests.desk import (
    DEPLOYMENT,
    ORDER,
    PROVISIONED,
    PROVISIONING,
    SENT_AT,
    TENANT,
    Desk,
    adopt_job,
    follow_up,
    operation_id,
)
from tests.ledgers import find_due

DEPLOYED = "TENANT_DEPLOYMENT_SUCCESS"
BUG = Failure(type="ValueError", message="no", traceback="…")
NO = Failure(type="PermanentError", message="no")
HELD = (TenantState.PROVISIONING, operation_id("k"))


async def opened(desk: Desk) -> RunLease:
    return await desk.claimed(PROVISIONING, "a", key="k", as_of=SENT_AT)


async def adopt(desk: Desk, job_id: str = "b-1", *, number: int = 1) -> Adopted | OrphanedJob:
    return await adopt_job(
        desk.transactions, operation_id=operation_id("k"), number=number, job=desk.job(job_id)
    )


def progress(desk: Desk, *names: str, job: str | None = None) -> Progress:
    now = desk.clock.now()
    steps = tuple(Step(name=name, result=name, recorded_at=now) for name in names)
    return Progress(steps=steps, job=desk.job(job) if job else None)


# --- record and adopt ------------------------------------------------------------------------


async def test_recorded_progress_is_kept_under_a_renewed_lease(desk: Desk) -> None:
    """Steps add up, the job is the run's and the operation's, and it leads back to it."""
    attempt = await opened(desk)
    await attempt.record(progress(desk, "one"))
    desk.turn(30)
    await attempt.record(progress(desk, "two", job="b-1"))
    run = await desk.run(PROVISIONING, "a")
    assert (list(run.steps), run.job, run.status) == (["one", "two"], desk.job("b-1"), "running")
    assert (run.lease_until, run.due_at) == (desk.later(60), desk.later(62))
    assert (await desk.operation("k")).job == desk.job("b-1")
    known = await desk.transactions.find_job("IN_MEMORY", "b-1")
    assert known == JobRecord(
        builder="IN_MEMORY", job_id="b-1", operation_id=operation_id("k"), version=1
    )
    await attempt.record(progress(desk, "three"))
    assert (await desk.run(PROVISIONING, "a")).job == desk.job("b-1")


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.RETRY])
async def test_a_settlement_takes_the_job_along(desk: Desk, status: RunStatus) -> None:
    """The operation continues with the job and holds the tenant, however the attempt ended."""
    attempt = await opened(desk)
    settlement = Settlement(
        status=status,
        progress=progress(desk, "one", job="b-1"),
        error=NO,
        possible_start=PossibleStart(desk.clock.now()),
        ends_without_job=True,
    )
    assert isinstance(await attempt.settle(settlement), Saved)
    run, operation = await desk.run(PROVISIONING, "a"), await desk.operation("k")
    assert (run.status, run.job, list(run.steps)) == (status, desk.job("b-1"), ["one"])
    assert run.possible_until is None
    assert (operation.state, operation.job) == (OperationState.OPEN, desk.job("b-1"))
    assert await desk.tenant() == HELD
    assert await desk.transactions.find_job("IN_MEMORY", "b-1") is not None


async def test_a_job_that_is_recorded_already_is_the_operations(desk: Desk) -> None:
    """The same job, adopted and then recorded, is the run's and the operation's."""
    attempt = await opened(desk)
    assert isinstance(await adopt(desk), Adopted)
    assert await desk.finish(attempt, desk.job("b-1")) is None
    assert (await desk.run(PROVISIONING, "a")).job == desk.job("b-1")
    assert (await desk.operation("k")).job == desk.job("b-1")


@pytest.mark.parametrize("write", ["record", "finish", "fail", "hand_back"])
async def test_a_job_that_cannot_be_the_operations_is_an_orphan(desk: Desk, write: str) -> None:
    """It has another one: nothing is written, and the result names the job to stop."""
    attempt = await opened(desk)
    await adopt(desk, "b-1")
    before = await desk.run(PROVISIONING, "a")
    done = progress(desk, "one", job="b-2")
    writes: dict[str, Callable[[], Awaitable[object]]] = {
        "record": lambda: attempt.record(done),
        "finish": lambda: desk.finish(attempt, desk.job("b-2")),
        "fail": lambda: desk.fail(attempt, progress=done),
        "hand_back": lambda: desk.hand_back(attempt, progress=done),
    }
    assert await writes[write]() == OrphanedJob(desk.job("b-2"))
    assert await desk.run(PROVISIONING, "a") == before
    assert (await desk.operation("k")).job == desk.job("b-1")
    assert await desk.transactions.find_job("IN_MEMORY", "b-2") is None


async def test_an_open_operation_adopts_the_job_of_its_start(desk: Desk) -> None:
    """The same job is adopted as often as it is found, and no other one is."""
    await opened(desk)
    first = await adopt(desk)
    assert isinstance(first, Adopted)
    assert first.operation.job == desk.job("b-1")
    assert await desk.transactions.find_job("IN_MEMORY", "b-1") is not None
    before = await desk.operation("k")
    assert isinstance(await adopt(desk), Adopted)
    assert await adopt(desk, "b-2") == OrphanedJob(desk.job("b-2"))
    assert await desk.operation("k") == before


@pytest.mark.parametrize("state", ["unknown", "given back", "over", "at its next start"])
async def test_no_other_operation_adopts_it(desk: Desk, state: str) -> None:
    """A job is adopted by no operation that has ended, or is at another start by now."""
    if state != "unknown":
        attempt = await opened(desk)
        if state == "over":
            await desk.finish(attempt)
            await desk.end(PROVISIONED, "done")
        else:
            await desk.fail(attempt)
        if state == "at its next start":
            await opened(desk)
    assert await adopt(desk) == OrphanedJob(desk.job("b-1"))
    assert await desk.transactions.find_job("IN_MEMORY", "b-1") is None


async def test_a_job_that_was_adopted_between_read_and_record_is_seen(desk: Desk) -> None:
    """A job that was adopted between read and write makes the recorded one the orphan."""
    attempt = await opened(desk)
    desk.ledger.before_commit.append(lambda: adopt(desk.beside(), "b-2"))
    assert await desk.finish(attempt, desk.job("b-1")) == OrphanedJob(desk.job("b-1"))


# --- a run's end -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.RETRY])
async def test_a_settled_run_has_its_end(desk: Desk, status: RunStatus) -> None:
    """Its end, its error, and when it is due: only if it is to be retried."""
    attempt = await desk.claimed(ORDER, "a")
    possible = desk.clock.now()
    desk.turn(3)
    start = PossibleStart(possible)
    await attempt.settle(Settlement(status=status, error=NO, pause_s=7, possible_start=start))
    run, is_retry = await desk.run(ORDER, "a"), status is RunStatus.RETRY
    assert (run.status, run.error, run.ended_at) == (status, NO, desk.clock.now())
    assert (run.lease_until, run.possible_until) == (None, possible)
    assert run.due_at == (desk.later(7) if is_retry else None)
    assert (run.waits, run.bugs) == (int(is_retry), 0)


async def test_pauses_and_bugs_are_counted(desk: Desk) -> None:
    """Both counts continue from attempt to attempt; an error that is no bug counts as none."""
    for error in (BUG, NO, BUG, None):
        await desk.hand_back(await desk.claimed(ORDER, "a"), error=error)
    run = await desk.run(ORDER, "a")
    assert (run.waits, run.bugs) == (4, 2)


async def test_a_run_that_opens_no_operation_is_its_own(desk: Desk) -> None:
    """Its job is tied to it and holds no tenant; a forced replay starts the next one."""
    attempt = await desk.claimed(ORDER, "a")
    await desk.finish(attempt, desk.job("b-1"))
    own = await desk.operation(of=attempt)
    assert (own.kind, own.tenant_id, own.opener) == (None, TENANT, attempt.run.run_id)
    assert (own.job, own.start_number, own.state) == (desk.job("b-1"), 1, OperationState.OPEN)
    assert await desk.tenant() == (None, None)
    forced = await desk.claimed(ORDER, "a", trigger=Trigger.FORCED_REPLAY)
    assert await forced.record(progress(desk, job="b-2")) is None
    assert await forced.record(progress(desk, job="b-3")) == OrphanedJob(desk.job("b-3"))
    own = await desk.operation(of=attempt)
    assert (own.job, own.start_number) == (desk.job("b-2"), 2)


async def test_follow_ups_are_written_due_at_once(desk: Desk) -> None:
    """They are written with the settlement or not at all; one that is there is left alone."""
    attempt = await desk.claimed(ORDER, "a")
    after = follow_up(DEPLOYMENT, "next", operation_id("k"))
    key = after.event.key
    desk.ledger.failures = [ValueError("down")]
    with pytest.raises(ValueError, match="down"):
        await desk.finish(attempt, follow_ups=(after,))
    assert await desk.transactions.find_run(key) is None
    await desk.finish(attempt, follow_ups=(after,))
    run = await desk.transactions.find_run(key)
    assert run is not None
    assert (run.status, run.attempt, run.due_at) == ("retry", 0, desk.clock.now())
    assert (run.event_type, run.tenant_id) == (DEPLOYMENT, TENANT)
    assert await find_due(desk.ledger, before=desk.clock.now()) == [run_key(key)]
    assert (await desk.transactions.find_kept(key))[1] == attrs.evolve(after.payload, version=1)
    await desk.finish(await desk.claimed(ORDER, "b"), follow_ups=(after,))
    assert await desk.transactions.find_run(key) == run


# --- without a job ---------------------------------------------------------------------------


@pytest.mark.parametrize("former", [None, TenantState.DEPROVISIONED])
async def test_a_failed_opener_gives_its_operation_back(
    desk: Desk, former: TenantState | None
) -> None:
    """The tenant is in its former state, and the credentials are erased."""
    await desk.stand(former, tier="BASIC")
    attempt = await opened(desk)
    desk.turn(1)
    assert await desk.fail(attempt, error=NO) is None
    operation = await desk.operation("k")
    assert (operation.state, operation.start_number) == (OperationState.GIVEN_BACK, 1)
    assert (operation.ended_at, operation.reason) == (desk.clock.now(), "no")
    assert operation.credentials is None
    assert await desk.tenant() == (former, None)
    tenant = await desk.transactions.find_tenant(TENANT)
    assert former is None or (tenant is not None and tenant.tier == "BASIC")


async def test_a_failure_that_lets_nothing_go_keeps_the_tenant(desk: Desk) -> None:
    """The operation stays open and the tenant held, also if the attempt is handed back."""
    attempt = await opened(desk)
    assert await desk.hand_back(attempt, ends_without_job=True, possible_until=SENT_AT) is None
    assert await desk.tenant() == HELD
    await desk.fail(await opened(desk), ends_without_job=False)
    assert await desk.tenant() == HELD
    assert (await desk.operation("k")).state is OperationState.OPEN


@pytest.mark.parametrize("ends", ["fail", "finish"])
async def test_no_operation_ends_without_a_job_while_a_start_is_possible(
    desk: Desk, ends: str
) -> None:
    """Nothing is written: the attempt has to be settled otherwise."""
    attempt = await opened(desk)
    before = await desk.run(PROVISIONING, "a")
    after = follow_up(PROVISIONED, "own", operation_id("k"))
    possible = desk.later(-1000)
    end = getattr(desk, ends)
    answer = await end(attempt, ends_without_job=True, possible_until=possible, follow_ups=(after,))
    assert answer == StartUnresolved()
    assert await desk.run(PROVISIONING, "a") == before
    assert await desk.tenant() == HELD
    assert await desk.transactions.find_run(after.event.key) is None


@pytest.mark.parametrize("ends", ["fail", "finish"])
@pytest.mark.parametrize("is_between", [False, True])
async def test_no_operation_ends_without_a_job_that_got_one_meanwhile(
    desk: Desk, ends: str, is_between: bool
) -> None:
    """The operation keeps the job, also one of between our read and our write; nothing follows."""
    attempt = await opened(desk)
    after = follow_up(PROVISIONED, "own", operation_id("k"))
    if is_between:
        desk.ledger.before_commit.append(lambda: adopt(desk.beside()))
    else:
        await adopt(desk)
    assert await getattr(desk, ends)(attempt, ends_without_job=True, follow_ups=(after,)) is None
    assert (await desk.run(PROVISIONING, "a")).job == desk.job("b-1")
    assert (await desk.operation("k")).state is OperationState.OPEN
    assert await desk.tenant() == HELD
    assert await desk.transactions.find_run(after.event.key) is None


@pytest.mark.parametrize("ends", ["fail", "finish"])
@pytest.mark.parametrize(
    "changes",
    [
        {"state": OperationState.OVER},
        {"state": OperationState.GIVEN_BACK},
        {"opener": "another"},
        {"start_number": 2},
    ],
)
async def test_an_operation_that_another_run_ended_is_not_ended_again(
    desk: Desk, ends: str, changes: dict[str, Any]
) -> None:
    """The run is settled as it ended; the operation is left as it is."""
    attempt = await opened(desk)
    changed = attrs.evolve(await desk.operation("k"), **changes)
    await desk.ledger.put(changed)
    after = follow_up(PROVISIONED, "own", operation_id("k"))
    assert await getattr(desk, ends)(attempt, ends_without_job=True, follow_ups=(after,)) is None
    assert (await desk.run(PROVISIONING, "a")).status.is_finished
    assert attrs.evolve(await desk.operation("k"), version=1) == changed
    assert await desk.tenant() == HELD
    assert await desk.transactions.find_run(after.event.key) is None


async def test_an_end_without_a_job_is_made_by_its_outcome(desk: Desk) -> None:
    """The outcome is written with the settlement; the tenant is held until it is handled."""
    attempt = await opened(desk)
    after = follow_up(PROVISIONED, "own", operation_id("k"))
    assert await desk.finish(attempt, ends_without_job=True, follow_ups=(after,)) is None
    assert (await desk.run(PROVISIONING, "a")).status == "succeeded"
    assert await desk.tenant() == HELD
    body = {"tenantId": TENANT, "operationId": operation_id("k")}
    request = desk.request(PROVISIONED, "own", body=body, operation=operation_id("k"))
    answer = await claim_run(desk.transactions, attrs.evolve(request, trigger=Trigger.SWEEP))
    assert isinstance(answer, RunLease)
    await desk.finish(answer, ending=ENDS[PROVISIONED])
    assert await desk.tenant() == (TenantState.PROVISIONED, None)


async def test_only_its_own_hold_on_the_tenant_is_given_back(desk: Desk) -> None:
    """A tenant that something else holds is left as it is."""
    attempt = await opened(desk)
    tenant = await desk.transactions.find_tenant(TENANT)
    assert tenant is not None
    await desk.ledger.put(attrs.evolve(tenant, operation_id="another"))
    await desk.fail(attempt)
    assert (await desk.operation("k")).state is OperationState.GIVEN_BACK
    assert await desk.tenant() == (TenantState.PROVISIONING, "another")


@pytest.mark.parametrize(
    "changes", [{"state": OperationState.OVER}, {"outcome": "another"}, {"opener": "another"}]
)
async def test_an_outcome_gives_back_only_what_it_took_itself(
    desk: Desk, changes: dict[str, Any]
) -> None:
    """It opened an operation for an unseen tenant; another run has ended or claimed that since."""
    attempt = await desk.claimed(PROVISIONED, "done")
    operation = await desk.transactions.find_operation(attempt.run.outcome_of or "")
    assert operation is not None
    await desk.ledger.put(attrs.evolve(operation, **changes))
    before = await desk.transactions.find_operation(operation.operation_id)
    await desk.fail(attempt, ends_without_job=False)
    assert await desk.transactions.find_operation(operation.operation_id) == before
    assert await desk.tenant() == (TenantState.PROVISIONING, operation.operation_id)


async def test_a_run_without_a_job_shows_no_end_of_one(desk: Desk) -> None:
    """The job of the attempt before was adopted and is over; this attempt has started none."""
    first = await desk.claimed(ORDER, "a")
    second = await desk.taken_over(ORDER, "a")
    adopted = await adopt_job(
        desk.transactions,
        operation_id=first.run.operation_id,
        number=first.run.start_number,
        job=desk.job("b-1"),
        run_id=first.run.run_id,
    )
    assert isinstance(adopted, Adopted)
    await desk.ledger.put(attrs.evolve(adopted.operation, state=OperationState.OVER))
    await desk.finish(second, note="Nothing to do.")
    assert (await desk.run(ORDER, "a")).note == "Nothing to do."


@pytest.mark.parametrize("is_lost", [True, False])
async def test_the_builder_of_a_possible_start_is_stored_until_it_is_resolved(
    desk: Desk, is_lost: bool
) -> None:
    """The next attempt looks it up there; once it is resolved nothing of it is left."""
    attempt = await opened(desk)
    sent = {"possible_until": desk.clock.now(), "sent_to": "FIRST", "sent_job": "standard"}
    await desk.hand_back(attempt, pause_s=5, **sent)
    again = await opened(desk)
    assert again.possible_start == PossibleStart(desk.clock.now(), "FIRST", "standard")
    await desk.hand_back(again, pause_s=5, **(sent if is_lost else {}))
    run = await desk.run(PROVISIONING, "a")
    stored = (run.possible_until, run.sent_to, run.sent_job)
    assert stored == (tuple(sent.values()) if is_lost else (None, None, None))
