"""A bound on concurrent requests to the ledger for each duty, so that none waits behind another.

Lease renewals and incoming events have requests reserved for them, however much is due: a sweep
over a slow ledger queues behind itself alone. (The pattern is called Bulkhead: Azure
Architecture Center, Cloud design patterns.)
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum, auto
from types import MappingProxyType


class Duty(Enum):
    """What a request is for. Tasks inherit that of the task that created them."""

    RENEWAL = auto()
    INTAKE = auto()
    SWEEP = auto()


#: How many requests there may be at once: together fewer than a client has connections.
REQUESTS_AT_ONCE: Mapping[Duty, int] = MappingProxyType(
    {Duty.RENEWAL: 8, Duty.INTAKE: 26, Duty.SWEEP: 16}
)

_duty: ContextVar[Duty] = ContextVar("duty", default=Duty.INTAKE)


@contextmanager
def on_duty(duty: Duty) -> Iterator[None]:
    """What is requested in this context is for that."""
    token = _duty.set(duty)
    try:
        yield
    finally:
        _duty.reset(token)


class Bulkheads:
    """The bounds of one process, by the duty that a request is for."""

    def __init__(self, at_once: Mapping[Duty, int] = REQUESTS_AT_ONCE) -> None:
        self._rooms = {duty: asyncio.Semaphore(limit) for duty, limit in at_once.items()}

    def room(self) -> asyncio.Semaphore:
        """To be entered (`async with`) for one request."""
        return self._rooms[_duty.get()]
