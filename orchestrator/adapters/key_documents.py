"""Fetches documents with public keys over HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import attrs

from orchestrator.adapters.proxies import find_proxy
from orchestrator.core.errors import TemporaryError

#: The largest sets of keys have some 10 kB.
_MAX_BYTES = 262_144
_TIMEOUT = aiohttp.ClientTimeout(total=3.0)


@attrs.frozen
class HttpKeyDocuments:
    _http: aiohttp.ClientSession

    async def fetch(self, url: str) -> bytes:
        """The document at a URL of the settings; redirects are not followed, since they might lead
        to another issuer's keys."""
        try:
            async with self._http.get(url, allow_redirects=False, proxy=find_proxy(url)) as answer:
                document = bytearray()
                async for chunk in answer.content.iter_chunked(16_384):
                    document += chunk
                    if len(document) > _MAX_BYTES:
                        break
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise TemporaryError(f"Public keys at {url}: {reason}") from error
        if answer.status != 200:
            raise TemporaryError(f"Public keys at {url}: the answer is {answer.status}.")
        if len(document) > _MAX_BYTES:
            raise TemporaryError(f"Public keys at {url}: more than {_MAX_BYTES} bytes.")
        return bytes(document)


@asynccontextmanager
async def open_key_documents() -> AsyncIterator[HttpKeyDocuments]:
    """A client for the life of the app."""
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as http:
        yield HttpKeyDocuments(http)
