"""Runs tasks: several that are cancelled once one fails, one with a time limit or to its end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar, overload

from orchestrator.core.clock import Clock
from orchestrator.core.errors import OrchestratorError, TemporaryError

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


@overload
async def gather_or_cancel(  # type: ignore[overload-overlap]
    coroutines: tuple[Coroutine[Any, Any, A], Coroutine[Any, Any, B], Coroutine[Any, Any, C]],
) -> tuple[A, B, C]: ...


@overload
async def gather_or_cancel(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]: ...


async def gather_or_cancel(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> Any:
    """Await all. When one raises, or this task is cancelled, the others are cancelled, and the
    error is raised once all have ended.

    Not a TaskGroup: before Python 3.13 one that fails leaves `Task.cancelling()` at 1, which a
    later `asyncio.timeout` in the same task mistakes for a cancellation.
    """
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    gathered = asyncio.gather(*tasks)
    # Else its error would be logged as never retrieved if this task is cancelled.
    gathered.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    try:
        # Unlike `await gathered`, this passes no cancellation on: they are cancelled below, once,
        # since a second time would interrupt their clean-up.
        await asyncio.wait([gathered])
        return gathered.result()
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def finish_within(clock: Clock, seconds: float | None, work: Awaitable[T]) -> T:
    """The result of the work; a limit of None waits to its end.

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
    # After its cancellation it may have raised another error, which no caller awaits.
    if not task.cancelled():
        task.exception()
    raise TimeoutError


@asynccontextmanager
async def cancelled_at_exit(work: Coroutine[Any, Any, T]) -> AsyncIterator["asyncio.Task[T]"]:
    """A task beside the body of the context; at its exit the task is cancelled, and has ended."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


def sole_error(error: BaseException) -> BaseException:
    """One error of a group of OrchestratorErrors, a temporary one first; else the group."""
    leaves = list(_leaves(error))
    if not all(isinstance(leaf, OrchestratorError) for leaf in leaves):
        return error
    return next((leaf for leaf in leaves if isinstance(leaf, TemporaryError)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for one in error.exceptions:
        yield from _leaves(one)


def is_cancelled(error: BaseException) -> bool:
    """Whether this task is cancelled, rather than something that a handler awaited."""
    task = asyncio.current_task()
    is_asked = task is not None and task.cancelling() > 0
    return isinstance(error, asyncio.CancelledError) and is_asked


async def run_to_its_end(write: Coroutine[Any, Any, T]) -> T:
    """Finish a write before a cancellation takes effect, so that it isn't interrupted halfway."""
    task = asyncio.ensure_future(write)
    cancelled = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result
