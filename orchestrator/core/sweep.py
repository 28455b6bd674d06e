"""The sweep: asks the ledger what is due, and has each taken up again.

It writes nothing itself and needs no lock: what it touches is claimed, so it is safe in
every replica at once. Nothing else wakes up by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import attrs
import structlog

from orchestrator.core.books import Books
from orchestrator.core.errors import OrchestratorError, TemporaryError
from orchestrator.core.guarding import guarded
from orchestrator.core.ports import Clock, Ledger, UnreadableItems
from orchestrator.core.records import operation_key, run_key, secrets_key

#: How many are asked for at once: as many as CodeBuild describes in one request.
_BATCH = 100
#: How many runs, and secrets of starts, are taken up at once.
_AT_ONCE = 20

log = structlog.get_logger("orchestrator.sweep")


@attrs.frozen
class Swept:
    """How many runs and operations were taken up; whether the time ran out before all were."""

    taken_up: int
    timed_out: bool = False


async def sweep(
    books: Books,
    *,
    resume: Callable[[str], Awaitable[None]],
    attend: Callable[[Sequence[str]], Awaitable[TemporaryError | None]],
    clear: Callable[[str], Awaitable[None]],
    timeout_s: float | None,
) -> Swept:
    """Take up whatever is due now, for at most `timeout_s` (None: to the end).

    `resume` gets the id of a run, `attend` the ids of operations: of jobs to be asked about and
    of reports to be sent, and returns why ledger or builder couldn't be reached, if so; `clear`
    gets the key of a start whose secrets may go. What isn't done in time is handed back, and the
    rest stays due. Whatever one of them raises is dealt with there (`core.guarding`).

    Raises:
        TemporaryError: ledger or builder can't be reached; what could be done was done.
    """
    now, seen = books.clock.now(), set[str]()
    trouble: TemporaryError | None = None
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                due = await books.ledger.find_due(before=now, limit=len(seen) + _BATCH)
                fresh = [key for key in due if key not in seen]
                if not fresh:
                    break
                seen.update(fresh)
                readable = await _readable(books.ledger, fresh)
                _, failure, _ = await asyncio.gather(
                    _all(books, resume, readable, run_key("")),
                    attend(_ids(readable, operation_key(""))),
                    _all(books, clear, readable, secrets_key("")),
                )
                trouble = failure or trouble
    except TimeoutError:
        return Swept(len(seen), timed_out=True)
    if trouble is not None:
        raise trouble
    return Swept(len(seen))


def _ids(keys: Sequence[str], prefix: str) -> list[str]:
    return [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]


async def _readable(ledger: Ledger, keys: Sequence[str]) -> Sequence[str]:
    """The keys without those whose items can't be read: these stay due, for a release that can."""
    try:
        await ledger.load(keys)
    except UnreadableItems as error:
        log.error("due items can't be read", reason=str(error))
        return [key for key in keys if key not in error.keys]
    return keys


async def _all(
    books: Books, take_up: Callable[[str], Awaitable[None]], keys: Sequence[str], prefix: str
) -> None:
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def one(due: str) -> None:
        async with at_once:
            await guarded(books, f"{prefix}{due}", take_up(due))

    async with asyncio.TaskGroup() as tasks:
        for due in _ids(keys, prefix):
            tasks.create_task(one(due))


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
            if swept.taken_up:
                log.info("swept", taken_up=swept.taken_up)

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
