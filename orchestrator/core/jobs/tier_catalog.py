"""The tier catalog, as a port: a tier's attributes by its name."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

Tier = Mapping[str, Any]
TierFunction = Callable[[str], Awaitable[Tier | None]]


class TierCatalog(Protocol):
    async def find_tier(self, tier: str) -> Tier | None:
        """The tier's attributes in the catalog, None if there is no such tier."""
