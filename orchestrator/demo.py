"""A tenant's life, told on the terminal: real events into the real service on an embedded AWS.

Each sentence with a mark is a check: it looks at the answer, into the ledger or into AWS,
and one that is untrue makes the demo fail.
"""

import json
import tempfile
import uuid
from typing import Any

import aiohttp
import attrs
from rich.console import Console
from rich.table import Table

from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.laptop import ServiceDidNotStartError, open_prepared_aws, open_service
from orchestrator.settings import Settings

_SECRET = "00112233445566778899aabbccddeeff"  # noqa: S105 - of the sample tenant, for show


async def run_demo(settings: Settings, *, config: str) -> int:
    """Tell the story; the exit code is 0 if all of it was true."""
    console = Console(highlight=False)
    with tempfile.TemporaryFile("w+") as log:
        try:
            async with (
                open_prepared_aws(settings) as aws,
                open_service(config=config, environment=aws.environment(), log=log) as service,
                aiohttp.ClientSession(service.url) as http,
            ):
                story = _Story(console, http, aws.codebuild)
                console.print(
                    f"\n[bold]The service[/] at {service.url}, [bold]AWS[/] at {aws.endpoint_url}"
                )
                await _tell(story)
        except ServiceDidNotStartError as error:
            console.print(f"[red]{error}[/]")
            story = None
        if story is not None and not story.untrue:
            console.print("\n[bold green]All of it was seen to happen.[/]\n")
            return 0
        log.seek(0)
        console.print("\n[bold red]Not all of it was true.[/] What the service logged:\n")
        console.print(log.read()[-4000:], markup=False)
        return 1


async def _tell(story: "_Story") -> None:
    codebuild = story.codebuild

    story.chapter("A tenant is to be provisioned")
    event = _provisioning_event(tier="STANDARD")
    tenant = event["detail"]["tenant"]
    story.say(f"EventBridge delivers TENANT_PROVISIONING for {tenant['name']}, tier STANDARD.")
    answer = await story.post("/events/TENANT_PROVISIONING", event)
    story.check(
        'answered 200 {"success": true}', answer.status == 200 and answer.body == {"success": True}
    )
    story.check("one build was started in CodeBuild", len(codebuild.builds) == 1)
    build = next(iter(codebuild.builds.values()))
    variables = {variable["name"]: variable["value"] for variable in build.overrides}
    story.check("of the project that the tier names", build.project == "standard-tenant")
    story.check("its variables are sorted by name", list(variables) == sorted(variables))
    story.check(
        "a number of the tier arrived as text", variables.get("ACCESS_TOKEN_EXPIRATION") == "3600"
    )
    story.check(
        "the event's override outranks the tier", variables.get("AWS_REGION") == "eu-west-1"
    )
    passed = json.loads(variables.get("tenant", "{}"))
    story.check(
        "the tenant is JSON, with the identity provider of its plan",
        passed.get("id") == tenant["id"] and passed.get("identityProvider") == "auth0",
    )
    story.show_variables(variables)
    run = await story.get(answer.location)
    story.check(
        f"the ledger knows the run as succeeded, with build {build.id[:24]}…",
        run["status"] == "succeeded" and run["job"]["id"] == build.id,
    )

    story.chapter("EventBridge delivers it once more")
    again = await story.post("/events/TENANT_PROVISIONING", event)
    story.check(
        "answered 200, as a duplicate of the first run",
        again.status == 200
        and again.headers.get("Idempotent-Replayed") == "true"
        and again.location == answer.location,
    )
    story.check("no second build", len(codebuild.builds) == 1)

    story.chapter("CodeBuild is at its quota")
    codebuild.inject("StartBuild", Fault.error("AccountLimitExceededException", "Too many builds"))
    later = _provisioning_event(tier="PREMIUM")
    refused = await story.post("/events/TENANT_PROVISIONING", later)
    story.check("answered 503, so that EventBridge tries again", refused.status == 503)
    story.check(
        f"after {refused.headers.get('Retry-After')} s",
        int(refused.headers.get("Retry-After", "0")) >= 30,
    )
    retried = await story.post("/events/TENANT_PROVISIONING", later)
    story.check(
        "the next delivery starts the build", retried.status == 200 and len(codebuild.builds) == 2
    )

    story.chapter("Events that can't work")
    for what, path, body, status, detail in (
        (
            "an unknown tier",
            "/events/TENANT_PROVISIONING",
            _provisioning_event(tier="GOLD"),
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
            "a type that nobody handles",
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
    story.check("none of them started a build", len(codebuild.builds) == 2)


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
    untrue: list[str] = attrs.field(factory=list)

    def chapter(self, title: str) -> None:
        self.console.print(f"\n[bold cyan]{title}[/]")

    def say(self, sentence: str) -> None:
        self.console.print(f"  {sentence}", soft_wrap=True)

    def check(self, sentence: str, true: bool) -> None:
        mark = "[green]✓[/]" if true else "[red]✗[/]"
        self.console.print(f"  {mark} ", end="")
        self.console.print(sentence, markup=False, soft_wrap=True)
        if not true:
            self.untrue.append(sentence)

    def show_variables(self, variables: dict[str, str]) -> None:
        table = Table(box=None, padding=(0, 2), show_header=False)
        for name, value in variables.items():
            table.add_row(f"    {name}", "••••••" if name == "secret" else value)
        self.console.print(table)

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


def _provisioning_event(*, tier: str) -> dict[str, Any]:
    """TENANT_PROVISIONING as a control plane puts it on the bus."""
    tenant = {"id": str(uuid.uuid4()), "name": "Bluebird Logistics", "key": "bluebird"}
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "TENANT_PROVISIONING",
        "source": "TenantManagementService",
        "time": "2026-11-20T09:14:03Z",
        "detail": {
            "tenant": tenant,
            "planConfig": {
                "tier": tier,
                "features": [
                    {"key": "IdP", "defaultValue": "cognito", "value": {"value": "auth0"}}
                ],
            },
            "builderConfig": {
                "type": "CODE_BUILD",
                "config": {
                    "environmentOverride": {
                        "AWS_REGION": "eu-west-1",
                        "tenant": json.dumps(tenant),
                        "secret": _SECRET,
                        "context": str(uuid.uuid4()),
                    }
                },
            },
        },
    }
