"""The console stays quick however large the ledger is; `benchmarks/console.py` measures it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from playwright.async_api import Browser, Route, expect

from benchmarks.console import records
from orchestrator import Settings
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.testing import ManualClock
from tests.browser.operators import open_console
from tests.conftest import StartService
from tests.ledgers import fill

_PAINTED = "() => performance.getEntriesByName('first-contentful-paint').length > 0"

#: Each view, the elements that show its data and their number, and the requests to the API.
VIEWS = [
    (
        "/tenants",
        "table.tenants tbody tr",
        50,
        ["GET /me", "GET /overview", "GET /runs", "GET /tenants"],
    ),
    (
        "/tenants?state=all",
        "table.tenants tbody tr",
        50,
        ["GET /me", "GET /overview", "GET /runs", "GET /tenants"],
    ),
    ("/tenants/tenant-000007", ".lanes > li", 1, ["GET /me", "GET /tenants/tenant-000007"]),
    ("/runs", "table.runs tbody tr", 100, ["GET /me", "GET /runs"]),
    ("/runs?status=failed", "table.runs tbody tr", 100, ["GET /me", "GET /runs"]),
    (
        f"/runs/{7:040x}",
        ".facts",
        1,
        ["GET /me", f"GET /operations/{7:040x}", f"GET /runs/{7:040x}"],
    ),
]


async def test_a_view_paints_before_its_data_and_shows_a_page_of_it(
    chromium: Browser, start_service: StartService, settings: Settings
) -> None:
    """The shell is painted before any request is answered; then a page of the data is shown, for a
    fixed number of requests."""
    ledger, now = InMemoryLedger(), datetime.now(UTC)
    await fill(ledger, list(records(now, tenants=300, runs=3_000)))
    service = await start_service(settings, ledger=ledger, clock=ManualClock(time=now))
    for place, selector, count, requests in VIEWS:
        async with open_console(chromium, service.make_url("/console")) as console:
            released = asyncio.Event()
            await console.page.route("**/*", holding_answers(released))
            await console.page.goto(f"{console.url}#{place}", wait_until="commit")
            await console.page.wait_for_function(_PAINTED)
            assert await console.page.locator(selector).count() == 0
            released.set()
            await expect(console.page.locator(selector)).to_have_count(count)
            assert sorted(console.asked) == requests, place


def holding_answers(released: asyncio.Event) -> Callable[[Route], Awaitable[None]]:
    """A handler of the page's requests, in which those to the API wait."""

    async def hold(route: Route) -> None:
        if "/console" not in route.request.url:
            await released.wait()
        await route.continue_()

    return hold
