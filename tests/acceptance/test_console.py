"""The console's files: open, under every prefix, with headers that block foreign code."""

import asyncio
import re
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import attrs
import pytest
from aiohttp import web
from yarl import URL

import orchestrator
from orchestrator import Settings, create_app, setup
from orchestrator.lambda_handler import LambdaService
from orchestrator.settings import ApiKey, Auth, Http
from tests.acceptance.answers import read_problem
from tests.acceptance.test_about import references
from tests.acceptance.ways import MakeEvent, read_lambda_answer
from tests.conftest import Client, StartService
from tests.lambda_events import FORMATS

FILES = Path(orchestrator.__file__).parent / "console"
MODULES = sorted(path.name for path in FILES.glob("*.js"))
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
_IMPORT = re.compile(r"""from "\./([^"]+)";""")


def local_references(page: str) -> list[str]:
    return [found for found in references(page) if not found.startswith("data:")]


async def test_the_console_is_open_and_its_data_is_not(
    start_service: StartService, settings: Settings
) -> None:
    """With API keys configured the page and its files are open, and the API is not."""
    auth = Auth(methods=("api_key",), api_key=ApiKey(keys=("key-1",)))
    service = await start_service(attrs.evolve(settings, auth=auth))
    async with service.get("/console") as page:
        assert (page.status, page.content_type) == (200, "text/html")
        links = local_references(await page.text())
    assert links
    for link in links:
        async with service.get(urljoin("/console", link)) as answer:
            assert answer.status == 200, link
    await read_problem(await service.get("/tenants"), 401)


@pytest.mark.parametrize("path", ["/console", "/console/app.js", "/console/app.css"])
async def test_each_file_has_the_policy_and_is_revalidated(service: Client, path: str) -> None:
    """Each file has the exact Content-Security-Policy, forbids sniffing, and is 304 for a current
    copy."""
    async with service.get(path) as answer:
        assert answer.headers["Content-Security-Policy"] == CSP
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["Content-Encoding"]
        tag = answer.headers["ETag"]
    async with service.get(path, headers={"If-None-Match": f'"old", {tag}'}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
        assert answer.headers["ETag"] == tag
        assert answer.headers["Content-Security-Policy"] == CSP
    async with service.get(path, headers={"If-None-Match": '"old"'}) as answer:
        assert answer.status == 200


async def test_only_its_head_can_be_asked_for(service: Client) -> None:
    """After a HEAD request the next answer on the connection begins right after the head, for a
    client that accepts compressed files too."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    for method, path, last in (("HEAD", "/console", "keep-alive"), ("GET", "/healthz", "close")):
        fields = f"Host: x\r\nAccept-Encoding: gzip, deflate\r\nConnection: {last}"
        writer.write(f"{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode())
    answers = await reader.read()
    writer.close()
    head, _, rest = answers.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert rest.startswith(b"HTTP/1.1 200"), rest[:40]


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "..%2Fapp.py", "%2Fetc%2Fpasswd"])
async def test_no_other_file_is_served(service: Client, name: str) -> None:
    """Only the files of the folder are served, by their names, and the page has one address."""
    await read_problem(await service.get(URL(f"/console/{name}", encoded=True)), 404)


async def test_the_page_preloads_every_module_and_every_import_exists(service: Client) -> None:
    """The page preloads each module, so that a browser fetches them concurrently, and each import
    exists."""
    page = (FILES / "index.html").read_text()
    assert sorted(re.findall(r'href="console/([^"]+\.js)"', page)) == MODULES
    for name in MODULES:
        assert set(_IMPORT.findall((FILES / name).read_text())) <= set(MODULES), name


@pytest.mark.parametrize("name", MODULES)
def test_no_module_makes_markup_or_styles_of_text(name: str) -> None:
    """No module has innerHTML or style, which the Content-Security-Policy would refuse, and its
    lines are as long as in Python."""
    source = (FILES / name).read_text()
    assert [line for line in source.splitlines() if len(line) > 100] == []
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source)
    assert not re.search(r"\bstyle:|\.style\b|\"style\"", source)


@pytest.mark.parametrize("before", ["", "/saas/orchestrator"])
async def test_the_console_is_below_the_base_path(
    start_service: StartService, settings: Settings, before: str
) -> None:
    """The console's files are below the base path, whether a proxy strips the prefix or not."""
    base = "/saas/orchestrator"
    service = await start_service(attrs.evolve(settings, http=Http(base_path=base)))
    async with service.get(f"{before}/console") as page:
        links = local_references(await page.text())
    for link in links:
        async with service.get(urljoin(f"{before}/console", link)) as answer:
            assert answer.status == 200, link
    async with service.get(f"{before}/console/") as answer:
        assert (answer.status, answer.url.path) == (200, f"{before}/console")


async def test_the_console_is_below_the_prefix_of_another_app(
    aiohttp_client: Any, settings: Settings, codebuild: object
) -> None:
    """Mounted in a parent app, the page finds its files below the prefix."""
    parent = web.Application()
    setup(parent, prefix="/tenants-api", settings=settings)
    client: Client = await aiohttp_client(parent)
    async with client.get("/tenants-api/console") as page:
        links = local_references(await page.text())
    for link in links:
        async with client.get(urljoin("/tenants-api/console", link)) as answer:
            assert answer.status == 200, link


@pytest.mark.parametrize("make_event", FORMATS.values(), ids=FORMATS)
def test_lambda_serves_the_console(settings: Settings, make_event: MakeEvent) -> None:
    """The Lambda function serves the page and its modules."""
    service = LambdaService(create_app(settings, hands_back=True))
    try:
        for path, start in (("/console", b"<!doctype html>"), ("/console/app.js", b"// ")):
            event = make_event("GET", path, headers={}, body=b"")
            answer = read_lambda_answer(service.handle(event, remaining_s=30), event)
            assert answer.status == 200
            assert answer.body.startswith(start)
    finally:
        service.close()
