"""An attempt under its lease: what it writes while it holds the run, and how it is renewed."""

import asyncio
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator.core.errors import TakenOver, TemporaryError
from orchestrator.core.events.event_types import ENDS
from orchestrator.core.ledger.lease import RunLease, claim_run, keep_renewed
from orchestrator.core.ledger.records import Progress, RunStatus
from orchestrator.core.ledger.settle import Saved, Settlement
from orchestrator.core.metrics import OPERATION_DURATION
from tests.desk import (
    NOT_PROVISIONED,
    ORDER,
    PROVISIONED,
    PROVISIONING,
    Desk,
    adopt_job,
    let_others_work,
    operation_id,
    step,
)
from tests.tally import Tally

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

# --- an attempt ------------------------------------------------------------------------------


async def test_start_keys_of_two_starts_differ(desk: Desk) -> None:
    """They have the operation and the number, within the length that builders accept."""
    attempt = await desk.claimed(PROVISIONING, "a", key="k" * 500)
    assert attempt.start_key == f"{operation_id('k' * 500)}-1"
    assert len(attempt.start_key) <= 64


@pytest.mark.parametrize("write", ["renew", "record", "settle"])
async def test_an_attempt_that_lost_its_lease_writes_nothing(desk: Desk, write: str) -> None:
    """`TakenOver` is raised, and the attempt that holds the run is not disturbed."""
    first = await desk.claimed(PROVISIONING, "a")
    await desk.taken_over(PROVISIONING, "a")
    before = await desk.run(PROVISIONING, "a")
    writes: dict[str, Any] = {
        "renew": first.renew,
        "record": lambda: first.record(Progress(job=desk.job("b-1"))),
        "settle": lambda: desk.finish(first, desk.job("b-1")),
    }
    with pytest.raises(TakenOver):
        await writes[write]()
    assert await desk.run(PROVISIONING, "a") == before
    assert (await desk.operation(of=first)).job is None


async def test_a_renewal_is_another_lease_from_now_on(desk: Desk) -> None:
    """Both the attempt and the ledger have the new end of the lease."""
    attempt = await desk.claimed(ORDER, "a")
    desk.turn(40)
    await attempt.renew()
    run = await desk.run(ORDER, "a")
    assert run.lease_until == attempt.run.lease_until == desk.later(60)
    assert run.due_at == desk.later(62)
    assert (run.attempt, run.status) == (1, "running")


async def test_a_write_whose_answer_was_lost_can_be_repeated(desk: Desk) -> None:
    """A record that was written is found done; a settlement that was written raises `TakenOver`."""
    attempt = await desk.claimed(ORDER, "a")
    desk.ledger.answer_lost = True
    desk.ledger.failures = [TemporaryError("no answer")]
    with pytest.raises(TemporaryError):
        await attempt.record(Progress(steps=(step(desk),)))
    await attempt.record(Progress(steps=(step(desk),)))
    assert list((await desk.run(ORDER, "a")).steps) == ["take"]
    desk.ledger.failures = [TemporaryError("no answer")]
    with pytest.raises(TemporaryError):
        await desk.finish(attempt)
    with pytest.raises(TakenOver):
        await desk.finish(attempt)
    assert (await desk.run(ORDER, "a")).status == "succeeded"


async def test_writes_of_an_attempt_come_one_after_the_other(desk: Desk) -> None:
    """A settlement waits for a write under way, and never sees half of it."""
    attempt = await desk.claimed(ORDER, "a")
    desk.ledger.requests.clear()
    waiting, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        waiting.set()
        await release.wait()

    desk.ledger.before_commit.append(hold)
    recording = asyncio.create_task(attempt.record(Progress(steps=(step(desk),))))
    await waiting.wait()
    settling = asyncio.create_task(desk.finish(attempt))
    await let_others_work()
    assert not settling.done()
    release.set()
    await asyncio.gather(recording, settling)
    assert desk.ledger.requests == ["commit", "commit"]
    assert list((await desk.run(ORDER, "a")).steps) == ["take"]


async def test_an_attempt_sees_that_its_operation_has_ended(desk: Desk) -> None:
    """An attempt finds that another run's outcome has ended its operation."""
    attempt = await desk.claimed(PROVISIONING, "a")
    assert await attempt.is_over() is False
    await adopt_job(
        desk.transactions, operation_id=attempt.run.operation_id, number=1, job=desk.job("b-1")
    )
    await desk.end(PROVISIONED, "done", job="b-1")
    assert await attempt.is_over() is True
    alone = await desk.claimed(ORDER, "a")
    assert await alone.is_over() is False


async def test_an_operation_that_was_given_back_is_not_over(desk: Desk) -> None:
    """An operation that was given back counts as never opened."""
    attempt = await desk.claimed(PROVISIONING, "a")
    await desk.fail(attempt)
    assert await attempt.is_over() is False


@pytest.mark.parametrize(
    ("event_type", "result"), [(PROVISIONED, "succeeded"), (NOT_PROVISIONED, "failed")]
)
async def test_how_long_an_operation_took_is_measured(
    desk: Desk, event_type: str, result: str
) -> None:
    """The time from opening to end has how it ended; a clean-up's is measured apart."""
    await desk.provision()
    desk.turn(30)
    tally = Tally()
    transactions = attrs.evolve(desk.transactions, metrics=tally)
    outcome = await claim_run(transactions, desk.request(event_type, "done"))
    assert isinstance(outcome, RunLease)
    await desk.finish(outcome, ending=ENDS[event_type])
    assert tally.observed == [(OPERATION_DURATION, 30.0, ("provisioning", result))]


async def test_an_outcome_belongs_to_the_trace_of_its_operation(desk: Desk) -> None:
    """It continues its operation's trace, whatever trace it came with itself."""
    opened = attrs.evolve(desk.request(PROVISIONING, "a"), traceparent=TRACE)
    opener = await claim_run(desk.transactions, opened)
    assert isinstance(opener, RunLease)
    await desk.finish(opener, desk.job("b-1"))
    assert (await desk.claimed(PROVISIONED, "done")).traceparent == TRACE


async def test_a_lease_is_renewed_as_long_as_the_work_lasts(desk: Desk) -> None:
    """It is renewed after each third of a lease, and not any more once the work is done."""
    attempt = await desk.claimed(ORDER, "a")
    async with keep_renewed(attempt.renew, desk.clock, lease_s=60):
        for _ in range(5):
            await let_others_work()
            desk.turn(20)
        await let_others_work()
        assert (await desk.run(ORDER, "a")).lease_until == desk.later(60)
    await let_others_work()
    desk.turn(20)
    await let_others_work()
    assert (await desk.run(ORDER, "a")).lease_until == desk.later(40)


@pytest.mark.parametrize("failure", [TemporaryError("no ledger"), ConnectionResetError()])
async def test_a_renewal_that_fails_is_tried_again(desk: Desk, failure: Exception) -> None:
    """The attempt holds its lease until that expires."""
    attempt = await desk.claimed(ORDER, "a")
    with capture_logs() as logs:
        async with keep_renewed(attempt.renew, desk.clock, lease_s=60):
            desk.ledger.failures = [failure]
            for _ in range(2):
                await let_others_work()
                desk.turn(20)
            await let_others_work()
    assert [entry["event"] for entry in logs] == ["lease not renewed"]
    assert attempt.run.lease_until == desk.later(60)


async def test_an_attempt_that_lost_its_lease_stops_renewing(desk: Desk) -> None:
    """The loss of the lease is logged once, and no further renewal is tried."""
    attempt = await desk.claimed(ORDER, "a")
    with capture_logs() as logs:
        async with keep_renewed(attempt.renew, desk.clock, lease_s=60):
            await let_others_work()
            await desk.ledger.put(attrs.evolve(await desk.run(ORDER, "a"), attempt=2))
            for _ in range(3):
                desk.turn(20)
                await let_others_work()
    assert [entry["event"] for entry in logs] == ["lease lost"]


async def test_the_attempt_ends_after_a_renewal_under_way(desk: Desk) -> None:
    """Until then the renewal may hold the progress that the settlement has to write."""
    gone = list[bool]()

    async def renew() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            gone.append(True)

    async with keep_renewed(renew, desk.clock, lease_s=60):
        await let_others_work()
        desk.turn(20)
        await let_others_work()
    assert gone == [True]


async def test_a_settlement_after_a_late_renewal_counts(desk: Desk) -> None:
    """A lease that expired and that no other attempt has claimed is still the holder's."""
    attempt = await desk.claimed(ORDER, "a")
    desk.turn(500)
    assert isinstance(await attempt.settle(Settlement(status=RunStatus.SUCCEEDED)), Saved)
    assert (await desk.run(ORDER, "a")).status == "succeeded"
