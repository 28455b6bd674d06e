"""The event that all contestants are sent: an EventBridge envelope of about 1.9 KB."""

import json

#: Stands for the number of an event, which makes its tenant and its id unique.
NUMBER = "@@"

_TENANT_ID = f"tenant-{NUMBER}"
_TENANT = {
    "id": _TENANT_ID,
    "name": "Bluebird Logistics",
    "key": f"bluebird-{NUMBER}",
    "contact": {"name": "Ada Moreau", "email": "ada@bluebird.example", "phone": "+33 1 23 45 67"},
    "address": {"street": "1 Rue de la Paix", "city": "Paris", "country": "FR", "zip": "75002"},
}
_ENVIRONMENT = {
    "tenant": json.dumps(_TENANT),
    "SIMPLE_APP_REGION": "eu-west-1",
    "SIMPLE_APP_DOMAIN": f"bluebird-{NUMBER}.example.com",
    "SIMPLE_APP_FEATURES": json.dumps(["reports", "exports", "audit", "single-sign-on"]),
    "SIMPLE_APP_SEATS": "250",
}


def event_body(event_type: str, *, tenant: str = _TENANT_ID) -> str:
    """The event as JSON, with `NUMBER` wherever the number of the event goes."""
    detail = {
        "tenant": {**_TENANT, "id": tenant},
        "planConfig": {"tier": "STANDARD", "name": "Standard, yearly", "seats": 250},
        "builderConfig": {"type": "CODE_BUILD", "config": {"environmentOverride": _ENVIRONMENT}},
        "requestedBy": {"user": "u-10442", "roles": ["owner", "billing"], "channel": "console"},
        "labels": [f"label-{index:02}" for index in range(20)],
        "remarks": "Migrated from the former plan; keep the domain, and tell the contact. " * 4,
    }
    return json.dumps(
        {
            "version": "0",
            "id": f"event-{NUMBER}",
            "detail-type": event_type,
            "source": "TenantManagementService",
            "account": "123456789012",
            "time": "2026-11-20T09:14:03Z",
            "region": "us-east-1",
            "resources": [],
            "detail": detail,
        }
    )
