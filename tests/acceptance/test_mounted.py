"""The service in a user's app, under a prefix."""

import io
import re
from typing import Any

import pytest
from aiohttp import web

from orchestrator import (
    ORCHESTRATOR,
    REGISTRY,
    Event,
    Extension,
    Handled,
    HandlerRegistry,
    Run,
    Settings,
    SettingsError,
    setup,
)
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.testing import provisioning_event
from tests.acceptance.answers import only_build, read_problem
from tests.acceptance.test_about import references
from tests.conftest import Client
from tests.ledgers import IN_MEMORY, PATIENT

PREFIX = "/tenants-api"
JSON = {"Content-Type": "application/json"}
MISFIT = {"tenantId": "t-1", "tier": "GOLD"}
EVIL = ["//evil.example", '/a"><script>', "https://evil.example", "/a//evil", "/a/", "a", "/a?b"]


def extension(event_type: str) -> Extension:
    """A handler of one type that does nothing."""
    registry = HandlerRegistry()

    @registry.on(event_type)
    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        """Nothing to do."""

    return Extension(registry=registry)


@pytest.fixture
def parent() -> web.Application:
    """An app with a route and a small limit for bodies."""

    async def shop(_: web.Request) -> web.Response:
        return web.Response(text="the shop")

    app = web.Application(client_max_size=10)
    app.router.add_get("/", shop)
    return app


@pytest.fixture
async def mounted(
    parent: web.Application, aiohttp_client: Any, settings: Settings, codebuild: CodeBuildStandIn
) -> Client:
    setup(parent, prefix=PREFIX, settings=settings, extension=extension("ORDER"))
    client: Client = await aiohttp_client(parent)
    return client


async def test_events_are_handled_under_the_prefix(
    mounted: Client, codebuild: CodeBuildStandIn
) -> None:
    """A provisioning starts its build, and `Location` leads to the run."""
    answer = await mounted.post(f"{PREFIX}/events", json=provisioning_event())
    assert (answer.status, await answer.json()) == (200, {"success": True})
    assert answer.headers["Location"].startswith(f"{PREFIX}/runs/")
    async with mounted.get(answer.headers["Location"]) as run:
        assert (await run.json())["job"]["id"] == only_build(codebuild).id


async def test_a_problem_leads_to_its_run_under_the_prefix(mounted: Client) -> None:
    """`instance` is the address of the failed run, or of the request where there is none."""
    refused = await mounted.post(f"{PREFIX}/events/TENANT_PROVISIONING", json=MISFIT)
    problem = await read_problem(refused, 422)
    assert problem["instance"].startswith(f"{PREFIX}/runs/")
    async with mounted.get(problem["instance"]) as run:
        assert (await run.json())["error"]["message"] == problem["detail"]
    nowhere = await read_problem(await mounted.get(f"{PREFIX}/nowhere"), 404)
    assert nowhere["instance"] == f"{PREFIX}/nowhere"
    assert f"{PREFIX}/openapi.json" in nowhere["detail"]


@pytest.mark.parametrize("page", ["/", "/docs"])
async def test_pages_lead_to_addresses_under_the_prefix(mounted: Client, page: str) -> None:
    """Each link of the home page and of the documentation is under the prefix and served."""
    async with mounted.get(PREFIX + page) as answer:
        assert answer.status == 200
        links = references(await answer.text())
    assert f"{PREFIX}/openapi.json" in links
    for link in links:
        assert link.startswith(f"{PREFIX}/")
        async with mounted.get(link) as answer:
            assert answer.status == 200, link


async def test_the_document_has_its_paths_under_the_prefix(mounted: Client) -> None:
    """The document's paths, of any type and of the registered ones, have the prefix, and the
    parent's routes aren't in it."""
    async with mounted.get(f"{PREFIX}/openapi.json") as answer:
        document = await answer.json()
    assert {f"{PREFIX}/events", f"{PREFIX}/events/{{eventType}}", f"{PREFIX}/events/ORDER"} <= set(
        document["paths"]
    )
    assert all(path.startswith(f"{PREFIX}/") for path in document["paths"])
    assert [server["url"] for server in document["servers"]] == ["/"]


async def test_the_parents_routes_are_left_alone(mounted: Client) -> None:
    """The parent's pages and its 404 are its own."""
    async with mounted.get("/") as answer:
        assert await answer.text() == "the shop"
    for path in ("/nowhere", "/events/ORDER", "/runs/x", f"{PREFIX}-too/healthz"):
        async with mounted.get(path) as answer:
            assert (answer.status, answer.content_type) == (404, "text/plain"), path
            assert await answer.text() == "404: Not Found"


async def test_the_parent_reaches_orchestrator_and_registry(
    parent: web.Application, mounted: Client
) -> None:
    """A library call in the same process makes a run that is shown under the prefix."""
    assert "ORDER" in parent[REGISTRY].by_type
    handled = await parent[ORCHESTRATOR].handle_event("ORDER", {"a": 1})
    assert isinstance(handled, Handled)
    async with mounted.get(f"{PREFIX}/runs/{handled.run_id}") as answer:
        assert (await answer.json())["eventType"] == "ORDER"


async def test_the_parents_limit_does_not_matter(mounted: Client) -> None:
    """The service's own limit for bodies applies, not the parent's smaller one."""
    large = await mounted.post(f"{PREFIX}/events/ORDER", json={"a": "x" * 100_000})
    assert large.status == 200
    body = io.BytesIO(b"{}".ljust(1_048_577))
    too_large = await mounted.post(f"{PREFIX}/events/ORDER", data=body, headers=JSON)
    await read_problem(too_large, 413)


async def test_two_mounts_live_side_by_side(parent: web.Application, aiohttp_client: Any) -> None:
    """Two mounts have handlers, runs and addresses of their own."""
    settings = Settings(ledger=IN_MEMORY, intake=PATIENT)
    for prefix, event_type in (("/one", "FIRST"), ("/two", "SECOND")):
        setup(parent, prefix=prefix, settings=settings, extension=extension(event_type))
    client: Client = await aiohttp_client(parent)
    for prefix, own, foreign in (("/one", "FIRST", "SECOND"), ("/two", "SECOND", "FIRST")):
        answer = await client.post(f"{prefix}/events/{own}", json={"at": prefix})
        assert answer.status == 200
        address = answer.headers["Location"]
        assert address.startswith(f"{prefix}/runs/")
        other = {"/one": "/two", "/two": "/one"}[prefix]
        async with client.get(address) as run, client.get(address.replace(prefix, other)) as none:
            assert (run.status, none.status) == (200, 404)
        refused = await client.post(f"{prefix}/events/{foreign}", json={})
        assert (await read_problem(refused, 400))["instance"].startswith(f"{prefix}/runs/")
        async with client.get(f"{prefix}/openapi.json") as document:
            paths = (await document.json())["paths"]
        assert f"{prefix}/events/{own}" in paths
        assert not [path for path in paths if path.startswith(f"{other}/")]


async def test_a_stripped_prefix_comes_first(mounted: Client) -> None:
    """A prefix that a proxy has stripped is before the mount's prefix in each address."""
    proxy = {"X-Forwarded-Prefix": "/prod/v1"}
    event = provisioning_event()
    answer = await mounted.post(f"{PREFIX}/events", json=event, headers=proxy)
    assert answer.headers["Location"].startswith(f"/prod/v1{PREFIX}/runs/")
    refused = await mounted.post(f"{PREFIX}/events/TENANT_PROVISIONING", json=MISFIT, headers=proxy)
    problem = await read_problem(refused, 422)
    assert problem["instance"].startswith(f"/prod/v1{PREFIX}/runs/")
    async with mounted.get(f"{PREFIX}/docs", headers=proxy) as page:
        links = references(await page.text())
    assert links
    assert all(link.startswith(f"/prod/v1{PREFIX}/") for link in links)
    async with mounted.get(f"{PREFIX}/openapi.json", headers=proxy) as document:
        assert (await document.json())["servers"] == [{"url": "/prod/v1"}]


@pytest.mark.parametrize("forged", EVIL)
async def test_a_forged_prefix_is_ignored(mounted: Client, forged: str) -> None:
    """A forwarded prefix that is no plain path changes no address."""
    headers = {"X-Forwarded-Prefix": forged}
    answer = await mounted.post(f"{PREFIX}/events", json=provisioning_event(), headers=headers)
    assert answer.headers["Location"].startswith(f"{PREFIX}/runs/")
    for path in ("/docs", "/"):
        async with mounted.get(PREFIX + path, headers=headers) as page:
            text = await page.text()
        assert forged not in references(text)
        assert all(link.startswith(f"{PREFIX}/") for link in references(text))
    async with mounted.get(f"{PREFIX}/openapi.json", headers=headers) as document:
        assert (await document.json())["servers"] == [{"url": "/"}]


@pytest.mark.parametrize("prefix", ["", "/", "orchestrator", "/a//b", "/{tenant}", "/a b"])
def test_a_prefix_that_is_no_path_is_refused(prefix: str) -> None:
    """A prefix that is no path is refused by a sentence, also in Python without assertions, and the
    parent app gets no routes."""
    parent = web.Application()
    with pytest.raises(SettingsError, match=re.escape(f"prefix is {prefix!r}: it must be like /")):
        setup(parent, prefix=prefix)
    assert not list(parent.router.routes())


@pytest.mark.parametrize("again", ["/one", "/one/"])
def test_a_prefix_that_is_taken_is_refused(settings: Settings, again: str) -> None:
    """Two apps under one prefix would hide each other: the second one is refused."""
    parent = web.Application()
    setup(parent, prefix="/one", settings=settings)
    setup(parent, prefix="/one/two", settings=settings)
    with pytest.raises(SettingsError, match=f"prefix is '{again}', where an app is mounted"):
        setup(parent, prefix=again, settings=settings)
