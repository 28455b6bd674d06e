"""Examples for the OpenAPI document: of events, and of models, made of those of their fields."""

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
from orchestrator.intake.data_dictionary import BUILD_ARN, BUILD_ID, TENANT_ID

#: What a reference to a component begins with.
COMPONENT = "#/components/schemas/"

_EVENT_ID = "6f2c0e1e-7f0b-4a53-9a57-3d1f5a0c9b11"
_TIME = "2026-11-20T09:14:03Z"
_SOURCE = "TenantManagementService"
_TENANT = {"id": TENANT_ID, "name": "Bluebird Logistics", "key": "bluebird"}
_REQUEST = {
    "tenant": _TENANT,
    "planConfig": {"tier": "STANDARD"},
    "builderConfig": {
        "type": "CODE_BUILD",
        "config": {"environmentOverride": {"POSTGRES_SIZE": "10"}},
    },
}
_SUCCESS = {"TENANT_ID": TENANT_ID, "CODEBUILD_BUILD_ID": BUILD_ID}
_FAILURE = {"CODEBUILD_BUILD_ID": BUILD_ID, "CODEBUILD_BUILD_SUCCEEDING": "0"}
_STATE_CHANGE = {
    "build-status": "SUCCEEDED",
    "project-name": "standard-tenant",
    "build-id": BUILD_ARN,
    "current-phase": "COMPLETED",
    "version": "1",
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


def examples_of(event_type: str) -> dict[str, Any]:
    """A body in each of its forms. One of your own types has an empty business body."""
    body = dict(EXAMPLES.get(event_type, {}))
    return {
        "bare": {"summary": "The business body alone", "value": body},
        "envelope": {"summary": "From Amazon EventBridge", "value": _envelope(event_type, body)},
        "cloudEvent": {"summary": "A CloudEvent", "value": _cloud_event(event_type, body)},
    }


def _envelope(event_type: str, body: Mapping[str, Any]) -> dict[str, Any]:
    known = {
        "version": "0",
        "id": _EVENT_ID,
        "detail-type": event_type,
        "source": _SOURCE,
        "account": "123456789012",
        "time": _TIME,
        "region": "us-east-1",
        "resources": [],
        "detail": body,
    }
    if event_type != BUILD_STATE_CHANGE:
        return known
    # As AWS CodeBuild sends it (user guide, Build notifications input format reference).
    of_aws = {"detail-type": "CodeBuild Build State Change", "source": "aws.codebuild"}
    return {**known, **of_aws, "resources": [BUILD_ARN]}


def _cloud_event(event_type: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": event_type,
        "source": _SOURCE,
        "id": _EVENT_ID,
        "time": _TIME,
        "data": body,
    }


class Examples:
    """Examples of schemas, made of those of their parts."""

    def __init__(self, components: Mapping[str, Any]) -> None:
        self._components = components

    def of(self, schema: Mapping[str, Any]) -> Any:
        """The first example of a schema; None if it has none."""
        if "examples" in schema:
            return schema["examples"][0]
        if "$ref" in schema:
            return self.of(self._components[schema["$ref"].removeprefix(COMPONENT)])
        if "anyOf" in schema:
            return self.of(schema["anyOf"][0])
        if "enum" in schema:
            return schema["enum"][0]
        if "items" in schema:
            return [self.of(schema["items"])]
        if "properties" in schema:
            return self._object(schema)
        return schema.get("default")

    def _object(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        found = {name: self.of(field) for name, field in schema["properties"].items()}
        required = schema.get("required", ())
        return {
            name: example
            for name, example in found.items()
            if example is not None or name in required
        }


ENVELOPES: Mapping[str, Any] = {
    "EventBridgeEnvelope": {
        "title": "EventBridgeEnvelope",
        "description": "An event as EventBridge delivers it; `detail` is the business body.",
        "type": "object",
        "required": ["detail-type", "detail"],
        "examples": [_envelope(TENANT_PROVISIONING, EXAMPLES[TENANT_PROVISIONING])],
        "properties": {
            "id": {"description": "The event's id.", "type": "string", "examples": [_EVENT_ID]},
            "detail-type": {
                "description": "The event's type.",
                "type": "string",
                "minLength": 1,
                "maxLength": 128,
                "examples": [TENANT_PROVISIONING],
            },
            "source": {"description": "Who sent it.", "type": "string", "examples": [_SOURCE]},
            "time": {"description": "When it was sent.", "type": "string", "format": "date-time"},
            "detail": {
                "description": "The business body, or the JSON text of it.",
                "type": ["object", "string"],
            },
        },
    },
    "CloudEvent": {
        "title": "CloudEvent",
        "description": "A CloudEvent 1.0 in structured mode; `data` is the business body.",
        "type": "object",
        "required": ["specversion", "type", "source", "id", "data"],
        "examples": [_cloud_event(TENANT_PROVISIONING, EXAMPLES[TENANT_PROVISIONING])],
        "properties": {
            "specversion": {"description": "The version of CloudEvents.", "const": "1.0"},
            "type": {
                "description": "The event's type.",
                "type": "string",
                "minLength": 1,
                "maxLength": 128,
            },
            "source": {"description": "Who sent it.", "type": "string", "minLength": 1},
            "id": {"description": "The event's id.", "type": "string", "minLength": 1},
            "time": {"description": "When it was sent.", "type": "string", "format": "date-time"},
            "data": {"description": "The business body.", "type": "object"},
        },
    },
}
