"""The service's own credentials: as the settings have them, or kept in a store.

`secretsmanager:NAME` and `ssm:NAME` are references. What they lead to is read anew each minute, so
that a rotated secret is in use soon and nothing has to be restarted. White space around it isn't
part of it: many tools that store a secret end it with a line break.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta

import attrs
import structlog

from orchestrator.core.checkable import Permission, ReadableBy
from orchestrator.core.clock import Clock
from orchestrator.core.errors import OrchestratorError, SecretBlank, SecretNotFound, TemporaryError
from orchestrator.core.secrets.secret_store import SecretStore

_KEEP = timedelta(seconds=60)
#: A store that doesn't answer holds nobody up more often than that.
_RETRY = timedelta(seconds=5)

log = structlog.get_logger("orchestrator.secret_resolver")


@attrs.define
class _Known:
    """What was read last, if anything (`trouble`: why not), and until when that counts."""

    value: str | None = None
    is_blank: bool = False
    trouble: str | None = None
    until: datetime | None = None
    reading: asyncio.Lock = attrs.field(factory=asyncio.Lock)


class StoredSecretResolver:
    def __init__(self, stores: Mapping[str, SecretStore], clock: Clock) -> None:
        """`stores` are by the first part of a reference."""
        self._stores = stores
        self._clock = clock
        self._known: dict[str, _Known] = defaultdict(_Known)

    async def resolve(self, value: str) -> str:
        """What a reference leads to; while its store is out of reach, what it led to last."""
        place, name = self._place(value)
        if place is None:
            return value
        known = self._known[value]
        # Whoever waits here while another one reads is answered by what that one has found.
        async with known.reading:
            now = self._clock.now()
            if known.until is None or known.until <= now:
                await self._read(known, place, name)
        if known.is_blank:
            raise SecretBlank(f"The credential {value} is empty: store it there.")
        if known.value is None:
            raise TemporaryError(f"The credential {value} can't be read: {known.trouble}")
        return known.value

    async def _read(self, known: _Known, place: SecretStore, name: str) -> None:
        known.trouble = None
        try:
            value = (await place.read(name=name)).strip()
        except OrchestratorError as error:
            known.trouble = str(error)
            log.warning("credential not read", name=name, reason=known.trouble)
            if isinstance(error, SecretNotFound):
                known.value, known.is_blank = None, False  # who has deleted it wants it not valid
        else:
            if not value and not known.is_blank:
                log.error("credential is empty", name=name)
            known.value, known.is_blank = value, not value
        known.until = self._clock.now() + (_KEEP if known.trouble is None else _RETRY)

    def permission(self, value: str) -> Permission | None:
        place, name = self._place(value)
        return place.permission(name) if isinstance(place, ReadableBy) else None

    def _place(self, value: str) -> tuple[SecretStore | None, str]:
        place, colon, name = value.partition(":")
        return (self._stores.get(place) if colon else None), name
