"""Several things at once, of which none goes on once one has failed; one thing, in time."""

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, TypeVar

from orchestrator.core.ports import Clock

T = TypeVar("T")


async def gather_or_cancel(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Their results. When one raises, or when we are cancelled, it is raised once all have ended.

    A TaskGroup won't do: before Python 3.13 one that fails leaves `Task.cancelling()` at 1, which
    a later `asyncio.timeout` in the same task takes for a cancellation from outside.
    """
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def finish_within(clock: Clock, seconds: float | None, work: Awaitable[T]) -> T:
    """The result of the work; None: however long it takes.

    Raises:
        TimeoutError: the time was over, by the clock; the work was cancelled and has ended.
    """
    if seconds is None:
        return await work
    task = asyncio.ensure_future(work)
    alarm = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        for one in (task, alarm):
            one.cancel()
        await asyncio.wait({task, alarm})
    # Cut off it may have raised something else, which is nobody's by now.
    if not task.cancelled():
        task.exception()
    raise TimeoutError
