"""Tiers from the settings, and from a user's own function."""

from collections.abc import Mapping

import attrs

from orchestrator.core.jobs.tier_catalog import Tier, TierFunction


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
