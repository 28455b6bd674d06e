"""`orchestrator demo`: a tenant's lifecycle on the terminal, with the real service on an embedded
AWS.

Each sentence with a mark is a check of an answer, of the ledger or of AWS; one that is false makes
the demo fail.
"""

import asyncio
import json
import tempfile
import uuid
from datetime import UTC, datetime
from textwrap import wrap
from typing import Any

import aiohttp
import attrs
from rich.console import Console

from orchestrator.cli.prepared_aws import open_prepared_aws
from orchestrator.cli.service_process import ServiceDidNotStartError, open_service
from orchestrator.cli.signals import cancelled_by_signals
from orchestrator.cli.tables import describe_tenant
from orchestrator.core.texts import printable
from orchestrator.embedded import (
    Build,
    BusQueue,
    CodeBuildStandIn,
    ControlPlaneStandIn,
    Fault,
    open_bus_queue,
    open_control_plane,
)
from orchestrator.embedded.codebuild import Outcome
from orchestrator.settings import Settings

_SECRET = "00112233445566778899aabbccddeeff"  # noqa: S105 - of the sample tenant


#: The timer is off, so that each sweep is one that the demo requests.
_NO_TIMER = {"ORCHESTRATOR_OPERATIONS__RECONCILE_EVERY_S": "0"}


async def run_demo(settings: Settings, *, config: str) -> int:
    """Run the demo; the exit code is 0 if every step was observed."""
    console = Console(highlight=False)
    bus = settings.events.bus or "default"
    # A CI job that times out gets SIGTERM: the service that the demo started must end with it.
    with cancelled_by_signals() as received, tempfile.TemporaryFile("w+") as log:
        try:
            async with (
                open_prepared_aws(settings) as aws,
                open_bus_queue(aws, bus) as published,
                open_control_plane() as control_plane,
                open_service(
                    config=config,
                    environment={
                        **aws.environment(),
                        **_NO_TIMER,
                        "ORCHESTRATOR_CALLBACK__URL": control_plane.url,
                    },
                    log=log,
                ) as service,
                aiohttp.ClientSession(service.url) as http,
            ):
                story = _Story(console, http, aws.codebuild, published, control_plane)
                console.print(
                    f"\n[bold]The service[/] at {service.url}"
                    f"\n[bold]AWS[/] at {aws.endpoint_url}"
                    f"\n[bold]The control plane[/] at {control_plane.url}"
                )
                await _tell(story)
        except ServiceDidNotStartError as error:
            console.print(f"[red]{error}[/]")
            story = None
        except asyncio.CancelledError:
            if not received:
                raise
            console.print("[red]The demo was stopped.[/]")
            return 128 + received[0]
        if story is not None and not story.untrue:
            console.print("\n[bold green]Every step was observed.[/]\n")
            return 0
        log.seek(0)
        console.print("\n[bold red]Not every step was observed.[/] The service's log:\n")
        console.print(log.read()[-4000:], markup=False)
        return 1


async def _tell(story: "_Story") -> None:
    bluebird = await _provision(story)
    await _deliver_again(story, bluebird)
    await _end_well(story, bluebird)
    await _deprovision(story, bluebird)
    await _fail(story)
    await _never_report(story)
    await _refuse(story)
    story.chapter(f"The timeline of {bluebird.name}, the latest first")
    story.show_timeline(await story.tenant(bluebird))


async def _provision(story: "_Story") -> "_Tenant":
    story.chapter("A tenant is provisioned")
    tenant = story.new_tenant("Bluebird Logistics", tier="STANDARD")
    story.say(f"EventBridge delivers TENANT_PROVISIONING for {tenant.name}, tier STANDARD.")
    answer = await story.post("/events/TENANT_PROVISIONING", tenant.request)
    story.check(
        'answered 200 {"success": true}', answer.status == 200 and answer.body == {"success": True}
    )
    story.check("one build was started in CodeBuild", len(story.codebuild.builds) == 1)
    build = story.latest_build()
    variables = {variable["name"]: variable["value"] for variable in build.overrides}
    story.check("its project is the one that the tier names", build.project == "standard-tenant")
    story.check("its variables are sorted by name", list(variables) == sorted(variables))
    story.check(
        "a number of the tier is passed as text", variables.get("ACCESS_TOKEN_EXPIRATION") == "3600"
    )
    story.check(
        "the event's override takes precedence over the tier",
        variables.get("AWS_REGION") == "eu-west-1",
    )
    passed = json.loads(variables.get("tenant", "{}"))
    story.check(
        "the tenant is JSON, with the identity provider of its plan",
        passed.get("id") == tenant.id and passed.get("identityProvider") == "auth0",
    )
    story.show_variables(variables)
    run = await story.get(answer.location)
    story.check(
        f"the ledger has the run as succeeded, with build {build.id[:24]}…",
        run["status"] == "succeeded" and run["job"]["id"] == build.id,
    )
    return tenant


async def _deliver_again(story: "_Story", tenant: "_Tenant") -> None:
    story.chapter("EventBridge delivers the event again")
    again = await story.post("/events/TENANT_PROVISIONING", tenant.request)
    story.check(
        "answered 200, as a duplicate",
        again.status == 200 and again.headers.get("Idempotent-Replayed") == "true",
    )
    story.check("no second build", len(story.codebuild.builds) == 1)


async def _end_well(story: "_Story", tenant: "_Tenant") -> None:
    build = story.latest_build()
    story.chapter("The build's script reports success, before its last command")
    environment = {one["name"]: one["value"] for one in build.overrides}
    body = {
        **environment,
        "CODEBUILD_BUILD_ID": build.id,
        "TENANT_ID": tenant.id,
        "TF_STATE_BUCKET": "tf-state-bluebird",
        "TF_KEY": "silo/terraform.tfstate",
    }
    report = _envelope("TENANT_PROVISIONING_SUCCESS", body)
    answer = await story.post("/events/TENANT_PROVISIONING_SUCCESS", report)
    story.check("answered 200", answer.status == 200)
    state = (await story.tenant(tenant))["state"]
    story.check(
        f"the tenant is still {state}: CodeBuild has not said that the build is over",
        state == "provisioning",
    )

    story.chapter("CodeBuild says that the build succeeded")
    await story.end_build(
        build, "SUCCEEDED", exported={"APP_PLANE_URL": "https://bluebird.example"}
    )
    state = (await story.tenant(tenant))["state"]
    story.check(f"the tenant is {state}", state == "provisioned")
    (deployment,) = await story.published.receive() or [{}]
    story.check(
        "TENANT_DEPLOYMENT was published on the bus, without a secret in it",
        deployment.get("detail-type") == "TENANT_DEPLOYMENT" and _SECRET not in str(deployment),
    )
    await story.post("/events/TENANT_DEPLOYMENT", deployment)
    state = (await story.tenant(tenant))["state"]
    story.check(f"its tier has no deployment job, so the tenant is {state}", state == "active")
    story.check_report("a report of success", tenant, status=1)
    (resource,) = story.control_plane.accepted[-1]["data"]["resources"] or [None]
    story.check(f"with the build's own values: {resource}", resource is not None)


async def _deprovision(story: "_Story", tenant: "_Tenant") -> None:
    story.chapter("The tenant is deprovisioned")
    leaving = _envelope("TENANT_DEPROVISIONING", {"tenantId": tenant.id})
    answer = await story.post("/events/TENANT_DEPROVISIONING", leaving)
    build = story.latest_build()
    story.check(
        "the teardown of the tier that it was provisioned with was started",
        answer.status == 200 and build.project == "standard-tenant-teardown",
    )
    await story.end_build(build, "SUCCEEDED")
    state = (await story.tenant(tenant))["state"]
    story.check(f"the tenant is {state}", state == "deprovisioned")


async def _fail(story: "_Story") -> None:
    story.chapter("CodeBuild's quota is exceeded, then a build fails")
    tenant = story.new_tenant("Kestrel Foods", tier="PREMIUM")
    quota = Fault.error("AccountLimitExceededException", "Too many builds")
    story.codebuild.inject("StartBuild", quota)
    refused = await story.post("/events/TENANT_PROVISIONING", tenant.request)
    pause_s = int(refused.headers.get("Retry-After", "0"))
    story.check(
        f"answered 503, to be retried after {pause_s} s",
        refused.status == 503 and pause_s >= 30,
    )
    retried = await story.post("/events/TENANT_PROVISIONING", tenant.request)
    build = story.latest_build()
    story.check(
        "the next delivery starts the build",
        retried.status == 200 and build.project == "premium-tenant",
    )
    await story.end_build(build, "FAILED", reason="terraform apply: exit status 1")
    found = await story.tenant(tenant)
    story.check(
        f"the tenant is {found['state']}, held by its clean-up", found["state"] == "cleaning_up"
    )
    failure = next(one for one in found["timeline"] if one["eventType"].endswith("_FAILURE"))
    story.check(
        f"reason: {failure['reason']}", "terraform apply: exit status 1" in failure["reason"]
    )
    story.check(f"log: {failure['link']}", bool(failure["link"]))
    story.check_report("a report of failure", tenant, status=0)
    clean_up = story.latest_build()
    story.check("the clean-up's build is running", clean_up.project == "premium-tenant-cleanup")
    await story.end_build(clean_up, "SUCCEEDED")
    state = (await story.tenant(tenant))["state"]
    story.check(f"after the clean-up the tenant is {state}", state == "provision_failed")


async def _never_report(story: "_Story") -> None:
    story.chapter("A build times out, and no event reports it")
    tenant = story.new_tenant("Heron Travel", tier="BASIC")
    await story.post("/events/TENANT_PROVISIONING", tenant.request)
    story.codebuild.finish(story.latest_build().id, "TIMED_OUT")
    answer = await story.post("/events/RECONCILE", {})
    story.check("a sweep queries CodeBuild for every open job", answer.status == 200)
    found = await story.tenant(tenant)
    failure = next(one for one in found["timeline"] if one["eventType"].endswith("_FAILURE"))
    story.check(f"the operation has ended: {failure['reason']}", "timed out" in failure["reason"])
    story.check_report("a report of failure", tenant, status=0)


async def _refuse(story: "_Story") -> None:
    story.chapter("Invalid events are refused")
    before = len(story.codebuild.builds)
    for what, path, body, status, detail in (
        (
            "an unknown tier",
            "/events/TENANT_PROVISIONING",
            story.new_tenant("Osprey", tier="GOLD").request,
            422,
            "GOLD",
        ),
        (
            "no tenant",
            "/events/TENANT_PROVISIONING",
            {"planConfig": {"tier": "BASIC"}},
            422,
            "tenant",
        ),
        (
            "a type without a handler",
            "/events/TENANT_PARTY",
            {},
            400,
            "Unsupported event type: TENANT_PARTY",
        ),
        ("broken JSON", "/events", b'{"detail-type": "TENANT', 400, "not JSON"),
    ):
        bad = await story.post(path, body)
        story.check(
            f"{what}: {bad.status} {bad.body.get('detail', '')}",
            bad.status == status and detail in bad.body.get("detail", ""),
        )
    story.check("none of them started a build", len(story.codebuild.builds) == before)


@attrs.frozen
class _Tenant:
    """A tenant of the demo, and its provisioning event."""

    id: str
    name: str
    request: dict[str, Any]


@attrs.frozen
class _Answer:
    status: int
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def location(self) -> str:
        return self.headers.get("Location", "")


@attrs.define
class _Story:
    console: Console
    http: aiohttp.ClientSession
    codebuild: CodeBuildStandIn
    published: BusQueue
    control_plane: ControlPlaneStandIn
    untrue: list[str] = attrs.field(factory=list)

    def new_tenant(self, name: str, *, tier: str) -> _Tenant:
        """A tenant whose report the control plane expects."""
        tenant_id, context = str(uuid.uuid4()), str(uuid.uuid4())
        self.control_plane.expect(tenant_id, secret=_SECRET, context=context)
        return _Tenant(tenant_id, name, _provisioning_event(tenant_id, name, tier, context))

    def latest_build(self) -> Build:
        return list(self.codebuild.builds.values())[-1]

    async def end_build(self, build: Build, status: Outcome, **how: Any) -> None:
        """End the build in CodeBuild and deliver the state change."""
        self.codebuild.finish(build.id, status, **how)
        self.say(f"EventBridge delivers the state change: {build.project} {status}.")
        answer = await self.post("/events", build.as_event())
        self.check("answered 200", answer.status == 200)

    def check_report(self, what: str, tenant: _Tenant, *, status: int) -> None:
        reports = [one for one in self.control_plane.accepted if one["initiatorId"] == tenant.id]
        self.check(
            f"the control plane has verified and accepted {what}: {json.dumps(reports[-1:])}",
            len(reports) == 1
            and reports[0]["data"]["status"] == status
            and not self.control_plane.refused,
        )

    async def tenant(self, tenant: _Tenant) -> dict[str, Any]:
        return await self.get(f"/tenants/{tenant.id}")

    def show_timeline(self, tenant: dict[str, Any]) -> None:
        for line in map(printable, describe_tenant(tenant)):
            inner = len(line) - len(line.lstrip())
            self._print(line.strip(), first=" " * (4 + inner))

    def chapter(self, title: str) -> None:
        self.console.print(f"\n[bold cyan]{title}[/]")

    def say(self, sentence: str) -> None:
        self._print(sentence, first="  ")

    def check(self, sentence: str, true: bool) -> None:
        self._print(sentence, first=f"  {'✓' if true else '✗'} ", color="green" if true else "red")
        if not true:
            self.untrue.append(sentence)

    def show_variables(self, variables: dict[str, str]) -> None:
        width = max(map(len, variables)) + 2
        for name, value in variables.items():
            shown = "••••••" if name == "secret" else value
            self._print(shown, first=f"      {name:<{width}}")

    def _print(self, sentence: str, *, first: str, color: str | None = None) -> None:
        """Print a sentence after `first`, in lines that break at words and begin below its first
        word. A word that is longer than a line is broken."""
        lines = wrap(
            sentence, max(20, self.console.width - len(first)), break_on_hyphens=False
        ) or [""]
        self.console.print(first, style=color, markup=False, end="", soft_wrap=True)
        for number, line in enumerate(lines):
            pause = " " * len(first) if number else ""
            self.console.print(f"{pause}{line}", markup=False, soft_wrap=True)

    async def post(self, path: str, body: object) -> _Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json; charset=utf-8"}
        async with self.http.post(path, data=data, headers=headers) as answer:
            return _Answer(
                answer.status, dict(answer.headers), await answer.json(content_type=None)
            )

    async def get(self, path: str) -> dict[str, Any]:
        async with self.http.get(path) as answer:
            found: dict[str, Any] = await answer.json()
            return found


def _envelope(detail_type: str, detail: dict[str, Any]) -> dict[str, Any]:
    """An event as EventBridge delivers it."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": "TenantManagementService",
        "time": datetime.now(UTC).isoformat(),
        "detail": detail,
    }


def _provisioning_event(tenant_id: str, name: str, tier: str, context: str) -> dict[str, Any]:
    """TENANT_PROVISIONING as a control plane publishes it."""
    tenant = {"id": tenant_id, "name": name, "key": name.split()[0].lower()}
    features = [{"key": "IdP", "defaultValue": "cognito", "value": {"value": "auth0"}}]
    override = {
        "AWS_REGION": "eu-west-1",
        "tenant": json.dumps(tenant),
        "secret": _SECRET,
        "context": context,
    }
    detail = {
        "tenant": tenant,
        "planConfig": {"tier": tier, "features": features},
        "builderConfig": {"type": "CODE_BUILD", "config": {"environmentOverride": override}},
    }
    return _envelope("TENANT_PROVISIONING", detail)
