"""Warns when other machines can reach a service without authentication."""

from collections.abc import Awaitable, Callable
from functools import cache
from ipaddress import IPv6Address, ip_address

import structlog
from aiohttp import web

log = structlog.get_logger("orchestrator.exposure")


def warn_if_exposed() -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """A signal for `on_response_prepare`: one warning at the first response to a request that was
    received on another address than a loopback one.

    The app doesn't have the address that it is bound to; a connection has it.
    """
    has_warned = False

    async def warn(request: web.Request, _: web.StreamResponse) -> None:
        nonlocal has_warned
        transport = request.transport
        address = None if has_warned or transport is None else transport.get_extra_info("sockname")
        # A Unix socket's address is its path.
        if isinstance(address, tuple) and not _is_loopback(address[0]):
            has_warned = True
            log.warning(
                "the service is open: everyone who reaches this address can send events and read "
                "tenants. Set auth.methods, or auth.allow_open if a gateway in front authenticates",
                address=address[0],
            )

    return warn


@cache
def _is_loopback(host: str) -> bool:
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
