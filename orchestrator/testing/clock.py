"""Time, chance and ids that a test has in its hand."""

import asyncio
from datetime import UTC, datetime, timedelta

import attrs


@attrs.define
class ManualClock:
    """A clock that moves when it is told to; whoever sleeps by it wakes when it has."""

    time: datetime = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
    _sleepers: list[tuple[datetime, asyncio.Future[None]]] = attrs.field(init=False, factory=list)

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        until = self.time + timedelta(seconds=seconds)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sleeper = (until, woken)
        self._sleepers.append(sleeper)
        try:
            await woken
        finally:
            self._sleepers.remove(sleeper)

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        self.time += timedelta(seconds=seconds)
        for until, woken in self._sleepers:
            if until <= self.time and not woken.done():
                woken.set_result(None)


@attrs.define
class LoadedDice:
    """They always fall on the first."""

    def pick(self, count: int) -> int:  # noqa: ARG002 - the port's
        return 0


@attrs.define
class SequentialIds:
    """`id-1`, `id-2`, ..."""

    given: int = 0

    def fresh_id(self) -> str:
        self.given += 1
        return f"id-{self.given}"
