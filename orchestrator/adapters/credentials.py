"""The service's own credentials: as the settings have them, or kept in a store.

`secretsmanager:NAME` and `ssm:NAME` are references. What they lead to is read anew each minute, so
that a rotated secret is in use soon and nothing has to be restarted.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from orchestrator.core.errors import TemporaryError
from orchestrator.core.ports import Clock, Permission, ReadableBy, SecretStore

_KEEP = timedelta(seconds=60)

log = structlog.get_logger("orchestrator.credentials")


class StoredCredentials:
    def __init__(self, stores: Mapping[str, SecretStore], clock: Clock) -> None:
        """`stores` are by the first part of a reference."""
        self._stores = stores
        self._clock = clock
        self._read: dict[str, tuple[datetime, str]] = {}
        self._reading = asyncio.Lock()

    async def resolve(self, value: str) -> str:
        """What a reference leads to; while its store is out of reach, what it led to last."""
        place, name = self._place(value)
        if place is None:
            return value
        async with self._reading:
            read_at, known = self._read.get(value, (None, None))
            now = self._clock.now()
            if known is not None and read_at is not None and now < read_at + _KEEP:
                return known
            try:
                known = await place.read(name=name)
            except TemporaryError as error:
                if known is None:
                    raise
                log.warning("credential not read anew", name=name, reason=str(error))
            self._read[value] = (now, known)
            return known

    def permission(self, value: str) -> Permission | None:
        place, name = self._place(value)
        return place.permission(name) if isinstance(place, ReadableBy) else None

    def _place(self, value: str) -> tuple[SecretStore | None, str]:
        place, colon, name = value.partition(":")
        return (self._stores.get(place) if colon else None), name
