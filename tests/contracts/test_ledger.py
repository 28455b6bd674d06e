"""What every ledger does: one suite for the port, run against each implementation."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.adapters.memory import InMemoryLedger
from orchestrator.core.errors import PayloadMismatch, TemporaryError
from orchestrator.core.events import Event
from orchestrator.core.ports import Clock, Ledger
from orchestrator.core.records import (
    BodyDiffers,
    Claim,
    Claimed,
    Duplicate,
    Failure,
    InOtherHands,
    Job,
    Progress,
    RunRecord,
    RunStatus,
    Settlement,
    Step,
)
from orchestrator.testing import ManualClock

WINDOW_S = 3600.0
JOB = Job(id="build:1", builder="CODE_BUILD", job_identifier="build", log_url="https://logs/1")
MISMATCH = PayloadMismatch("$.n", "must be a string")


@asynccontextmanager
async def open_in_memory(clock: Clock) -> AsyncIterator[Ledger]:
    yield InMemoryLedger()


OpenLedger = Callable[[Clock], AbstractAsyncContextManager[Ledger]]


@pytest.fixture(params=[open_in_memory], ids=["InMemoryLedger"])
async def ledger(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Ledger]:
    open_ledger: OpenLedger = request.param
    async with open_ledger(clock) as ledger:
        yield ledger


def event(
    clock: ManualClock,
    *,
    event_id: str = "event-1",
    body: Mapping[str, Any] | None = None,
    by_content: bool = False,
) -> Event[Mapping[str, Any]]:
    body = {"n": 1, "deep": {"list": [1, 1.5, None, True, "é"]}} if body is None else body
    return Event(
        type="ORDER",
        source="shop",
        id=event_id,
        time=clock.now(),
        body=body,
        raw=body,
        payload=body,
        identified_by_content=by_content,
    )


async def claim(
    ledger: Ledger, clock: ManualClock, *, tenant_id: str | None = "t-1", **fields: Any
) -> Claim:
    return await ledger.claim(
        event=event(clock, **fields), tenant_id=tenant_id, dedupe_window_s=WINDOW_S
    )


async def claimed(ledger: Ledger, clock: ManualClock, **fields: Any) -> RunRecord:
    claim_of_it = await claim(ledger, clock, **fields)
    assert isinstance(claim_of_it, Claimed)
    return claim_of_it.run


async def settle(ledger: Ledger, run: RunRecord, status: RunStatus, **fields: Any) -> None:
    await ledger.settle(
        run_id=run.run_id,
        attempt=run.attempt,
        settlement=Settlement(status=status, **fields),
    )


async def found(ledger: Ledger, run: RunRecord) -> RunRecord:
    record = await ledger.find_run(run_id=run.run_id)
    assert record is not None
    return record


def step(clock: ManualClock, name: str, result: Any = None) -> Step:
    return Step(name=name, result=result, recorded_at=clock.now())


async def test_a_new_event_is_claimed(ledger: Ledger, clock: ManualClock) -> None:
    """The first claim makes a run of the event's facts, in its first attempt."""
    run = await claimed(ledger, clock)
    assert run == RunRecord(
        run_id=event(clock).key,
        request_key=event(clock).key,
        event_type="ORDER",
        source="shop",
        event_id="event-1",
        tenant_id="t-1",
        status=RunStatus.RUNNING,
        attempt=1,
        first_seen=clock.now(),
        started_at=clock.now(),
    )
    assert await found(ledger, run) == run


async def test_other_events_are_claimed_beside_it(ledger: Ledger, clock: ManualClock) -> None:
    """Each event key has a run of its own, with or without a tenant."""
    first = await claimed(ledger, clock)
    second = await claimed(ledger, clock, event_id="event-2", tenant_id=None)
    assert first.run_id != second.run_id
    assert (await found(ledger, second)).tenant_id is None


async def test_a_running_event_is_in_other_hands(ledger: Ledger, clock: ManualClock) -> None:
    """A second claim meanwhile gets nothing and changes nothing."""
    run = await claimed(ledger, clock)
    clock.turn(1)
    assert await claim(ledger, clock) == InOtherHands(run)
    assert await found(ledger, run) == run


async def test_a_succeeded_event_is_a_duplicate(ledger: Ledger, clock: ManualClock) -> None:
    """It stays one forever, and its run as it was."""
    run = await claimed(ledger, clock)
    await settle(ledger, run, RunStatus.SUCCEEDED)
    before = await found(ledger, run)
    clock.turn(WINDOW_S * 100)
    assert await claim(ledger, clock) == Duplicate(before)
    assert await found(ledger, run) == before


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.RETRY])
async def test_an_unfinished_event_is_claimed_anew(
    ledger: Ledger, clock: ManualClock, status: RunStatus
) -> None:
    """The next attempt has a new start, keeps steps, job and first-seen time, and no error."""
    first = await claimed(ledger, clock)
    began, opened = clock.now(), step(clock, "open", {"id": [1]})
    error = Failure(type="X", message="no", errors=(MISMATCH,), traceback="…")
    progress = Progress(steps=(opened,), job=JOB)
    await settle(ledger, first, status, progress=progress, error=error)
    clock.turn(60)
    second = await claimed(ledger, clock)
    assert (second.status, second.attempt) == (RunStatus.RUNNING, 2)
    assert (second.first_seen, second.started_at) == (began, clock.now())
    assert (second.ended_at, second.error) == (None, None)
    assert (dict(second.steps), second.job) == ({"open": opened}, JOB)
    assert await found(ledger, second) == second
    assert isinstance(await claim(ledger, clock), InOtherHands)


@pytest.mark.parametrize("status", list(RunStatus))
async def test_an_event_key_with_another_body_is_told_apart(
    ledger: Ledger, clock: ManualClock, status: RunStatus
) -> None:
    """Whatever became of the first run, it stays as it is."""
    run = await claimed(ledger, clock)
    if status is not RunStatus.RUNNING:
        await settle(ledger, run, status)
    before = await found(ledger, run)
    assert await claim(ledger, clock, body={"n": 2}) == BodyDiffers(before)
    assert await found(ledger, run) == before


async def test_the_order_of_a_bodys_keys_means_nothing(ledger: Ledger, clock: ManualClock) -> None:
    """A body that was written in another order is the same body."""
    await claimed(ledger, clock, body={"a": 1, "b": {"c": 2, "d": 3}})
    again = await claim(ledger, clock, body={"b": {"d": 3, "c": 2}, "a": 1})
    assert isinstance(again, InOtherHands)


async def test_progress_is_recorded_as_it_comes(ledger: Ledger, clock: ManualClock) -> None:
    """Steps add up, a job stays, and the run goes on running."""
    run = await claimed(ledger, clock)
    one = step(clock, "one", {"deep": [1, 1.5, None, True, "é", {}], "empty": []})
    clock.turn(1)
    two = step(clock, "two")
    for progress in (Progress(steps=(one,), job=JOB), Progress(steps=(two,))):
        await ledger.record(run_id=run.run_id, attempt=1, progress=progress)
    record = await found(ledger, run)
    assert (dict(record.steps), record.job) == ({"one": one, "two": two}, JOB)
    assert (record.status, record.ended_at) == (RunStatus.RUNNING, None)


async def test_a_record_read_earlier_does_not_change(ledger: Ledger, clock: ManualClock) -> None:
    """What a reader has is a value of its time."""
    run = await claimed(ledger, clock)
    progress = Progress(steps=(step(clock, "one"),))
    await ledger.record(run_id=run.run_id, attempt=1, progress=progress)
    assert dict(run.steps) == {}


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.RETRY])
async def test_an_attempt_is_settled(ledger: Ledger, clock: ManualClock, status: RunStatus) -> None:
    """Status, error, end and the progress not recorded yet are kept in one write."""
    run = await claimed(ledger, clock)
    one, two = step(clock, "one", 1), step(clock, "two", 2)
    await ledger.record(run_id=run.run_id, attempt=1, progress=Progress(steps=(one,)))
    clock.turn(5)
    error = Failure(type="X", message="no", errors=(MISMATCH,), traceback="line 1\nline 2")
    await settle(ledger, run, status, progress=Progress(steps=(two,), job=JOB), error=error)
    record = await found(ledger, run)
    assert (record.status, record.error, record.ended_at) == (status, error, clock.now())
    assert (dict(record.steps), record.job) == ({"one": one, "two": two}, JOB)
    assert (record.attempt, record.first_seen) == (1, run.first_seen)


async def test_a_settled_attempt_writes_no_more(ledger: Ledger, clock: ManualClock) -> None:
    """After its settlement an attempt can neither record nor settle."""
    run = await claimed(ledger, clock)
    await settle(ledger, run, RunStatus.RETRY)
    before = await found(ledger, run)
    with pytest.raises(TemporaryError, match="in other hands"):
        await ledger.record(
            run_id=run.run_id, attempt=1, progress=Progress(steps=(step(clock, "late"),))
        )
    with pytest.raises(TemporaryError, match="in other hands"):
        await settle(ledger, run, RunStatus.SUCCEEDED, tenant_state="active")
    assert await found(ledger, run) == before
    assert await ledger.find_tenant(tenant_id="t-1") is None


async def test_a_taken_over_attempt_writes_no_more(ledger: Ledger, clock: ManualClock) -> None:
    """A zombie's writes bounce off while its successor works, and the successor's do not."""
    zombie = await claimed(ledger, clock)
    await settle(ledger, zombie, RunStatus.RETRY)
    successor = await claimed(ledger, clock)
    with pytest.raises(TemporaryError, match="in other hands"):
        await ledger.record(run_id=zombie.run_id, attempt=1, progress=Progress(job=JOB))
    with pytest.raises(TemporaryError, match="in other hands"):
        await settle(ledger, zombie, RunStatus.FAILED)
    assert await found(ledger, successor) == successor
    await settle(ledger, successor, RunStatus.SUCCEEDED)
    assert (await found(ledger, successor)).status is RunStatus.SUCCEEDED


async def test_an_attempt_that_nobody_claimed_writes_nothing(
    ledger: Ledger, clock: ManualClock
) -> None:
    """Neither a future attempt nor a run that there isn't can be written."""
    run = await claimed(ledger, clock)
    for run_id, attempt in ((run.run_id, 2), ("nowhere", 1)):
        with pytest.raises(TemporaryError):
            await ledger.record(run_id=run_id, attempt=attempt, progress=Progress(job=JOB))
        with pytest.raises(TemporaryError):
            await ledger.settle(
                run_id=run_id, attempt=attempt, settlement=Settlement(status=RunStatus.FAILED)
            )
    assert await found(ledger, run) == run
    assert await ledger.find_run(run_id="nowhere") is None


async def test_a_settlement_moves_the_tenant(ledger: Ledger, clock: ManualClock) -> None:
    """The tenant's state and the time of its change; a settlement without one leaves it."""
    assert await ledger.find_tenant(tenant_id="t-1") is None
    await settle(
        ledger, await claimed(ledger, clock), RunStatus.SUCCEEDED, tenant_state="provisioning"
    )
    moved = clock.now()
    clock.turn(60)
    await settle(ledger, await claimed(ledger, clock, event_id="event-2"), RunStatus.FAILED)
    tenant = await ledger.find_tenant(tenant_id="t-1")
    assert tenant is not None
    assert (tenant.tenant_id, tenant.state) == ("t-1", "provisioning")
    assert tenant.changed_at == moved


async def test_tenants_move_each_for_itself(ledger: Ledger, clock: ManualClock) -> None:
    """A later move replaces the state of its own tenant alone."""
    moves = [("t-1", "provisioning"), ("t-2", "provisioning"), ("t-1", "provisioned")]
    for number, (tenant_id, state) in enumerate(moves):
        run = await claimed(ledger, clock, event_id=f"event-{number}", tenant_id=tenant_id)
        await settle(ledger, run, RunStatus.SUCCEEDED, tenant_state=state)
    for tenant_id, state in (("t-1", "provisioned"), ("t-2", "provisioning")):
        tenant = await ledger.find_tenant(tenant_id=tenant_id)
        assert tenant is not None
        assert tenant.state == state


async def test_a_run_without_a_tenant_moves_none(ledger: Ledger, clock: ManualClock) -> None:
    """A state without a tenant is nobody's."""
    run = await claimed(ledger, clock, tenant_id=None)
    await settle(ledger, run, RunStatus.SUCCEEDED, tenant_state="provisioned")
    assert (await found(ledger, run)).status is RunStatus.SUCCEEDED


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.RETRY])
async def test_content_is_a_new_event_after_the_window(
    ledger: Ledger, clock: ManualClock, status: RunStatus
) -> None:
    """The attempt counts on; steps, job and first-seen time are those of a new event."""
    first = await claimed(ledger, clock, by_content=True)
    progress = Progress(steps=(step(clock, "open"),), job=JOB)
    await settle(ledger, first, status, progress=progress)
    clock.turn(WINDOW_S)
    second = await claimed(ledger, clock, by_content=True)
    assert (second.run_id, second.attempt) == (first.run_id, 2)
    assert (dict(second.steps), second.job) == ({}, None)
    assert second.first_seen == second.started_at == clock.now()
    assert await found(ledger, second) == second


async def test_content_is_the_same_event_within_the_window(
    ledger: Ledger, clock: ManualClock
) -> None:
    """Up to its last second the window is judged by the first sight alone."""
    run = await claimed(ledger, clock, by_content=True)
    clock.turn(WINDOW_S / 2)
    await settle(ledger, run, RunStatus.SUCCEEDED)
    clock.turn(WINDOW_S / 2 - 1)
    assert isinstance(await claim(ledger, clock, by_content=True), Duplicate)
    clock.turn(1)
    assert isinstance(await claim(ledger, clock, by_content=True), Claimed)


async def test_an_unfinished_content_event_keeps_its_steps_within_the_window(
    ledger: Ledger, clock: ManualClock
) -> None:
    """A redelivery of what failed goes on from where it stopped."""
    run = await claimed(ledger, clock, by_content=True)
    opened = step(clock, "open")
    await settle(ledger, run, RunStatus.RETRY, progress=Progress(steps=(opened,)))
    clock.turn(WINDOW_S - 1)
    again = await claimed(ledger, clock, by_content=True)
    assert dict(again.steps) == {"open": opened}
    assert again.first_seen == clock.now() - timedelta(seconds=WINDOW_S - 1)


async def test_a_reachable_ledger_says_so(ledger: Ledger) -> None:
    """Readiness asks, and no error is the answer."""
    await ledger.check()


async def list_ids(ledger: Ledger, **asked: Any) -> list[str]:
    page = await ledger.list_runs(**asked)
    return [run.event_id for run in page.items]


async def test_runs_are_listed_the_latest_first(ledger: Ledger, clock: ManualClock) -> None:
    """In the order in which their events were first seen, whatever became of them since."""
    for number in range(3):
        run = await claimed(ledger, clock, event_id=f"event-{number}")
        await settle(ledger, run, RunStatus.FAILED if number == 0 else RunStatus.SUCCEEDED)
        clock.turn(1)
    await claimed(ledger, clock, event_id="event-0")
    assert await list_ids(ledger) == ["event-2", "event-1", "event-0"]


async def test_runs_are_listed_by_what_they_are(ledger: Ledger, clock: ManualClock) -> None:
    """Tenant, type and status narrow the list, alone and together."""
    first = await claimed(ledger, clock, event_id="a", tenant_id="t-1")
    await settle(ledger, first, RunStatus.FAILED)
    await claimed(ledger, clock, event_id="b", tenant_id="t-2")
    assert await list_ids(ledger, tenant_id="t-1") == ["a"]
    assert await list_ids(ledger, status=RunStatus.RUNNING) == ["b"]
    assert len(await list_ids(ledger, event_type="ORDER")) == 2
    assert await list_ids(ledger, event_type="OTHER") == []
    assert await list_ids(ledger, tenant_id="t-2", status=RunStatus.FAILED) == []


@pytest.mark.parametrize("pause_s", [0, 1], ids=["of one moment", "one after the other"])
async def test_pages_have_each_run_once(ledger: Ledger, clock: ManualClock, pause_s: int) -> None:
    """A run that is added in the meantime moves none of the others; the last page says so."""
    for number in range(5):
        await claimed(ledger, clock, event_id=f"event-{number}")
        clock.turn(pause_s)
    seen: list[str] = []
    cursor = None
    for size in (2, 2, 1):
        page = await ledger.list_runs(limit=2, cursor=cursor)
        assert len(page.items) == size
        seen += [run.event_id for run in page.items]
        cursor = page.cursor
        clock.turn(1)
        await claimed(ledger, clock, event_id=f"late-{len(seen)}")
    assert cursor is None
    assert sorted(seen) == [f"event-{number}" for number in range(5)]


@pytest.mark.parametrize("cursor", ["", "é", "a", "////", "not one of ours"])
async def test_a_cursor_of_nobodys_is_refused(ledger: Ledger, cursor: str) -> None:
    """A list that begins anywhere would hide runs."""
    with pytest.raises(ValueError, match="no cursor of ours"):
        await ledger.list_runs(cursor=cursor)
