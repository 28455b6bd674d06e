"""What a sweep logs and measures: how it went, the oldest that is due, open operations.

The alarms of the deployment templates are built on its log line.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator.adapters.emf import EmfMetrics
from orchestrator.core.dispatch.sweep import SweepResult
from orchestrator.core.errors import PermanentError, TemporaryError
from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.ledger import OpenOperations
from orchestrator.core.ledger.record_parts import OperationState
from tests.desk import Desk, DeskLedger, let_others_work, pass_time, raising
from tests.ledgers import share_items
from tests.unit.core.dispatch.sweep_hands import DownLedger, Hands, waiting


async def swept(hands: Hands) -> dict[str, Any]:
    """The fields of the line of a sweep that succeeded; empty: there is none."""
    with capture_logs() as logs, suppress(TemporaryError):
        await hands.sweep()
    fields = next((line for line in logs if line["event"] == "swept"), {})
    return {name: fields[name] for name in fields if name not in ("event", "log_level")}


async def test_each_sweep_that_succeeds_is_logged(desk: Desk) -> None:
    """One that finds nothing due, too: without its line an alarm says that no sweep succeeds."""
    nothing = {"begun": 0, "timed_out": False, "oldest_unfinished_s": 0}
    assert await swept(Hands(desk)) == nothing


async def test_a_sweep_that_others_join_is_logged_once(desk: Desk) -> None:
    """The sweep that does the work logs the line; one that joins it doesn't."""
    ids = await waiting(desk, "a")
    hands = Hands(desk, dict.fromkeys(ids, let_others_work))
    desk.turn(5)
    with capture_logs() as logs:
        await asyncio.gather(hands.sweep(), hands.sweep())
    assert [line["event"] for line in logs] == ["swept"]


async def test_the_log_has_the_age_of_the_oldest_run_that_is_due(desk: Desk) -> None:
    """The age counts from when the run was first seen."""
    await waiting(desk, "first")
    desk.turn(30)
    await waiting(desk, "second")
    desk.turn(30)
    assert await swept(Hands(desk)) == {"begun": 2, "timed_out": False, "oldest_unfinished_s": 60}


@pytest.mark.parametrize(
    ("state", "age_s"),
    [(OperationState.OPEN, 100), (OperationState.OVER, 0), (OperationState.GIVEN_BACK, 0)],
)
async def test_the_age_of_an_operation_counts_until_it_has_ended(
    desk: Desk, state: OperationState, age_s: int
) -> None:
    """An operation that is due for its report alone has ended, and has no age."""
    operation = await desk.operation(of=await desk.provision())
    await desk.ledger.put(attrs.evolve(operation, state=state, due_at=desk.clock.now()))
    desk.turn(100)
    line = await swept(Hands(desk))
    assert (line["begun"], line["oldest_unfinished_s"]) == (1, age_s)


async def test_a_sweep_that_fails_is_not_logged_as_a_success(desk: Desk) -> None:
    """Neither an outage of the ledger nor one of a builder is logged as a success."""
    without_ledger = Hands(desk)
    without_ledger.sweeper.transactions = attrs.evolve(desk.transactions, ledger=DownLedger())
    await desk.provision()
    desk.turn(60)
    for hands in (without_ledger, Hands(desk, trouble=TemporaryError("no builder"))):
        assert await swept(hands) == {}


class CountingLedger(DeskLedger):
    """The ledger of a desk, which does what the test says before it counts open operations."""

    def __init__(self, ledger: DeskLedger, act: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        share_items(self, ledger)
        self.act = act

    async def count_open(self, kind: Kind, *, most: int) -> OpenOperations:
        await self.act()
        return await super().count_open(kind, most=most)


def measuring(desk: Desk, act: Callable[[], Awaitable[object]]) -> Hands:
    """Hands whose sweeps measure what is under way."""
    hands = Hands(desk)
    hands.sweeper.transactions = attrs.evolve(
        desk.transactions, ledger=CountingLedger(desk.ledger, act), metrics=EmfMetrics("test")
    )
    return hands


@pytest.mark.parametrize(
    "error", [TemporaryError("busy"), PermanentError("no permission"), ValueError("odd position")]
)
async def test_a_sweep_continues_if_open_operations_cannot_be_counted(
    desk: Desk, error: Exception
) -> None:
    """Its runs are finished, and it has succeeded: only a metric is missing."""
    hands = measuring(desk, raising(error))
    (run,) = await waiting(desk, "a")
    hands.acts[run] = let_others_work
    desk.turn(5)
    with capture_logs() as logs:
        assert await hands.sweep() == SweepResult(1)
    assert hands.done == [run]
    assert "open operations not counted" in [line["event"] for line in logs]


async def test_a_count_that_hangs_delays_no_sweep(desk: Desk) -> None:
    """The sweep ends at the count's limit, and the next one begins meanwhile."""
    hands = measuring(desk, asyncio.Event().wait)
    sweeps = [asyncio.create_task(hands.sweep())]
    await pass_time(desk, 1)
    (run,) = await waiting(desk, "due later", pause_s=1)
    desk.turn(1)
    sweeps.append(asyncio.create_task(hands.sweep()))
    await pass_time(desk, 1)
    assert hands.done == [run]
    await pass_time(desk, 10)
    assert [sweep.result() for sweep in sweeps] == [SweepResult(0), SweepResult(1)]


async def test_a_count_without_time_left_is_no_work_left(desk: Desk) -> None:
    """All that was due is done before the sweep's deadline."""
    hands = measuring(desk, asyncio.Event().wait)
    (run,) = await waiting(desk, "a")
    desk.turn(5)
    sweep = asyncio.create_task(hands.sweep(timeout_s=3))
    await pass_time(desk, 3)
    assert sweep.result() == SweepResult(1)
    assert hands.done == [run]
