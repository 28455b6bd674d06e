"""Reads the header Authorization (RFC 9110, section 11.6.2)."""

from aiohttp import web


def read_authorization(request: web.Request, scheme: str) -> str | None:
    """The credentials sent by an authentication scheme, such as `bearer`; None without them."""
    sent, _, credentials = request.headers.get("Authorization", "").strip().partition(" ")
    return credentials.strip() or None if sent.lower() == scheme else None
