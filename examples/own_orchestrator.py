"""An orchestrator of your own around the built-in one: here, no tenant changes during a freeze.

    ORCHESTRATOR__EXTENSION=own_orchestrator:extension orchestrator serve --app-dir examples
    echo '{"ends": "2027-01-01T06:00:00+00:00"}' >freeze.json

Whatever a sender may do belongs in front of `handle_event`: a TemporaryError is retried by
EventBridge, a PermanentError goes to its dead-letter queue.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator import Extension, Orchestrator, TemporaryError

FREEZE = Path("freeze.json")
CHANGES = {"TENANT_PROVISIONING", "TENANT_DEPROVISIONING", "TENANT_DEPLOYMENT"}


class FreezingOrchestrator:
    """Postpones changes of tenants while there is a freeze; everything else is handled."""

    def __init__(self, inner: Orchestrator) -> None:
        self._inner = inner

    async def handle_event(self, event_type: str, body: Any) -> object:
        left_s = seconds_left(datetime.now(UTC))
        if event_type in CHANGES and left_s > 0:
            raise TemporaryError("Tenants don't change during the freeze.", retry_after_s=left_s)
        return await self._inner.handle_event(event_type, body)


def seconds_left(now: datetime) -> float:
    if not FREEZE.exists():
        return 0.0
    return (datetime.fromisoformat(json.loads(FREEZE.read_text())["ends"]) - now).total_seconds()


extension = Extension(orchestrator=FreezingOrchestrator)
