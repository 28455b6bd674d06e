"""`http.event_paths`: events at further paths, such as that of arc-saas's message bus connector."""

import json
from typing import Any

import attrs
import pytest

from orchestrator import Extension, Settings, SettingsError, create_app, setup
from orchestrator.intake.openapi import build_document
from orchestrator.lambda_handler import LambdaService
from orchestrator.settings import ApiKey, Auth, Http
from orchestrator.testing import envelope, provisioning_event
from tests.acceptance.answers import read_problem, read_run, read_success
from tests.acceptance.ways import MakeEvent, read_lambda_answer
from tests.conftest import Client, StartService
from tests.lambda_events import FORMATS

PATH = "/event-bridge/events"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return attrs.evolve(settings, http=Http(event_paths=(PATH,)))


async def test_an_event_is_the_same_at_each_path(service: Client) -> None:
    """An event that was handled at one path is a duplicate at the others, and its run has one
    address."""
    event = provisioning_event()
    address = await read_success(await service.post(f"{PATH}/TENANT_PROVISIONING", json=event))
    assert address.startswith("/runs/")
    assert (await read_run(service, address))["status"] == "succeeded"
    for path in (PATH, "/events", "/events/TENANT_PROVISIONING"):
        again = await service.post(path, json=event)
        assert again.headers["Idempotent-Replayed"] == "true", path
        assert again.headers["Location"] == address


async def test_a_problem_is_the_same_at_each_path(service: Client) -> None:
    """Problems are the same at each path: different types in path and envelope, a type without a
    handler, a wrong method."""
    event = provisioning_event()
    for path in ("/events", PATH):
        await read_problem(await service.post(f"{path}/TENANT_DEPLOYMENT", json=event), 400)
        refused = await read_problem(await service.post(f"{path}/TENANT_PARTY", json={}), 400)
        assert refused["detail"] == "Unsupported event type: TENANT_PARTY"
        await read_problem(await service.get(f"{path}/TENANT_PROVISIONING"), 405)
    await read_problem(await service.post("/event-bridge", json=event), 404)


async def test_without_the_setting_there_is_no_such_path(start_service: StartService) -> None:
    """Without the setting there is no further path."""
    service = await start_service(Settings())
    await read_problem(await service.post(f"{PATH}/RECONCILE", json={}), 404)


async def test_the_alias_route_requires_the_scope_for_events(
    start_service: StartService, settings: Settings
) -> None:
    """A further path needs credentials with the scope for events."""
    auth = Auth(methods=("api_key",), api_key=ApiKey(keys=("key-1",)))
    service = await start_service(attrs.evolve(settings, auth=auth))
    path = f"{PATH}/RECONCILE"
    await read_problem(await service.post(path, json={}), 401)
    assert (await service.post(path, json={}, headers={"x-api-key": "key-1"})).status == 200


async def test_it_is_below_the_base_path_too(
    start_service: StartService, settings: Settings
) -> None:
    """A further path is below the base path too, like each route."""
    based = attrs.evolve(settings.http, base_path="/saas")
    service = await start_service(attrs.evolve(settings, http=based))
    for before in ("", "/saas"):
        answer = await service.post(f"{before}{PATH}", json=envelope("RECONCILE", {}))
        assert answer.status == 200


async def test_a_mounted_service_has_it(aiohttp_client: Any, settings: Settings) -> None:
    """A mounted service has the further path below its prefix."""
    from aiohttp import web

    parent = web.Application()
    setup(parent, prefix="/mine", settings=settings, extension=Extension())
    client: Client = await aiohttp_client(parent)
    assert (await client.post(f"/mine{PATH}", json=envelope("RECONCILE", {}))).status == 200


@pytest.mark.parametrize("make_event", FORMATS.values(), ids=FORMATS)
def test_it_holds_on_lambda_too(settings: Settings, make_event: MakeEvent) -> None:
    """On Lambda the further path exists too, for an old API with that route."""
    service = LambdaService(create_app(settings, hands_back=True))
    body = json.dumps({}).encode()
    event = make_event("POST", f"{PATH}/RECONCILE", headers=JSON, body=body)
    try:
        answer = read_lambda_answer(service.handle(event, remaining_s=30), event)
    finally:
        service.close()
    assert (answer.status, answer.json()) == (200, {"success": True})


def test_the_document_shows_each_route_once(settings: Settings) -> None:
    """The document has no further paths, which are for senders that can't be changed."""
    assert build_document(create_app(settings)) == build_document(create_app(Settings()))


@pytest.mark.parametrize("path", ["/events", "/runs/v1", "/tenants", "/console"])
def test_a_path_that_is_a_route_is_refused(settings: Settings, path: str) -> None:
    """A further path that is a route is refused, since a request could mean either."""
    with pytest.raises(SettingsError, match=f"http.event_paths has '{path}'.*routes at "):
        create_app(attrs.evolve(settings, http=Http(event_paths=(path,))))


@pytest.mark.parametrize("path", ["", "/", "x/events", "/x/", "/x/{eventType}", "/x y", "/../x"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    """A further path must be one plain path, like the base path."""
    with pytest.raises(ValueError, match=r"http\.event_paths"):
        Http(event_paths=(path,))


def test_a_path_twice_is_refused() -> None:
    """A further path that is given twice is refused."""
    with pytest.raises(ValueError, match="twice"):
        Http(event_paths=(PATH, PATH))
