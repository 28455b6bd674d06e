"""Builds that run beyond their operation's deadline."""

import attrs
import pytest

from orchestrator import Settings
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import Operations
from orchestrator.testing import ManualClock
from tests.acceptance.answers import only_build, read_success
from tests.acceptance.endings import ENDS, outcome
from tests.acceptance.stories import PROVISION, read_tenant, send, state_of, sweep, with_full_tier
from tests.conftest import StartService


@pytest.mark.parametrize("event_type", list(ENDS))
async def test_a_build_that_never_ends_is_stopped(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    event_type: str,
) -> None:
    """A build is stopped at the deadline, which counts from when its job was recorded, and its
    operation fails with that reason."""
    operations = Operations(reconcile_every_s=0, deadline_s=600)
    service = await start_service(attrs.evolve(with_full_tier(settings), operations=operations))
    await read_success(await send(service, event_type, "request"))
    clock.turn(599)
    await sweep(service)
    assert only_build(codebuild).status == "IN_PROGRESS"
    clock.turn(1)
    await sweep(service)
    assert only_build(codebuild).status == "STOPPED"
    assert await state_of(service) == ENDS[event_type][1]
    assert "took longer than 600 s" in (await outcome(service))["reason"]


async def test_a_build_may_succeed_while_it_is_being_stopped(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A build that is being stopped holds its tenant until CodeBuild says that it is over; if it
    has succeeded, that counts."""
    operations = Operations(reconcile_every_s=0, deadline_s=600)
    service = await start_service(attrs.evolve(with_full_tier(settings), operations=operations))
    codebuild.stops_at_once = False
    await read_success(await send(service, PROVISION, "request"))
    clock.turn(600)
    for _ in range(2):
        await sweep(service)
        tenant = await read_tenant(service)
        assert tenant["state"] == "provisioning"
        assert "took longer than 600 s" in tenant["operation"]["reason"]
    codebuild.finish(only_build(codebuild).id, "SUCCEEDED")
    await sweep(service)
    assert await state_of(service) == "provisioned"
    assert "took longer" not in (await outcome(service))["reason"]


async def test_a_build_beyond_its_deadline_may_be_let_run(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """Without `operations.stop_overdue` a build beyond its deadline runs on, and its end counts,
    however late."""
    operations = Operations(reconcile_every_s=0, deadline_s=600, stop_overdue=False)
    service = await start_service(attrs.evolve(with_full_tier(settings), operations=operations))
    await read_success(await send(service, PROVISION, "request"))
    build = only_build(codebuild)
    clock.turn(6000)
    await sweep(service)
    assert (build.status, await state_of(service)) == ("IN_PROGRESS", "provisioning")
    codebuild.finish(build.id, "SUCCEEDED")
    await sweep(service)
    assert await state_of(service) == "provisioned"
