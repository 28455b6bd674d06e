"""Shared fixtures: worlds of processes, an AWS for a service, clients that are closed."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from orchestrator.cli.prepared_aws import open_prepared_aws
from orchestrator.embedded import EmbeddedAWS
from orchestrator.settings import load_settings
from tests.integration.processes import World, open_world
from tests.request_shapes import recorder as recorder
from tests.request_shapes import requests as requests


@pytest.fixture
async def aws(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EmbeddedAWS]:
    """An embedded AWS with all that local.toml names, which AWS's variables lead to."""
    async with open_prepared_aws(load_settings("local.toml")) as aws:
        for variable, value in aws.environment().items():
            monkeypatch.setenv(variable, value)
        yield aws


@pytest.fixture
async def clients() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as clients:
        yield clients


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened
