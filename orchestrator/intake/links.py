"""Addresses of our own routes, as the sender can reach them."""

import re

from aiohttp import web

#: Set by whatever strips a prefix before us: a reverse proxy, or the Lambda handler for a stage.
PREFIX_HEADER = "X-Forwarded-Prefix"

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def link(request: web.Request, route: str, **parts: str) -> str:
    """The path of a named route, with the prefixes that stand before it."""
    return forwarded_prefix(request) + str(request.app.router[route].url_for(**parts))


def forwarded_prefix(request: web.Request) -> str:
    """The prefix that was stripped before us; empty without one, or if it is no plain path."""
    prefix = request.headers.get(PREFIX_HEADER, "")
    return prefix if _PREFIX.fullmatch(prefix) else ""
