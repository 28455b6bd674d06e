"""Time and random ids, as ports."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The time, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Return when so much time has passed."""


class Ids(Protocol):
    def fresh_id(self) -> str:
        """An id that was never used before."""


class Dice(Protocol):
    def pick(self, count: int) -> int:
        """A number from 0 to `count` - 1, each as likely as the others."""
