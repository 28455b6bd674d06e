"""`http.base_path`: the service under a prefix, behind a proxy that strips it or doesn't."""

import json
import re
from typing import Any

import attrs
import pytest

from orchestrator import Extension, Settings, SettingsError, create_app, setup
from orchestrator.intake.openapi import build_document
from orchestrator.lambda_handler import LambdaService
from orchestrator.settings import ApiKey, Auth, Http
from orchestrator.testing import envelope, provisioning_event
from tests.acceptance.answers import read_problem
from tests.acceptance.test_about import assert_served, references
from tests.acceptance.ways import MakeEvent, read_lambda_answer
from tests.conftest import Client, StartService
from tests.lambda_events import FORMATS

BASE = "/saas/orchestrator"
JSON = {"Content-Type": "application/json"}
#: The requests of a proxy: with the prefix; without it; without it and with the header for it.
PROXIES: dict[str, tuple[str, dict[str, str]]] = {
    "not stripped": (BASE, {}),
    "stripped": ("", {}),
    "stripped and told": ("", {"X-Forwarded-Prefix": BASE}),
}
any_proxy = pytest.mark.parametrize(("before", "headers"), PROXIES.values(), ids=PROXIES)


@pytest.fixture
def based(settings: Settings) -> Settings:
    return attrs.evolve(settings, http=Http(base_path=BASE))


@pytest.fixture
async def service(start_service: StartService, based: Settings) -> Client:
    return await start_service(based)


@any_proxy
async def test_an_event_is_handled_and_its_run_is_below_the_base_path(
    service: Client, before: str, headers: dict[str, str]
) -> None:
    """`Location` is below the base path, where the sender can follow it."""
    answer = await service.post(f"{before}/events", json=provisioning_event(), headers=headers)
    assert (answer.status, await answer.json()) == (200, {"success": True})
    assert re.fullmatch(f"{BASE}/runs/[0-9a-f]{{40}}", answer.headers["Location"])
    async with service.get(answer.headers["Location"]) as run:
        assert (await run.json())["status"] == "succeeded"


@any_proxy
async def test_a_problem_names_addresses_below_the_base_path(
    service: Client, before: str, headers: dict[str, str]
) -> None:
    """`instance` and the sentence are below the base path, for a run, an unknown path and a wrong
    method."""
    body = {"tenantId": "t-1", "tier": "GOLD"}
    refused = await service.post(f"{before}/events/TENANT_PROVISIONING", json=body, headers=headers)
    assert (await read_problem(refused, 422))["instance"].startswith(f"{BASE}/runs/")
    nothing = await read_problem(await service.get(f"{before}/nowhere", headers=headers), 404)
    assert nothing["instance"] == f"{BASE}/nowhere"
    assert f"nothing at {BASE}/nowhere; {BASE}/openapi.json lists" in nothing["detail"]
    wrong = await read_problem(await service.delete(f"{before}/events", headers=headers), 405)
    assert wrong["instance"] == f"{BASE}/events"


@any_proxy
@pytest.mark.parametrize("page", ["", "/", "/docs"])
async def test_pages_lead_below_the_base_path(
    service: Client, before: str, headers: dict[str, str], page: str
) -> None:
    """The links of the home page, with or without a slash, and of the documentation are below the
    base path and served."""
    async with service.get(f"{before}{page}" or "/", headers=headers) as answer:
        assert answer.status == 200
        links = references(await answer.text())
    assert f"{BASE}/openapi.json" in links
    assert all(link.startswith(f"{BASE}/") for link in links)
    await assert_served(service, links)


@any_proxy
async def test_the_document_has_the_base_path_as_its_server(
    service: Client, before: str, headers: dict[str, str]
) -> None:
    """The document has the base path as its server, and each path once, without the prefix."""
    async with service.get(f"{before}/openapi.json", headers=headers) as answer:
        document = await answer.json()
    assert document["servers"] == [{"url": BASE}]
    assert {"/", "/events", "/runs/{runId}", "/healthz"} <= set(document["paths"])
    assert not [path for path in document["paths"] if path.startswith("/saas")]
    async with service.get(f"{before}/ping", headers=headers) as ping:
        assert (await ping.json())["url"] == f"{BASE}/ping"


async def test_a_prefix_before_the_base_path_comes_first(service: Client) -> None:
    """A prefix that a proxy has stripped is before the base path in `Location`."""
    headers = {"X-Forwarded-Prefix": "/prod"}
    answer = await service.post(f"{BASE}/events", json=provisioning_event(), headers=headers)
    assert answer.headers["Location"].startswith(f"/prod{BASE}/runs/")


async def test_a_path_with_the_base_path_as_mere_prefix_is_not_below_it(service: Client) -> None:
    """A path that only begins with the base path's text, or has it twice, is 404."""
    for path in (
        f"{BASE}-too/healthz",
        f"{BASE}{BASE}/healthz",
        "/saas/healthz",
        f"{BASE}//healthz",
    ):
        await read_problem(await service.get(path), 404)


async def test_a_key_is_required_below_the_base_path_too(
    start_service: StartService, based: Settings
) -> None:
    """Below the base path the same routes are open as at the root, and no others."""
    auth = Auth(methods=("api_key",), api_key=ApiKey(keys=("key-1",)))
    service = await start_service(attrs.evolve(based, auth=auth))
    for path in ("/healthz", "/readyz", "/ping", "/", "", "/docs", "/openapi.json"):
        async with service.get(BASE + path) as answer:
            assert answer.status == 200, path
    for path in ("/runs", "/tenants", "/x"):
        await read_problem(await service.get(BASE + path), 401)
    for path in (f"{BASE}/events", f"{BASE}/events/healthz", f"{BASE}{BASE}/healthz"):
        await read_problem(await service.post(path, json={}), 401)


@pytest.mark.parametrize("base_path", ["/events", "/runs/v1", "/tenants", "/healthz", "/docs"])
def test_a_base_path_that_is_a_route_is_refused(settings: Settings, base_path: str) -> None:
    """A base path that is a route's path is refused, since a request could mean either."""
    first = base_path.split("/")[1]
    with pytest.raises(
        SettingsError, match=f"http.base_path is '{base_path}'.*routes at /{first}:"
    ):
        create_app(attrs.evolve(settings, http=Http(base_path=base_path)))


def test_the_document_of_the_command_line_is_the_same(settings: Settings, based: Settings) -> None:
    """`orchestrator openapi` has the same document with and without a base path."""
    assert build_document(create_app(based)) == build_document(create_app(settings))


async def test_a_mounted_service_has_its_prefix_alone(aiohttp_client: Any, based: Settings) -> None:
    """A mounted service has the prefix of its mount, without the base path."""
    from aiohttp import web

    parent = web.Application()
    setup(parent, prefix="/mine", settings=based, extension=Extension())
    client: Client = await aiohttp_client(parent)
    answer = await client.post("/mine/events", json=envelope("RECONCILE", {}))
    assert answer.status == 200
    nothing = await read_problem(await client.get("/mine/nowhere"), 404)
    assert nothing["instance"] == "/mine/nowhere"


@pytest.mark.parametrize("before", ["", BASE], ids=["stripped", "not stripped"])
@pytest.mark.parametrize("make_event", FORMATS.values(), ids=FORMATS)
def test_it_holds_on_lambda_too(based: Settings, make_event: MakeEvent, before: str) -> None:
    """On Lambda the base path counts where the gateway doesn't send a prefix, as a load
    balancer."""
    service = LambdaService(create_app(based, hands_back=True))
    body = json.dumps(envelope("TENANT_PARTY", {})).encode()
    event = make_event("POST", f"{before}/events", headers=JSON, body=body)
    try:
        answer = read_lambda_answer(service.handle(event, remaining_s=30), event)
    finally:
        service.close()
    assert answer.status == 400
    assert answer.json()["instance"].startswith(f"{BASE}/runs/")
