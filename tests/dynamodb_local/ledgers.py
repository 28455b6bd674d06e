"""A ledger over a DynamoDB at any address on 127.0.0.1, with a table of its own."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from orchestrator.adapters.aws import AWS, Transport
from orchestrator.adapters.dynamodb.ledger import DynamoDBLedger
from orchestrator.core.clock import Clock
from tests.aws import open_service_aws

RETENTION_DAYS = 90.0


@asynccontextmanager
async def open_client(url: str, transport: Transport = "sdk") -> AsyncIterator[AWS]:
    """AWS as the service opens it, with the DynamoDB at the URL."""
    async with open_service_aws(url, transport) as aws:
        await aws.dynamodb()
        yield aws


def build_ledger(
    aws: AWS, clock: Clock, *, pause: Callable[[float], Awaitable[None]] | None = None
) -> tuple[DynamoDBLedger, str]:
    """A ledger and the name of its table, which must still be created.

    Without a `pause` of its own it doesn't pause.
    """
    table = f"ledger-{uuid.uuid4()}"
    ledger = DynamoDBLedger(
        aws.dynamodb, clock, table=table, retention_days=RETENTION_DAYS, pause=pause or _go_on
    )
    return ledger, table


async def _go_on(_seconds: float) -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def open_dynamodb_ledger(url: str, clock: Clock) -> AsyncIterator[DynamoDBLedger]:
    """A ledger with an empty table."""
    async with open_client(url) as aws:
        ledger, _ = build_ledger(aws, clock)
        assert await ledger.create()
        yield ledger
