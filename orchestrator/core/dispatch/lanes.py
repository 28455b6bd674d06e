"""Lanes of a sweep: a bound on concurrency for each kind of work, so that none delays another.

A lane lives as long as the process and is shared by all its sweeps. A wave is what is handled
together in a lane: one run, one report, or the jobs of one builder.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import attrs

from orchestrator.core.errors import TemporaryError

#: How long (seconds) a wave may last that holds no lease.
_LONGEST_WAVE_S = 120.0
#: The first wave of a sweep that has a deadline: the duration of one is not known yet.
_FIRST_WAVE = 5

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


@attrs.define
class Pace:
    """How large a wave of one lane may be, by how long the last one of the sweep took."""

    items: int = 0
    took_s: float = 0.0

    def note(self, items: int, took_s: float) -> None:
        self.items, self.took_s = items, took_s

    def size(self, largest: int, left_s: float | None) -> int:
        """So many items can be finished in the time that is left (None: there is no deadline).

        It is assumed that a smaller wave takes no less time, and that a larger one takes
        proportionally more.
        """
        if left_s is None:
            return largest
        if left_s <= 0 or self.took_s > left_s:
            return 0
        if not self.items:
            return min(_FIRST_WAVE, largest)
        fitting = int(self.items * left_s / self.took_s) if self.took_s else largest
        return min(largest, 2 * self.items, fitting)
