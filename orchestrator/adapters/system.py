"""The machine's own clock and random ids."""

import uuid
from datetime import UTC, datetime


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class RandomIds:
    def fresh_id(self) -> str:
        return str(uuid.uuid4())
