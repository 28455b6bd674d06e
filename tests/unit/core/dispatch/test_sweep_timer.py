"""The sweep by a timer: one begins each time that the pause is over."""

import asyncio
from collections.abc import Awaitable, Callable

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator.core.dispatch.sweep import SweepResult, swept_regularly
from orchestrator.core.errors import TemporaryError
from tests.desk import Desk, let_others_work, pass_time, raising

# --- regularly -------------------------------------------------------------------------------


@attrs.define
class Sweeps:
    """Counts sweeps; each does what the test says."""

    act: Callable[[], Awaitable[object]] | None = None
    begun: int = 0
    ended: int = 0

    async def __call__(self) -> SweepResult:
        self.begun += 1
        if self.act is not None:
            await self.act()
        self.ended += 1
        return SweepResult(1)


async def test_a_sweep_begins_after_each_pause(desk: Desk) -> None:
    """No sweep begins before the pause is over, or after the context has ended."""
    sweeps = Sweeps()
    async with swept_regularly(sweeps, desk.clock, every_s=60):
        await pass_time(desk, 59)
        assert sweeps.begun == 0
        await pass_time(desk, 1)
        assert sweeps.begun == 1
        await pass_time(desk, 60, 60)
        assert sweeps.begun == 3
    await pass_time(desk, 60)
    assert sweeps.begun == sweeps.ended == 3


@pytest.mark.parametrize(
    ("error", "level"), [(TemporaryError("no ledger"), "warning"), (ValueError("bug"), "error")]
)
async def test_a_sweep_that_fails_does_not_end_the_timer(
    desk: Desk, error: Exception, level: str
) -> None:
    """It is logged, a bug as an error; the next one begins."""
    sweeps = Sweeps(raising(error))
    with capture_logs() as logs:
        async with swept_regularly(sweeps, desk.clock, every_s=60):
            await pass_time(desk, 60, 60)
            assert sweeps.begun == 2
            sweeps.act = None
            await pass_time(desk, 60)
            assert sweeps.ended == 1
    assert [entry["event"] for entry in logs] == ["sweep failed", "sweep failed"]
    assert [entry["log_level"] for entry in logs] == [level, level]


async def test_a_slow_sweep_delays_no_other_and_is_cancelled_at_the_end(desk: Desk) -> None:
    """The context isn't left before runs in progress have been handed back."""
    handed_back = []

    async def slow() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await let_others_work()
            handed_back.append(1)
            raise

    sweeps = Sweeps(slow)
    async with swept_regularly(sweeps, desk.clock, every_s=60):
        await pass_time(desk, 60, 60)
        assert sweeps.begun == 2
    assert (len(handed_back), sweeps.ended) == (2, 0)
