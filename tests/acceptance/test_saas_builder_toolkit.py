"""Events of the AWS SaaS Builder Toolkit: its names and its shapes, end to end."""

from typing import Any

import pytest

from orchestrator.embedded import CodeBuildStandIn
from orchestrator.testing import envelope
from tests.acceptance.answers import only_build, read_success
from tests.conftest import Client

CONTROL_PLANE = "sbt.control.plane"
APPLICATION_PLANE = "sbt.application.plane"
REGISTRATION = {"registrationStatus": "In progress"}


def toolkit_event(name: str, detail: dict[str, Any], *, source: str) -> dict[str, Any]:
    return envelope(f"sbt_aws_{name}", detail, event_id=name, source=source)


async def post(service: Client, event: dict[str, Any]) -> None:
    await read_success(await service.post("/events", json=event))


async def state(service: Client, tenant_id: str) -> str:
    found = await (await service.get(f"/tenants/{tenant_id}")).json()
    return str(found["state"])


@pytest.mark.parametrize(
    "detail",
    [
        {"tenantId": "t-1", "tier": "STANDARD", "tenantName": "Harbour", "email": "a@b.example"},
        {
            "tenantRegistrationId": "t-1",
            "tenantRegistrationData": REGISTRATION,
            "tenantData": {"tenantName": "Harbour", "tier": "STANDARD", "prices": []},
        },
    ],
    ids=["flat", "registration"],
)
async def test_an_onboarding_starts_the_tiers_job(
    service: Client, codebuild: CodeBuildStandIn, detail: dict[str, Any]
) -> None:
    """Both shapes of the request name tenant and tier."""
    await post(service, toolkit_event("onboardingRequest", detail, source=CONTROL_PLANE))
    assert only_build(codebuild).project == "standard-tenant"
    assert await state(service, "t-1") == "provisioning"


@pytest.mark.parametrize(
    ("result", "status", "reached"),
    [
        ("provisionSuccess", "SUCCEEDED", "provisioned"),
        ("provisionFailure", "FAILED", "provision_failed"),
        ("onboardingSuccess", "SUCCEEDED", "provisioned"),
        ("onboardingFailure", "FAILED", "provision_failed"),
    ],
)
async def test_a_result_of_the_application_plane_ends_the_onboarding(
    service: Client, codebuild: CodeBuildStandIn, result: str, status: Any, reached: str
) -> None:
    """With the outputs of its job."""
    request = {"tenantRegistrationId": "t-1", "tenantData": {"tier": "STANDARD"}}
    await post(service, toolkit_event("onboardingRequest", request, source=CONTROL_PLANE))
    codebuild.finish(only_build(codebuild).id, status)
    output = {"tenantData": {"tenantName": "Harbour"}, "tenantRegistrationData": REGISTRATION}
    told = {"tenantRegistrationId": "t-1", "jobOutput": output}
    await post(service, toolkit_event(result, told, source=APPLICATION_PLANE))
    assert await state(service, "t-1") == reached


@pytest.mark.parametrize(
    ("result", "status", "reached"),
    [
        ("deprovisionSuccess", "SUCCEEDED", "deprovisioned"),
        ("deprovisionFailure", "FAILED", "deprovision_failed"),
        ("offboardingSuccess", "SUCCEEDED", "deprovisioned"),
        ("offboardingFailure", "FAILED", "deprovision_failed"),
    ],
)
async def test_an_offboarding_is_a_deprovisioning(
    service: Client, codebuild: CodeBuildStandIn, result: str, status: Any, reached: str
) -> None:
    """From its request to its result."""
    request = {"tenantId": "t-1", "tier": "STANDARD"}
    await post(service, toolkit_event("offboardingRequest", request, source=CONTROL_PLANE))
    build = only_build(codebuild)
    assert build.project == "standard-tenant-teardown"
    codebuild.finish(build.id, status)
    told = {"tenantId": "t-1", "jobOutput": {}}
    await post(service, toolkit_event(result, told, source=APPLICATION_PLANE))
    assert await state(service, "t-1") == reached
