"""One worker of the queue: what it begins while it is stopped, and how a message stays hidden."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from structlog.testing import capture_logs

from orchestrator.adapters.memory.inbox import InMemoryInbox
from orchestrator.core.clock import Clock
from orchestrator.core.metrics import NO_METRICS
from orchestrator.core.queue.inbox import Message
from orchestrator.intake.queue_worker import QueueWorker
from orchestrator.testing import ManualClock
from tests.desk import let_others_work


class Inbox(InMemoryInbox):
    """An inbox that takes some steps to answer; `failures` are raised by the next extensions."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.failures: list[Exception] = []

    async def receive(self, *, limit: int, wait_s: float) -> Sequence[Message]:
        messages = await super().receive(limit=limit, wait_s=wait_s)
        for _ in range(3):
            await asyncio.sleep(0)
        return messages

    async def hide(self, message: Message, *, seconds: float) -> None:
        if self.failures:
            raise self.failures.pop()
        await super().hide(message, seconds=seconds)


def worker(
    inbox: Inbox, clock: ManualClock, handle: Callable[[Message], Awaitable[bool]]
) -> QueueWorker:
    async def is_ready() -> None: ...

    return QueueWorker(inbox, handle, clock, is_ready=is_ready, concurrency=2, metrics=NO_METRICS)


@pytest.mark.parametrize("steps", range(25))
async def test_no_message_is_begun_once_a_worker_has_drained(
    clock: ManualClock, steps: int
) -> None:
    """Also not one that arrives in the very step in which the worker begins to drain."""
    inbox, begun, ended = Inbox(clock), 0, 0

    async def handle(message: Message) -> bool:
        nonlocal begun, ended
        begun += 1
        for _ in range(6):
            await asyncio.sleep(0)
        ended += 1
        return True

    for number in range(3):
        await inbox.send(text=str(number), group="g", deduplication_id=str(number))
    draining = worker(inbox, clock, handle)
    running = asyncio.ensure_future(draining.run())
    for _ in range(steps):
        await asyncio.sleep(0)
    await draining.drain(timeout_s=5)
    at_the_end = begun, ended
    await running
    await let_others_work()
    assert (begun, ended) == at_the_end
    assert begun == ended


async def test_a_message_stays_hidden_though_an_extension_broke_down(clock: ManualClock) -> None:
    """An error that isn't the orchestrator's, as of an inbox of your own, is logged, and the next
    extension follows."""
    inbox, release = Inbox(clock), asyncio.Event()

    async def handle(message: Message) -> bool:
        return await release.wait()

    await inbox.send(text="1", group="g", deduplication_id="1")
    busy = worker(inbox, clock, handle)
    running = asyncio.ensure_future(busy.run())
    with capture_logs() as logs:
        for _ in range(2):
            inbox.failures = [ConnectionResetError()]
            await let_others_work()
            clock.turn(inbox.visibility_s / 2)
            await let_others_work()
    assert [line["event"] for line in logs] == ["visibility timeout not extended"] * 2
    release.set()
    await busy.drain(timeout_s=5)
    await running
    assert len(inbox) == 0
