"""The system clock, random ids and random numbers."""

import asyncio
import random
import uuid
from datetime import UTC, datetime


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class RandomDice:
    def pick(self, count: int) -> int:
        return random.randrange(count)  # noqa: S311 - no secret


class RandomIds:
    def fresh_id(self) -> str:
        return str(uuid.uuid4())
