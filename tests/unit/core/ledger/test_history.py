"""What a run and an operation keep of the attempts and starts before the current one."""

import attrs
import pytest

from orchestrator.adapters.dynamodb.items import build_item, read_item
from orchestrator.core.errors import Cancelled
from orchestrator.core.events.event_types import ENDS
from orchestrator.core.ledger.breakdowns import Breakdown, count
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.claim_result import Deferred, Duplicate
from orchestrator.core.ledger.history import BROKE_DOWN
from orchestrator.core.ledger.lease import claim_by_records
from orchestrator.core.ledger.operations import ask_to_stop
from orchestrator.core.ledger.record_parts import (
    MAX_ATTEMPTS,
    MAX_PAST_REASON,
    MAX_STARTS,
    Awaited,
    Failure,
    OperationState,
    Pauses,
    Report,
)
from orchestrator.core.ledger.records import RunStatus
from tests.desk import (
    DEPLOYMENT,
    DEPROVISIONING,
    NOT_PROVISIONED,
    ORDER,
    PROVISIONED,
    PROVISIONING,
    TENANT,
    Desk,
    run_id,
)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_one_attempt_stores_no_history(desk: Desk) -> None:
    """A run that needs one attempt has none before it, and its item has no field of a history."""
    await desk.finish(await desk.claimed(ORDER, "a"))
    run = await desk.run(ORDER, "a")
    assert (run.earlier, run.pauses) == ((), {})
    text = build_item(run, expires_at=None)["data"]["S"]
    for field in ("earlier", "pauses", "is_replay", "by", "waits_for", "cancelled_by"):
        assert f'"{field}"' not in text
    assert read_item(build_item(run, expires_at=None)) == attrs.evolve(run, version=run.version + 1)


async def test_each_attempt_is_kept_with_its_end(desk: Desk) -> None:
    """When it began and ended, how, why, and which of them an operator began."""
    began = desk.clock.now()
    error = Failure(type="TemporaryError", message="quota")
    attempt = await desk.claimed(ORDER, "a")
    desk.turn(2)
    await desk.hand_back(attempt, error=error)
    desk.turn(5)
    await desk.claimed(ORDER, "a", trigger=Trigger.SWEEP)
    third = await desk.taken_over(ORDER, "a")
    await desk.fail(third)
    desk.turn(100)
    await desk.claimed(ORDER, "a", trigger=Trigger.REPLAY, by="maria.k")
    run = await desk.run(ORDER, "a")
    kept = [
        ((one.started_at - began).seconds, one.state, one.reason, one.is_replay)
        for one in run.earlier
    ]
    assert kept == [
        (0, "retry", "quota", False),
        (7, "lease_expired", None, False),
        (69, "failed", "no", False),
    ]
    assert [one.number for one in run.earlier] == [1, 2, 3]
    assert [one.ended_at and (one.ended_at - began).seconds for one in run.earlier] == [2, 67, 69]
    assert (run.attempt, run.is_replay, run.by) == (4, True, "maria.k")
    await desk.fail(await desk.taken_over(ORDER, "a"))
    run = await desk.run(ORDER, "a")
    assert (run.earlier[-1].is_replay, run.earlier[-1].by) == (True, "maria.k")
    assert (run.is_replay, run.by) == (False, None)


async def test_each_kind_of_pause_is_counted(desk: Desk) -> None:
    """How often it waited, and how long in all; the time after a failure is none."""
    quota = Failure(type="TemporaryError", message="quota")
    bug = Failure(type="KeyError", message="a", traceback="...")
    for error, pause_s in ((quota, 5), (quota, 10.5), (bug, 7), (None, 1)):
        await desk.hand_back(await desk.claimed(ORDER, "a"), error=error)
        desk.turn(pause_s)
    attempt = await desk.claimed(ORDER, "a")
    broken = Breakdown(run_id=attempt.run.run_id, cause="KeyError", attempt=attempt.run.attempt)
    await desk.transactions.run(lambda snapshot: count(snapshot, broken, desk.timings))
    assert attempt.run.error is None
    assert (await desk.run(ORDER, "a")).error == Failure(type="KeyError", message=BROKE_DOWN)
    desk.turn(3)
    await desk.claimed(ORDER, "a")
    desk.turn(60 + 30)
    await desk.fail(await desk.claimed(ORDER, "a"))
    desk.turn(1000)
    await desk.claimed(ORDER, "a")
    assert (await desk.run(ORDER, "a")).pauses == {
        "temporary": Pauses(count=3, seconds=16.5),
        "bug": Pauses(count=2, seconds=10.0),
        "crash": Pauses(count=1, seconds=30.0),
    }


async def test_a_waiting_run_names_what_it_waits_for(desk: Desk) -> None:
    """The operation that holds the tenant, or the run before it; nothing once it continues."""
    opener = await desk.claimed(PROVISIONING, "a")
    assert isinstance(await desk.claim(PROVISIONING, "b"), Deferred)
    held = opener.run.operation_id
    opening = Awaited(operation_id=held, run_id=opener.run.run_id)
    assert (await desk.run(PROVISIONING, "b")).waits_for == opening
    await desk.finish(opener, desk.job("b-1"))
    assert isinstance(await desk.claim(PROVISIONING, "b"), Duplicate)
    assert isinstance(await desk.claim(DEPLOYMENT, "c"), Deferred)
    assert (await desk.run(DEPLOYMENT, "c")).waits_for == Awaited(operation_id=held)
    assert isinstance(await desk.claim(PROVISIONING, "d"), Deferred)
    before = Awaited(operation_id=held, run_id=run_id(DEPLOYMENT, "c"))
    assert (await desk.run(PROVISIONING, "d")).waits_for == before
    await desk.end(PROVISIONED, "over", job="b-1")
    desk.turn(15)
    await desk.claimed(DEPLOYMENT, "c", trigger=Trigger.SWEEP)
    run = await desk.run(DEPLOYMENT, "c")
    assert run.waits_for is None
    assert run.pauses == {"tenant": Pauses(count=1, seconds=15.0)}
    assert run.earlier[0].reason == f"The tenant {TENANT} is busy with its provisioning."


async def test_the_last_attempts_are_kept(desk: Desk) -> None:
    """The item stays small, however often the run waits and however long the reasons are."""
    long = Failure(type="TemporaryError", message="ü" * 2000)
    for _ in range(3 * MAX_ATTEMPTS):
        await desk.hand_back(await desk.claimed(ORDER, "a"), error=long, pause_s=1)
        desk.turn(1)
    run = await desk.run(ORDER, "a")
    assert len(run.earlier) == MAX_ATTEMPTS - 1
    assert run.earlier[-1].number == run.attempt - 1
    assert all(len(one.reason or "") == MAX_PAST_REASON + 1 for one in run.earlier)
    assert run.pauses == {"temporary": Pauses(count=59, seconds=59.0)}
    assert len(build_item(run, expires_at=None)["data"]["S"].encode()) < 30_000


async def test_an_earlier_start_stays_after_a_forced_replay(desk: Desk) -> None:
    """Its job, its times, how it ended and why; the next one says who replayed it."""
    opened_at = desk.clock.now()
    await desk.provision("opener", "b-1")
    desk.turn(60)
    attempt = await desk.claimed(NOT_PROVISIONED, "over", job="b-1")
    await desk.finish(attempt, ending=ENDS[NOT_PROVISIONED], reason="helm timed out")
    ended_at = desk.clock.now()
    desk.turn(60)
    again = await desk.claimed(PROVISIONING, "opener", trigger=Trigger.FORCED_REPLAY, by="maria.k")
    operation = await desk.operation(of=again)
    (start,) = operation.starts
    assert (operation.start_number, operation.by, operation.job) == (2, "maria.k", None)
    assert (start.number, start.state, start.succeeded) == (1, OperationState.OVER, False)
    assert (start.reason, start.job, start.by) == ("helm timed out", desk.job("b-1"), None)
    assert (start.opened_at, start.job_since, start.ended_at) == (opened_at, opened_at, ended_at)
    assert (start.opener, start.outcome) == (again.run.run_id, attempt.run.run_id)


async def test_the_last_starts_are_kept(desk: Desk) -> None:
    """A request that is sent again and again, and never begins, keeps the last of its starts."""
    for _ in range(MAX_STARTS + 3):
        await desk.fail(await desk.claimed(PROVISIONING, "a", key="k"))
        desk.turn(1)
    operation = await desk.operation("k")
    assert [start.number for start in operation.starts] == list(range(3, MAX_STARTS + 3))
    assert {start.state for start in operation.starts} == {OperationState.GIVEN_BACK}


async def test_a_start_has_its_own_report(desk: Desk) -> None:
    """A report that was accepted before the start was opened is an earlier start's."""
    opener = await desk.provision("opener", "b-1")
    await desk.end(PROVISIONED, "over", job="b-1")
    over = await desk.operation(of=opener)
    done_at = desk.clock.now()
    report = Report(url="https://control.example", body={}, done_at=done_at)
    await desk.ledger.put(attrs.evolve(over, report=report))
    desk.turn(1)
    again = await desk.claimed(PROVISIONING, "opener", trigger=Trigger.FORCED_REPLAY)
    await desk.fail(again)
    operation = await desk.operation(of=again)
    assert operation.report == report
    assert [one.reported_at for one in operation.starts_before_next] == [done_at, None]


async def test_a_run_that_ends_by_its_records_grows_no_more(desk: Desk) -> None:
    """Its item may be full: the claim that ends it must fit. It is still the replay's."""
    attempt = await desk.claimed(ORDER, "a", trigger=Trigger.REPLAY, by="maria.k")
    run = attrs.evolve(attempt.run, ends_by_records=True, status=RunStatus.RETRY)
    await desk.ledger.put(attrs.evolve(run, due_at=desk.clock.now()))
    assert await claim_by_records(desk.transactions, run.run_id) is not None
    run = await desk.run(ORDER, "a")
    assert (run.attempt, run.earlier, run.pauses) == (2, (), {})
    assert (run.is_replay, run.by) == (True, "maria.k")


async def test_a_dry_runs_request_is_kept_once(desk: Desk) -> None:
    """An earlier start's job is kept without its request, which may be large."""
    job = attrs.evolve(desk.job("b-1"), request={"large": "x" * 1000})
    await desk.finish(await desk.claimed(PROVISIONING, "a"), job)
    await desk.end(PROVISIONED, "over", job="b-1")
    again = await desk.claimed(PROVISIONING, "a", trigger=Trigger.FORCED_REPLAY)
    (start,) = (await desk.operation(of=again)).starts
    assert start.job == desk.job("b-1")


async def test_the_name_of_who_cancelled_is_kept_with_the_operation(desk: Desk) -> None:
    """The first reason and the first name count, and the run that ends the operation has them."""
    opener = await desk.provision("opener", "b-1")
    wanted = opener.run.operation_id
    for reason, by in (("overdue", None), ("wrong", "maria.k"), ("wrong", "jon.p")):
        await _ask_to_stop(desk, wanted, reason, by)
    operation = await desk.operation(of=opener)
    assert (operation.stop_reason, operation.cancelled_by) == ("overdue", "maria.k")
    await desk.end(NOT_PROVISIONED, "over", job="b-1")
    assert (await desk.run(NOT_PROVISIONED, "over")).cancelled_by == "maria.k"
    again = await desk.claimed(PROVISIONING, "opener", trigger=Trigger.FORCED_REPLAY)
    operation = await desk.operation(of=again)
    assert (operation.cancelled_by, operation.starts[0].cancelled_by) == (None, "maria.k")


async def test_the_name_of_who_cancelled_before_the_job_is_kept_with_the_run(desk: Desk) -> None:
    """A run that was cancelled before it began has the name until its next attempt."""
    opener = await desk.claimed(PROVISIONING, "a")
    await _ask_to_stop(desk, opener.run.operation_id, "wrong", "maria.k")
    await desk.fail(opener, error=Failure(type=Cancelled.__name__, message="wrong"))
    assert (await desk.run(PROVISIONING, "a")).cancelled_by == "maria.k"
    await desk.claimed(PROVISIONING, "a", trigger=Trigger.REPLAY)
    assert (await desk.run(PROVISIONING, "a")).cancelled_by is None


async def _ask_to_stop(desk: Desk, operation_id: str, reason: str, by: str | None) -> None:
    await desk.transactions.run(lambda snapshot: ask_to_stop(snapshot, operation_id, 1, reason, by))


async def test_a_tenant_has_its_last_operation_and_why_it_failed(desk: Desk) -> None:
    """A failed operation leaves its reason, given back or over, and a success leaves none."""
    given_back = await desk.claimed(PROVISIONING, "a")
    await desk.fail(given_back)
    assert await _last(desk) == (given_back.run.operation_id, "no")
    provisioned = await desk.provision("opener", "b-1")
    assert await _last(desk) == (given_back.run.operation_id, "no")
    await desk.end(PROVISIONED, "over", job="b-1")
    assert await _last(desk) == (provisioned.run.operation_id, None)
    removed = await desk.claimed(DEPROVISIONING, "b")
    await desk.fail(removed, error=Failure(type="X", message="y" * 1000))
    operation_id, reason = await _last(desk)
    assert operation_id == removed.run.operation_id
    assert len(reason or "") == MAX_PAST_REASON + 1


async def _last(desk: Desk) -> tuple[str | None, str | None]:
    tenant = await desk.transactions.find_tenant(TENANT)
    assert tenant is not None
    return tenant.last_operation, tenant.reason
