"""An operator at the console: a page whose requests and errors are recorded, and a service with
keys and tenants."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, Request
from yarl import URL

from orchestrator import Settings
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import ApiKey, Auth, Key, Tiers
from orchestrator.testing import ManualClock, envelope
from tests.conftest import Client

#: Keys with all scopes, with those for reading, and with the one for events alone.
OPERATOR, READER, SENDER = "operators-key", "readers-key", "senders-key"
AUTH = Auth(
    methods=("api_key",),
    api_key=ApiKey(
        keys=(
            Key(key=OPERATOR, name="maria.k"),
            Key(key=READER, name="dashboard", scopes=("runs:read",)),
            Key(key=SENDER, name="control-plane", scopes=("events:write",)),
        )
    ),
)
HEADERS = {"x-api-key": OPERATOR}
#: The project of its deployments doesn't exist until a test creates it.
MISSING = "tenant-deploy-basic"
TIERS = {
    tier: {
        "jobIdentifier": f"tenant-provision-{tier}",
        "deploymentJobIdentifier": f"tenant-deploy-{tier}",
        "deprovisioningJobIdentifier": f"tenant-deprovision-{tier}",
        "cleanupJobIdentifier": "tenant-clean-up",
    }
    for tier in ("basic", "premium", "enterprise")
}

DESK = {"width": 1280, "height": 800}
TELEPHONE = {"width": 375, "height": 812}

_WATCH = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
});
"""


def staffed(settings: Settings) -> Settings:
    """The settings with the keys and the tiers of this module."""
    tiers = Tiers(backend="static", static=TIERS)
    return attrs.evolve(settings, auth=AUTH, tiers=tiers)


def add_projects(codebuild: CodeBuildStandIn, clock: ManualClock) -> None:
    """The tiers' projects, except MISSING; builds have the service's time."""
    codebuild.clock = lambda: clock.now().timestamp()
    for tier in TIERS.values():
        for project in set(tier.values()) - {MISSING}:
            codebuild.add_project(project)


def clock_before(**ago: float) -> ManualClock:
    """A clock that is some time behind the browser's, which is the real time."""
    return ManualClock(time=datetime.now(UTC) - timedelta(**ago))


def until_now(clock: ManualClock) -> None:
    """Advance the clock to the browser's time."""
    clock.turn((datetime.now(UTC) - clock.now()).total_seconds())


@attrs.define
class Console:
    """A console in a page. `errors` are uncaught exceptions and breaches of the page's policy."""

    page: Page
    url: URL
    errors: list[str] = attrs.field(factory=list)
    #: The requests to the API: method and path.
    asked: list[str] = attrs.field(factory=list)

    def watch(self) -> None:
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self._read(message.type, message.text))
        self.page.on("request", lambda request: self._note(request))

    def _read(self, kind: str, text: str) -> None:
        # The browser logs a message of its own for each request that is answered by an error.
        if kind == "error" and not text.startswith("Failed to load resource"):
            self.errors.append(text)

    def _note(self, request: Request) -> None:
        path = URL(request.url).path
        base = self.url.path.removesuffix("/console")
        if not path.startswith(f"{base}/console"):
            self.asked.append(f"{request.method} {path.removeprefix(base)}")

    async def open(self, place: str = "/tenants", *, key: str | None = OPERATOR) -> None:
        """Open a view, and enter the key."""
        await self.page.goto(f"{self.url}#{place}")
        if key is not None:
            await self.page.get_by_label("API key").fill(key)
            await self.page.get_by_role("button", name="Open the console").click()
        await self.page.locator(".view:not(.skeleton) h1").wait_for(state="attached")

    async def go(self, place: str) -> None:
        """Go to a view by its address."""
        await self.page.evaluate("(place) => { location.hash = place; }", place)

    async def look_again(self) -> None:
        """Load the view at once, by a pause and a restart."""
        await self.page.get_by_role("button", name="Live").click()
        await self.page.get_by_role("button", name="Paused").click()

    async def find_barriers(self) -> list[str]:
        """The accessibility problems that axe finds on the page."""
        found = await Axe().run(self.page)
        return [
            f"{one['id']}: {[node['target'] for node in one['nodes']]}"
            for one in found.response["violations"]
        ]


@asynccontextmanager
async def open_console(
    chromium: Browser, url: URL, *, scheme: str = "light", size: dict[str, int] = DESK
) -> AsyncIterator[Console]:
    """A console in a page of its own. Afterwards no exception may have been thrown, and nothing
    that the page's policy forbids may have been tried."""
    context = await chromium.new_context(
        viewport={"width": size["width"], "height": size["height"]},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
        timezone_id="Europe/Vienna",
    )
    await context.add_init_script(_WATCH)
    console = Console(await context.new_page(), url)
    console.watch()
    try:
        yield console
        assert console.errors == []
    finally:
        await context.close()


@attrs.define
class Fleet:
    """Tenants of a service, by the events that a control plane sends."""

    service: Client
    codebuild: CodeBuildStandIn
    clock: ManualClock
    sent: int = 0

    async def send(self, event_type: str, tenant_id: str, **detail: Any) -> int:
        """Send an event about a tenant; returns the status of the answer."""
        body = self._envelope(event_type, {"tenantId": tenant_id, **detail})
        async with self.service.post("/events", json=body, headers=HEADERS) as answer:
            return answer.status

    def _envelope(self, event_type: str, detail: Mapping[str, Any]) -> dict[str, Any]:
        self.sent += 1
        source = "aws.codebuild" if event_type.startswith("CodeBuild") else "control-plane"
        time = self.clock.now().isoformat()
        return envelope(event_type, detail, event_id=f"event-{self.sent}", source=source, time=time)

    async def deploy(self, tenant_id: str, tier: str = "premium", **detail: Any) -> int:
        return await self.send("TENANT_DEPLOYMENT", tenant_id, tier=tier, **detail)

    def end_build(self, tenant_id: str, status: Any = "SUCCEEDED", **how: Any) -> str:
        """End the tenant's running build; returns its id."""
        for build in self.codebuild.builds.values():
            passed = next(one["value"] for one in build.overrides if one["name"] == "tenant")
            if build.ended is None and json.loads(passed)["id"] == tenant_id:
                self.codebuild.finish(build.id, status, **how)
                return build.id
        raise LookupError(f"No build of {tenant_id} runs.")

    async def end(self, tenant_id: str, status: Any = "SUCCEEDED", **how: Any) -> None:
        """The tenant's build ends, and CodeBuild publishes its state change."""
        build = self.codebuild.builds[self.end_build(tenant_id, status, **how)]
        body = self._envelope("CodeBuild Build State Change", build.as_state_change())
        async with self.service.post("/events", json=body, headers=HEADERS) as answer:
            assert answer.status == 200, await answer.text()

    async def sweep(self) -> None:
        async with self.service.post("/events/RECONCILE", json={}, headers=HEADERS) as answer:
            assert answer.status == 200, await answer.text()

    async def replay(self, run_id: str, *, force: bool = False) -> int:
        path, body = f"/runs/{run_id}/replay", {"force": force}
        async with self.service.post(path, json=body, headers=HEADERS) as answer:
            return answer.status

    async def cancel(self, tenant_id: str, reason: str) -> None:
        path, body = f"/tenants/{tenant_id}/cancel", {"reason": reason}
        async with self.service.post(path, json=body, headers=HEADERS) as answer:
            assert answer.status == 200, await answer.text()

    async def tenant(self, tenant_id: str) -> dict[str, Any]:
        async with self.service.get(f"/tenants/{tenant_id}", headers=HEADERS) as answer:
            found: dict[str, Any] = await answer.json()
            return found
