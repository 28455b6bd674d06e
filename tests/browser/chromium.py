"""Finds Chromium, and runs it without a window."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Containers have no user namespaces for Chromium's sandbox, and a small /dev/shm. The rest keeps
#: the browser from asking its vendor's servers for anything.
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)


class MissingTool(Exception):
    """There is no Chromium on this machine; says so."""


@asynccontextmanager
async def running_chromium() -> AsyncIterator[Browser]:
    """A Chromium without a window, for the life of the context. Raises MissingTool."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise MissingTool(f"The browser tests need Chromium: none of {', '.join(_NAMES)} is here.")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()
