"""A clock, random choices and ids that a test controls."""

import asyncio
from datetime import UTC, datetime, timedelta

import attrs


@attrs.define
class ManualClock:
    """A clock that a test advances with `turn`, which wakes the sleepers whose time has come."""

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
        """Advance the clock."""
        self.time += timedelta(seconds=seconds)
        for until, woken in self._sleepers:
            if until <= self.time and not woken.done():
                woken.set_result(None)


@attrs.define
class LoadedDice:
    """Dice that always pick the first."""

    def pick(self, count: int) -> int:  # noqa: ARG002 - the port's
        return 0


@attrs.define
class SequentialIds:
    """Ids in order: `id-1`, `id-2`, ..."""

    given: int = 0

    def fresh_id(self) -> str:
        self.given += 1
        return f"id-{self.given}"
