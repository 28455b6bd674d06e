"""The console's views with real data: accessibility, a fixed number of requests, pages, and every
prefix. With CONSOLE_PICTURES=FOLDER the views are written there as pictures."""

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import web
from playwright.async_api import Browser, expect

from orchestrator import Settings, create_app, setup
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import Callback
from orchestrator.testing import ManualClock
from tests.browser.operators import (
    DESK,
    TELEPHONE,
    Console,
    Fleet,
    add_projects,
    clock_before,
    open_console,
    staffed,
    until_now,
)
from tests.browser.scene import Night, Webhook
from tests.conftest import Client, StartService

PICTURES = os.environ.get("CONSOLE_PICTURES")


@pytest.fixture
def clock() -> ManualClock:
    return clock_before(days=275)


async def take_picture(console: Console, name: str) -> None:
    if PICTURES is not None:
        await console.page.screenshot(path=Path(PICTURES) / f"{name}.png")


@pytest.fixture
async def night(
    aiohttp_server: Any,
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> Night:
    """A service after a night with all kinds of data that the console shows."""
    webhook = Webhook()
    app = web.Application()
    app.router.add_post("/webhook", webhook.receive)
    server = await aiohttp_server(app)
    callback = Callback(url=str(server.make_url("/webhook")), timeout_s=30)
    service = await start_service(attrs.evolve(staffed(settings), callback=callback))
    add_projects(codebuild, clock)
    night = Night(Fleet(service, codebuild, clock), webhook)
    await night.happen()
    return night


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("scheme", "size", "suffix"),
    [("light", DESK, "light"), ("dark", DESK, "dark"), ("light", TELEPHONE, "telephone")],
    ids=["light", "dark", "telephone"],
)
async def test_no_view_has_a_barrier(
    chromium: Browser, night: Night, scheme: str, size: dict[str, int], suffix: str
) -> None:
    """axe finds no barrier in any view or dialog, and nothing is wider than the window."""
    service = night.fleet.service
    runs = (await night.fleet.tenant("globex-eu"))["timeline"]
    places = {
        "console-tenants": "/tenants",
        "console-tenant": "/tenants/acme-corp",
        "console-waiting": "/tenants/northwind",
        "console-run": f"/runs/{runs[0]['runId']}",
        "console-runs": "/runs?status=failed&since=24h",
    }
    url = service.make_url("/console")
    async with open_console(chromium, url, scheme=scheme, size=size) as console:
        await console.open()
        page = console.page
        for name, place in places.items():
            await console.go(place)
            marker = page.locator(f"main .view:not(.skeleton) {HEADS[name]}")
            await marker.first.wait_for()
            if name == "console-run":
                await page.get_by_role("button", name="Show, redacted").click()
                await page.locator("pre.payload").wait_for()
            assert await console.find_barriers() == [], name
            assert await page.evaluate("document.body.scrollWidth <= innerWidth"), name
            await page.mouse.move(0, 0)
            await take_picture(console, f"{name}-{suffix}")
        await page.locator(".cause").first.click()
        await page.locator("[data-act=bulk]").click()
        assert await console.find_barriers() == []
        await take_picture(console, f"console-bulk-{suffix}")
        await page.keyboard.press("Escape")
        await page.keyboard.press("?") if size == DESK else None
        assert await console.find_barriers() == []


#: The elements that show that a view is drawn.
HEADS = {
    "console-tenants": "table.tenants",
    "console-tenant": ".picture",
    "console-waiting": ".picture",
    "console-run": ".machine",
    "console-runs": "table.runs",
}


async def test_a_life_is_drawn_with_its_starts_waits_and_reports(
    chromium: Browser, night: Night
) -> None:
    """The newest lane has attempts, waits, both jobs and the report's tries, and says so."""
    url = night.fleet.service.make_url("/console")
    async with open_console(chromium, url) as console:
        await console.open("/tenants/acme-corp")
        page = console.page
        lane = page.locator(".lanes > li").first
        drawing = lane.get_by_role("img")
        await expect(drawing).to_have_attribute("aria-label", STARTS)
        await expect(lane).to_contain_text("waited 3 min")
        await expect(lane).to_contain_text("replayed by maria.k")
        await expect(lane).to_contain_text("another operation (install/upgrade/rollback)")
        await expect(lane).to_contain_text("try 3; before: 503")
        await expect(page.locator(".lanes > li")).to_have_count(8)
        await page.get_by_role("link", name="10 min").click()
        await expect(page.locator(".lanes > li")).to_have_count(1)
        await page.get_by_role("link", name="its run").click()
        await expect(page.locator(".lanes > li")).to_have_count(1)


#: No request has ended or begun in the last 200 ms, as the page itself has it.
QUIET = """() => {
    const ended = performance.getEntriesByType("resource").map((one) => one.responseEnd);
    return Math.min(...ended) > 0 && performance.now() - Math.max(...ended) > 200;
}"""

STARTS = re.compile("2 starts.*replayed by maria.k.*waited 3 min.*running for")


async def test_each_view_asks_a_fixed_number_of_times(chromium: Browser, night: Night) -> None:
    """Each view sends a fixed number of requests, however many tenants and runs there are."""
    url = night.fleet.service.make_url("/console")
    run_id = (await night.fleet.tenant("globex-eu"))["timeline"][0]["runId"]
    operation_id = (await night.fleet.tenant("globex-eu"))["timeline"][0]["operationId"]
    asked = {
        "/tenants": ["GET /overview", "GET /runs", "GET /tenants"],
        "/tenants?state=active": ["GET /tenants"],
        "/tenants/acme-corp": ["GET /tenants/acme-corp"],
        f"/runs/{run_id}": [f"GET /operations/{operation_id}", f"GET /runs/{run_id}"],
        "/runs?status=failed": ["GET /runs"],
    }
    async with open_console(chromium, url) as console:
        await console.open("/runs")
        assert Counter(console.asked) == Counter(["GET /me", "GET /runs"] * 2)
        await console.page.get_by_role("button", name="Live").click()
        for place, expected in asked.items():
            console.asked.clear()
            await console.go(place)
            while len(console.asked) < len(expected):
                await console.page.wait_for_event("request")
            await console.page.locator(".view:not(.skeleton)").wait_for()
            await console.page.wait_for_function(QUIET)
            assert sorted(console.asked) == expected, place


async def test_a_long_list_has_pages(
    chromium: Browser,
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """A page has fifty tenants and an address of its own, and the browser's back button works."""
    service = await start_service(staffed(settings))
    add_projects(codebuild, clock)
    fleet = Fleet(service, codebuild, clock)
    for number in range(60):
        await fleet.deploy(f"tenant-{number:02}", tier="basic")
    until_now(clock)
    async with open_console(chromium, service.make_url("/console")) as console:
        await console.open()
        page = console.page
        rows = page.locator("table.tenants tbody tr")
        await expect(rows).to_have_count(50)
        await expect(page.locator(".chip", has_text="no state yet")).to_contain_text("60")
        await page.get_by_role("link", name="Next page").click()
        await expect(rows).to_have_count(10)
        await expect(page.get_by_role("link", name="Next page")).to_have_count(0)
        await page.reload()
        await expect(rows).to_have_count(10)
        await page.go_back()
        await expect(rows).to_have_count(50)


async def test_a_long_life_has_pages_too(
    chromium: Browser,
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """A page has twenty operations and fifty events; links to older ones keep each other's page."""
    service = await start_service(staffed(settings))
    add_projects(codebuild, clock)
    fleet = Fleet(service, codebuild, clock)
    for _ in range(27):
        clock.turn(86_400)
        await fleet.deploy("acme-corp")
        clock.turn(300)
        await fleet.end("acme-corp")
    until_now(clock)
    async with open_console(chromium, service.make_url("/console")) as console:
        await console.open("/tenants/acme-corp")
        page = console.page
        lanes, events = page.locator(".lanes > li"), page.locator("table.happened tbody tr")
        await expect(lanes).to_have_count(20)
        await expect(page.locator(".row.head")).to_contain_text("20+ operations")
        await expect(events).to_have_count(50)
        await page.get_by_role("link", name="Older operations").click()
        await expect(lanes).to_have_count(7)
        await expect(events).to_have_count(50)
        await page.get_by_role("link", name="Older events").click()
        await expect(events).to_have_count(4)
        await expect(lanes).to_have_count(7)
        await page.get_by_role("link", name="First page").click()
        await expect(lanes).to_have_count(20)


@pytest.mark.parametrize("prefix", ["/tenants-api", "/saas/orchestrator"])
async def test_the_console_works_below_a_prefix(
    chromium: Browser,
    aiohttp_client: Any,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    prefix: str,
) -> None:
    """The console works mounted in another app, and at http.base_path."""
    guarded = staffed(settings)
    if prefix == "/tenants-api":
        app = web.Application()
        setup(app, prefix=prefix, settings=guarded, clock=clock)
    else:
        app = create_app(
            attrs.evolve(guarded, http=attrs.evolve(guarded.http, base_path=prefix)), clock=clock
        )
    client: Client = await aiohttp_client(app)
    async with open_console(chromium, client.make_url(f"{prefix}/console")) as console:
        await console.open()
        await expect(console.page.get_by_role("heading", name="No tenants yet")).to_be_visible()
        assert await console.find_barriers() == []
        assert "GET /overview" in console.asked
