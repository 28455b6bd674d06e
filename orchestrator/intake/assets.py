"""Serves the files of pages from memory, each read once.

Sent file by file, as aiohttp's `FileResponse` does, each answer that a client doesn't read would
hold an open file besides its connection.
"""

import hashlib
import io
import mimetypes
from functools import cache
from pathlib import Path

import attrs
from aiohttp import ETag, web


@attrs.frozen
class _Asset:
    body: bytes
    media_type: str
    etag: str


def answer_asset(request: web.Request, path: Path) -> web.Response:
    """The file, 304 if the client has it already. Clients may cache it, and must revalidate it each
    time: the next release may have another."""
    asset = _read(path)
    known = request.if_none_match or ()
    if any(etag.value in (asset.etag, "*") for etag in known):
        answer = web.Response(status=304)
    else:
        # Written in parts, as the client reads them.
        answer = web.Response(body=io.BytesIO(asset.body), content_type=asset.media_type)
    answer.etag = ETag(asset.etag)
    answer.headers["Cache-Control"] = "no-cache"
    return answer


@cache
def _read(path: Path) -> _Asset:
    body = path.read_bytes()
    media_type, _ = mimetypes.guess_type(path.name)
    return _Asset(
        body=body,
        media_type=media_type or "application/octet-stream",
        etag=hashlib.sha256(body).hexdigest()[:32],
    )
