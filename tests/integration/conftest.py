"""What the tests share: an AWS for a service in a process, and clients that are closed."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from orchestrator.cli.dev import open_prepared_aws
from orchestrator.embedded import EmbeddedAWS
from orchestrator.settings import load_settings


@pytest.fixture
async def aws(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EmbeddedAWS]:
    """An embedded AWS with all that local.toml names, to which AWS's variables lead."""
    async with open_prepared_aws(load_settings("local.toml")) as aws:
        for variable, value in aws.environment().items():
            monkeypatch.setenv(variable, value)
        yield aws


@pytest.fixture
async def clients() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as clients:
        yield clients
