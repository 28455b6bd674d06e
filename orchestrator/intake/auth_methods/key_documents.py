"""Public keys of issuers: fetched when they are needed, and kept."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, Protocol, TypeVar

import attrs
import structlog
from aiohttp import web

from orchestrator.core.clock import Clock
from orchestrator.core.errors import TemporaryError

#: After this time keys are fetched again, so that those which an issuer has withdrawn are refused.
_FRESH = timedelta(hours=1)
#: The pause between fetches for an unknown key id: any client can send ids that don't exist, and
#: must not cause a request to the issuer each time.
_PAUSE = timedelta(minutes=1)
#: The pause between fetches while an issuer can't be reached.
_RETRY = timedelta(seconds=5)

#: How many fetches a minute all ids of an issuer together may cause, and how many are remembered.
MOST_FETCHES, MOST_IDS = 60, 100

KeyT = TypeVar("KeyT")

log = structlog.get_logger("orchestrator.auth")


class KeyDocuments(Protocol):
    """Documents with public keys, at URLs."""

    async def fetch(self, url: str) -> bytes:
        """The document. Raises TemporaryError: it is unavailable."""


KEY_DOCUMENTS: web.AppKey[KeyDocuments] = web.AppKey("key_documents")


@attrs.define
class KeyCache(Generic[KeyT]):
    """The public keys of an issuer, by their ids.

    `fetch` returns all keys of the issuer from one document, and raises ValueError for a document
    without any. It is called for an unknown id at most once a minute.
    """

    fetch: Callable[[KeyDocuments], Awaitable[Mapping[str, KeyT]]]
    clock: Clock
    _keys: Mapping[str, KeyT] = attrs.field(init=False, factory=dict)
    _fetched_at: datetime | None = attrs.field(init=False, default=None)
    _next_at: datetime | None = attrs.field(init=False, default=None)
    _trouble: TemporaryError | None = attrs.field(init=False, default=None)
    _fetching: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)

    def known(self, key_id: str) -> KeyT | None:
        """The key of that id if it was fetched before."""
        return self._keys.get(key_id)

    async def find(self, documents: KeyDocuments, key_id: str) -> KeyT | None:
        """The key of that id; None if the issuer has none.

        Raises:
            TemporaryError: it is unknown, and the keys can't be fetched.
        """
        # Concurrent requests share one fetch; with a known key only the one that begins it waits.
        if self.is_due(key_id) and not (key_id in self._keys and self._fetching.locked()):
            async with self._fetching:
                if self.is_due(key_id):
                    await self._update(documents)
        if key_id not in self._keys and self._trouble is not None:
            raise self._trouble
        return self._keys.get(key_id)

    def is_due(self, key_id: str) -> bool:
        """Whether the keys should be fetched now."""
        now = self.clock.now()
        is_fresh = self._fetched_at is not None and now < self._fetched_at + _FRESH
        if is_fresh and key_id in self._keys:
            return False
        return self._next_at is None or self._next_at <= now

    def begins_fetch(self, key_id: str) -> bool:
        """Whether `find` would begin a fetch now, rather than share one or need none."""
        return self.is_due(key_id) and not self._fetching.locked()

    async def _update(self, documents: KeyDocuments) -> None:
        # A request is cancelled at its deadline: this is why, then, and the next ones don't fetch.
        self._trouble = TemporaryError("The issuer's public keys did not arrive in time.")
        try:
            self._keys = await self.fetch(documents)
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


@attrs.define
class KeysById(Generic[KeyT]):
    """The public keys of an issuer that has a document for each.

    `fetch` returns the key of an id, and raises ValueError for a document without one. Each id has
    a pause of its own, so that an invented one delays no other. All ids together have at most
    `MOST_FETCHES` fetches a minute, and `MOST_IDS` of them are remembered: those with a key, and
    those that were requested last.
    """

    fetch: Callable[[KeyDocuments, str], Awaitable[KeyT]]
    clock: Clock
    caches: dict[str, KeyCache[KeyT]] = attrs.field(init=False, factory=dict)
    _fetched_at: deque[datetime] = attrs.field(
        init=False, factory=lambda: deque(maxlen=MOST_FETCHES)
    )

    async def find(self, documents: KeyDocuments, key_id: str) -> KeyT | None:
        """The key of that id.

        Raises:
            TemporaryError: it is unknown, and can't be fetched now.
        """
        cache = self.caches.get(key_id) or KeyCache(partial(self._fetch, key_id), self.clock)
        if cache.begins_fetch(key_id) and not self._may_fetch():
            key = cache.known(key_id)
            if key is None:
                # It isn't remembered: else it could displace one that is being fetched.
                raise TemporaryError(
                    "Too many unknown public keys were asked for in the last minute."
                )
            return key
        self.caches.pop(key_id, None)
        self.caches[key_id] = cache
        self._forget()
        return await cache.find(documents, key_id)

    async def _fetch(self, key_id: str, documents: KeyDocuments) -> Mapping[str, KeyT]:
        self._fetched_at.append(self.clock.now())
        return {key_id: await self.fetch(documents, key_id)}

    def _may_fetch(self) -> bool:
        is_full = len(self._fetched_at) == MOST_FETCHES
        return not is_full or self._fetched_at[0] <= self.clock.now() - _PAUSE

    def _forget(self) -> None:
        if len(self.caches) > MOST_IDS:
            unknown = (one for one, cache in self.caches.items() if cache.known(one) is None)
            del self.caches[next(unknown, next(iter(self.caches)))]
