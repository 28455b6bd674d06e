"""Opens the tier catalog: DynamoDB, the settings, or a user's own."""

from collections.abc import Mapping

import attrs

from orchestrator.adapters.aws import AWS
from orchestrator.adapters.dynamodb.tier_catalog import DynamoDBTierCatalog
from orchestrator.adapters.tier_cache import CachedTierCatalog
from orchestrator.core.clock import Clock
from orchestrator.core.jobs.tier_catalog import Tier, TierCatalog, TierFunction
from orchestrator.core.metrics import Metrics
from orchestrator.settings import Tiers


@attrs.frozen
class StaticTierCatalog:
    tiers: Mapping[str, Tier]

    async def find_tier(self, tier: str) -> Tier | None:
        found = self.tiers.get(tier)
        return None if found is None else {"tier": tier, **found}


@attrs.frozen
class FunctionTierCatalog:
    """A user's plain async function as a catalog."""

    find: TierFunction

    async def find_tier(self, tier: str) -> Tier | None:
        return await self.find(tier)


def open_tiers(
    settings: Tiers,
    given: TierCatalog | TierFunction | None,
    aws: AWS,
    clock: Clock,
    metrics: Metrics,
) -> TierCatalog:
    """The given catalog, else the configured one."""
    if given is not None:
        return given if hasattr(given, "find_tier") else FunctionTierCatalog(given)
    if settings.backend == "static":
        return StaticTierCatalog(settings.static)
    catalog = DynamoDBTierCatalog(aws.dynamodb, table=settings.table)
    return CachedTierCatalog(catalog, clock, keep_s=settings.cache_s, metrics=metrics)
