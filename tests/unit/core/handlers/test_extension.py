"""What an extension may consist of, and what is refused before the service starts."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from orchestrator import Extension, Job, RegistrationError


class Van:
    """The plainest builder."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        return None


class Sync:
    def start_job(self, job_identifier: str, params: Any, *, start_key: str) -> None:
        """Not a coroutine function."""


class Keyless:
    async def start_job(self, job_identifier: str, params: Any) -> None:
        """Without the key that makes a start unique."""


class Catalog:
    async def find_tier(self, tier: str) -> Mapping[str, Any] | None:
        return {"name": tier}


class SyncCatalog:
    def find_tier(self, tier: str) -> None:
        """Not a coroutine function."""


class Own:
    async def handle_event(self, event_type: str, body: Any) -> None:
        """Handles nothing."""


async def one_tier(tier: str) -> Mapping[str, Any]:
    return {"name": tier}


async def tier_of(region: str, tier: str) -> Mapping[str, Any]:
    return {"name": tier, "region": region}


def sync_tier(tier: str) -> Mapping[str, Any]:
    return {"name": tier}


@asynccontextmanager
async def database() -> AsyncIterator[str]:
    yield "database"


async def undecorated() -> AsyncIterator[str]:
    yield "database"


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"builders": {"VAN": Van()}},
        {"tiers": one_tier},
        {"tiers": partial(tier_of, "eu")},
        {"tiers": Catalog()},
        {"orchestrator": Own()},
        {"orchestrator": lambda default: default},
        {"orchestrator": Own},
        {"lifespan": database},
        {"lifespan": partial(database)},
    ],
)
def test_each_documented_form_is_taken(parts: Mapping[str, Any]) -> None:
    """Objects, functions, and functions with bound arguments."""
    Extension(**parts)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"builders": {"VAN": object()}}, "The builder VAN is object: it needs"),
        ({"builders": {"VAN": Sync()}}, "The builder VAN is Sync: it needs"),
        ({"builders": {"VAN": Keyless()}}, "The builder VAN is Keyless: it needs"),
        ({"builders": {"VAN": Van}}, "The builder VAN is type: it needs"),
        ({"builders": {"": Van()}}, "The builder without a name is Van"),
        ({"tiers": 5}, "The extension's tiers are int: they must be"),
        ({"tiers": {"BASIC": {}}}, "The extension's tiers are dict: they must be"),
        ({"tiers": sync_tier}, "The extension's tiers are function: they must be"),
        ({"tiers": SyncCatalog()}, "The extension's tiers are SyncCatalog: they must be"),
        ({"orchestrator": 5}, "The extension's orchestrator is int: it must be"),
        ({"lifespan": 5}, "The extension's lifespan is int: it must be"),
        ({"lifespan": undecorated}, "decorate it with contextlib.asynccontextmanager"),
    ],
)
def test_a_part_that_can_not_be_called_is_refused(parts: Mapping[str, Any], said: str) -> None:
    """The sentence names the part, before a first event could raise a TypeError."""
    with pytest.raises(RegistrationError) as refused:
        Extension(**parts)
    assert said in str(refused.value)
