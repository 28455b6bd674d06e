"""Example bodies of the built-in event types, for the OpenAPI document."""

from collections.abc import Mapping
from typing import Any

from orchestrator.core.events.event_types import (
    BUILD_STATE_CHANGE,
    TENANT_CLEAN_UP,
    TENANT_CLEAN_UP_FAILURE,
    TENANT_CLEAN_UP_SUCCESS,
    TENANT_DEPLOYMENT,
    TENANT_DEPLOYMENT_FAILURE,
    TENANT_DEPLOYMENT_SUCCESS,
    TENANT_DEPROVISIONING,
    TENANT_DEPROVISIONING_FAILURE,
    TENANT_DEPROVISIONING_SUCCESS,
    TENANT_PROVISIONING,
    TENANT_PROVISIONING_FAILURE,
    TENANT_PROVISIONING_SUCCESS,
)

_TENANT = {"id": "t-1", "name": "Bluebird Logistics", "key": "bluebird"}
_REQUEST = {
    "tenant": _TENANT,
    "planConfig": {"tier": "STANDARD"},
    "builderConfig": {
        "type": "CODE_BUILD",
        "config": {"environmentOverride": {"POSTGRES_SIZE": "10"}},
    },
}
_SUCCESS = {"TENANT_ID": "t-1", "CODEBUILD_BUILD_ID": "standard-tenant:8f168599"}
_FAILURE = {"CODEBUILD_BUILD_ID": "standard-tenant:8f168599", "CODEBUILD_BUILD_SUCCEEDING": "0"}
_STATE_CHANGE = {
    "build-status": "SUCCEEDED",
    "project-name": "standard-tenant",
    "build-id": "arn:aws:codebuild:us-east-1:123456789012:build/standard-tenant:8f168599",
}

#: The business body of an event of each type.
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    TENANT_PROVISIONING: _REQUEST,
    TENANT_DEPROVISIONING: {"tenantId": "t-1", "tier": "STANDARD"},
    TENANT_DEPLOYMENT: {"tenantId": "t-1", "tier": "STANDARD"},
    TENANT_CLEAN_UP: {"tenantId": "t-1", "tier": "STANDARD"},
    TENANT_PROVISIONING_SUCCESS: _SUCCESS,
    TENANT_PROVISIONING_FAILURE: _FAILURE,
    TENANT_DEPLOYMENT_SUCCESS: _SUCCESS,
    TENANT_DEPLOYMENT_FAILURE: _FAILURE,
    TENANT_DEPROVISIONING_SUCCESS: _SUCCESS,
    TENANT_DEPROVISIONING_FAILURE: _FAILURE,
    TENANT_CLEAN_UP_SUCCESS: _SUCCESS,
    TENANT_CLEAN_UP_FAILURE: _FAILURE,
    BUILD_STATE_CHANGE: _STATE_CHANGE,
}


def example_envelope(event_type: str) -> dict[str, Any]:
    """The example in an EventBridge envelope."""
    return {
        "version": "0",
        "id": "6f2c0e1e-7f0b-4a53-9a57-3d1f5a0c9b11",
        "detail-type": event_type,
        "source": "TenantManagementService",
        "time": "2026-11-20T09:14:03Z",
        "detail": dict(EXAMPLES[event_type]),
    }
