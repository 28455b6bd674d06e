"""The six outcome types over HTTP, and builds of other systems."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings, handlers
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.intake.app_keys import TRANSACTIONS
from orchestrator.testing import envelope, provisioning_event
from tests.acceptance.answers import only_build, read_run, read_success
from tests.conftest import Client, StartService

SAMPLES = Path(__file__).parents[1] / "samples"


def sample(name: str) -> dict[str, Any]:
    """An event as it was recorded on the bus."""
    event: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text())
    return event


@pytest.mark.parametrize("outcome", ["SUCCESS", "FAILURE"])
@pytest.mark.parametrize(
    "operation", ["TENANT_PROVISIONING", "TENANT_DEPLOYMENT", "TENANT_DEPROVISIONING"]
)
async def test_every_outcome_is_taken_note_of(
    service: Client, codebuild: CodeBuildStandIn, operation: str, outcome: str
) -> None:
    """An outcome of a tenant that is older than the ledger is handled, and starts nothing."""
    event_type = f"{operation}_{outcome}"
    answer = await service.post("/events", json=envelope(event_type, {"tenantId": "t-1"}))
    run = await read_run(service, await read_success(answer))
    assert (run["eventType"], run["status"], run["tenantId"]) == (event_type, "succeeded", "t-1")
    assert not codebuild.builds


async def test_a_failure_report_needs_no_tenant(service: Client) -> None:
    """A failure report of a build in an early phase, which can't name its tenant yet, is
    accepted."""
    detail = {"CODEBUILD_BUILD_ID": "standard-tenant:1", "CODEBUILD_BUILD_SUCCEEDING": "0"}
    event = envelope("TENANT_PROVISIONING_FAILURE", detail)
    await read_success(await service.post("/events", json=event))


@pytest.mark.parametrize("detail_type", ["BUILD_STATE_CHANGE", "CodeBuild Build State Change"])
@pytest.mark.parametrize("path", ["/events", "/events/{detail_type}"])
async def test_a_state_change_of_a_foreign_build_is_ignored(
    service: Client, codebuild: CodeBuildStandIn, detail_type: str, path: str
) -> None:
    """A state change of a build that the service didn't start is 200 under both names, delivered
    again too, and starts no build."""
    event = {**sample("codebuild_build_state_change"), "detail-type": detail_type}
    for _ in range(2):
        answer = await service.post(path.format(detail_type=detail_type), json=event)
        assert answer.status == 200
        assert await answer.json() == {"success": True}
    assert not codebuild.calls


async def test_the_samples_in_their_natural_order(
    service: Client, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """Request, self-report and state change are each answered 200, and one build is started."""
    for name in ("tenant_provisioning", "build_self_report", "codebuild_build_state_change"):
        answer = await service.post("/events", json=sample(name))
        assert answer.status == 200, name
        assert await answer.json() == {"success": True}
    tier = sample("tenant_provisioning")["detail"]["planConfig"]["tier"]
    assert only_build(codebuild).project == settings.tiers.static[tier]["jobIdentifier"]


async def test_a_foreign_build_leaves_no_run(service: Client) -> None:
    """A foreign build's state change has no run, so the answer names none."""
    answer = await service.post("/events", json=sample("codebuild_build_state_change"))
    assert answer.status == 200
    assert "Location" not in answer.headers


async def test_a_build_of_ours_is_kept_as_what_it_ended(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A state change of the service's build has the address of the outcome's run, and no run of its
    own."""
    await read_success(await service.post("/events", json=provisioning_event()))
    change = sample("codebuild_build_state_change")
    change["detail"] |= {"build-id": only_build(codebuild).arn}
    codebuild.finish(only_build(codebuild).id, "FAILED")
    run = await read_run(service, await read_success(await service.post("/events", json=change)))
    assert run["eventType"] == "TENANT_PROVISIONING_FAILURE"
    kept = (await (await service.get("/runs")).json())["items"]
    assert sorted(one["eventType"] for one in kept) == [
        "TENANT_PROVISIONING",
        "TENANT_PROVISIONING_FAILURE",
    ]


async def tenant_state(service: Client) -> str | None:
    tenant = await service.app[TRANSACTIONS].find_tenant("t-1")
    return tenant.state if tenant else None


@pytest.mark.parametrize(
    ("event_type", "state"),
    [
        ("TENANT_PROVISIONING", "provisioning"),
        ("TENANT_PROVISIONING_SUCCESS", "provisioned"),
        ("TENANT_PROVISIONING_FAILURE", "provision_failed"),
        ("TENANT_DEPLOYMENT", "active"),
        ("TENANT_DEPLOYMENT_FAILURE", "deployment_failed"),
        ("TENANT_DEPROVISIONING", "deprovisioning"),
        ("TENANT_DEPROVISIONING_SUCCESS", "deprovisioned"),
        ("TENANT_DEPROVISIONING_FAILURE", "deprovision_failed"),
    ],
)
async def test_the_tenant_moves_with_the_event(
    service: Client, event_type: str, state: str
) -> None:
    """Each type leaves the tenant in its state; a deployment without a job is active at once."""
    body = {"tenantId": "t-1", "tier": "STANDARD"}
    await read_success(await service.post(f"/events/{event_type}", json=body))
    assert await tenant_state(service) == state


async def test_a_tenants_tier_is_remembered(service: Client, codebuild: CodeBuildStandIn) -> None:
    """A request that names no tier has the tier that the tenant was provisioned with."""
    provisioning = provisioning_event(tenant_id="t-1", tier="STANDARD")
    await read_success(await service.post("/events", json=provisioning))
    codebuild.finish(only_build(codebuild).id, "SUCCEEDED")
    for event in (
        envelope("TENANT_PROVISIONING_SUCCESS", {"tenantId": "t-1"}, event_id="event-2"),
        envelope("TENANT_DEPROVISIONING", {"tenantId": "t-1"}, event_id="event-3"),
    ):
        await read_success(await service.post("/events", json=event))
    projects = [build.project for build in codebuild.builds.values()]
    assert projects == ["standard-tenant", "standard-tenant-teardown"]


async def test_a_built_in_handler_serves_another_type(
    start_service: StartService, codebuild: CodeBuildStandIn
) -> None:
    """A built-in handler that is registered for another type does the same for it."""
    registry = HandlerRegistry()
    registry.register("MY_ONBOARDING", handlers.tenant_provisioning)
    service = await start_service(extension=Extension(registry=registry))
    body = {"tenantId": "t-1", "tier": "STANDARD"}
    await read_success(await service.post("/events/MY_ONBOARDING", json=body))
    assert only_build(codebuild).project == "standard-tenant"


async def test_a_users_handler_gets_state_changes_of_foreign_builds_too(
    start_service: StartService,
) -> None:
    """A handler that replaces the built-in one gets all of its events, and a run for each."""
    registry = HandlerRegistry()
    seen = []

    @registry.on("BUILD_STATE_CHANGE")
    async def change(event: Event[dict[str, Any]], run: Run) -> None:
        seen.append(event.body["build-status"])

    service = await start_service(extension=Extension(registry=registry))
    answer = await service.post("/events", json=sample("codebuild_build_state_change"))
    assert (await read_run(service, await read_success(answer)))["status"] == "succeeded"
    assert len(seen) == 1
