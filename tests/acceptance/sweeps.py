"""What the tests of sweeps share: an event, its handler, and waiting for the effects of sweeps."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from orchestrator import Event, Extension, HandlerRegistry, Run
from orchestrator.testing import envelope

EVENT = envelope("MY_EVENT", {"a": 1})
LEASE_S = 60
SKEW_S = 2


def my_event(handle: Callable[[Event[dict[str, Any]], Run], Awaitable[None]]) -> Extension:
    """An extension with this only handler, of MY_EVENT."""
    registry = HandlerRegistry()
    registry.register("MY_EVENT", handle)
    return Extension(registry=registry)


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Query until it holds; each query lets the service work."""
    async with asyncio.timeout(10):
        while not await is_so():
            pass
