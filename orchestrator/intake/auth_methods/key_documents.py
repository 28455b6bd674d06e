"""Public keys of issuers: fetched when they are needed, and kept."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

import attrs
import structlog
from aiohttp import web

from orchestrator.core.clock import Clock
from orchestrator.core.errors import TemporaryError

#: After this time keys are fetched again, so that those which an issuer has withdrawn are refused.
_FRESH = timedelta(hours=1)
#: Anybody can send a key id that doesn't exist: it must not make a request to the issuer each time.
_PAUSE = timedelta(minutes=1)
#: While an issuer can't be reached.
_RETRY = timedelta(seconds=5)

KeyT = TypeVar("KeyT")

log = structlog.get_logger("orchestrator.auth")


class KeyDocuments(Protocol):
    """Documents with public keys, at URLs."""

    async def fetch(self, url: str) -> bytes:
        """The document. Raises TemporaryError: it can't be had now."""


KEY_DOCUMENTS: web.AppKey[KeyDocuments] = web.AppKey("key_documents")


@attrs.define
class KeyCache(Generic[KeyT]):
    """The public keys of an issuer, by their ids.

    `fetch` is called with the documents, the id that is looked for and the keys that are known; it
    returns those that are known then, and raises ValueError for a document without any. It is
    called for an unknown id at most once a minute.
    """

    fetch: Callable[[KeyDocuments, str, Mapping[str, KeyT]], Awaitable[Mapping[str, KeyT]]]
    clock: Clock
    _keys: Mapping[str, KeyT] = attrs.field(init=False, factory=dict)
    _fetched_at: datetime | None = attrs.field(init=False, default=None)
    _next_at: datetime | None = attrs.field(init=False, default=None)
    _trouble: TemporaryError | None = attrs.field(init=False, default=None)
    _fetching: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)

    async def find(self, documents: KeyDocuments, key_id: str) -> KeyT | None:
        """The key of that id; None if the issuer has none.

        Raises:
            TemporaryError: it is unknown, and the keys can't be fetched.
        """
        # Concurrent requests share one fetch; with a known key only the one that begins it waits.
        if self._is_due(key_id) and not (key_id in self._keys and self._fetching.locked()):
            async with self._fetching:
                if self._is_due(key_id):
                    await self._update(documents, key_id)
        if key_id not in self._keys and self._trouble is not None:
            raise self._trouble
        return self._keys.get(key_id)

    def _is_due(self, key_id: str) -> bool:
        now = self.clock.now()
        is_fresh = self._fetched_at is not None and now < self._fetched_at + _FRESH
        if is_fresh and key_id in self._keys:
            return False
        return self._next_at is None or self._next_at <= now

    async def _update(self, documents: KeyDocuments, key_id: str) -> None:
        # A request is cancelled at its deadline: this is why, then, and the next ones don't fetch.
        self._trouble = TemporaryError("The issuer's public keys did not arrive in time.")
        try:
            self._keys = await self.fetch(documents, key_id, self._keys)
            self._fetched_at = self.clock.now()
            self._trouble = None
        except TemporaryError as error:
            self._trouble = error
        except ValueError as error:
            self._trouble = TemporaryError(f"The issuer's public keys can't be read: {error}")
        finally:
            if self._trouble is not None:
                log.warning("public keys not fetched", reason=str(self._trouble))
            self._next_at = self.clock.now() + (_RETRY if self._trouble else _PAUSE)
