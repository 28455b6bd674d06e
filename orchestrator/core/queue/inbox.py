"""A queue of events, as a port."""

from collections.abc import Sequence
from typing import Protocol

import attrs


@attrs.frozen(kw_only=True)
class Message:
    """One message of a queue. `receipt` is what it is deleted by; `receives` counts deliveries.
    `trace` is its trace header, if there is one."""

    id: str
    text: str
    receipt: str
    group: str | None = None
    receives: int = 1
    trace: str | None = None


class Inbox(Protocol):
    """A queue of events: at least once, in no order or by groups."""

    #: How long a message that was received stays hidden from others, in seconds.
    visibility_s: float
    #: Messages of a group follow each other, and a deduplication id that was there minutes ago is
    #: not taken again.
    in_groups: bool

    async def send(self, *, text: str, group: str, deduplication_id: str) -> None:
        """Put a message in the queue; in a queue of groups it follows those of its group.

        Raises:
            EventTooLarge: the queue takes no message of that size.
            PermanentError: the queue takes no such message.
            TemporaryError: it is not known whether it was taken.
        """

    async def receive(self, *, limit: int, wait_s: float) -> Sequence[Message]:
        """Messages that wait, or come within `wait_s`; at most `limit`, at most 10."""

    async def hide(self, message: Message, *, seconds: float) -> None:
        """Have the message hidden from others for so long from now on (0: for no longer)."""

    async def delete(self, message: Message) -> None:
        """The message is done with."""

    async def check(self) -> None:
        """Raises TemporaryError if the queue can't be reached."""
