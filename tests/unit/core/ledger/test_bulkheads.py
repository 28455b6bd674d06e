"""Requests to the ledger, bounded for each duty: none waits behind those of another duty."""

import asyncio
from typing import Any

import attrs
import pytest

from orchestrator.adapters.dynamodb.ledger import DynamoDBLedger
from orchestrator.core.dispatch.sweep import Sweeper
from orchestrator.core.ledger.bulkheads import REQUESTS_AT_ONCE, Duty, on_duty
from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.lease import keep_renewed
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.testing import LoadedDice, ManualClock
from tests.desk import let_others_work


@attrs.define
class SilentDynamoDB:
    """It never answers, and counts the requests that wait."""

    waiting: int = 0

    async def query(self, **asked: Any) -> Any:
        self.waiting += 1
        await asyncio.Event().wait()

    batch_get_item = transact_write_items = query


async def ask(ledger: DynamoDBLedger, duty: Duty) -> None:
    with on_duty(duty):
        await ledger.load(["RUN#1"])


def silent_ledger() -> tuple[DynamoDBLedger, SilentDynamoDB]:
    silent = SilentDynamoDB()

    async def client() -> Any:
        return silent

    return DynamoDBLedger(client, ManualClock(), table="t", retention_days=1), silent


@pytest.mark.parametrize("crowd", Duty)
async def test_a_full_bulkhead_leaves_room_for_every_other_duty(crowd: Duty) -> None:
    """However many requests wait in one bulkhead, those of the others are sent at once."""
    ledger, silent = silent_ledger()
    tasks = [asyncio.create_task(ask(ledger, crowd)) for _ in range(200)]
    await let_others_work()
    assert silent.waiting == REQUESTS_AT_ONCE[crowd]
    for duty in Duty:
        if duty is not crowd:
            before = silent.waiting
            tasks.append(asyncio.create_task(ask(ledger, duty)))
            await let_others_work()
            assert silent.waiting == before + 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_each_request_counts() -> None:
    """A list queries the shards of an index, each by a request of its own."""
    ledger, silent = silent_ledger()
    tasks = [asyncio.create_task(ledger.list_runs()) for _ in range(50)]
    await let_others_work()
    assert silent.waiting == REQUESTS_AT_ONCE[Duty.INTAKE]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_lease_is_renewed_within_its_own_bulkhead() -> None:
    """A renewal never waits behind a sweep, which may itself be running the run."""
    clock = ManualClock()
    ledger, silent = silent_ledger()

    async def renew() -> None:
        await ledger.load(["RUN#1"])

    with on_duty(Duty.SWEEP):
        crowd = [asyncio.create_task(ask(ledger, Duty.SWEEP)) for _ in range(100)]
        async with keep_renewed(renew, clock, lease_s=60):
            await let_others_work()
            waiting = silent.waiting
            clock.turn(20)
            await let_others_work()
            assert silent.waiting == waiting + 1
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)


async def test_a_sweep_is_on_its_own_duty() -> None:
    """All of its requests, and those of the work that it begins, wait in the sweeps' bulkhead."""
    ledger, silent = silent_ledger()
    transactions = Transactions(ledger=ledger, clock=ManualClock(), timings=Timings())

    async def nothing(_: object) -> None:
        raise AssertionError

    tasks = [
        asyncio.create_task(
            Sweeper(
                transactions=transactions,
                dice=LoadedDice(),
                resume=nothing,
                look=nothing,
                report=nothing,
                clear=nothing,
            ).sweep()
        )
        for _ in range(40)
    ]
    await let_others_work()
    assert silent.waiting == REQUESTS_AT_ONCE[Duty.SWEEP]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
