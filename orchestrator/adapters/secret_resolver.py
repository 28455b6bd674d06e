"""Resolves the service's own credentials: values of the settings, or references to a store.

`secretsmanager:NAME` and `ssm:NAME` are references. They are read again after a minute, so that a
rotated secret is used without a restart. White space around a secret is ignored: many tools store
secrets with a trailing line break.
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
#: How long a failed read is remembered, so that a store which doesn't answer delays few requests.
_RETRY = timedelta(seconds=5)

log = structlog.get_logger("orchestrator.secret_resolver")


@attrs.define
class _Known:
    """The value that was read last (`trouble`: why the read failed), and until when it is used."""

    value: str | None = None
    is_blank: bool = False
    trouble: str | None = None
    until: datetime | None = None
    reading: asyncio.Lock = attrs.field(factory=asyncio.Lock)


class StoredSecretResolver:
    def __init__(self, stores: Mapping[str, SecretStore], clock: Clock) -> None:
        """`stores` has the stores by the prefix of a reference."""
        self._stores = stores
        self._clock = clock
        self._known: dict[str, _Known] = defaultdict(_Known)

    async def resolve(self, value: str) -> str:
        """The value of a reference; the last one read while the store can't be reached."""
        place, name = self._place(value)
        if place is None:
            return value
        known = self._known[value]
        # Concurrent requests share one read; with a known value only the one that begins it waits.
        if known.value is None or not known.reading.locked():
            async with known.reading:
                if known.until is None or known.until <= self._clock.now():
                    await self._read(known, place, name)
        if known.is_blank:
            raise SecretBlank(f"The credential {value} is empty: store it there.")
        if known.value is None:
            raise TemporaryError(f"The credential {value} can't be read: {known.trouble}")
        return known.value

    async def _read(self, known: _Known, place: SecretStore, name: str) -> None:
        # A request is cancelled at its deadline: this is why, then, and the next ones don't read.
        known.trouble, known.until = "It did not arrive in time.", self._clock.now() + _RETRY
        try:
            value = (await place.read(name=name)).strip()
        except OrchestratorError as error:
            known.trouble = str(error)
            log.warning("credential not read", name=name, reason=known.trouble)
            if isinstance(error, SecretNotFound):
                known.value, known.is_blank = None, False  # a deleted credential is revoked
        else:
            if not value and not known.is_blank:
                log.error("credential is empty", name=name)
            known.value, known.is_blank, known.trouble = value, not value, None
        known.until = self._clock.now() + (_KEEP if known.trouble is None else _RETRY)

    def permission(self, value: str) -> Permission | None:
        place, name = self._place(value)
        return place.permission(name) if isinstance(place, ReadableBy) else None

    def _place(self, value: str) -> tuple[SecretStore | None, str]:
        place, colon, name = value.partition(":")
        return (self._stores.get(place) if colon else None), name
