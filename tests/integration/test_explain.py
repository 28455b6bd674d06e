"""`orchestrator explain`: what it shows of an event, and that it has no effect."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
import structlog
from click.testing import CliRunner, Result

from orchestrator import BadEvent, Event, Extension, HandlerRegistry, Run, Settings, create_app
from orchestrator.cli.explain import explain_event
from orchestrator.cli.main import commands
from orchestrator.core.events.payloads import TenantProvisioning
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import Log, Tiers
from orchestrator.testing import provisioning_event
from tests.acceptance.stories import open_ledger_table, over_dynamodb
from tests.conftest import TIERS
from tests.integration.commands import run

SECRET = "s3cr3t"
OVERRIDE = {"secret": f"{SECRET}-1", "CLIENT_SECRET": f"{SECRET}-2", "REPLICAS": 3}


def text(value: object) -> bytes:
    return json.dumps(value).encode()


async def test_an_event_is_explained(settings: Settings, codebuild: CodeBuildStandIn) -> None:
    """The explanation has type, handler, identity, tenant, tier, builder, job and variables, and
    nothing is started."""
    event = provisioning_event(override=OVERRIDE)
    explained = await explain_event(settings, None, text(event))
    assert (explained.event_type, explained.source, explained.event_id) == (
        "TENANT_PROVISIONING",
        "TenantManagementService",
        "event-1",
    )
    assert "tenant_provisioning" in str(explained.handler)
    assert (explained.tenant_id, explained.tier) == ("tenant-1", "STANDARD")
    assert (explained.builder, explained.job_identifier) == ("CODE_BUILD", "standard-tenant")
    assert (explained.variables["VPC_ID"], explained.variables["REPLICAS"]) == ("vpc-2", 3)
    assert explained.trouble is None
    assert codebuild.calls == []


async def test_variables_are_shown_as_a_build_gets_them(
    settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """Variables are shown as a build gets them, as JavaScript prints them, without null and the
    service's own; the JSON has the values."""
    override = {
        "A_FLAG": True,
        "A_LIST": [1.0, {"b": None}],
        "A_NUMBER": 1e-7,
        "A_ZERO": -0.0,
        "NOTHING": None,
        "ORCHESTRATOR_RUN_ID": "mine",
        "TRACEPARENT": "mine",
    }
    explained = await explain_event(settings, None, text(provisioning_event(override=override)))
    lines = explained.as_lines()
    shown = [line.strip() for line in lines[lines.index("VARIABLES") + 1 :]]
    assert [line for line in shown if line.startswith("A_")] == [
        "A_FLAG = true",
        'A_LIST = [1,{"b":null}]',
        "A_NUMBER = 1e-7",
        "A_ZERO = 0",
    ]
    names = {line.partition(" = ")[0] for line in shown}
    assert not names & {"NOTHING", "ORCHESTRATOR_RUN_ID", "TRACEPARENT"}
    assert explained.as_json()["variables"]["A_FLAG"] is True


async def test_the_key_is_that_of_the_run(
    settings: Settings, codebuild: CodeBuildStandIn, aiohttp_client: Any
) -> None:
    """The explained key is that of the run of the sent event, with and without an id of its own."""
    service = await aiohttp_client(create_app(settings))
    bare = {"tenantId": "t-2", "tier": "STANDARD"}
    for event, event_type in ((provisioning_event(), None), (bare, "TENANT_PROVISIONING")):
        explained = await explain_event(settings, event_type, text(event))
        path = f"/events/{event_type}" if event_type else "/events"
        answer = await service.post(path, json=event)
        assert answer.headers["Location"] == f"/runs/{explained.key}"


async def test_secrets_are_masked(settings: Settings, codebuild: CodeBuildStandIn) -> None:
    """Secrets are masked in both forms, by the settings' patterns; other variables and expirations
    are shown."""
    event = text(provisioning_event(override=OVERRIDE))
    explained = await explain_event(settings, None, event)
    for shown in ("\n".join(explained.as_lines()), json.dumps(attrs.asdict(explained))):
        assert SECRET not in shown
        assert "CLIENT_SECRET" in shown
        assert "3600" in shown
    own = attrs.evolve(settings, log=Log(redact=("VPC_ID",)))
    variables = (await explain_event(own, None, event)).variables
    assert (variables["VPC_ID"], variables["secret"]) == ("***", f"{SECRET}-1")


FOR_FOO = {"tenantId": "t-1", "tier": "STANDARD", "builderConfig": {"type": "FOO"}}


async def test_a_tenants_own_tier_counts(
    settings: Settings,
    codebuild: CodeBuildStandIn,
    aiohttp_client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the event names no tier, the tenant's tier in the ledger counts."""
    async with open_ledger_table(monkeypatch):
        kept = over_dynamodb(settings)
        service = await aiohttp_client(create_app(kept))
        done = {"tenantId": "t-1", "tier": "STANDARD"}
        answer = await service.post("/events/TENANT_PROVISIONING_SUCCESS", json=done)
        assert answer.status == 200
        down = text({"tenantId": "t-1"})
        explained = await explain_event(kept, "TENANT_DEPROVISIONING", down)
        assert (explained.tier, explained.trouble) == ("STANDARD", None)
        assert explained.job_identifier == "standard-tenant-teardown"


@pytest.mark.parametrize("event_type", ["RECONCILE", "Scheduled Event"])
async def test_a_sweep_is_explained(settings: Settings, event_type: str) -> None:
    """A sweep is explained as one, with its handler."""
    explained = await explain_event(settings, event_type, b"{}")
    assert (explained.trouble, explained.event_type) == (None, "RECONCILE")
    assert "sweep" in str(explained.handler)


@pytest.mark.parametrize("body", [{"tenantId": "t-1"}, {"tenantId": "t-1", "tier": "STANDARD"}])
async def test_a_deployment_without_a_job_is_explained(
    settings: Settings, body: dict[str, Any]
) -> None:
    """A deployment without a job is explained without a job and without trouble, since it would end
    at once."""
    explained = await explain_event(settings, "TENANT_DEPLOYMENT", text(body))
    assert (explained.trouble, explained.job_identifier) == (None, None)
    assert "deployment job" in (explained.note or "")


@pytest.mark.parametrize(
    ("event_type", "body", "said"),
    [
        ("TENANT_PROVISIONING", {"tenantId": "t-1", "tier": "GOLD"}, "GOLD"),
        ("TENANT_PROVISIONING", {"tenantId": "t-1", "tier": "EMPTY"}, "job name not found"),
        ("TENANT_PROVISIONING", {"tenantId": "t-1"}, "tier"),
        ("TENANT_PROVISIONING", {"tenantId": 7, "secret": SECRET}, "$.tenantId"),
        ("TENANT_PROVISIONING", FOR_FOO, "Invalid builder config provided."),
        ("TENANT_PARTY", {"tenantId": "t-1"}, "Unsupported event type: TENANT_PARTY"),
    ],
)
async def test_a_failure_is_predicted(
    settings: Settings,
    codebuild: CodeBuildStandIn,
    event_type: str,
    body: dict[str, Any],
    said: str,
) -> None:
    """A failure is predicted with the sentence of the answer, beside all that is known."""
    explained = await explain_event(settings, event_type, text(body))
    assert explained.trouble is not None
    assert said.lower() in explained.trouble.lower()
    assert explained.trouble in "\n".join(explained.as_lines())
    assert explained.event_type == event_type
    assert SECRET not in "\n".join(explained.as_lines())


@pytest.mark.parametrize(
    ("body", "said"),
    [({"tenantId": "t-1"}, "no type"), ([], "object")],
)
async def test_a_body_that_is_no_event_is_not_explained(
    settings: Settings, body: object, said: str
) -> None:
    """A bare body without its type, or a list, is an error."""
    with pytest.raises(BadEvent, match=said):
        await explain_event(settings, None, text(body))


async def test_an_event_without_a_job_is_explained_too(settings: Settings) -> None:
    """An outcome is explained with its handler and tenant, and without a job."""
    explained = await explain_event(settings, "TENANT_PROVISIONING_SUCCESS", b'{"TENANT_ID": "t"}')
    assert (explained.tenant_id, explained.job_identifier, explained.trouble) == ("t", None, None)
    assert explained.note == "It starts no job: it ends its tenant's provisioning."
    assert "tenant_provisioning_success" in str(explained.handler)


async def test_the_jobs_of_an_own_handler_are_its_own(
    settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A user's handler is explained without a job, which is unknown before it runs, even for a
    built-in type; the event's tier is shown."""
    own = attrs.evolve(settings, extension=f"{__name__}:own_handlers")
    for event_type, tier in (("TENANT_PROVISIONING", "STANDARD"), ("ORDER", None)):
        body = text({"tenantId": "t-1", "tier": "STANDARD"})
        explained = await explain_event(own, event_type, body)
        assert (explained.job_identifier, explained.builder) == (None, None)
        assert (explained.tier, explained.trouble) == (tier, None)
        assert explained.note is not None
        assert "builders.dry_run" in explained.note
        assert explained.note.split()[0] in "\n".join(explained.as_lines())


own_registry = HandlerRegistry()
own_handlers = Extension(registry=own_registry)


@own_registry.on("ORDER")
async def order(event: Event[dict[str, Any]], run: Run) -> None:
    """A type of its own."""


@own_registry.on("TENANT_PROVISIONING")
async def provision(event: Event[TenantProvisioning], run: Run) -> None:
    """In place of the built-in one, with its model."""


STATIC = {
    "ORCHESTRATOR_TIERS__BACKEND": "static",
    "ORCHESTRATOR_TIERS__STATIC": json.dumps(TIERS),
}


async def test_the_command_predicts_a_failure(codebuild: CodeBuildStandIn) -> None:
    """An unknown tier exits 1 with the whole explanation as JSON, and starts nothing."""
    event = text(provisioning_event(tier="GOLD"))
    ended = await run("explain", "--json", stdin=event.decode(), **STATIC)
    assert (ended.code, ended.err) == (1, "")
    shown = json.loads(ended.out)
    assert (shown["tier"], shown["tenantId"]) == ("GOLD", "tenant-1")
    assert "GOLD" in shown["trouble"]
    assert codebuild.calls == []


@pytest.fixture
def explain() -> Iterator[Callable[..., Result]]:
    """Run the command in this process."""

    def invoke(*arguments: str, stdin: bytes) -> Result:
        return CliRunner(env=STATIC).invoke(commands, ["explain", *arguments], input=stdin)

    yield invoke
    structlog.reset_defaults()


def test_the_command_explains(explain: Callable[..., Result]) -> None:
    """`explain` exits 0 with secrets masked; a bare body needs `--type`."""
    event = provisioning_event(override=OVERRIDE)
    whole = explain(stdin=text(event))
    assert (whole.exit_code, whole.stderr) == (0, "")
    bare = explain("--type", "TENANT_PROVISIONING", stdin=text(event["detail"]))
    assert (bare.exit_code, bare.stderr) == (0, "")
    for said in (whole.stdout, bare.stdout):
        assert "REPLICAS = 3" in said
        assert "standard-tenant" in said
        assert SECRET not in said
    untyped = explain(stdin=text(event["detail"]))
    assert (untyped.exit_code, untyped.stdout) == (1, "")
    assert isinstance(untyped.exception, BadEvent)


async def test_a_wrong_option_of_a_tier_is_explained(
    settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A wrong option of a tier, which would be refused, is trouble of the explanation."""
    tier = {"jobIdentifier": "p", "codebuild": {"computType": "BUILD_GENERAL1_LARGE"}}
    chosen = attrs.evolve(settings, tiers=Tiers(backend="static", static={"A": tier}))
    body = text({"tenantId": "t-1", "tier": "A"})
    explained = await explain_event(chosen, "TENANT_PROVISIONING", body)
    assert "codebuild.computType is no option" in (explained.trouble or "")
