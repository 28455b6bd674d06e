"""The sweep: asks the ledger what is due, and has each taken up again.

It writes nothing itself and needs no lock: what it touches is claimed, so it is safe in
every replica at once. Nothing else wakes up by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import structlog

from orchestrator.core.errors import OrchestratorError
from orchestrator.core.ports import Clock, Ledger
from orchestrator.core.records import run_key

#: How many are asked for and taken up at once.
_BATCH = 20

log = structlog.get_logger("orchestrator.sweep")


@attrs.frozen
class Swept:
    """How many runs were taken up; whether the time ran out before all were."""

    resumed: int
    timed_out: bool = False


async def sweep(
    ledger: Ledger,
    clock: Clock,
    resume: Callable[[str], Awaitable[None]],
    *,
    timeout_s: float | None,
) -> Swept:
    """Take up whatever is due now, for at most `timeout_s` (None: to the end).

    What isn't done by then is handed back, and the rest stays due.

    Raises:
        TemporaryError: the ledger can't be reached.
    """
    now, seen = clock.now(), set[str]()
    resumed = 0
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                due = await ledger.find_due(before=now, limit=len(seen) + _BATCH)
                fresh = [key for key in due if key not in seen]
                if not fresh:
                    return Swept(resumed)
                seen.update(fresh)
                await _all(resume, [key.removeprefix(run_key("")) for key in fresh])
                resumed += len(fresh)
    except TimeoutError:
        return Swept(resumed, timed_out=True)


async def _all(resume: Callable[[str], Awaitable[None]], run_ids: list[str]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for run_id in run_ids:
            tasks.create_task(_one(resume, run_id))


async def _one(resume: Callable[[str], Awaitable[None]], run_id: str) -> None:
    """One run's trouble is kept with it, and is nobody else's."""
    try:
        await resume(run_id)
    except OrchestratorError as error:
        log.info("not done yet", run_id=run_id, reason=str(error))
    except Exception as error:
        log.error("run not taken up", run_id=run_id, exc_info=error)


@asynccontextmanager
async def swept_regularly(
    reconcile: Callable[[], Awaitable[Swept]], clock: Clock, *, every_s: float
) -> AsyncIterator[None]:
    """Have a sweep begin every `every_s`, as long as the context lasts.

    A sweep doesn't wait for the one before: a handler that takes its time holds up nobody.
    """
    sweeps: set[asyncio.Task[None]] = set()

    async def sweep_once() -> None:
        try:
            swept = await reconcile()
        except OrchestratorError as error:
            log.warning("sweep failed", reason=str(error))
        except Exception as error:
            log.error("sweep failed", exc_info=error)
        else:
            if swept.resumed:
                log.info("swept", resumed=swept.resumed)

    async def keep_sweeping() -> None:
        while True:
            await clock.sleep(every_s)
            task = asyncio.create_task(sweep_once())
            sweeps.add(task)
            task.add_done_callback(sweeps.discard)

    timer = asyncio.create_task(keep_sweeping())
    try:
        yield
    finally:
        timer.cancel()
        under_way = set(sweeps)
        for task in under_way:
            task.cancel()
        await asyncio.gather(timer, *under_way, return_exceptions=True)
