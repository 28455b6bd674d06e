"""The service's own credentials: as the settings have them, or kept in a store.

`secretsmanager:NAME` and `ssm:NAME` are references. What they lead to is read anew each minute, so
that a rotated secret is in use soon and nothing has to be restarted.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from orchestrator.core.errors import TemporaryError
from orchestrator.core.ports import Clock, SecretStore

_KEEP = timedelta(seconds=60)

log = structlog.get_logger("orchestrator.credentials")


class Credentials:
    def __init__(self, stores: Mapping[str, SecretStore], clock: Clock) -> None:
        """`stores` are by the first part of a reference."""
        self._stores = stores
        self._clock = clock
        self._read: dict[str, tuple[datetime, str]] = {}
        self._reading = asyncio.Lock()

    async def resolve(self, value: str) -> str:
        """A value of the settings, or what its reference leads to.

        A store that is out of reach goes on to give what it gave last.

        Raises:
            TemporaryError: nothing could be read yet.
        """
        place, colon, name = value.partition(":")
        if not colon or place not in self._stores:
            return value
        async with self._reading:
            read_at, known = self._read.get(value, (None, None))
            now = self._clock.now()
            if known is not None and read_at is not None and now < read_at + _KEEP:
                return known
            try:
                known = await self._stores[place].read(name=name)
            except TemporaryError as error:
                if known is None:
                    raise
                log.warning("credential not read anew", name=name, reason=str(error))
            self._read[value] = (now, known)
            return known
