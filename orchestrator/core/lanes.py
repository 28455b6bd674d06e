"""Lanes of a sweep: each kind of work has room of its own, so that none waits behind another's.

A lane lasts as long as the process, whatever number of sweeps go through it. A wave is what is
dealt with together in it: one run, one report, or the jobs of one builder.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import attrs

from orchestrator.core.errors import TemporaryError

#: How long (seconds) a wave may last that holds no lease.
_LONGEST_WAVE_S = 120.0

#: Deals with due items, by their ids; what comes back is why ledger or builder can't be reached.
Work = Callable[[Sequence[str]], Awaitable[TemporaryError | None]]


@attrs.define(eq=False)
class Lane:
    """At most `at_once` waves of at most `size` items; one that takes longer than `limit_s`
    (seconds) is cut off."""

    name: str
    work: Work
    at_once: int
    size: int = 1
    limit_s: float | None = _LONGEST_WAVE_S
    room: asyncio.Semaphore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.room = asyncio.Semaphore(self.at_once)
