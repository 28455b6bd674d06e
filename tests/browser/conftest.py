"""The fixtures of browser tests: one Chromium for all, and a page of its own for each test."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.browser.chromium import MissingTool, running_chromium
from tests.dynamodb_local.fixtures import REQUIRE_ALL


@pytest.fixture(scope="session")
def chromium_url() -> Iterator[str]:
    """A Chromium's DevTools; without Chromium the test is skipped, or fails in CI."""
    try:
        with running_chromium() as url:
            yield url
    except MissingTool as missing:
        if os.environ.get(REQUIRE_ALL) == "1":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture
async def chromium(chromium_url: str) -> AsyncIterator[Browser]:
    """The Chromium, in this test's event loop."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(chromium_url)
        yield browser
        for context in browser.contexts[1:]:  # the first one is the browser's own
            await context.close()
        await browser.close()


@pytest.fixture
async def page(chromium: Browser) -> AsyncIterator[Page]:
    """An empty page with cookies and storage of its own."""
    context = await chromium.new_context()
    yield await context.new_page()
    await context.close()
