"""Tasks side by side: what ends them, and how often each is cancelled."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from orchestrator.core.tasks import gather_or_cancel
from tests.desk import let_others_work


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_a_clean_up_is_not_interrupted(is_cancelled: bool) -> None:
    """Whether all are cancelled or one has failed: each is cancelled once, and has time to end."""
    may_end, begun = asyncio.Event(), asyncio.Event()
    ended = []

    async def clean_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            begun.set()
            await may_end.wait()
            ended.append("clean")

    async def another() -> None:
        await (asyncio.Event().wait() if is_cancelled else asyncio.sleep(0))
        raise ValueError("no")

    works: list[Callable[[], Coroutine[Any, Any, None]]] = [clean_up, another]
    gathering = asyncio.ensure_future(gather_or_cancel(work() for work in works))
    await let_others_work()
    if is_cancelled:
        gathering.cancel()
    await begun.wait()
    await let_others_work()
    may_end.set()
    with pytest.raises(asyncio.CancelledError if is_cancelled else ValueError):
        await gathering
    assert ended == ["clean"]


async def test_one_that_is_just_timing_out_is_cancelled_too() -> None:
    """A task that `asyncio.timeout` cancels continues after that, and would continue for ever."""
    timing_out, may_end = asyncio.Event(), asyncio.Event()

    async def repeat() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                try:
                    await asyncio.Event().wait()
                finally:
                    timing_out.set()
                    await may_end.wait()
        await asyncio.Event().wait()

    async def fail() -> None:
        await timing_out.wait()
        raise ValueError("no")

    works: list[Callable[[], Coroutine[Any, Any, None]]] = [repeat, fail]
    gathering = asyncio.ensure_future(gather_or_cancel(work() for work in works))
    await timing_out.wait()
    await let_others_work()
    may_end.set()
    await let_others_work()
    assert gathering.done()
    with pytest.raises(ValueError, match="no"):
        await gathering


async def test_all_results_come_in_order() -> None:
    """No coroutines give no results; one that is cancelled from elsewhere ends the others."""

    async def number(value: int) -> int:
        await asyncio.sleep(0)
        return value

    async def end() -> bool:
        raise asyncio.CancelledError

    assert await gather_or_cancel(map(number, range(5))) == [0, 1, 2, 3, 4]
    assert await gather_or_cancel(map(number, ())) == []
    works: list[Callable[[], Coroutine[Any, Any, bool]]] = [asyncio.Event().wait, end]
    with pytest.raises(asyncio.CancelledError):
        await gather_or_cancel(work() for work in works)


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_each_error_is_retrieved(is_cancelled: bool) -> None:
    """The first of several errors is raised, and none is logged as never retrieved."""
    logged: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))

    async def fail(value: int) -> None:
        try:
            await (asyncio.Event().wait() if is_cancelled else asyncio.sleep(0))
        finally:
            raise ValueError(value)

    gathering = asyncio.ensure_future(gather_or_cancel(map(fail, range(3))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if is_cancelled:
        gathering.cancel()
    with pytest.raises(asyncio.CancelledError if is_cancelled else ValueError):
        await gathering
    del gathering
    await let_others_work()
    gc.collect()
    assert logged == []
