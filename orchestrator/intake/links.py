"""Builds URLs of the service's routes as the sender can reach them, with path prefixes."""

from collections.abc import Iterable

from aiohttp import web

from orchestrator.core.urls import encoded_path, path_segment
from orchestrator.settings import PLAIN_PATH

#: Set by the reverse proxy that strips a prefix, or by the Lambda handler for a stage.
PREFIX_HEADER = "X-Forwarded-Prefix"
#: The setting `http.base_path`, if the app serves below it.
BASE_PATH: web.AppKey[str] = web.AppKey("base_path", str)
#: The setting `http.event_paths`.
EVENT_PATHS: web.AppKey[tuple[str, ...]] = web.AppKey("event_paths", tuple)


def below(base_path: str, routes: Iterable[web.AbstractRouteDef]) -> list[web.AbstractRouteDef]:
    """The same routes below `base_path`, without names: `link` uses the names of the others."""
    found: list[web.AbstractRouteDef] = []
    for route in routes:
        match route:
            case web.RouteDef(method=method, path="/", handler=handler):
                found += [web.route(method, base_path + end, handler) for end in ("", "/")]
            case web.RouteDef(method=method, path=path, handler=handler):
                found.append(web.route(method, base_path + path, handler))
    return found


def link(request: web.Request, route: str, **parts: str) -> str:
    """The path of a named route, including path prefixes; each part may be any text."""
    template = request.app.router[route].canonical
    return server_path(request) + template.format_map(
        {name: path_segment(part) for name, part in parts.items()}
    )


def server_path(request: web.Request) -> str:
    """The prefix of the service's paths; empty at the root."""
    base_path = _base_path(request)
    if _own_path(request) != _path(request):
        return _forwarded_prefix(request) + base_path
    return _forwarded_prefix(request) or base_path


def address(request: web.Request) -> str:
    """The path that the sender requested, as a URI reference (RFC 9457, section 3.1.5)."""
    return server_path(request) + encoded_path(_own_path(request))


def _own_path(request: web.Request) -> str:
    """The requested path without `http.base_path`."""
    base_path, path = _base_path(request), _path(request)
    is_below = path == base_path or path.startswith(f"{base_path}/")
    return (path.removeprefix(base_path) or "/") if is_below else path


def _path(request: web.Request) -> str:
    """The decoded path, in which only `%2F` and `%25` stay encoded."""
    return request.rel_url.path_safe


def _base_path(request: web.Request) -> str:
    return request.app.get(BASE_PATH, "")


def _forwarded_prefix(request: web.Request) -> str:
    """The prefix that a proxy stripped; empty if there is none or it is not a plain path."""
    prefix = request.headers.get(PREFIX_HEADER, "")
    return prefix if PLAIN_PATH.fullmatch(prefix) else ""
