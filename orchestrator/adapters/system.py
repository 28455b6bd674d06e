"""The machine's own clock and random ids."""

import asyncio
import uuid
from datetime import UTC, datetime


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class RandomIds:
    def fresh_id(self) -> str:
        return str(uuid.uuid4())
