"""Tasks side by side: what ends them, and how often they are told."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from orchestrator.core.tasks import gather_or_cancel
from tests.desk import let_others_work


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_a_clean_up_is_not_interrupted(is_cancelled: bool) -> None:
    """Whether all are cancelled or one has failed: each is told once, and has its time to end."""
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
