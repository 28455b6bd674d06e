"""The embedded AWS with all that the service needs, for `dev`, `demo` and the tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrator.adapters.dynamodb.items import table_schema
from orchestrator.embedded import SAMPLE_TIERS, EmbeddedAWS, open_embedded_aws
from orchestrator.settings import Settings

QUEUE = "orchestrator-events"


@asynccontextmanager
async def open_prepared_aws(settings: Settings) -> AsyncIterator[EmbeddedAWS]:
    """An embedded AWS with the settings' tables and bus, a queue, sample tiers and their
    projects."""
    async with open_embedded_aws() as aws:
        await aws.prepare(
            tier_table=settings.tiers.table,
            tiers=SAMPLE_TIERS,
            tables=[table_schema(settings.ledger.table)],
            bus=settings.events.bus,
            queue=QUEUE,
            projects=[
                str(name)
                for tier in SAMPLE_TIERS
                for attribute, name in tier.items()
                if attribute == "jobName" or attribute.lower().endswith("jobidentifier")
            ],
        )
        yield aws
