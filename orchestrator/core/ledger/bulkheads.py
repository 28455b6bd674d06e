"""Bulkheads: a limit on concurrent ledger requests for each duty, so that none delays another.

Lease renewals and incoming events have reserved requests, however much is due: with a slow ledger a
sweep delays only itself. (Azure Architecture Center, Cloud design patterns, Bulkhead.)
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum, auto
from types import MappingProxyType


class Duty(Enum):
    """The purpose of a request. Tasks inherit it from the task that created them."""

    RENEWAL = auto()
    INTAKE = auto()
    SWEEP = auto()


#: The limits of concurrent requests: together fewer than a client's connections.
REQUESTS_AT_ONCE: Mapping[Duty, int] = MappingProxyType(
    {Duty.RENEWAL: 8, Duty.INTAKE: 26, Duty.SWEEP: 16}
)

_duty: ContextVar[Duty] = ContextVar("duty", default=Duty.INTAKE)


@contextmanager
def on_duty(duty: Duty) -> Iterator[None]:
    """Requests in this context are for this duty."""
    token = _duty.set(duty)
    try:
        yield
    finally:
        _duty.reset(token)


class Bulkheads:
    """The limits of one process, by duty."""

    def __init__(self, at_once: Mapping[Duty, int] = REQUESTS_AT_ONCE) -> None:
        self._rooms = {duty: asyncio.Semaphore(limit) for duty, limit in at_once.items()}

    def room(self) -> asyncio.Semaphore:
        """Entered (`async with`) for each request."""
        return self._rooms[_duty.get()]
