"""A page of another origin, in a real Chromium, against a service without credentials."""

import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import ConsoleMessage, Page

from tests.acceptance.answers import read_success
from tests.conftest import Client, StartService
from tests.ledgers import CountingLedger

PROVISIONING = {"tenantId": "t-1", "planConfig": {"tier": "BASIC"}}
EVENT = json.dumps(PROVISIONING)

#: Requests that a page can send without CORS's permission, and those that need it.
FETCHES: list[dict[str, Any]] = [
    {"mode": "no-cors", "headers": {"Content-Type": "text/plain"}},
    {"mode": "no-cors"},
    {"mode": "no-cors", "untyped": True},
    {"mode": "cors", "headers": {"Content-Type": "text/plain"}},
    {"mode": "cors", "headers": {"Content-Type": "application/json"}},
    {"mode": "cors", "headers": {"Sec-Fetch-Site": "same-origin"}},
    {"mode": "no-cors", "credentials": "include", "keepalive": True},
]
FORMS = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
_FETCH_ALL = """async requests => {
  const found = [];
  for (const [url, options] of requests) {
    if (options.untyped) options.body = new Blob([options.body]);
    try {
      const answer = await fetch(url, options);
      found.push([answer.type, await answer.text()]);
    } catch (error) { found.push(["error", ""]); }
  }
  return found;
}"""
_FORM = """([url, body, type]) => {
  const form = document.createElement("form");
  Object.assign(form, {method: "post", action: url, enctype: type});
  const field = document.createElement("input");
  field.name = body;
  form.append(field);
  document.body.append(form);
  form.submit();
}"""


@pytest.fixture
def ledger() -> CountingLedger:
    return CountingLedger()


@pytest.fixture
async def service(start_service: StartService, ledger: CountingLedger) -> Client:
    """An open service that has a run and a tenant."""
    service = await start_service(ledger=ledger)
    await read_success(await service.post("/events/TENANT_PROVISIONING", json=PROVISIONING))
    ledger.commits = 0
    return service


@pytest.fixture(params=["127.0.0.1", "localhost"])
async def stranger(request: Any, page: Page) -> AsyncIterator[Page]:
    """A page at another port, which is the same site, or under another name, which is not."""

    async def show(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><p>evil</p>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", show)
    async with TestServer(app) as server:
        await page.goto(f"http://{request.param}:{server.port}/")
        yield page


def targets(service: Client, run: str) -> list[str]:
    paths = ("/events", "/events/TENANT_PROVISIONING", "/tenants/t-1/cancel", f"{run}/replay")
    return [str(service.make_url(path)) for path in paths]


async def only_run(service: Client) -> str:
    (run,) = (await (await service.get("/runs")).json())["items"]
    return f"/runs/{run['runId']}"


async def test_no_fetch_of_another_origin_changes_or_reads_anything(
    service: Client, ledger: CountingLedger, stranger: Page
) -> None:
    """No event, cancel or replay arrives, and no answer can be read."""
    bodies = (EVENT, '{"force": true}', "")
    urls = targets(service, await only_run(service))
    sent = [
        [url, {**options, "method": "POST", "body": body}]
        for options, url, body in itertools.product(FETCHES, urls, bodies)
    ]
    paths = ("/runs", "/tenants", "/tenants/t-1", "/openapi.json", "/")
    read = [
        [str(service.make_url(path)), {"mode": mode}]
        for path, mode in itertools.product(paths, ("cors", "no-cors"))
    ]
    found = await stranger.evaluate(_FETCH_ALL, sent + read)
    assert {tuple(answer) for answer in found} <= {("error", ""), ("opaque", "")}
    assert ledger.commits == 0


async def test_no_form_of_another_origin_changes_anything(
    service: Client, ledger: CountingLedger, stranger: Page
) -> None:
    """A form of another origin changes nothing, and its visitor gets the refusal."""
    start = stranger.url
    for url, media_type in itertools.product(targets(service, await only_run(service)), FORMS):
        async with stranger.expect_navigation(url=url) as navigation:
            await stranger.evaluate(_FORM, [url, EVENT, media_type])
        answer = await navigation.value
        assert answer is not None
        assert answer.status == 403
        await stranger.goto(start)
    assert ledger.commits == 0


async def test_no_frame_of_another_origin_shows_a_page(service: Client, stranger: Page) -> None:
    """In a frame of another origin Chromium shows an error instead of the page, and logs the
    reason."""
    async with stranger.expect_console_message(_says_that_frames_are_forbidden):
        await stranger.evaluate(
            "url => { const f = document.createElement('iframe'); f.src = url;"
            " document.body.append(f); }",
            str(service.make_url("/docs")),
        )


def _says_that_frames_are_forbidden(message: ConsoleMessage) -> bool:
    return "frame-ancestors 'none'" in message.text
