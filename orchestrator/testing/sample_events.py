"""Sample events as a control plane sends them."""

import json
from collections.abc import Mapping
from typing import Any


def provisioning_event(
    *,
    tenant_id: str = "tenant-1",
    tier: str = "STANDARD",
    event_id: str = "event-1",
    override: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """TENANT_PROVISIONING in an EventBridge envelope, as a control plane sends it."""
    tenant = {"id": tenant_id, "name": "Bluebird Logistics", "key": "bluebird"}
    environment = {"tenant": json.dumps(tenant), **(override or {})}
    detail = {
        "tenant": tenant,
        "planConfig": {"tier": tier},
        "builderConfig": {
            "type": "CODE_BUILD",
            "config": {"environmentOverride": environment},
        },
    }
    return envelope("TENANT_PROVISIONING", detail, event_id=event_id)


def envelope(
    event_type: str,
    detail: Mapping[str, Any],
    *,
    event_id: str = "event-1",
    source: str = "TenantManagementService",
    time: str = "2026-11-20T09:14:03Z",
) -> dict[str, Any]:
    """An EventBridge envelope around a detail; `time` is the sender's time."""
    return {
        "version": "0",
        "id": event_id,
        "detail-type": event_type,
        "source": source,
        "account": "123456789012",
        "time": time,
        "region": "us-east-1",
        "resources": [],
        "detail": dict(detail),
    }
