"""A report is accepted once, though the control plane is down, its answer is lost or its clock is
wrong."""

import asyncio
from datetime import timedelta

import pytest

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    Run,
    Settings,
    TemporaryError,
    handlers,
    payloads,
)
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.testing import ManualClock
from tests.acceptance.answers import read_success
from tests.acceptance.reports import (
    CONTEXT,
    PROVISIONED,
    body,
    credentials_kept,
    end,
    provision,
    running,
    sweep,
    tenant,
    why,
)
from tests.conftest import StartService
from tests.control_plane.receiver import ControlPlane


@pytest.mark.parametrize("settled_by", ["event", "sweep", "replay"])
async def test_a_control_plane_that_was_down_for_an_hour_gets_one_report(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    clock: ManualClock,
    settled_by: str,
) -> None:
    """The sweep retries a report, signed anew each time, until it is accepted, whether an event, a
    sweep or a replay settled the operation."""
    registry = HandlerRegistry()
    broken = settled_by == "replay"

    async def fails_at_first(event: Event[payloads.TenantOutcome], run: Run) -> None:
        if broken:
            raise TemporaryError("not yet")
        await handlers.tenant_provisioning_success(event, run)

    if settled_by == "replay":
        registry.register(PROVISIONED, fails_at_first)
    service = await start_service(settings_with_webhook, extension=Extension(registry=registry))
    await provision(service, control_plane)
    await control_plane.fail(*[503] * 100)
    match settled_by:
        case "event":
            await end(service, codebuild)
        case "sweep":
            codebuild.finish(running(codebuild).id, "SUCCEEDED")
            await sweep(service)
        case "replay":
            build = running(codebuild)
            codebuild.finish(build.id, "SUCCEEDED")
            await sweep(service)
            broken = False
            page = await (await service.get("/runs", params={"status": "retry"})).json()
            (run_id,) = (run["runId"] for run in page["items"])
            await read_success(await service.post(f"/runs/{run_id}/replay", json={}))
    assert (await tenant(service))["state"] == "provisioned"
    for _ in range(60):
        clock.turn(60)
        await control_plane.turn_clock(clock.now())
        await sweep(service)
    assert await control_plane.accepted() == []
    assert await credentials_kept(service) == 1
    for _ in range(100):
        clock.turn(301)
        await control_plane.turn_clock(clock.now())
        await sweep(service)
    assert await control_plane.accepted() == [body(1)]
    assert await control_plane.refused() == []
    assert await credentials_kept(service) == 0


@pytest.mark.parametrize("fault", ["reset", "answerLost"])
async def test_a_lost_answer_is_made_up_for(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    clock: ManualClock,
    fault: str,
) -> None:
    """After a lost answer the report is sent again; a refusal of that, since it was accepted
    before, counts as accepted."""
    service = await start_service(settings_with_webhook)
    await provision(service, control_plane)
    await control_plane.fail(fault)
    await end(service, codebuild)
    clock.turn(5)
    await control_plane.turn_clock(clock.now())
    await sweep(service)
    assert await control_plane.accepted() == [body(1)]
    assert "accepted the report" in await why(service)
    assert await credentials_kept(service) == 0


async def test_a_secret_that_has_expired_is_an_alarm(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    clock: ManualClock,
) -> None:
    """A report that is refused for its signature is given up with a reason in the timeline."""
    service = await start_service(settings_with_webhook)
    await provision(service, control_plane)
    await control_plane.expect("t-1", secret="another one by now", context=CONTEXT)
    await end(service, codebuild)
    assert "most likely expired" in await why(service)
    clock.turn(3600)
    await sweep(service)
    assert [one["reason"] for one in await control_plane.refused()] == ["bad signature"]
    assert (await tenant(service))["state"] == "provisioned"


@pytest.mark.parametrize("ahead_s", [40, -3600])
async def test_clocks_that_differ_are_made_up_for(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    clock: ManualClock,
    ahead_s: float,
) -> None:
    """A report that is refused for its time is signed once more by the control plane's clock, which
    allows 20 s."""
    service = await start_service(settings_with_webhook)
    await provision(service, control_plane)
    await control_plane.turn_clock(clock.now() + timedelta(seconds=ahead_s))
    await end(service, codebuild)
    assert await control_plane.accepted() == [body(1)]
    assert [one["reason"] for one in await control_plane.refused()] == ["clock"]
    assert (await why(service)).endswith("The control plane accepted the report.")


async def test_two_replicas_settle_and_report_each_job_once(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    clock: ManualClock,
) -> None:
    """Two replicas that sweep at once settle and report each job once."""
    ledger = InMemoryLedger()
    replicas = [await start_service(settings_with_webhook, ledger=ledger) for _ in range(2)]
    names = [f"t-{number}" for number in range(12)]
    for number, name in enumerate(names):
        await control_plane.expect(name, context=f"{CONTEXT}-{name}")
        await provision(
            replicas[number % 2], control_plane, tenant_id=name, context=f"{CONTEXT}-{name}"
        )
        await control_plane.expect(name, context=f"{CONTEXT}-{name}")
    statuses = ("SUCCEEDED", "FAILED", "TIMED_OUT")
    for number, build in enumerate(codebuild.builds.values()):
        codebuild.finish(build.id, statuses[number % 3])  # type: ignore[arg-type]
    for _ in range(3):
        await asyncio.gather(*(sweep(replica) for replica in replicas * 3))
        clock.turn(60)
        await control_plane.turn_clock(clock.now())
    accepted = await control_plane.accepted()
    assert sorted(one["initiatorId"] for one in accepted) == sorted(names)
    assert await control_plane.refused() == []
    for number, name in enumerate(names):
        found = await tenant(replicas[0], name)
        outcomes = [one for one in found["timeline"] if "SUCCESS" in one["eventType"]]
        outcomes += [one for one in found["timeline"] if "FAILURE" in one["eventType"]]
        assert [one["status"] for one in outcomes] == ["succeeded"], found["timeline"]
        assert found["state"] == ("provision_failed" if number % 3 else "provisioned")
