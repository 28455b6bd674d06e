"""Answers to browsers: other origins' requests, forms, and headers."""

import json
from typing import Any

import attrs
import pytest
from aiohttp import web

from orchestrator import Settings, setup
from orchestrator.app import create_worker_app
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import ApiKey, Auth, Http
from orchestrator.testing import envelope
from tests.acceptance.answers import read_problem, read_success
from tests.conftest import Client, StartService
from tests.ledgers import CountingLedger

KEY = "first-key-4711"
UNSAFE = [
    ("POST", "/events"),
    ("POST", "/events/TENANT_PROVISIONING"),
    ("POST", "/runs/x/replay"),
    ("POST", "/tenants/t-1/cancel"),
    ("DELETE", "/runs/x"),
    ("POST", "/nowhere"),
]
ANOTHER_ORIGIN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://here.example"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "same-origin, cross-site"},
    {"Origin": "https://there.example"},
    {"Origin": "http://here.example:81"},
    {"Origin": "null"},
    {"Origin": "http://[::"},
]
OWN_ORIGIN = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy.example"},
    {"Origin": "http://here.example"},
    {"Origin": "https://HERE.example"},
]


def guarded(settings: Settings) -> Settings:
    return attrs.evolve(settings, auth=Auth(methods=("api_key",), api_key=ApiKey(keys=(KEY,))))


@pytest.fixture
def ledger() -> CountingLedger:
    return CountingLedger()


@pytest.mark.parametrize("sent", ANOTHER_ORIGIN, ids=str)
@pytest.mark.parametrize(("method", "path"), UNSAFE)
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "guarded"])
async def test_a_page_of_another_origin_changes_nothing(
    start_service: StartService,
    settings: Settings,
    ledger: CountingLedger,
    is_open: bool,
    method: str,
    path: str,
    sent: dict[str, str],
) -> None:
    """A request of a page of another origin is 403, before its credentials are checked, and writes
    nothing."""
    service = await start_service(settings if is_open else guarded(settings), ledger=ledger)
    headers = {"Host": "here.example", "x-api-key": KEY, **sent}
    answer = await service.request(method, path, json=envelope("MINE", {}), headers=headers)
    assert "another origin" in (await read_problem(answer, 403))["detail"]
    assert ledger.commits == 0


@pytest.mark.parametrize("sent", OWN_ORIGIN, ids=str)
async def test_own_pages_and_programs_send_events(service: Client, sent: dict[str, str]) -> None:
    """Requests of the service's own pages, of typed addresses and of programs are accepted."""
    headers = {"Host": "here.example", **sent}
    body = envelope("TENANT_PROVISIONING_SUCCESS", {"tenantId": "t-1"})
    await read_success(await service.post("/events", json=body, headers=headers))


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
async def test_links_of_other_sites_lead_to_pages(service: Client, site: str) -> None:
    """A safe method is answered whichever site links to it; the browser hides the answer from
    scripts."""
    answer = await service.get("/", headers={"Sec-Fetch-Site": site})
    assert answer.status == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_mounted_service_refuses_pages_of_other_origins(
    aiohttp_client: Any, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A mounted service refuses pages of other origins for its own routes, not for the parent
    app's."""

    async def sell(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_post("/", sell)
    setup(app, settings=settings)
    shop: Client = await aiohttp_client(app)
    sent = {"Sec-Fetch-Site": "cross-site"}
    await read_problem(await shop.post("/orchestrator/events", json={}, headers=sent), 403)
    assert (await shop.post("/", headers=sent)).status == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/runs", "/nowhere", "/events"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1:81", ""])
async def test_only_allowed_hosts_are_answered(
    start_service: StartService, settings: Settings, path: str, host: str
) -> None:
    """A request under another host name, as by DNS rebinding, is 421 before anything is read."""
    hosts = Http(allowed_hosts=("127.0.0.1:8080", "localhost:8080"))
    service = await start_service(attrs.evolve(settings, http=hosts))
    problem = await read_problem(await service.get(path, headers={"Host": host}), 421)
    assert "localhost:8080" in problem["detail"]
    for allowed in ("127.0.0.1:8080", "LocalHost:8080"):
        assert (await service.get("/healthz", headers={"Host": allowed})).status == 200


@pytest.mark.parametrize("path", ["/runs/x/replay", "/tenants/t-1/cancel"])
@pytest.mark.parametrize(
    ("media_type", "body", "status"),
    [
        ("text/plain", "", 415),
        ("text/plain", '{"force": true}', 415),
        ("application/x-www-form-urlencoded", "force=true", 415),
        ("multipart/form-data; boundary=x", "", 415),
        ("application/octet-stream", "{}", 415),
        ("application/octet-stream", "", 404),
        ("application/json", "{}", 404),
        ("application/json; charset=utf-8", "", 404),
        ("application/merge-patch+json", "{}", 404),
    ],
)
async def test_replay_and_cancel_want_json_or_no_body(
    service: Client, path: str, media_type: str, body: str, status: int
) -> None:
    """A replay or cancel with a media type that a form can send is 415; else the run or the tenant
    is read."""
    headers = {"Content-Type": media_type}
    await read_problem(await service.post(path, data=body.encode(), headers=headers), status)


PAGES = ["/", "/docs"]
DATA = ["/openapi.json", "/runs", "/tenants", "/ping", "/healthz", "/readyz", "/runs/x", "/nowhere"]
ASSETS = ["home.css", "docs.js", "swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"]
PATHS = [*PAGES, *DATA, *(f"/docs/assets/{name}" for name in ASSETS)]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "guarded"])
async def test_each_answer_restricts_what_browsers_do_with_it(
    start_service: StartService, settings: Settings, is_open: bool, path: str
) -> None:
    """Each answer has a policy without inline script and style, forbids sniffing and frames, and
    data isn't cached."""
    service = await start_service(settings if is_open else guarded(settings))
    answer = await service.get(path)
    directives = dict(
        directive.strip().split(" ", 1)
        for directive in answer.headers["Content-Security-Policy"].split(";")
    )
    assert directives["default-src"] == directives["frame-ancestors"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == "'self'"
    assert directives["base-uri"] == directives["form-action"] == "'none'"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    is_asset = path.startswith("/docs/assets/")
    assert answer.headers["Cache-Control"] == ("no-cache" if is_asset else "no-store")


async def test_health_checks_of_a_worker_have_the_headers(
    aiohttp_client: Any, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A worker's web app has the same headers."""
    queue = attrs.evolve(settings.intake, queue_url="http://127.0.0.1:9/1/queue")
    app = create_worker_app(attrs.evolve(settings, intake=queue))
    worker: Client = await aiohttp_client(app)
    assert (await worker.get("/healthz")).headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json", *PATHS[-len(ASSETS) :]])
async def test_pages_need_no_credentials(
    start_service: StartService, settings: Settings, path: str
) -> None:
    """Pages and the document, which have no data, need no credentials, since a browser can't send a
    header with its first request."""
    service = await start_service(guarded(settings))
    assert (await service.get(path)).status == 200


@pytest.mark.parametrize("name", ASSETS)
async def test_a_file_is_sent_once_to_each_browser(service: Client, name: str) -> None:
    """A file that the browser has is 304 as long as it is the same."""
    path = f"/docs/assets/{name}"
    first = await service.get(path)
    assert len(await first.read()) == int(first.headers["Content-Length"]) > 0
    again = await service.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")
    other = await service.get(path, headers={"If-None-Match": '"other"'})
    assert (other.status, other.content_type) == (200, first.content_type)


@pytest.mark.parametrize("path", PAGES)
async def test_pages_have_no_inline_script_or_style(service: Client, path: str) -> None:
    """Pages have no inline script or style, which the policy forbids."""
    page = await (await service.get(path)).text()
    assert "<style" not in page
    assert "style=" not in page
    assert page.count("<script") == page.count("<script src=")


async def test_problems_quote_no_more_of_a_host_than_is_safe(
    start_service: StartService, settings: Settings
) -> None:
    """The problem about a host is valid JSON, whatever the header has."""
    service = await start_service(attrs.evolve(settings, http=Http(allowed_hosts=("a:1",))))
    answer = await service.get("/", headers={"Host": "<script>\u00e9\t"})
    assert json.loads(await answer.text())["status"] == 421
