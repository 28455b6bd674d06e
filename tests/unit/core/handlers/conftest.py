"""What the tests of handlers share."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings, open_orchestrator
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.settings import Builders, Operations, Tiers
from orchestrator.testing import InMemoryBuilder, ManualClock, SequentialIds
from tests.unit.core.handlers.order_desk import Act, BusyBuilder, Desk, NoJobBuilder


@pytest.fixture
async def desk(clock: ManualClock) -> AsyncIterator[Desk]:
    ledger, registry = InMemoryLedger(), HandlerRegistry()
    builder, busy = InMemoryBuilder(), BusyBuilder()
    acts: list[Act] = []
    runs: list[Run] = []

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        runs.append(run)
        await acts.pop()(run)

    settings = Settings(
        operations=Operations(reconcile_every_s=0),
        tiers=Tiers(backend="static", static={"BASIC": {"VPC_ID": "vpc-1"}}),
        builders=Builders(default="IN_MEMORY"),
    )
    extension = Extension(
        registry=registry,
        builders={
            "IN_MEMORY": builder,
            "OTHER": InMemoryBuilder("OTHER"),
            "NONE": NoJobBuilder(),
            "BUSY": busy,
        },
    )
    async with open_orchestrator(
        settings, extension=extension, clock=clock, ids=SequentialIds(), ledger=ledger
    ) as orchestrator:
        yield Desk(orchestrator, ledger, builder, busy, clock, acts, runs)
