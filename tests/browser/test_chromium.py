"""The fixtures of browser tests themselves."""

from playwright.async_api import Page

from tests.conftest import Client


async def test_a_page_of_the_service_is_shown(page: Page, service: Client) -> None:
    """Chromium loads a page of the service."""
    answer = await page.goto(str(service.make_url("/")))
    assert answer is not None
    assert answer.status == 200
    assert await page.locator("h1").inner_text() == "SaaS orchestrator"
