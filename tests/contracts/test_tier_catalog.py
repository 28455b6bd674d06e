"""What every tier catalog does: one suite for the port, run against each implementation."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from orchestrator.adapters.aws import Transport
from orchestrator.adapters.dynamodb.tier_catalog import DynamoDBTierCatalog
from orchestrator.adapters.tier_catalog import StaticTierCatalog
from orchestrator.core.jobs.tier_catalog import TierCatalog
from orchestrator.embedded import EmbeddedAWS, open_embedded_aws
from tests.aws import open_service_aws

TABLE = "tier-details"
TIERS: dict[str, dict[str, Any]] = {
    "BASIC": {"jobName": "basic-tenant", "EMPTY": "", "LETTERS": "é ü"},
    "STANDARD": {
        "jobIdentifier": "standard-tenant",
        "ACCESS_TOKEN_EXPIRATION": 3600,
        "RATIO": 0.25,
        "NEGATIVE": -7,
        "LARGE": 2**53,
        "ENABLED": True,
        "NOTHING": None,
        "ZONES": ["a", "b", 3],
        "NETWORK": {"cidr": "10.0.0.0/16", "ports": [443, 8.5], "inner": {"deep": [{"n": 1}]}},
    },
    "BARE": {},
}


def as_item(value: Any) -> Any:
    """A value as the SDK wants to write it: without floats."""
    match value:
        case float():
            return Decimal(str(value))
        case dict():
            return {name: as_item(item) for name, item in value.items()}
        case list():
            return [as_item(item) for item in value]
    return value


@asynccontextmanager
async def open_static(tiers: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[TierCatalog]:
    yield StaticTierCatalog(tiers)


@asynccontextmanager
async def open_dynamodb(
    tiers: Mapping[str, Mapping[str, Any]], transport: Transport = "sdk"
) -> AsyncIterator[TierCatalog]:
    async with open_embedded_aws() as aws:
        items = [{"tier": tier, **as_item(attributes)} for tier, attributes in tiers.items()]
        await aws.prepare(tier_table=TABLE, tiers=items, bus=None, projects=())
        async with dynamodb_catalog(aws, transport) as catalog:
            yield catalog


@asynccontextmanager
async def dynamodb_catalog(aws: EmbeddedAWS, transport: Transport) -> AsyncIterator[TierCatalog]:
    async with open_service_aws(aws.endpoint_url, transport) as opened:
        yield DynamoDBTierCatalog(opened.dynamodb, table=TABLE)


OpenCatalog = Callable[[Mapping[str, Mapping[str, Any]]], AbstractAsyncContextManager[TierCatalog]]


@pytest.fixture(
    params=[open_static, open_dynamodb, partial(open_dynamodb, transport="lean")],
    ids=["StaticTierCatalog", "DynamoDBTierCatalog", "DynamoDBTierCatalog, lean"],
)
async def catalog(request: pytest.FixtureRequest) -> AsyncIterator[TierCatalog]:
    open_catalog: OpenCatalog = request.param
    async with open_catalog(TIERS) as catalog:
        yield catalog


async def test_a_tier_has_its_attributes_and_its_name(catalog: TierCatalog) -> None:
    """Strings, numbers, switches, nulls, lists and maps, as deep as they go."""
    for tier, attributes in TIERS.items():
        assert await catalog.find_tier(tier) == {"tier": tier, **attributes}


async def test_a_missing_tier_is_none(catalog: TierCatalog) -> None:
    """A name is compared exactly, capitals and spaces too."""
    for tier in ("GOLD", "basic", "BASIC ", "BAS"):
        assert await catalog.find_tier(tier) is None


async def test_numbers_are_plain(catalog: TierCatalog) -> None:
    """A whole number is an int, another one a float, at every depth, and a switch is neither."""
    tier = await catalog.find_tier("STANDARD")
    assert tier is not None
    kinds = [
        type(number)
        for number in (
            tier["ACCESS_TOKEN_EXPIRATION"],
            tier["RATIO"],
            tier["LARGE"],
            tier["ENABLED"],
            tier["ZONES"][2],
            *tier["NETWORK"]["ports"],
            tier["NETWORK"]["inner"]["deep"][0]["n"],
        )
    ]
    assert kinds == [int, float, int, bool, int, int, float, int]


@pytest.mark.parametrize("transport", ["sdk", "lean"])
async def test_only_dynamodb_has_sets_and_binaries(transport: Transport) -> None:
    """A set becomes a sorted list; a binary attribute has no text and is left out."""
    async with open_embedded_aws() as aws:
        item = {
            "tier": "ODD",
            "NAMES": {"b", "a", "c"},
            "PORTS": {Decimal(10), Decimal("9.5"), Decimal(2)},
            "RAW": b"\x00",
            "RAWS": {b"\x00"},
        }
        await aws.prepare(tier_table=TABLE, tiers=[item], bus=None, projects=())
        async with dynamodb_catalog(aws, transport) as catalog:
            tier = await catalog.find_tier("ODD")
    assert tier == {"tier": "ODD", "NAMES": ["a", "b", "c"], "PORTS": [2, 9.5, 10]}
