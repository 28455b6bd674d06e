"""Bodies in the shapes that senders use, and the event that is read from one."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.core.events.envelope import Body, Delivery, parse_event
from orchestrator.core.events.event import Event

SAMPLES = Path(__file__).parents[3] / "samples"
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
OVER_HTTP = Delivery(same_content_same_event=True)
ALIASES = {"Tenant Ordered": "ORDER", "CodeBuild Build State Change": "BUILD_STATE_CHANGE"}


def sample(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text())
    return content


def envelope(**fields: Any) -> dict[str, Any]:
    return {"detail-type": "ORDER", "detail": {"n": 1}} | fields


def cloudevent(**fields: Any) -> dict[str, Any]:
    named = {"specversion": "1.0", "type": "ORDER", "source": "/shop", "id": "ce-1"}
    return named | {"data": {"n": 1}} | fields


def parse(
    raw: object,
    event_type: str = "ORDER",
    *,
    delivery: Delivery = OVER_HTTP,
    fresh_id: str = "fresh",
) -> Event[Body]:
    return parse_event(
        event_type, raw, delivery=delivery, aliases=ALIASES, now=NOW, fresh_id=lambda: fresh_id
    )
