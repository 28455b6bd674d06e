"""How the clean-up after a failed provisioning ends, by each kind of message."""

from typing import Any

import attrs
import pytest

from orchestrator import Settings
from orchestrator.embedded import Build, CodeBuildStandIn
from orchestrator.settings import Operations, Tiers
from orchestrator.testing import ManualClock
from tests.acceptance.answers import only_build, read_success
from tests.acceptance.endings import STATUSES, change_state, send_self_report
from tests.acceptance.stories import PROVISION, read_tenant, send, state_of, sweep
from tests.conftest import Client, StartService


def with_clean_up(settings: Settings, codebuild: CodeBuildStandIn) -> Settings:
    """Settings whose only tier has a clean-up's job."""
    codebuild.add_project("cleanup")
    tier = {"jobIdentifier": "standard-tenant", "cleanupJobIdentifier": "cleanup"}
    operations = Operations(reconcile_every_s=0, deadline_s=600)
    tiers = Tiers(backend="static", static={"FULL": tier})
    return attrs.evolve(settings, tiers=tiers, operations=operations)


async def begin_clean_up(service: Client, codebuild: CodeBuildStandIn) -> Build:
    """The build that cleans up after a failed provisioning."""
    await read_success(await send(service, PROVISION, "request"))
    codebuild.finish(only_build(codebuild).id, "FAILED")
    await sweep(service)
    assert await state_of(service) == "cleaning_up"
    return list(codebuild.builds.values())[-1]


async def end_of_clean_up(service: Client) -> dict[str, Any]:
    """The only entry of the timeline that ended the clean-up."""
    timeline = (await read_tenant(service))["timeline"]
    ends = [one for one in timeline if one["eventType"].startswith("TENANT_CLEAN_UP_")]
    (end,) = (
        one
        for one in ends
        if one["status"] != "duplicate" and not one["reason"].startswith("The job reports")
    )
    assert len([one for one in timeline if one["eventType"] == f"{PROVISION}_FAILURE"]) == 1
    found: dict[str, Any] = end
    return found


@pytest.mark.parametrize("way", ["state change", "own report", "sweep"])
@pytest.mark.parametrize("status", list(STATUSES))
async def test_every_end_of_a_clean_up_is_noticed_by_every_way(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    status: Any,
    way: str,
) -> None:
    """Each end of a clean-up is in the timeline, by whichever message it is detected, and leaves
    the tenant not provisioned."""
    service = await start_service(with_clean_up(settings, codebuild))
    build = await begin_clean_up(service, codebuild)
    codebuild.finish(build.id, status, reason="exit status 2")
    for number in range(2):
        match way:
            case "state change":
                await change_state(service, build, event_id=f"change-{number}")
            case "own report":
                await send_self_report(
                    service, build, "TENANT_CLEAN_UP_SUCCESS", event_id=f"told-{number}"
                )
            case "sweep":
                await sweep(service)
    succeeded = status == "SUCCEEDED"
    assert await state_of(service) == "provision_failed"
    entry = await end_of_clean_up(service)
    assert entry["eventType"] == f"TENANT_CLEAN_UP_{'SUCCESS' if succeeded else 'FAILURE'}"
    assert STATUSES[status] in entry["reason"]
    assert succeeded or "exit status 2" in entry["reason"]
    assert entry["link"] == build.as_document()["logs"]["deepLink"]
    assert len(codebuild.builds) == 2


@pytest.mark.parametrize(
    ("how", "after_s", "reason"),
    [("deleted", 600, "it was deleted"), ("never reported", 600, "took longer than 600 s")],
)
async def test_a_clean_up_whose_build_is_unknown_or_overdue_ends(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    how: str,
    after_s: int,
    reason: str,
) -> None:
    """A clean-up whose build was deleted or runs too long ends at the deadline."""
    service = await start_service(with_clean_up(settings, codebuild))
    build = await begin_clean_up(service, codebuild)
    if how == "deleted":
        codebuild.remove_build(build.id)
    clock.turn(after_s - 1)
    await sweep(service)
    assert await state_of(service) == "cleaning_up"
    clock.turn(1)
    await sweep(service)
    assert await state_of(service) == "provision_failed"
    assert reason in (await end_of_clean_up(service))["reason"]
