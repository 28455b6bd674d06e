"""Stories of an operator at the console, in a real Chromium."""

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Mapping

import pytest
from playwright.async_api import Browser, Route, expect

from orchestrator import Settings, TemporaryError
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.ledger.records import Record
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.testing import ManualClock
from tests.browser.operators import (
    HEADERS,
    MISSING,
    READER,
    SENDER,
    Console,
    Fleet,
    add_projects,
    clock_before,
    open_console,
    staffed,
    until_now,
)
from tests.conftest import Client, StartService


@pytest.fixture
def clock() -> ManualClock:
    """A clock on which events happen some minutes before the operator opens the console."""
    return clock_before(minutes=30)


@pytest.fixture
async def service(start_service: StartService, settings: Settings) -> Client:
    return await start_service(staffed(settings))


@pytest.fixture
async def fleet(service: Client, codebuild: CodeBuildStandIn, clock: ManualClock) -> Fleet:
    add_projects(codebuild, clock)
    return Fleet(service, codebuild, clock)


@pytest.fixture
async def console(chromium: Browser, service: Client) -> AsyncIterator[Console]:
    async with open_console(chromium, service.make_url("/console")) as console:
        yield console


async def test_a_failed_tenant_is_healed(
    fleet: Fleet, console: Console, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A failed tenant is first in the list with its reason; once the cause is fixed it is replayed,
    and becomes active on the page."""
    assert await fleet.deploy("calm") == 200
    await fleet.end("calm")
    assert await fleet.deploy("hooli", tier="basic") == 422
    until_now(clock)
    await console.open()
    page = console.page

    first = page.locator("table.tenants tbody tr").first
    await expect(first.get_by_role("rowheader")).to_have_text("hooli")
    await expect(first).to_contain_text("no state yet")
    await expect(first).to_contain_text(MISSING)
    await expect(page.get_by_text("calm")).to_have_count(0)

    await first.get_by_role("link", name="hooli").click()
    await expect(page.get_by_role("heading", name="hooli")).to_be_focused()
    await expect(page.locator(".present")).to_contain_text(MISSING)

    codebuild.add_project(MISSING)
    await page.get_by_role("button", name="Replay", exact=True).click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Attempt 2 begins at once")
    await expect(dialog).to_contain_text("Recorded with your key's name: maria.k.")
    await dialog.get_by_role("button", name="Replay").click()
    await expect(page.locator("#notes")).to_contain_text("hooli: the replay was handled.")
    await expect(page.locator(".title")).to_contain_text("deploying")
    await expect(page.locator(".present")).to_contain_text(MISSING)
    await expect(page.locator("table.happened")).to_contain_text("replayed by maria.k")

    await fleet.end("hooli")
    await console.look_again()
    await expect(page.locator(".title .mark")).to_have_text("active")
    await expect(page.locator(".present")).to_contain_text("Nothing is under way")


async def test_a_job_that_failed_is_started_anew(
    fleet: Fleet, console: Console, clock: ManualClock
) -> None:
    """The replay of a run whose operation is over says that a new job starts, and forces it."""
    await fleet.deploy("hooli")
    clock.turn(500)
    await fleet.end("hooli", "FAILED", reason="helm upgrade: timed out")
    until_now(clock)
    await console.open("/tenants/hooli")
    page = console.page
    await expect(page.locator(".present .lead")).to_contain_text("helm upgrade: timed out")

    await page.keyboard.press("r")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("A new job is started: CodeBuild tenant-deploy-premium")
    await expect(dialog).to_contain_text("deployment failed to deploying")
    await dialog.get_by_role("button", name="Start a new job").click()
    await expect(page.locator(".title .mark")).to_have_text("deploying")
    await expect(page.locator(".present")).to_contain_text("Start 2, replayed by maria.k")
    await expect(page.locator(".present")).to_contain_text("helm upgrade: timed out")


async def test_forty_runs_that_failed_for_one_reason_are_replayed_at_once(
    fleet: Fleet, console: Console, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """The reason selects forty runs, the operator types the number, and the dock counts them to the
    end."""
    for number in range(40):
        await fleet.deploy(f"tenant-{number:02}", tier="basic")
    await fleet.send("BILLING_CLOSED", "tenant-00")
    until_now(clock)
    codebuild.add_project(MISSING)
    await console.open("/runs?status=failed")
    page = console.page

    await page.get_by_role("button", name=re.compile(f"40.*{MISSING}")).click()
    await expect(page.locator(".bulk")).to_contain_text("40 selected")
    await page.get_by_role("button", name="Replay 40…").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("40 runs of 40 tenants")
    await expect(dialog).to_contain_text("They failed for one reason")
    await dialog.get_by_role("button", name="Replay 40").click()
    await expect(dialog.get_by_role("alert")).to_have_text("Type 40, the number of runs.")
    await dialog.get_by_label("Type 40 to confirm").fill("40")
    await dialog.get_by_role("button", name="Replay 40").click()

    dock = page.get_by_role("region", name="Bulk replay")
    await expect(dock).to_contain_text("Replayed 40 runs", timeout=60_000)
    await expect(dock).to_contain_text("40 handled")
    await expect(page.locator("table.runs tbody tr")).to_have_count(1)
    assert len(codebuild.builds) == 40
    assert sorted(console.asked).count("POST /events") == 0


async def test_an_operation_is_cancelled_with_a_reason(
    fleet: Fleet, console: Console, clock: ManualClock
) -> None:
    """The dialog names the job that is stopped, and sends nothing without a reason."""
    await fleet.deploy("northwind")
    until_now(clock)
    await console.open()
    page = console.page

    await page.get_by_role("button", name="Cancel deployment of northwind").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("The job is stopped: CodeBuild tenant-deploy-premium")
    await dialog.get_by_role("button", name="Cancel deployment").click()
    await expect(dialog).to_be_visible()
    await dialog.get_by_label("Reason").fill("wrong release")
    await dialog.get_by_role("button", name="Cancel deployment").click()

    await expect(page.locator("#notes")).to_contain_text("deployment of northwind")
    row = page.get_by_role("row", name=re.compile("northwind"))
    await expect(row).to_contain_text("deployment failed")
    await expect(row).to_contain_text("wrong release")
    await row.get_by_role("link", name="northwind").click()
    await expect(page.locator(".present")).to_contain_text("Cancelled by maria.k")


async def test_a_key_that_may_only_read_changes_nothing(
    fleet: Fleet, console: Console, clock: ManualClock
) -> None:
    """With a key that may only read everything is shown, and actions are disabled, with the
    reason."""
    await fleet.deploy("northwind")
    await fleet.deploy("hooli", tier="basic")
    until_now(clock)
    await console.open(key=READER)
    page = console.page
    await expect(page.locator(".top")).to_contain_text("dashboard")
    await expect(page.locator(".top")).to_contain_text("read only")

    for name in ("Replay hooli", "Cancel deployment of northwind"):
        button = page.get_by_role("button", name=name)
        await expect(button).to_have_attribute("aria-disabled", "true")
        await expect(button).to_have_attribute("title", "This key may only read")
        await button.click(force=True)
        await expect(page.locator("#notes")).to_contain_text("This key may only read")
        await expect(page.get_by_role("dialog")).to_have_count(0)
    await console.go("/tenants/hooli")
    await expect(page.get_by_role("heading", name="hooli")).to_be_visible()
    await page.keyboard.press("r")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await console.go("/runs?status=failed")
    await page.get_by_label("Select all").check()
    await expect(page.locator("[data-act=bulk]")).to_have_attribute("aria-disabled", "true")
    assert [line for line in console.asked if not line.startswith("GET ")] == []


async def test_a_key_is_asked_for_and_kept_for_the_tab(console: Console) -> None:
    """A wrong key is reported; the right one is kept over a reload, and another tab needs its
    own."""
    page = console.page
    await page.goto(str(console.url))
    await expect(page.get_by_label("API key")).to_be_focused()
    await page.get_by_label("API key").fill("no such key")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("This key isn't known here")
    await page.get_by_label("API key").fill("operators-key")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="No tenants yet")).to_be_visible()
    await page.reload()
    await expect(page.get_by_role("heading", name="No tenants yet")).to_be_visible()
    assert await page.evaluate("localStorage.length + document.cookie.length") == 0

    other = await page.context.new_page()
    await other.goto(str(console.url))
    await expect(other.get_by_label("API key")).to_be_visible()

    await page.get_by_role("button", name="Forget the key").click()
    await expect(page.get_by_label("API key")).to_be_visible()


async def test_an_event_is_shown_as_it_came_without_its_secrets(
    fleet: Fleet, console: Console, clock: ManualClock
) -> None:
    """An event is shown on demand, without its secrets; a number beyond 2^53 keeps all its
    digits."""
    await fleet.deploy("hooli", tier="basic", accountNumber=9007199254740993, password="hunter2")
    until_now(clock)
    await console.open("/runs?status=failed")
    page = console.page
    await page.locator("table.runs tbody tr th a").click()
    await expect(page.get_by_role("heading", name="TENANT_DEPLOYMENT")).to_be_focused()
    assert not [line for line in console.asked if line.endswith("/payload")]
    await page.get_by_role("button", name="Show, redacted").click()
    await expect(page.locator("pre.payload")).to_contain_text("9007199254740993")
    await expect(page.locator("pre.payload")).not_to_contain_text("hunter2")


async def test_text_from_events_is_never_markup(
    fleet: Fleet, console: Console, clock: ManualClock
) -> None:
    """Names and reasons with tags are shown as text, and run nothing."""
    evil = '<img src=x onerror="document.title=1">'
    await fleet.send(evil, evil)
    await fleet.send("TENANT_PROVISIONING", evil, tier=evil)
    until_now(clock)
    await console.open("/runs")
    page = console.page
    await expect(page.get_by_role("rowheader", name=evil)).to_have_count(1)
    assert await page.locator("main img").count() == 0
    await page.get_by_role("link", name=evil).first.click()
    await expect(page.locator("h1")).to_contain_text("img")
    assert await page.locator("main img").count() == 0


async def test_a_tenant_is_found_by_the_beginning_of_its_id(
    fleet: Fleet, console: Console, clock: ManualClock
) -> None:
    """A tenant is found by a prefix of its id while typing; Enter opens it, and a run's id opens
    the run."""
    for name in ("acme-eu", "acme-us", "other"):
        await fleet.deploy(name)
    until_now(clock)
    await console.open()
    page = console.page
    await page.keyboard.press("/")
    await page.keyboard.type("acme")
    await expect(page.locator("table.tenants tbody tr")).to_have_count(2)
    await expect(page.locator("#find")).to_be_focused()
    await page.keyboard.type("-us")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="acme-us")).to_be_visible()
    run_id = (await fleet.tenant("acme-us"))["timeline"][0]["runId"]
    await page.locator("#find").fill(run_id)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="TENANT_DEPLOYMENT")).to_be_visible()


async def test_keys_lead_through_the_list(
    fleet: Fleet, console: Console, clock: ManualClock
) -> None:
    """j and k move, Enter opens, g t goes back; switched off these keys do nothing."""
    for name in ("one", "two"):
        await fleet.deploy(name)
    until_now(clock)
    await console.open()
    page = console.page
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await page.keyboard.press("k")
    focused = page.locator("table.tenants tbody tr th a").first
    await expect(focused).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator(".picture")).to_be_visible()
    await page.keyboard.press("g")
    await page.keyboard.press("t")
    await expect(page.locator("table.tenants")).to_be_visible()
    await page.keyboard.press("?")
    await page.get_by_label("Single keys are on").uncheck()
    await page.get_by_role("button", name="Close").click()
    await page.keyboard.press("g")
    await page.keyboard.press("r")
    await expect(page.locator("table.tenants")).to_be_visible()


async def test_a_question_is_closed_with_its_page(
    fleet: Fleet, console: Console, clock: ManualClock
) -> None:
    """A dialog closes when the operator goes back to another page."""
    await fleet.deploy("northwind")
    until_now(clock)
    await console.open()
    page = console.page
    await page.get_by_role("link", name="northwind", exact=True).click()
    await page.get_by_role("button", name="Cancel deployment").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(page.locator("table.tenants")).to_be_visible()


async def test_focus_and_selection_survive_a_refresh(
    fleet: Fleet, console: Console, clock: ManualClock
) -> None:
    """Focus and selection stay while the data is refreshed."""
    for name in ("one", "two"):
        await fleet.deploy(name, tier="basic")
    until_now(clock)
    await console.open("/runs?status=failed")
    page = console.page
    box = page.locator("table.runs tbody input").first
    await box.check()
    await fleet.deploy("three", tier="basic")
    await console.look_again()
    await expect(page.locator("table.runs tbody tr")).to_have_count(3)
    await expect(page.locator("table.runs tr.picked")).to_have_count(1)
    await page.locator("table.runs tbody input").nth(2).focus()
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(page.locator("table.runs tbody input").nth(2)).to_be_focused()


async def test_what_only_force_allows_is_asked_for_again(
    fleet: Fleet, console: Console, clock: ManualClock
) -> None:
    """If the service refuses a replay without force, the dialog asks again with its sentence, and
    then replays by force."""
    await fleet.deploy("hooli")
    await fleet.end("hooli")
    assert await fleet.send("TENANT_PROVISIONING", "hooli", tier="premium") == 422
    until_now(clock)
    await console.open("/runs?status=failed")
    page = console.page
    await page.locator("table.runs tbody th a").click()
    await page.get_by_role("button", name="Replay", exact=True).click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Replay").click()
    await expect(dialog).to_contain_text("replay with force")
    await expect(dialog).to_contain_text("A new job is started")
    await dialog.get_by_role("button", name="Replay with force").click()
    await expect(page.locator(".title .mark")).to_have_text("succeeded")
    assert (await fleet.tenant("hooli"))["state"] == "provisioning"


async def test_a_key_without_the_scope_sees_why(console: Console) -> None:
    """A 403 is shown with the key's name, and not as a wrong key."""
    await console.open(key=SENDER)
    main = console.page.locator("main")
    await expect(main).to_contain_text("This key may not see it")
    await expect(main).to_contain_text("runs:read")
    await expect(main.get_by_role("button", name="Try again")).to_be_visible()
    assert await console.find_barriers() == []


async def test_a_slow_service_is_waited_for_and_an_error_is_told(
    fleet: Fleet, console: Console, clock: ManualClock
) -> None:
    """Until the answer there are placeholders and no second request; an error is shown with the
    service's sentence, and is retried on demand."""
    await fleet.deploy("hooli")
    until_now(clock)
    await console.open("/runs")
    page, released = console.page, asyncio.Event()

    async def hold(route: Route) -> None:
        await released.wait()
        await route.continue_()

    await page.route("**/tenants/hooli*", hold)
    await console.go("/tenants/hooli")
    await expect(page.locator(".skeleton")).to_be_visible()
    assert console.asked.count("GET /tenants/hooli") == 1
    released.set()
    await expect(page.locator(".picture")).to_be_visible()

    detail = "The request failed with an internal error; the log has the traceback."
    await page.route("**/runs?*", lambda route: route.fulfill(status=500, json={"detail": detail}))
    await console.go("/runs?status=failed")
    await expect(page.locator("main")).to_contain_text(detail)
    await page.unroute("**/runs?*")
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_role("heading", name="No run matches")).to_be_visible()


class LedgerWithOutages(InMemoryLedger):
    """A ledger that can't be read while `is_away`."""

    is_away = False

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        if self.is_away:
            raise TemporaryError("The ledger can't be reached: connect timeout.")
        return await super().load(keys)


async def test_the_ledger_is_away(
    chromium: Browser, start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """While the ledger is down the last data stays, marked as old and without actions; it is live
    again with the ledger."""
    ledger = LedgerWithOutages()
    service = await start_service(staffed(settings), ledger=ledger)
    body = {"tenantId": "hooli", "tier": "basic"}
    async with service.post("/events/TENANT_DEPLOYMENT", json=body, headers=HEADERS) as answer:
        assert answer.status == 422
    until_now(clock)
    async with open_console(chromium, service.make_url("/console")) as console:
        await console.open()
        page = console.page
        ledger.is_away = True
        await console.look_again()
        await expect(page.locator("#banner")).to_contain_text("The ledger cannot be read since")
        await expect(page.locator("#banner")).to_contain_text("What you see is from")
        replay = page.get_by_role("button", name="Replay hooli")
        await expect(replay).to_have_attribute("aria-disabled", "true")
        assert await console.find_barriers() == []
        ledger.is_away = False
        await page.get_by_role("button", name="Try now").click()
        await expect(page.locator("#banner")).to_be_empty()
        await expect(replay).not_to_have_attribute("aria-disabled", "true")
