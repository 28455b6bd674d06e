"""The fixtures of browser tests: a Chromium, and a page of its own for each test."""

import os
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page

from tests.browser.chromium import MissingTool, running_chromium
from tests.dynamodb_local.fixtures import REQUIRE_ALL


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """A Chromium without a window; where there is none, the test is skipped, or fails in CI."""
    try:
        async with running_chromium() as browser:
            yield browser
    except MissingTool as missing:
        if os.environ.get(REQUIRE_ALL) == "1":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture
async def page(chromium: Browser) -> AsyncIterator[Page]:
    """An empty page with cookies and storage of its own."""
    context = await chromium.new_context()
    yield await context.new_page()
    await context.close()
