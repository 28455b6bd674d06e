"""Tiers from anywhere: a plain async function in place of the DynamoDB table.

ORCHESTRATOR__EXTENSION=own_tiers:extension orchestrator serve --app-dir examples
"""

from collections.abc import Mapping
from typing import Any

from orchestrator import Extension

_PLANS: Mapping[str, Mapping[str, Any]] = {
    "FREE": {"jobIdentifier": "shared-cluster", "REPLICAS": 1},
    "TEAM": {"jobIdentifier": "own-cluster", "REPLICAS": 3},
}


async def find_tier(tier: str) -> Mapping[str, Any] | None:
    """The tier's attributes; None makes the event's answer 422."""
    return _PLANS.get(tier)


extension = Extension(tiers=find_tier)
