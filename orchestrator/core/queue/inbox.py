"""A queue of events, as a port."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import attrs


@attrs.frozen(kw_only=True)
class Message:
    """One message of a queue. `receipt` is the handle to delete it; `receives` counts receives.
    `trace` is its trace header, `sent_at` when it was sent; None: unknown."""

    id: str
    text: str
    receipt: str
    group: str | None = None
    receives: int = 1
    trace: str | None = None
    sent_at: datetime | None = None


class Inbox(Protocol):
    """A queue of events: at-least-once delivery, unordered or ordered by group."""

    #: The visibility timeout of received messages, in seconds.
    visibility_s: float
    #: Like a FIFO queue: messages of a group are received in order, and one with a deduplication id
    #: of the last minutes is dropped.
    in_groups: bool

    async def send(self, *, text: str, group: str, deduplication_id: str) -> None:
        """Put a message in the queue, in a queue `in_groups` after those of its group.

        Raises:
            EventTooLarge: the message is too large for the queue.
            PermanentError: the queue refuses the message.
            TemporaryError: it is unknown whether it was accepted.
        """

    async def receive(self, *, limit: int, wait_s: float) -> Sequence[Message]:
        """Messages that are in the queue or arrive within `wait_s`; at most `limit`, at most 10."""

    async def hide(self, message: Message, *, seconds: float) -> None:
        """Change the message's visibility timeout to so long from now on (0: visible at once)."""

    async def delete(self, message: Message) -> None:
        """Delete the message, which has been handled."""

    async def check(self) -> None:
        """Raises TemporaryError if the queue can't be reached."""
