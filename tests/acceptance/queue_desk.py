"""A service in queue mode, its queue, and the workers that consume from it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
from aiohttp.test_utils import TestClient, TestServer

from orchestrator import Extension, Settings, TemporaryError
from orchestrator.adapters.memory.inbox import InMemoryInbox
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.app import create_worker_app
from orchestrator.core.ledger.records import Record
from orchestrator.core.queue.inbox import Message
from orchestrator.testing import ManualClock
from tests.conftest import Client

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"
AttemptRunner = Client


class DownLedger(InMemoryLedger):
    """A ledger that is unreachable while `is_down`."""

    is_down = False

    async def commit(self, records: Any, *, unchanged: Any) -> None:
        self._check()
        await super().commit(records, unchanged=unchanged)

    async def load(self, keys: Any) -> dict[str, Record | None]:
        self._check()
        return dict(await super().load(keys))

    async def check(self) -> None:
        self._check()

    def _check(self) -> None:
        if self.is_down:
            raise TemporaryError("no ledger")


class BusyInbox(InMemoryInbox):
    """An inbox that refuses deletions while `is_busy`."""

    is_busy = False

    async def delete(self, message: Message) -> None:
        if self.is_busy:
            raise TemporaryError("no time")
        await super().delete(message)


@attrs.define
class Desk:
    """A service in queue mode, and workers that are started on demand."""

    service: Client
    inbox: BusyInbox
    ledger: DownLedger
    clock: ManualClock
    settings: Settings
    extension: Extension
    parts: dict[str, Any] = attrs.field(factory=dict)

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[AttemptRunner]:
        app = create_worker_app(
            self.settings,
            extension=self.extension,
            clock=self.clock,
            ledger=self.ledger,
            inbox=self.inbox,
            **self.parts,
        )
        async with TestClient(TestServer(app, host="127.0.0.1")) as client:
            yield client

    async def work(self) -> None:
        """A worker starts, handles all messages of the queue, and stops."""
        async with self.worker():
            await until(lambda: len(self.inbox) == 0)

    async def work_over_time(self) -> None:
        """The running workers handle all messages of the queue, while seconds pass: a message that
        is kept is received again, whenever it was kept."""

        def is_empty() -> bool:
            self.clock.turn(1)
            return len(self.inbox) == 0

        await until(is_empty)


async def until(holds: Callable[[], bool]) -> None:
    """Let the other tasks work until it holds."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what it waits for sends no notification
            await asyncio.sleep(0.001)


StartDesk = Callable[..., Awaitable[Desk]]


async def accepted(desk: Desk, event: dict[str, Any], path: str = "/events") -> str:
    """The address of the run of an event that was put into the queue."""
    answer = await desk.service.post(path, json=event)
    assert answer.status == 202, await answer.text()
    assert await answer.json() == {"success": True}
    return answer.headers["Location"]
