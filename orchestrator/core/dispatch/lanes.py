"""Lanes of a sweep: a limit on concurrency for each kind of work, so that none delays another.

A lane exists for the life of the process and is shared by its sweeps. A wave is the items that a
lane handles together: one run, one report, or jobs of one builder.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import attrs

from orchestrator.core.errors import TemporaryError

#: How long (seconds) a wave without a lease may last.
_LONGEST_WAVE_S = 120.0
#: The size of the first wave in a sweep with a deadline, when the duration of a wave is unknown.
_FIRST_WAVE = 5

#: Handles due items, by id; returns the error if ledger or builder can't be reached.
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
        """How many items can be finished in the remaining time (None: no deadline).

        It assumes that a smaller wave takes no less time, and a larger one proportionally more.
        """
        if left_s is None:
            return largest
        if left_s <= 0 or self.took_s > left_s:
            return 0
        if not self.items:
            return min(_FIRST_WAVE, largest)
        fitting = int(self.items * left_s / self.took_s) if self.took_s else largest
        return min(largest, 2 * self.items, fitting)
