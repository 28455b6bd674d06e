"""Access rules of the routes: declared at each route, read by `auth` and `openapi`."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
from aiohttp import web

from orchestrator.settings.auth import Scope

Route = TypeVar("Route", bound=Callable[[web.Request], Awaitable[web.StreamResponse]])

_DECLARED = "__access__"


@attrs.frozen
class Access:
    """What a route requires: an authenticated sender, with the scope if one is given; nothing if
    it is open."""

    scope: Scope | None = None
    is_open: bool = False


#: For routes that need no credentials, such as health checks.
OPEN = Access(is_open=True)
ANY_SENDER = Access()


def declare_access(access: Access) -> Callable[[Route], Route]:
    """Decorate a route's handler with the access that it requires."""

    def declare(handler: Route) -> Route:
        setattr(handler, _DECLARED, access)
        return handler

    return declare


def declared_access(route: web.AbstractRoute) -> Access | None:
    """The access declared by the route's handler; None if it declares none."""
    declared: Access | None = getattr(route.handler, _DECLARED, None)
    return declared


async def access_of(request: web.Request) -> Access:
    """The access that the request's route requires.

    A route without a declaration and an unknown path (404) require an authenticated sender. A
    method that the path doesn't support (405) requires nothing if all routes of the path are open.
    """
    match = request.match_info
    if match.http_exception is None:
        return declared_access(match.route) or ANY_SENDER
    others = [declared_access(route) for route in await _routes_at(request)]
    return OPEN if others and all(access == OPEN for access in others) else ANY_SENDER


async def _routes_at(request: web.Request) -> list[web.AbstractRoute]:
    """The routes at the request's path, of all methods."""
    found: list[web.AbstractRoute] = []
    for resource in request.app.router.resources():
        _, methods = await resource.resolve(request)
        found += resource if methods else ()
    return found
