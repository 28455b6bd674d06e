"""What the tests of what is DynamoDB's own share."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from orchestrator.adapters.aws import AWS
from orchestrator.embedded import open_embedded_aws
from orchestrator.testing import ManualClock
from tests.contracts.dynamodb.table import Table
from tests.dynamodb_local.ledgers import build_ledger, open_client
from tests.dynamodb_local.proxy import Proxy, open_proxy
from tests.transport import on_transport, read_transport

_WAYS = on_transport("moto", "DynamoDB Local")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=_WAYS)
async def way(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Proxy, AWS]]:
    """A way to a DynamoDB, and a client of each transport on it."""
    async with AsyncExitStack() as stack:
        engine, transport = read_transport(request.param)
        if engine == "moto":
            url = (await stack.enter_async_context(open_embedded_aws())).endpoint_url
        else:
            url = request.getfixturevalue("dynamodb_local")
        proxy = await stack.enter_async_context(open_proxy(url))
        yield proxy, await stack.enter_async_context(open_client(proxy.url, transport))


@pytest_asyncio.fixture(loop_scope="module")
async def table(way: tuple[Proxy, AWS], clock: ManualClock) -> Table:
    proxy, aws = way
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    ledger, name = build_ledger(aws, clock, pause=pause)
    proxy.forget()
    assert await ledger.create()
    proxy.calls.clear()
    return Table(ledger, name, proxy, aws, pauses)
