"""What the stories share: the service over each ledger."""

from collections.abc import AsyncIterator

import pytest

from orchestrator import Settings
from tests.acceptance.stories import open_ledger_table, over_dynamodb, with_full_tier
from tests.conftest import Client, StartService


@pytest.fixture(params=["memory", "dynamodb"])
async def either(
    request: pytest.FixtureRequest,
    start_service: StartService,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Client]:
    """The service with a job for everything, over each ledger."""
    if request.param == "memory":
        yield await start_service(with_full_tier(settings))
        return
    async with open_ledger_table(monkeypatch):
        yield await start_service(over_dynamodb(with_full_tier(settings)))
