"""A dry run beside an old system: what would be started is recorded, and nothing is started."""

import asyncio
import json
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings, handlers, payloads
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.settings import Builders, Callback, Events, Tiers
from orchestrator.testing import InMemoryBuilder, ManualClock, envelope, provisioning_event
from tests.acceptance.answers import only_build, read_problem, read_run, read_success
from tests.acceptance.stories import open_ledger_table, over_dynamodb, state_of
from tests.conftest import Client, StartService
from tests.control_plane.receiver import SECRET, ControlPlane

CREDENTIALS = {"secret": "s3cr3t", "context": "c-1"}
REFERENCE = {"type": "PARAMETER_STORE", "value": "/theirs/db"}
OVERRIDE = {"SIZE": 5, "DB_PASSWORD": REFERENCE, **CREDENTIALS}
EVENT = provisioning_event(tier="PREMIUM", override=OVERRIDE)
TIER = {
    "jobIdentifier": "premium-tenant",
    "codebuild": {"computeType": "BUILD_GENERAL1_LARGE"},
    # No server listens there: a report would show as one that waits.
    "API_ENDPOINT": "http://127.0.0.1:9/webhook",
}


@pytest.fixture
def configured(settings: Settings) -> Settings:
    return attrs.evolve(
        settings,
        tiers=Tiers(backend="static", static={"PREMIUM": TIER}),
        callback=Callback(after="provisioning"),
        events=Events(bus="the-bus"),
    )


@pytest.fixture
async def dry(start_service: StartService, configured: Settings) -> Client:
    return await start_service(attrs.evolve(configured, builders=Builders(dry_run=True)))


async def test_a_run_keeps_what_would_have_been_started(
    dry: Client, start_service: StartService, configured: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A run records each parameter of StartBuild, with secrets masked."""
    with capture_logs() as logs:
        address = await read_success(await dry.post("/events", json=EVENT))
    assert codebuild.calls == []
    job = (await read_run(dry, address))["job"]
    assert (job["builder"], job["jobIdentifier"]) == ("CODE_BUILD", "premium-tenant")

    service = await start_service(configured)
    await read_success(await service.post("/events", json=EVENT))
    started = json.loads(json.dumps(only_build(codebuild).parameters).replace("s3cr3t", "***"))
    assert job["request"] == started
    assert any(line["event"] == "would have been started" for line in logs)
    assert "s3cr3t" not in str([*logs, job])


async def test_an_event_that_is_too_large_for_the_ledger_is_refused(
    start_service: StartService, configured: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event whose recorded start would not fit into the ledger is a 422, instead of a failure at
    each retry."""
    async with open_ledger_table(monkeypatch):
        dry = attrs.evolve(over_dynamodb(configured), builders=Builders(dry_run=True))
        service = await start_service(dry)
        for size, letter, status in ((250_000, "x", 200), (100_000, "я", 422), (300_000, "x", 422)):
            event = provisioning_event(
                tenant_id=f"t-{size}",
                tier="PREMIUM",
                event_id=f"{size}",
                override={"A": letter * size},
            )
            answer = await service.post("/events", json=event)
            assert answer.status == status
        assert "a dry run records at most 260000" in (await read_problem(answer, 422))["detail"]
        assert await state_of(service, "t-300000") == "unseen"


async def test_its_operations_succeed_and_nothing_is_sent(
    dry: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A dry run's operations succeed without a report or an event, and the tenant's next request is
    handled."""
    await read_success(await dry.post("/events", json=EVENT))
    clock.turn(61)
    assert (await dry.post("/events/RECONCILE", json={})).status == 200
    tenant = await (await dry.get("/tenants/tenant-1")).json()
    assert tenant["state"] == "provisioned"
    said = json.dumps(tenant["timeline"])
    assert "would have been started on CODE_BUILD." in said
    assert "No report is sent to the control plane, since this is a dry run." in said
    assert "No TENANT_DEPLOYMENT was published, since this is a dry run." in said
    down = {"tenantId": "tenant-1", "tier": "PREMIUM"}
    deployment = envelope("TENANT_DEPLOYMENT", down, event_id="deploy")
    await read_success(await dry.post("/events", json=deployment))
    assert codebuild.calls == []


async def test_your_own_builders_and_handlers_stay_dry(
    start_service: StartService, configured: Settings
) -> None:
    """What a user's handler publishes or starts on a user's builder is recorded and not done."""
    registry, builder = HandlerRegistry(), InMemoryBuilder("MINE")

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        await run.publish("ORDERED", {})
        await run.start_job("script", {"password": "s3cr3t", "A": 1}, builder="MINE")

    dry = await start_service(
        attrs.evolve(configured, builders=Builders(dry_run=True)),
        extension=Extension(registry=registry, builders={"MINE": builder}),
    )
    address = await read_success(await dry.post("/events/ORDER", json={"a": 1}))
    job = (await read_run(dry, address))["job"]
    assert builder.started == []
    assert job["request"]["jobIdentifier"] == "script"
    params = {"password": "***", "A": 1, "ORCHESTRATOR_RUN_ID": job["request"]["startKey"]}
    assert params.items() <= job["request"]["params"].items()


async def test_a_cancel_ends_as_failed(dry: Client) -> None:
    """A cancelled operation of a dry run fails with the operator's reason, as it would for real."""
    await read_success(await dry.post("/events", json=EVENT))
    answer = await dry.post("/tenants/tenant-1/cancel", json={"reason": "A mistake."})
    assert answer.status == 200
    tenant = await (await dry.get("/tenants/tenant-1")).json()
    assert tenant["state"] == "provision_failed"
    assert "A mistake." in json.dumps(tenant)


async def test_over_a_ledger_in_use_it_acts_on_nothing(
    start_service: StartService,
    configured: Settings,
    control_plane: ControlPlane,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """A dry run over a ledger in use ends no running build and sends no due report."""
    callback = Callback(url=control_plane.url, after="provisioning", timeout_s=30)
    settings_with_webhook = attrs.evolve(configured, callback=callback, events=Events())
    await control_plane.fail(503)
    ledger = InMemoryLedger()
    real = await start_service(settings_with_webhook, ledger=ledger)
    for tenant in ("t-1", "t-2"):
        await control_plane.expect(tenant, context=f"context-{tenant}")
        override = {"secret": SECRET, "context": f"context-{tenant}"}
        event = provisioning_event(
            tenant_id=tenant, tier="PREMIUM", event_id=tenant, override=override
        )
        await read_success(await real.post("/events", json=event))
    codebuild.finish(next(iter(codebuild.builds)))
    clock.turn(61)
    await real.post("/events/RECONCILE", json={})
    assert await control_plane.accepted() == []

    dry = await start_service(
        attrs.evolve(settings_with_webhook, builders=Builders(dry_run=True)), ledger=ledger
    )
    for service, reported in ((dry, 0), (real, 1)):
        clock.turn(600)
        await control_plane.turn_clock(clock.now())
        assert (await service.post("/events/RECONCILE", json={})).status == 200
        assert (await (await service.get("/tenants/t-2")).json())["state"] == "provisioning"
        assert len(await control_plane.accepted()) == reported


async def test_a_real_build_is_none_of_its_business(
    start_service: StartService,
    configured: Settings,
    control_plane: ControlPlane,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """A dry run neither cancels nor ends a build that was started for real: the real service ends
    and reports it."""
    callback = Callback(url=control_plane.url, after="provisioning", timeout_s=30)
    settings_with_webhook = attrs.evolve(configured, callback=callback, events=Events())
    ledger = InMemoryLedger()
    real = await start_service(settings_with_webhook, ledger=ledger)
    dry = await start_service(
        attrs.evolve(settings_with_webhook, builders=Builders(dry_run=True)), ledger=ledger
    )
    await control_plane.expect("tenant-1", context="c-1")
    override = {"secret": SECRET, "context": "c-1"}
    await read_success(
        await real.post("/events", json=provisioning_event(tier="PREMIUM", override=override))
    )
    build = only_build(codebuild)
    problem = await read_problem(await dry.post("/tenants/tenant-1/cancel", json={}), 422)
    assert problem["detail"] == f"the job {build.id} was started for real, and this is a dry run"
    codebuild.finish(build.id)
    change = envelope("CodeBuild Build State Change", build.as_state_change(), event_id="change")
    for service, state in ((dry, "provisioning"), (real, "provisioned")):
        assert (await service.post("/events", json=change)).status == 200
        assert (await (await real.get("/tenants/tenant-1")).json())["state"] == state
    assert len(await control_plane.accepted()) == 1


async def test_a_dry_run_looks_up_a_possible_start_too(
    start_service: StartService,
    configured: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """A dry run finds and records a job of a real start whose answer was lost, instead of recording
    a dry start."""
    ledger = InMemoryLedger()
    real = await start_service(configured, ledger=ledger)
    dry = await start_service(
        attrs.evolve(configured, builders=Builders(dry_run=True)), ledger=ledger
    )
    codebuild.inject("StartBuild", *[Fault.answer_lost()] * 2)
    await read_problem(await real.post("/events", json=EVENT), 503)
    for _ in range(4):
        clock.turn(61)
        assert (await dry.post("/events/RECONCILE", json={})).status == 200
    tenant = await (await real.get("/tenants/tenant-1")).json()
    assert tenant["state"] == "provisioning"
    assert tenant["operation"]["job"]["id"] == only_build(codebuild).id


async def test_a_dry_run_needs_no_leave_to_look(
    start_service: StartService,
    configured: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """A dry run resumes a run of a crashed process without permissions on CodeBuild."""
    ledger = InMemoryLedger()
    registry = HandlerRegistry()
    entered, attempts = asyncio.Event(), []

    @registry.on("TENANT_PROVISIONING")
    async def provision(event: Event[payloads.TenantProvisioning], run: Run) -> None:
        attempts.append(run.attempt)
        if run.attempt == 1:
            entered.set()
            await asyncio.Event().wait()  # its process dies here
        await handlers.tenant_provisioning(event, run)

    later = ManualClock(clock.now())
    dry = attrs.evolve(configured, builders=Builders(dry_run=True))
    extension = Extension(registry=registry)
    dead = await start_service(dry, extension=extension, ledger=ledger)
    alive = await start_service(dry, extension=extension, ledger=ledger, clock=later)
    dying = asyncio.ensure_future(dead.post("/events", json=EVENT))
    await entered.wait()
    later.turn(400)
    codebuild.inject("ListBuildsForProject", *[Fault.error("AccessDeniedException")] * 9)
    await read_success(await alive.post("/events", json=EVENT))
    assert attempts == [1, 2]
    dying.cancel()


async def test_operations_of_a_dry_run_are_not_cleaned_up_for_real(
    start_service: StartService,
    configured: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """The real service neither takes a dry run's job for a deleted one nor cancels its operation,
    since the tenant may live in the old system; the dry run ends it."""
    tier = {**TIER, "cleanupJobIdentifier": "premium-tenant"}
    real_settings = attrs.evolve(
        configured, tiers=Tiers(backend="static", static={"PREMIUM": tier})
    )
    ledger = InMemoryLedger()
    dry = await start_service(
        attrs.evolve(real_settings, builders=Builders(dry_run=True)), ledger=ledger
    )
    await read_success(await dry.post("/events", json=EVENT))
    real = await start_service(real_settings, ledger=ledger)
    clock.turn(130)
    await real.post("/events/RECONCILE", json={})
    assert (await (await real.get("/tenants/tenant-1")).json())["state"] == "provisioning"
    problem = await read_problem(await real.post("/tenants/tenant-1/cancel", json={}), 422)
    assert "is a dry run's, whose next sweep ends it" in problem["detail"]
    assert codebuild.builds == {}
    clock.turn(130)
    await dry.post("/events/RECONCILE", json={})
    assert (await (await real.get("/tenants/tenant-1")).json())["state"] == "provisioned"
