"""What the tests of the sweep share: its work, noted; runs that are due; a ledger that is down."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs

from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.dispatch.sweep import Sweeper, SweepResult
from orchestrator.core.errors import TemporaryError
from orchestrator.core.ledger.pages import Page
from orchestrator.testing import LoadedDice
from tests.desk import ORDER, Desk, run_id


@attrs.define
class Hands:
    """Resumes runs: records which, and does with each what the test says."""

    desk: Desk
    acts: dict[str, Callable[[], Awaitable[object]]] = attrs.field(factory=dict)
    taken: list[str] = attrs.field(factory=list)
    done: list[str] = attrs.field(factory=list)
    attended: list[str] = attrs.field(factory=list)
    cleared: list[str] = attrs.field(factory=list)
    reported: list[str] = attrs.field(factory=list)
    trouble: TemporaryError | None = None
    sweeper: Sweeper = attrs.field(init=False)

    @sweeper.default
    def _build(self) -> Sweeper:
        return Sweeper(
            transactions=self.desk.transactions,
            dice=LoadedDice(),
            resume=self.resume,
            look=self.look,
            report=self.report,
            clear=self.clear,
        )

    async def clear(self, start_key: str) -> None:
        self.cleared.append(start_key)

    async def resume(self, run: str) -> None:
        self.taken.append(run)
        if run in self.acts:
            await self.acts[run]()
        self.done.append(run)

    async def look(self, operation_ids: Sequence[str]) -> TemporaryError | None:
        self.attended.extend(operation_ids)
        return self.trouble

    async def report(self, operation_id: str) -> None:
        self.reported.append(operation_id)

    async def sweep(self, timeout_s: float | None = None) -> SweepResult:
        return await self.sweeper.sweep(timeout_s=timeout_s)


async def waiting(desk: Desk, *event_ids: str, pause_s: float = 5) -> list[str]:
    """Runs in `retry`; their ids."""
    for event_id in event_ids:
        await desk.hand_back(await desk.claimed(ORDER, event_id), pause_s=pause_s)
    return [run_id(ORDER, event_id) for event_id in event_ids]


class DownLedger(InMemoryLedger):
    """Fails each query for due items, or each one `after` so many."""

    def __init__(self, after: int = 0) -> None:
        super().__init__()
        self.asked = 0
        self.after = after

    async def find_due(self, **asked: Any) -> Page[str]:
        await asyncio.sleep(0)
        self.asked += 1
        if self.asked > self.after:
            raise TemporaryError("no ledger")
        return await super().find_due(**asked)
