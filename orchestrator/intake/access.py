"""What a route asks of its sender: declared where the route is, read by `auth` and `openapi`."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TypeVar

import attrs
from aiohttp import web

Route = TypeVar("Route", bound=Callable[[web.Request], Awaitable[web.StreamResponse]])

_DECLARED = "__access__"


class Scope(StrEnum):
    """What a sender may do."""

    EVENTS_WRITE = "events:write"
    RUNS_READ = "runs:read"
    RUNS_WRITE = "runs:write"


@attrs.frozen
class Access:
    """What a route asks for: a known sender, who has the scope if it names one; nothing, if it is
    open."""

    scope: Scope | None = None
    is_open: bool = False


#: For what a load balancer or a person may ask without credentials.
OPEN = Access(is_open=True)
ANY_SENDER = Access()


def declare_access(access: Access) -> Callable[[Route], Route]:
    """Decorate a route's handler with what it asks for."""

    def declare(handler: Route) -> Route:
        setattr(handler, _DECLARED, access)
        return handler

    return declare


def declared_access(route: web.AbstractRoute) -> Access | None:
    """What the route's handler is declared to ask for; None: nothing is declared."""
    declared: Access | None = getattr(route.handler, _DECLARED, None)
    return declared


async def access_of(request: web.Request) -> Access:
    """What the request's route asks for.

    Where nothing is declared, or nothing is found (404), that is a known sender. A method that a
    path doesn't have (405) asks for nothing where all routes of the path are open.
    """
    match = request.match_info
    if match.http_exception is None:
        return declared_access(match.route) or ANY_SENDER
    others = [declared_access(route) for route in await _routes_at(request)]
    return OPEN if others and all(access == OPEN for access in others) else ANY_SENDER


async def _routes_at(request: web.Request) -> list[web.AbstractRoute]:
    """The routes at the request's path, whatever their methods."""
    found: list[web.AbstractRoute] = []
    for resource in request.app.router.resources():
        _, methods = await resource.resolve(request)
        found += resource if methods else ()
    return found
