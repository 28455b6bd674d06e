"""Tier catalogs without AWS: from the settings, from a function, and the cache before any."""

import asyncio
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from orchestrator.adapters.tier_cache import CachedTierCatalog
from orchestrator.adapters.tier_catalog import FunctionTierCatalog, StaticTierCatalog
from orchestrator.core.errors import TemporaryError
from orchestrator.testing import ManualClock

KEEP_S = 60.0


@attrs.define
class Catalog:
    """A catalog that counts queries, answers while it is open, and fails with its `error`."""

    tiers: dict[str, Mapping[str, Any]] = attrs.field(factory=lambda: {"BASIC": {"size": 1}})
    asked: list[str] = attrs.field(factory=list)
    begun: asyncio.Event = attrs.field(factory=asyncio.Event)
    open: asyncio.Event = attrs.field(factory=asyncio.Event)
    error: Exception | None = None

    async def find_tier(self, tier: str) -> Mapping[str, Any] | None:
        self.asked.append(tier)
        self.begun.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return self.tiers.get(tier)


@pytest.fixture
def catalog() -> Catalog:
    """It answers at once until a test closes it."""
    catalog = Catalog()
    catalog.open.set()
    return catalog


@pytest.fixture
def cached(catalog: Catalog, clock: ManualClock) -> CachedTierCatalog:
    return CachedTierCatalog(catalog, clock, keep_s=KEEP_S)


async def test_a_found_tier_is_cached_until_it_expires(
    cached: CachedTierCatalog, catalog: Catalog, clock: ManualClock
) -> None:
    """One query serves for `keep_s` seconds, to the second, then the catalog is queried anew."""
    assert await cached.find_tier("BASIC") == {"size": 1}
    catalog.tiers["BASIC"] = {"size": 2}
    clock.turn(KEEP_S - 1)
    assert await cached.find_tier("BASIC") == {"size": 1}
    clock.turn(1)
    assert await cached.find_tier("BASIC") == {"size": 2}
    clock.turn(KEEP_S - 1)
    assert await cached.find_tier("BASIC") == {"size": 2}
    assert catalog.asked == ["BASIC", "BASIC"]


async def test_each_tier_is_kept_for_itself(cached: CachedTierCatalog, catalog: Catalog) -> None:
    """One tier's answer is not another's."""
    catalog.tiers["PREMIUM"] = {"size": 9}
    assert await cached.find_tier("BASIC") == {"size": 1}
    assert await cached.find_tier("PREMIUM") == {"size": 9}
    assert catalog.asked == ["BASIC", "PREMIUM"]


async def test_zero_seconds_keep_nothing(catalog: Catalog, clock: ManualClock) -> None:
    """With `tiers.cache_s = 0` every query reaches the catalog."""
    uncached = CachedTierCatalog(catalog, clock, keep_s=0)
    await uncached.find_tier("BASIC")
    await uncached.find_tier("BASIC")
    assert len(catalog.asked) == 2


async def test_a_missing_tier_is_not_cached(cached: CachedTierCatalog, catalog: Catalog) -> None:
    """A tier that is added works at once."""
    assert await cached.find_tier("GOLD") is None
    assert await cached.find_tier("GOLD") is None
    catalog.tiers["GOLD"] = {"size": 5}
    assert await cached.find_tier("GOLD") == {"size": 5}
    assert len(catalog.asked) == 3


async def test_many_askers_cost_one_question(cached: CachedTierCatalog, catalog: Catalog) -> None:
    """All callers that come while the query is under way get its answer."""
    catalog.open.clear()
    asking = [asyncio.create_task(cached.find_tier("BASIC")) for _ in range(20)]
    await catalog.begun.wait()
    catalog.open.set()
    assert await asyncio.gather(*asking) == [{"size": 1}] * 20
    assert catalog.asked == ["BASIC"]


async def test_different_tiers_do_not_wait_for_each_other(clock: ManualClock) -> None:
    """Two tiers are two queries, both under way at once."""
    both_asked = asyncio.Barrier(2)

    async def find(tier: str) -> Mapping[str, Any] | None:
        await both_asked.wait()
        return {"name": tier}

    cached = CachedTierCatalog(FunctionTierCatalog(find), clock, keep_s=KEEP_S)
    async with asyncio.timeout(5):
        found = await asyncio.gather(cached.find_tier("BASIC"), cached.find_tier("GOLD"))
    assert list(found) == [{"name": "BASIC"}, {"name": "GOLD"}]


async def test_an_error_reaches_every_asker_and_is_not_kept(
    cached: CachedTierCatalog, catalog: Catalog
) -> None:
    """All fail together, once; the next call is a new query."""
    catalog.open.clear()
    catalog.error = TemporaryError("DynamoDB is down.")
    asking = [asyncio.create_task(cached.find_tier("BASIC")) for _ in range(3)]
    await catalog.begun.wait()
    catalog.open.set()
    assert await asyncio.gather(*asking, return_exceptions=True) == [catalog.error] * 3
    assert catalog.asked == ["BASIC"]
    catalog.error = None
    assert await cached.find_tier("BASIC") == {"size": 1}


async def test_an_asker_that_gives_up_does_not_fail_the_others(
    cached: CachedTierCatalog, catalog: Catalog
) -> None:
    """Even if it was the first, its query continues for the others, and the answer is cached."""
    catalog.open.clear()
    first, second = (asyncio.create_task(cached.find_tier("BASIC")) for _ in range(2))
    await catalog.begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    catalog.open.set()
    assert await second == {"size": 1}
    assert await cached.find_tier("BASIC") == {"size": 1}
    assert catalog.asked == ["BASIC"]


async def test_static_tiers_carry_their_name() -> None:
    """A tier from the settings has the attribute `tier`, as an item of the table has."""
    catalog = StaticTierCatalog({"BASIC": {"size": 1}})
    assert await catalog.find_tier("BASIC") == {"tier": "BASIC", "size": 1}
    assert await catalog.find_tier("GOLD") is None


async def test_a_function_is_a_catalog() -> None:
    """A user's `async (tier) -> Mapping | None` is called as it is."""

    async def find(tier: str) -> Mapping[str, Any] | None:
        return {"size": 1} if tier == "BASIC" else None

    catalog = FunctionTierCatalog(find)
    assert await catalog.find_tier("BASIC") == {"size": 1}
    assert await catalog.find_tier("GOLD") is None


async def test_a_handlers_change_of_its_tier_is_not_cached() -> None:
    """The next handler gets the tier as it is in the catalog."""
    catalog = CachedTierCatalog(
        StaticTierCatalog({"BASIC": {"jobIdentifier": "job"}}), ManualClock(), keep_s=60
    )
    for _ in range(2):
        tier = dict(await catalog.find_tier("BASIC") or {})
        assert tier.pop("jobIdentifier") == "job"
    first = await catalog.find_tier("BASIC")
    assert first is not None
    first.pop("jobIdentifier")  # type: ignore[attr-defined]
    assert await catalog.find_tier("BASIC") == {"tier": "BASIC", "jobIdentifier": "job"}
