"""Routes of the operator's console: static files that hold no data, open to everybody.

The page gets all data through the public API, with the credentials of its user. It refers to its
files relative to its own address, so it works under any prefix, mounted, and on Lambda.
"""

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path

import attrs
from aiohttp import ETag, web

from orchestrator.intake.access import OPEN, declare_access
from orchestrator.intake.documentation import HTML_PAGE, documented

routes = web.RouteTableDef()

_FOLDER = Path(__file__).parents[1] / "console"
_INDEX = "index.html"
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

#: Scripts and styles are files of the service, data comes from the service, and no text becomes
#: markup (W3C, "Content Security Policy Level 3" and "Trusted Types").
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
#: A browser asks each time whether its copy is current: the files of two releases don't mix.
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}


@attrs.frozen
class _File:
    """A file of the console. Its tag is weak, since the file is also sent compressed."""

    body: bytes
    media_type: str
    tag: ETag


@cache
def _files() -> Mapping[str, _File]:
    """The console's files by name."""
    found: dict[str, _File] = {}
    for path in sorted(_FOLDER.iterdir()):
        media_type = _MEDIA_TYPES.get(path.suffix)
        if media_type is not None:
            body = path.read_bytes()
            tag = ETag(sha256(body).hexdigest()[:32], is_weak=True)
            found[path.name] = _File(body, media_type, tag)
    return found


@routes.get("/console", name="console")
@documented("The operator's console", tag="about", access=OPEN, answers={200: HTML_PAGE})
async def get_console(request: web.Request) -> web.Response:
    return _answer(request, _files()[_INDEX])


@routes.get("/console/{filename:[^/]*}", name="console-files")
@declare_access(OPEN)
async def get_file(request: web.Request) -> web.Response:
    name = request.match_info["filename"]
    if not name:
        raise web.HTTPFound("../console")
    found = _files().get(name)
    if found is None or name == _INDEX:
        raise web.HTTPNotFound
    return _answer(request, found)


def _answer(request: web.Request, file: _File) -> web.Response:
    """The file, or 304 if the browser's copy is current (RFC 9110, section 13.1.2)."""
    known = request.if_none_match or ()
    if any(tag.value in (file.tag.value, "*") for tag in known):
        response = web.Response(status=304, headers=_HEADERS)
    else:
        response = web.Response(
            body=file.body, content_type=file.media_type, charset="utf-8", headers=_HEADERS
        )
        response.enable_compression()
    response.etag = file.tag
    return response
