"""Reads the body of a request, up to the limits of its size and time."""

import asyncio
import zlib
from collections.abc import Callable

import aiohttp
from aiohttp import web

from orchestrator.core.errors import TemporaryError
from orchestrator.intake.app_keys import MAX_BODY_BYTES, RECEIVE_TIMEOUT_S
from orchestrator.intake.connections import Connection

#: RFC 9110, section 8.4.1: `x-gzip` is `gzip`.
_GZIP, _DEFLATE = ("gzip", "x-gzip"), "deflate"


async def read_body(request: web.Request) -> bytes:
    """The decompressed body, up to the service's own limit, also if mounted in another app.

    Raises:
        TemporaryError: it isn't complete in time.
    """
    limit, seconds = request.app[MAX_BODY_BYTES], request.app[RECEIVE_TIMEOUT_S]
    inflate = _inflater(request)
    body = bytearray()
    # Most bodies arrive with their headers, and a timer costs as much as to read them.
    deadline = asyncio.timeout(None if request.content.is_eof() else seconds)
    try:
        async with deadline:
            async for chunk in request.content.iter_any():
                body += inflate(chunk, limit + 1 - len(body))
                if len(body) > limit:
                    raise web.HTTPRequestEntityTooLarge(
                        limit, text=f"The body is larger than {limit} bytes: send a smaller event."
                    )
        inflate(b"", 0)
    except TimeoutError:
        if not deadline.expired():
            raise
        raise TemporaryError(
            f"The body was not complete after {seconds:.3g} s: send it again."
        ) from None
    except ConnectionError as error:
        raise web.HTTPBadRequest(
            text="The connection was closed before the body was complete."
        ) from error
    except (web.RequestPayloadError, aiohttp.http_exceptions.ContentEncodingError) as error:
        raise web.HTTPBadRequest(
            text=f"The body can't be decoded: {error}. Send it as its Content-Encoding says."
        ) from error
    return bytes(body)


_Inflate = Callable[[bytes, int], bytes]


def _inflater(request: web.Request) -> _Inflate:
    """Decodes the body's chunks, each to the given number of bytes at most.

    An empty chunk is the end of the body. aiohttp's own server, such as that of an app in which
    this service is mounted, has decoded them already.
    """
    encoding = request.headers.get(aiohttp.hdrs.CONTENT_ENCODING, "identity").strip().lower()
    if encoding not in (*_GZIP, _DEFLATE, "identity"):
        raise web.HTTPUnsupportedMediaType(
            text=f"The Content-Encoding is {encoding!r}: send gzip, deflate, or no encoding.",
            headers={"Accept-Encoding": "gzip, deflate"},
        )
    if encoding == "identity" or not isinstance(request.protocol, Connection):
        return lambda chunk, _: chunk
    return _Inflater(encoding)


class _Inflater:
    """Inflates one gzip member (RFC 1952), or one deflate stream with or without zlib's header
    (RFC 9110, section 8.4.1.2)."""

    def __init__(self, encoding: str) -> None:
        self._is_gzip = encoding in _GZIP
        self._stream: zlib._Decompress | None = None

    def __call__(self, chunk: bytes, most: int) -> bytes:
        if not chunk:
            if self._stream is not None and not self._stream.eof:
                raise web.RequestPayloadError("it ends too early")
            return b""
        if self._stream is None:
            self._stream = zlib.decompressobj(self._window_bits(chunk))
        try:
            inflated = self._stream.decompress(chunk, most)
        except zlib.error as error:
            raise web.RequestPayloadError(str(error)) from error
        if self._stream.unused_data:
            raise web.RequestPayloadError("there is more after its end")
        return inflated

    def _window_bits(self, first: bytes) -> int:
        if self._is_gzip:
            return 16 + zlib.MAX_WBITS
        has_header = first[0] & 0x0F == zlib.DEFLATED  # RFC 1950, section 2.2
        return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
