"""Builds the OpenAPI document from the routes and the models. The only user of aiohttp-apispec.

aiohttp-apispec writes Swagger 2.0 and modifies the handlers that it reads, so only its decorator
and its mapping of routes to operations are used. Each document is built separately, so that two
apps in one process don't affect each other.
"""

import copy
import importlib.metadata
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from aiohttp import web
from aiohttp_apispec import docs
from aiohttp_apispec.aiohttp_apispec import AiohttpApiSpec
from aiohttp_apispec.utils import get_path_keys
from apispec import APISpec

from orchestrator.core.events.event_types import TENANT_PROVISIONING
from orchestrator.core.handlers.registry import HandlerRegistry, Registration
from orchestrator.intake.app_keys import ID_HEADERS, REGISTRY
from orchestrator.intake.auth import AUTH_METHODS
from orchestrator.intake.data_dictionary import (
    describe_field,
    describe_header,
    describe_path,
)
from orchestrator.intake.documentation import Answer, check_models, documentation_of
from orchestrator.intake.event_docs import describe_event
from orchestrator.intake.examples import COMPONENT, ENVELOPES, Examples, examples_of
from orchestrator.intake.links import BASE_PATH, EVENT_PATHS
from orchestrator.wire.json_schema import json_schemas

_EVENTS_PATH = "/events/{eventType}"

UNAUTHORIZED = "401"


def build_document(app: web.Application) -> dict[str, Any]:
    """The OpenAPI 3.1 document of an app: its routes, and a path for each registered event type.

    Raises:
        RegistrationError: a handler's model has fields that JSON can't represent.
    """
    registry = app[REGISTRY]
    check_models(app)
    security = {
        method.name: method.scheme for method in app[AUTH_METHODS] if method.scheme is not None
    }
    document = _Document(_models(app, registry), security, app[ID_HEADERS])
    for route in _routes(app):
        if route.method != "HEAD":
            document.add_route(route)
    for registration in registry.by_type.values():
        document.add_event_type(registration)
    return document.to_dict()


def _routes(app: web.Application) -> list[web.AbstractRoute]:
    """The routes at the root, without their copies below `http.base_path` and at
    `http.event_paths`."""
    copies = tuple(f"{path}/" for path in (app.get(BASE_PATH), *app[EVENT_PATHS]) if path)
    return [
        route
        for resource in app.router.resources()
        if not f"{resource.canonical}/".startswith(copies)
        for route in resource
    ]


def _models(app: web.Application, registry: HandlerRegistry) -> list[Any]:
    answered = [
        answer.model
        for route in app.router.routes()
        for answer in documentation_of(route.handler).get("responses", {}).values()
    ]
    taken = [registration.payload for registration in registry.by_type.values()]
    bodies = [documentation_of(route.handler).get("requestBody") for route in app.router.routes()]
    return [model for model in (*answered, *bodies, *taken) if model is not None]


class _Document(AiohttpApiSpec):  # type: ignore[misc]
    """aiohttp-apispec's mapping of routes to operations, with OpenAPI 3.1 as its output."""

    def __init__(
        self, models: Sequence[Any], security: Mapping[str, Any], id_headers: Sequence[str]
    ) -> None:
        about = {
            "title": "SaaS orchestrator",
            "version": importlib.metadata.version("saas-orchestrator"),
        }
        super().__init__(url=None, **about)
        schemas, components = json_schemas(
            models, ref_template=f"{COMPONENT}{{name}}", describe=describe_field
        )
        self._examples = Examples(components)
        for component in components.values():
            if "properties" in component:
                component["examples"] = [self._examples.of(component)]
        self._schemas = dict(zip(models, schemas, strict=True))
        self._security = security
        self._id_parameters = [_id_parameter(name) for name in id_headers]
        self.spec = APISpec(
            **about,
            openapi_version="3.1.0",
            info={"description": _DESCRIPTION, "license": {"name": "MIT", "identifier": "MIT"}},
            components={
                "schemas": {**components, **ENVELOPES},
                # Without a scheme Swagger UI would show a button to authorize all the same.
                **({"securitySchemes": {**security}} if security else {}),
            },
            tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        )
        self._event_operation: dict[str, Any] = {}
        self._event_path = _EVENTS_PATH

    def add_route(self, route: web.AbstractRoute) -> None:
        documentation = documentation_of(route.handler)
        if documentation and not hasattr(route.handler, "__apispec__"):
            docs(**documentation)(route.handler)
        self._register_route(route, route.method.lower(), route.handler)

    def add_event_type(self, registration: Registration) -> None:
        """Add a path for a registered type, beside the one for any type."""
        operation = copy.deepcopy(self._event_operation)
        operation["summary"], operation["description"] = describe_event(registration)
        operation["operationId"] = f"handle_{quote(registration.event_type, safe='')}"
        operation["parameters"] = [p for p in operation["parameters"] if p["in"] != "path"]
        body = self._schemas.get(registration.payload, {"type": "object"})
        operation["requestBody"] = _event_body(body, registration.event_type)
        path = self._event_path.replace("{eventType}", quote(registration.event_type, safe=""))
        self.spec.path(path=path, operations={"post": operation})

    def to_dict(self) -> dict[str, Any]:
        document: dict[str, Any] = self.spec.to_dict()
        return document

    def _update_paths(self, data: Mapping[str, Any], method: str, url_path: str) -> None:
        """Overrides aiohttp-apispec's method, which modifies `data`, the handler's own."""
        operation = {
            "operationId": _operation_id(method, url_path),
            "tags": data["tags"],
            "summary": data["summary"],
            "description": data["description"],
            "parameters": [*data["parameters"], *_path_parameters(url_path)],
            "responses": {
                status: self._response(answer)
                for status, answer in data["responses"].items()
                # Without authentication there is no 401.
                if status != UNAUTHORIZED or self._security
            },
        }
        if not data["access"].is_open:
            operation["security"] = [{name: []} for name in self._security]
        if data.get("requestBody") is not None:
            schema = self._schemas[data["requestBody"]]
            example = self._examples.of(schema)
            content = {"application/json": {"schema": schema, "example": example}}
            operation["requestBody"] = {"required": False, "content": content}
        if method == "post" and "/events" in url_path:
            operation["requestBody"] = _event_body({"type": "object"}, TENANT_PROVISIONING)
            operation["parameters"] = [*self._id_parameters, *operation["parameters"]]
        if url_path.endswith(_EVENTS_PATH):
            self._event_path, self._event_operation = url_path, operation
        self.spec.path(path=url_path, operations={method: operation})

    def _response(self, answer: Answer) -> dict[str, Any]:
        response: dict[str, Any] = {"description": answer.description}
        if answer.model is not None:
            schema = self._schemas[answer.model]
            example = self._examples.of(schema) if answer.example is None else answer.example
            response["content"] = {answer.media_type: {"schema": schema, "example": example}}
        if answer.headers:
            response["headers"] = {
                name: {
                    "description": text,
                    "schema": _HEADER_SCHEMAS.get(name, {"type": "string"}),
                    **describe_header(name),
                }
                for name, text in answer.headers.items()
            }
        return response


def _event_body(payload: Mapping[str, Any], event_type: str) -> dict[str, Any]:
    """A request body: the bare payload, or an envelope."""
    envelopes = [{"$ref": f"{COMPONENT}{name}"} for name in ENVELOPES]
    content: dict[str, Any] = {"schema": {"anyOf": [payload, *envelopes]}}
    content["examples"] = examples_of(event_type)
    return {"required": True, "content": {"application/json": content}}


def _id_parameter(header: str) -> dict[str, Any]:
    return {
        "in": "header",
        "name": header,
        "description": "The event's id; overrides an id in the body; at most 512 bytes",
        "schema": {"type": "string"},
        "example": "6f2c0e1e-7f0b-4a53-9a57-3d1f5a0c9b11",
    }


def _path_parameters(url_path: str) -> list[dict[str, Any]]:
    return [
        {
            "in": "path",
            "name": name,
            "required": True,
            "schema": {"type": "string"},
            **describe_path(name),
        }
        for name in get_path_keys(url_path)
    ]


def _operation_id(method: str, url_path: str) -> str:
    return f"{method}_{_slug(url_path)}" if _slug(url_path) else f"{method}_home"


def _slug(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_").lower()


_HEADER_SCHEMAS = {"Retry-After": {"type": "integer", "minimum": 1}}

_TAGS = {
    "events": "Send events",
    "runs": "List, inspect and replay runs",
    "tenants": "List and inspect tenants, cancel operations",
    "about": "Health, metrics and documentation of the service",
}

_DESCRIPTION = (
    "Turns a SaaS control plane's events into jobs, once each. Statuses are chosen for "
    "EventBridge: retry after 5xx and 429, not after other 4xx."
)
