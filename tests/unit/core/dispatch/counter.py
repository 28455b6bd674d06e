"""A handler that counts its calls, and the orchestrator that it handles orders for."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs

from orchestrator import (
    Event,
    Extension,
    Handled,
    HandlerRegistry,
    Orchestrator,
    Run,
    Settings,
    open_orchestrator,
)
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.ledger.records import RunRecord
from orchestrator.settings import Builders, Events, Operations, Runs, Tiers
from orchestrator.testing import InMemoryBuilder, ManualClock, SequentialIds, envelope
from tests.ledgers import find_run

WINDOW_S = 3600.0
Act = Callable[[Event[Any], Run], Awaitable[None]]


@attrs.frozen
class Order:
    item_count: int


@attrs.define
class Counter:
    """A handler that counts its calls and does with each what the test says."""

    registry: HandlerRegistry
    ledger: InMemoryLedger
    builder: InMemoryBuilder
    clock: ManualClock
    calls: list[tuple[Event[Any], Run]] = attrs.field(factory=list)
    act: Act | None = None
    orchestrator: Orchestrator = attrs.field(init=False)

    async def handle(self, event: Event[Any], run: Run) -> None:
        self.calls.append((event, run))
        if self.act is not None:
            await self.act(event, run)

    def fail_with(self, *errors: Exception | None) -> None:
        """Raise these, one for each call; None is a success, and so is all that follows."""
        left = list(errors)

        async def act(event: Event[Any], run: Run) -> None:
            error = left.pop(0) if left else None
            if error is not None:
                raise error

        self.act = act

    async def deliver(self, body: object = None, **options: Any) -> Handled:
        event = envelope("ORDER", {"itemCount": 1}) if body is None else body
        return await self.orchestrator.handle_event("ORDER", event, **options)

    async def run_of(self, handled: Handled | Exception) -> RunRecord:
        run_id = getattr(handled, "run_id", None)
        assert isinstance(run_id, str)
        record = await find_run(self.ledger, run_id)
        assert record is not None
        return record

    def open(self) -> AbstractAsyncContextManager[Any]:
        return open_orchestrator(
            Settings(
                operations=Operations(reconcile_every_s=0),
                runs=Runs(max_attempts=3),
                events=Events(aliases={"Tenant Ordered": "ORDER"}, dedupe_window_s=WINDOW_S),
                tiers=Tiers(
                    backend="static", static={"STANDARD": {"jobIdentifier": "standard-tenant"}}
                ),
                builders=Builders(default="CODE_BUILD"),
            ),
            extension=Extension(registry=self.registry, builders={"CODE_BUILD": self.builder}),
            clock=self.clock,
            ids=SequentialIds(),
            ledger=self.ledger,
        )
