"""Time and random ids, as ports."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The time, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""


class Ids(Protocol):
    def fresh_id(self) -> str:
        """A unique id."""


class Dice(Protocol):
    def pick(self, count: int) -> int:
        """A random number from 0 to `count` - 1, uniformly distributed."""
