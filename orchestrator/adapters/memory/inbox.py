"""An in-memory queue with receive counts like SQS."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs

from orchestrator.core.checkable import Permission
from orchestrator.core.clock import Clock
from orchestrator.core.evolve import evolve
from orchestrator.core.queue.inbox import Message


@attrs.define
class _Waiting:
    message: Message
    visible_from: datetime
    deduplication_id: str


class InMemoryInbox:
    """An in-memory queue; with `in_groups` like a FIFO queue of SQS.

    There a group's messages are received in order, and a message with a deduplication id of the
    last 5 minutes is dropped (SQS developer guide, FIFO queues).
    """

    description = "memory: forgotten when the process ends"
    permissions: tuple[Permission, ...] = ()

    def __init__(
        self, clock: Clock, *, in_groups: bool = False, visibility_s: float = 60.0
    ) -> None:
        self.visibility_s = visibility_s
        self._clock = clock
        self.in_groups = in_groups
        self._waiting: list[_Waiting] = []
        self._known: dict[str, datetime] = {}
        self._sent = 0
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """The number of messages that were not deleted yet."""
        return len(self._waiting)

    async def send(self, *, text: str, group: str, deduplication_id: str) -> None:
        now = self._clock.now()
        known_until = self._known.get(deduplication_id)
        if self.in_groups and known_until is not None and now < known_until:
            return
        self._known[deduplication_id] = now + timedelta(minutes=5)
        self._sent += 1
        name = f"message-{self._sent}"
        message = Message(
            id=name,
            text=text,
            receipt=name,
            group=group if self.in_groups else None,
            receives=0,
            sent_at=now,
        )
        self._waiting.append(_Waiting(message, now, deduplication_id))
        self._changed.set()

    async def receive(self, *, limit: int, wait_s: float) -> Sequence[Message]:
        until = self._clock.now() + timedelta(seconds=wait_s)
        while not (taken := self._take(min(limit, 10))) and self._clock.now() < until:
            await self._change(until)
        return taken

    async def hide(self, message: Message, *, seconds: float) -> None:
        for waiting in self._waiting:
            if waiting.message.receipt == message.receipt:
                waiting.visible_from = self._clock.now() + timedelta(seconds=seconds)
        self._changed.set()

    async def delete(self, message: Message) -> None:
        self._waiting = [
            waiting for waiting in self._waiting if waiting.message.receipt != message.receipt
        ]
        self._changed.set()

    async def check(self) -> None:
        return None

    def _take(self, limit: int) -> list[Message]:
        now, taken, held = self._clock.now(), list[Message](), set[str | None]()
        for waiting in self._waiting:
            group = waiting.message.group
            is_visible = waiting.visible_from <= now and group not in held
            if group is not None:
                held.add(group)
            if is_visible and len(taken) < limit:
                waiting.visible_from = now + timedelta(seconds=self.visibility_s)
                waiting.message = evolve(
                    waiting.message,
                    receives=waiting.message.receives + 1,
                    receipt=f"{waiting.message.id}-{waiting.message.receives + 1}",
                )
                taken.append(waiting.message)
        return taken

    async def _change(self, until: datetime) -> None:
        """Return when the queue changes, a message becomes visible, or the time is over."""
        now = self._clock.now()
        moments = [one.visible_from for one in self._waiting if one.visible_from > now]
        pause_s = (min([*moments, until]) - now).total_seconds()
        self._changed.clear()
        waits = {
            asyncio.ensure_future(self._changed.wait()),
            asyncio.ensure_future(self._clock.sleep(pause_s)),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
