"""What the tests of the orchestrator share."""

from collections.abc import AsyncIterator

import pytest

from orchestrator import HandlerRegistry
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.testing import InMemoryBuilder, ManualClock
from tests.unit.core.dispatch.counter import Counter, Order


@pytest.fixture
async def counter(clock: ManualClock) -> AsyncIterator[Counter]:
    counter = Counter(HandlerRegistry(), InMemoryLedger(), InMemoryBuilder("CODE_BUILD"), clock)
    counter.registry.register("ORDER", counter.handle, payload=Order)
    async with counter.open() as orchestrator:
        counter.orchestrator = orchestrator
        yield counter
