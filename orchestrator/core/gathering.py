"""Several things at once, of which none goes on once one has failed."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

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
