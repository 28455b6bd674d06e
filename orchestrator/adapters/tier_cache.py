"""Caches the answers of a tier catalog."""

import asyncio
import copy
from datetime import datetime, timedelta
from typing import Any

from orchestrator.core.clock import Clock
from orchestrator.core.jobs.tier_catalog import Tier, TierCatalog
from orchestrator.core.metrics import NO_METRICS, TIER_CACHE, Metrics

_UNCHANGEABLE = frozenset({str, int, float, bool, type(None)})


class CachedTierCatalog:
    """Caches found tiers for `keep_s` seconds; concurrent lookups share one request.

    Each caller gets a copy, which it may modify. A tier that doesn't exist isn't cached, so that it
    is found as soon as it is added.
    """

    def __init__(
        self,
        catalog: TierCatalog,
        clock: Clock,
        *,
        keep_s: float,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        self.catalog = catalog
        self._clock = clock
        self._keep = timedelta(seconds=keep_s)
        self._metrics = metrics
        self._found: dict[str, tuple[datetime, Tier]] = {}
        self._asked: dict[str, asyncio.Task[Tier | None]] = {}

    async def find_tier(self, tier: str) -> Tier | None:
        known = self._found.get(tier)
        if known is not None and self._clock.now() < known[0]:
            self._metrics.add(TIER_CACHE, "hit")
            kept: Tier = _copy(known[1])
            return kept
        self._metrics.add(TIER_CACHE, "miss")
        asking = self._asked.get(tier)
        if asking is None:
            asking = self._asked[tier] = asyncio.create_task(self._ask(tier))
        # Shielded: a caller that is cancelled must not fail the others.
        found: Tier | None = _copy(await asyncio.shield(asking))
        return found

    async def _ask(self, tier: str) -> Tier | None:
        try:
            found = await self.catalog.find_tier(tier)
        finally:
            del self._asked[tier]
        if found is not None:
            self._found[tier] = (self._clock.now() + self._keep, found)
        return found


def _copy(value: Any) -> Any:
    """A deep copy, of maps, lists and plain values in a tenth of the time of `copy.deepcopy`."""
    if type(value) is dict:
        return {name: _copy(item) for name, item in value.items()}
    if type(value) is list:
        return [_copy(item) for item in value]
    return value if type(value) in _UNCHANGEABLE else copy.deepcopy(value)
