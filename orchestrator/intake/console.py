"""Routes of the operator's console: static files without data, served without credentials.

The page gets all data through the public API, with the credentials of its user. It refers to its
files relative to its own address, so it works under any prefix, mounted, and on Lambda.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from aiohttp import ETag, hdrs, web

from orchestrator.intake.access import OPEN, declare_access
from orchestrator.intake.assets import answer_asset
from orchestrator.intake.documentation import HTML_PAGE, documented

routes = web.RouteTableDef()

_FOLDER = Path(__file__).parents[1] / "console"
_INDEX = "index.html"

#: Scripts and styles are files of the service, data comes from the service, and no text becomes
#: markup (W3C, "Content Security Policy Level 3" and "Trusted Types").
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)


@cache
def _files() -> Mapping[str, Path]:
    """The console's files by name."""
    return {path.name: path for path in _FOLDER.iterdir()}


@routes.get("/console", name="console")
@documented(
    "Open the operator's console",
    description=(
        "A page that shows tenants, operations and runs, replays and cancels. It holds no data: it "
        "asks this API, with the key that is typed into it."
    ),
    tag="about",
    access=OPEN,
    answers={200: HTML_PAGE},
)
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


def _answer(request: web.Request, path: Path) -> web.Response:
    """The file, compressed: a third of it is sent. Its tag is weak, since the bytes differ by what
    the browser accepts (RFC 9110, section 8.8.3.3)."""
    answer = answer_asset(request, path)
    if answer.etag is not None:
        answer.etag = ETag(answer.etag.value, is_weak=True)
    # aiohttp would send the end of the compressed stream after the head (`write_eof`).
    if answer.status == 200 and request.method != hdrs.METH_HEAD:
        answer.enable_compression()
    answer.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    answer.headers["Vary"] = "Accept-Encoding"
    return answer
