"""The page of the API documentation in a real Chromium, under its own policy."""

import re

import attrs
import pytest
from playwright.async_api import Locator, Page, expect

from orchestrator import Settings
from orchestrator.settings import ApiKey, Auth
from tests.conftest import Client, StartService

KEY = "first-key-4711"


@pytest.fixture
def said(page: Page) -> list[str]:
    """The lines that Chromium writes to its console, such as what a policy has blocked."""
    texts: list[str] = []
    page.on("console", lambda message: texts.append(message.text))
    return texts


async def show(page: Page, service: Client) -> Locator:
    """Open the operation that a test tries, on the page."""
    await page.goto(str(service.make_url("/docs")))
    operation = page.locator("#operations-events-handle_TENANT_PROVISIONING_SUCCESS")
    await operation.locator(".opblock-summary-control").click()
    await operation.locator(".try-out__btn").click()
    await operation.locator("textarea").fill('{"tenantId": "t-2"}')
    return operation


async def assert_answered(operation: Locator, status: int) -> None:
    await operation.locator(".execute").click()
    found = operation.locator(".live-responses-table tbody .response-col_status")
    await expect(found.first).to_have_text(re.compile(f"^{status}"))


async def test_the_page_sends_events(page: Page, service: Client, said: list[str]) -> None:
    """The page sends events, and nothing that it loads or does is blocked."""
    await assert_answered(await show(page, service), 200)
    assert said == []


async def test_an_open_service_has_nothing_to_authorize(page: Page, service: Client) -> None:
    """An open service's page has neither a button nor a padlock for authorization."""
    await show(page, service)
    await expect(page.locator(".authorize, .authorization__btn")).to_have_count(0)


async def test_the_page_shows_real_examples(page: Page, service: Client) -> None:
    """The page shows real examples, in the answers of an operation too, where Swagger UI would fill
    in placeholders."""
    await page.goto(str(service.make_url("/docs")))
    operation = page.locator("#operations-tenants-get_tenants_tenantid")
    await operation.locator(".opblock-summary-control").click()
    example = operation.locator(".responses-wrapper .example").first
    await expect(example).to_contain_text('"tenantId": "t-1"')
    await expect(operation).not_to_contain_text('"string"')


async def test_the_page_works_with_a_key(
    page: Page, start_service: StartService, settings: Settings, said: list[str]
) -> None:
    """The page needs no key; its requests are 401 until a key is entered."""
    auth = Auth(methods=("api_key",), api_key=ApiKey(keys=(KEY,)))
    service = await start_service(attrs.evolve(settings, auth=auth))
    operation = await show(page, service)
    await assert_answered(operation, 401)
    await page.locator(".auth-wrapper .authorize").first.click()
    await page.locator(".dialog-ux input").fill(KEY)
    await page.locator(".dialog-ux .authorize").click()
    await page.locator(".dialog-ux .close-modal").click()
    await assert_answered(operation, 200)
    assert not [text for text in said if "Content Security Policy" in text]
