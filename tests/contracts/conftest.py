"""Every ledger there is, each empty: what the suite of the port runs against."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.adapters.aws import Transport
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.clock import Clock
from orchestrator.core.ledger.ledger import Ledger
from orchestrator.core.ledger.pages import Page
from orchestrator.core.ledger.records import Record, RunRecord, TenantRecord
from orchestrator.embedded import Fault, open_embedded_aws
from orchestrator.testing import ManualClock
from tests.dynamodb_local.ledgers import build_ledger, open_client
from tests.dynamodb_local.proxy import UNPROCESSED, conflict, open_proxy
from tests.request_shapes import recorder as recorder
from tests.request_shapes import requests as requests
from tests.transport import on_transport, read_transport

_SEED = 20_261_120


class SlowLedger(InMemoryLedger):
    """Lets other tasks run before and after it acts, as a network does."""

    def __init__(self) -> None:
        super().__init__()
        self._random = Random(_SEED)  # noqa: S311

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        await self._wait()
        await super().commit(records, unchanged=unchanged)
        await self._wait()

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        await self._wait()
        found = await super().load(keys)
        await self._wait()
        return found

    async def find_due(self, **asked: Any) -> Page[str]:
        await self._wait()
        return await super().find_due(**asked)

    async def list_runs(self, **filters: Any) -> Page[RunRecord]:
        await self._wait()
        return await super().list_runs(**filters)

    async def list_tenants(self, **filters: Any) -> Page[TenantRecord]:
        await self._wait()
        return await super().list_tenants(**filters)

    async def _wait(self) -> None:
        for _ in range(self._random.randrange(5)):
            await asyncio.sleep(0)


MakeLedger = Callable[[Clock], Awaitable[Ledger]]


@asynccontextmanager
async def _in_memory(kind: type[InMemoryLedger]) -> AsyncIterator[MakeLedger]:
    async def make(_clock: Clock) -> Ledger:
        return kind()

    yield make


@asynccontextmanager
async def _on_dynamodb(url: str, transport: Transport) -> AsyncIterator[MakeLedger]:
    async with open_client(url, transport) as aws:

        async def make(clock: Clock) -> Ledger:
            ledger, _ = build_ledger(aws, clock)
            assert await ledger.create()
            return ledger

        yield make


@asynccontextmanager
async def _with_faults(url: str, transport: Transport) -> AsyncIterator[MakeLedger]:
    """A network and a DynamoDB that are as bad as they may be without being down."""
    async with open_proxy(url) as proxy, _on_dynamodb(proxy.url, transport) as make_ledger:

        async def make(clock: Clock) -> Ledger:
            proxy.forget()
            ledger = await make_ledger(clock)
            bad = (conflict(), conflict(), Fault.answer_lost())
            proxy.inject_at_random("TransactWriteItems", 0.2, *bad, seed=_SEED)
            proxy.inject_at_random("BatchGetItem", 0.2, UNPROCESSED, seed=_SEED)
            return ledger

        yield make


_ON_DYNAMODB = on_transport("moto", "DynamoDB Local", "DynamoDB Local with faults")
_LEDGERS = ["memory", "slow memory", *_ON_DYNAMODB]


# Clients and servers are opened once for a module, which therefore runs in one event loop.
@pytest_asyncio.fixture(scope="module", loop_scope="module", params=_LEDGERS)
async def make_ledger(request: pytest.FixtureRequest) -> AsyncIterator[MakeLedger]:
    """Makes an empty ledger of each kind."""
    async with AsyncExitStack() as stack:
        kind, transport = read_transport(request.param)
        match kind:
            case "memory":
                made = _in_memory(InMemoryLedger)
            case "slow memory":
                made = _in_memory(SlowLedger)
            case "moto":
                aws = await stack.enter_async_context(open_embedded_aws())
                made = _on_dynamodb(aws.endpoint_url, transport)
            case "DynamoDB Local":
                made = _on_dynamodb(request.getfixturevalue("dynamodb_local"), transport)
            case _:
                made = _with_faults(request.getfixturevalue("dynamodb_local"), transport)
        yield await stack.enter_async_context(made)


@pytest_asyncio.fixture(loop_scope="module")
async def ledger(make_ledger: MakeLedger, clock: ManualClock) -> Ledger:
    """An empty ledger of each kind."""
    return await make_ledger(clock)
