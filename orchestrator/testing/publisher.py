"""A bus in memory, for what handlers publish."""

from collections.abc import Mapping
from typing import Any

import attrs

from orchestrator.testing.sample_events import envelope


@attrs.define
class InMemoryPublisher:
    """A publisher that keeps its events, each in the EventBridge envelope of its delivery."""

    published: list[dict[str, Any]] = attrs.field(factory=list)
    source: str = "saas.orchestrator"
    why_silent: str | None = None

    async def publish(
        self, *, event_type: str, detail: Mapping[str, Any], source: str | None = None
    ) -> str:
        event_id = f"published-{len(self.published) + 1}"
        event = envelope(event_type, detail, event_id=event_id, source=source or self.source)
        self.published.append(event)
        return event_id
