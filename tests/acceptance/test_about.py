"""The service's pages and answers about itself: liveness, readiness, release, documentation."""

import re
from datetime import datetime
from importlib.metadata import version
from urllib.parse import urljoin

import pytest
from yarl import URL

from orchestrator import TemporaryError
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.testing import ManualClock
from tests.acceptance.answers import read_problem, read_success
from tests.conftest import Client, StartService

_REFERENCE = re.compile(r"""(?:src|href)="([^"]+)"|url: "([^"]+)"|url\(([^)]+)\)""")


class UnreachableLedger(InMemoryLedger):
    async def check(self) -> None:
        raise TemporaryError("nobody answers")


async def test_ping_answers_as_the_ancestor_did(service: Client) -> None:
    """`/ping` has greeting, date and url as in arc-saas, and no echo of the request."""
    async with service.get("/ping", headers={"X-Secret": "s3cret"}) as answer:
        assert answer.status == 200
        ping = await answer.json()
        assert "s3cret" not in await answer.text()
    assert ping.keys() == {"greeting", "date", "url"}
    assert ping["url"] == "/ping"
    assert datetime.fromisoformat(ping["date"]).utcoffset() is not None


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_healthy_service_is_live_and_ready(service: Client, path: str) -> None:
    """Liveness and readiness are 200."""
    async with service.get(path) as answer:
        assert answer.status == 200


async def test_readiness_names_the_check_that_failed(
    start_service: StartService, clock: ManualClock
) -> None:
    """A service with an unreachable ledger is alive and not ready."""
    service = await start_service(ledger=UnreachableLedger())
    problem = await read_problem(await service.get("/readyz"), 503)
    assert "ledger" in problem["detail"]
    async with service.get("/healthz") as answer:
        assert answer.status == 200


async def test_home_leads_to_pages_that_exist(service: Client) -> None:
    """Each link of the home page is served, and the page names the release."""
    async with service.get("/") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        page = await answer.text()
    links = references(page)
    assert {"/console", "/docs", "/metrics", "/openapi.json"} <= set(links)
    assert f"Version {version('saas-orchestrator')}" in page
    await assert_served(service, links)


async def test_the_openapi_document_is_served(service: Client) -> None:
    """The document is OpenAPI 3.1, with a path for each event type and one for any."""
    async with service.get("/openapi.json") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        document = await answer.json()
    assert document["openapi"].startswith("3.1")
    assert {"/events", "/events/{eventType}", "/events/TENANT_PROVISIONING"} <= set(
        document["paths"]
    )


async def test_the_page_to_try_it_needs_no_other_host(service: Client) -> None:
    """All files that the page and its style refer to come from the service."""
    async with service.get("/docs") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        page = await answer.text()
    links = references(page)
    assert "/openapi.json" in links
    assert len(links) >= 3
    assert "://" not in page
    await assert_served(service, links)
    for sheet in (link for link in links if link.endswith(".css")):
        async with service.get(sheet) as answer:
            fonts_and_images = references(await answer.text())
        local = [found for found in fonts_and_images if not found.startswith("data:")]
        await assert_served(service, [urljoin(sheet, found) for found in local])


async def test_a_service_that_uses_no_aws_needs_no_credentials(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a region or credentials the service starts, and handles events that need no AWS."""
    for variable in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    service = await start_service()
    await read_success(
        await service.post("/events/TENANT_PROVISIONING_SUCCESS", json={"tenantId": "t-1"})
    )


def references(text: str) -> list[str]:
    """The addresses that HTML, script or CSS refers to."""
    found = ["".join(groups).strip("\"'") for groups in _REFERENCE.findall(text)]
    return [reference for reference in found if not reference.startswith("#")]


async def assert_served(service: Client, paths: list[str]) -> None:
    for path in paths:
        assert path.startswith("/"), path
        assert not path.startswith("//"), path
        async with service.get(path) as answer:
            assert answer.status == 200, path
            assert await answer.read(), path


@pytest.mark.parametrize("name", ["nothing.css", "", "..%2Fopenapi.json", "%2Fetc%2Fpasswd", "."])
async def test_no_other_file_is_an_asset_of_the_page(service: Client, name: str) -> None:
    """Only the files of the page's own bundle are served, by their names."""
    await read_problem(await service.get(URL(f"/docs/assets/{name}", encoded=True)), 404)
