"""Every route declares the access that it requires, and the OpenAPI document says the same."""

from typing import Any

import pytest
from aiohttp import web

from orchestrator import Settings, create_app
from orchestrator.app import create_worker_app
from orchestrator.intake.access import ANY_SENDER, OPEN, Access, declared_access
from orchestrator.intake.openapi import build_document
from orchestrator.settings import ApiKey, Auth, Http, Intake, LedgerSettings

GUARDED = Settings(
    auth=Auth(methods=("api_key",), api_key=ApiKey(keys=("key-1",))),
    http=Http(base_path="/saas"),
)
QUEUED = Settings(
    ledger=LedgerSettings(backend="dynamodb", table="ledger"),
    intake=Intake(mode="queue", queue_url="https://sqs.us-east-1.amazonaws.com/1/events"),
)
#: What each route of the app requires, by method and path.
ASKED = {
    "POST /events": Access("events:write"),
    "POST /events/{eventType}": Access("events:write"),
    "GET /runs": Access("runs:read"),
    "GET /runs/{runId}": Access("runs:read"),
    "GET /runs/{runId}/payload": Access("runs:read"),
    "POST /runs/{runId}/replay": Access("runs:write"),
    "GET /tenants": Access("runs:read"),
    "GET /tenants/{tenantId}": Access("runs:read"),
    "POST /tenants/{tenantId}/cancel": Access("runs:write"),
    "GET /operations/{operationId}": Access("runs:read"),
    "GET /overview": Access("runs:read"),
    "GET /me": ANY_SENDER,
    "GET /": OPEN,
    "GET /docs": OPEN,
    "GET /docs/assets/{filename}": OPEN,
    "GET /openapi.json": OPEN,
    "GET /console": OPEN,
    "GET /console/{filename}": OPEN,
    "GET /ping": OPEN,
    "GET /metrics": Access("metrics:read"),
    "GET /healthz": OPEN,
    "GET /readyz": OPEN,
}


def access_by_route(app: web.Application) -> dict[str, Access | None]:
    """The access that each route declares; None: nothing is declared."""
    return {
        f"{route.method} {route.resource.canonical}": declared_access(route)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }


@pytest.mark.parametrize(
    "app", [create_app(GUARDED), create_worker_app(QUEUED)], ids=["app", "worker"]
)
def test_each_route_declares_the_access_that_it_requires(app: web.Application) -> None:
    """One that doesn't would be closed to a sender's scopes, and open to every known sender."""
    declared = access_by_route(app)
    assert declared
    assert [route for route, access in declared.items() if access is None] == []


def test_each_route_requires_the_access_that_is_listed_here() -> None:
    """A change that opens a route, at the root or below `http.base_path`, changes this list."""
    below = {route.replace(" /", " /saas/", 1): access for route, access in ASKED.items()}
    home = {"GET /saas": OPEN}
    assert access_by_route(create_app(GUARDED)) == {**ASKED, **below, **home}


@pytest.mark.parametrize("settings", [GUARDED, Settings()], ids=["guarded", "open"])
def test_the_document_has_the_access_of_each_route(settings: Settings) -> None:
    """The security of each operation, and its 401, if it requires credentials."""
    app = create_app(settings)
    document = build_document(app)
    schemes = document["components"].get("securitySchemes", {})
    assert bool(schemes) == bool(settings.auth.methods)
    operations: dict[str, dict[str, Any]] = {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    seen = {route for route in operations if route in ASKED}
    assert seen == set(ASKED) - {"GET /docs/assets/{filename}", "GET /console/{filename}"}
    for route, operation in operations.items():
        # A path of a type's own is that of any type.
        asked = ASKED.get(route, Access("events:write"))
        assert ("401" in operation["responses"]) == (bool(schemes) and not asked.is_open), route
        if asked.is_open:
            assert "security" not in operation, route
        else:
            assert operation["security"] == [{name: []} for name in schemes], route
