"""TENANT_PROVISIONING over HTTP, from the event to the build."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from orchestrator.embedded import CodeBuildStandIn
from orchestrator.testing import provisioning_event
from tests.acceptance.answers import only_build, read_run, read_success, variables
from tests.conftest import Client

ENVELOPE = provisioning_event(tier="STANDARD")
DETAIL = ENVELOPE["detail"]
TYPED = {"type": "TENANT_PROVISIONING", "data": DETAIL}
TYPED_PATH = "/events/TENANT_PROVISIONING"
JSON = {"Content-Type": "application/json; charset=utf-8"}
CLOUDEVENT = {
    "specversion": "1.0",
    "type": "TENANT_PROVISIONING",
    "source": "TenantManagementService",
    "id": "event-1",
}
BINARY_CLOUDEVENT = {**JSON, **{f"ce-{name}": value for name, value in CLOUDEVENT.items()}}


async def test_an_event_starts_the_build_that_its_tier_names(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """The tier's job is started with its attributes, overlaid by the event's, sorted by name."""
    event = provisioning_event(tier="STANDARD", override={"POSTGRES_SIZE": "10"})
    await read_success(await service.post(TYPED_PATH, json=event))

    build = only_build(codebuild)
    assert build.project == "standard-tenant"
    names = [variable["name"] for variable in build.overrides]
    assert names == sorted(names)
    values = variables(build)
    assert values["ACCESS_TOKEN_EXPIRATION"] == "3600"
    assert values["VPC_ID"] == "vpc-2"
    assert values["POSTGRES_SIZE"] == "10"


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        pytest.param(TYPED_PATH, DETAIL, JSON, id="bare"),
        pytest.param(TYPED_PATH, ENVELOPE, JSON, id="envelope, type in the path"),
        pytest.param("/events", ENVELOPE, JSON, id="envelope"),
        pytest.param("/events", {**ENVELOPE, "detail": TYPED}, JSON, id="envelope of a typed"),
        pytest.param(TYPED_PATH, TYPED, JSON, id="typed, type in the path"),
        pytest.param("/events", TYPED, JSON, id="typed"),
        pytest.param(
            "/events",
            {**CLOUDEVENT, "data": DETAIL},
            {"Content-Type": "application/cloudevents+json"},
            id="structured CloudEvent",
        ),
        pytest.param("/events", DETAIL, BINARY_CLOUDEVENT, id="binary CloudEvent"),
        pytest.param(
            TYPED_PATH, DETAIL, BINARY_CLOUDEVENT, id="binary CloudEvent, type in the path"
        ),
    ],
)
async def test_every_shape_of_the_event_starts_the_same_build(
    service: Client,
    codebuild: CodeBuildStandIn,
    path: str,
    body: dict[str, Any],
    headers: dict[str, str],
) -> None:
    """However the business body is wrapped, the tenant's build is the same."""
    answer = await service.post(path, data=json.dumps(body).encode(), headers=headers)
    run = await read_run(service, await read_success(answer))

    assert (run["eventType"], run["tenantId"]) == ("TENANT_PROVISIONING", "tenant-1")
    build = only_build(codebuild)
    assert build.project == "standard-tenant"
    assert json.loads(variables(build)["tenant"]) == DETAIL["tenant"]


@pytest.mark.parametrize(
    ("tier", "project"), [("BASIC", "basic-tenant"), ("STANDARD", "standard-tenant")]
)
async def test_a_tier_names_its_job_as_job_name_or_job_identifier(
    service: Client, codebuild: CodeBuildStandIn, tier: str, project: str
) -> None:
    """A tier of arc-saas's table names its job as `jobName`, a newer one as `jobIdentifier`."""
    await read_success(await service.post(TYPED_PATH, json=provisioning_event(tier=tier)))
    assert only_build(codebuild).project == project


async def test_attributes_that_steer_the_orchestrator_stay_out_of_the_build(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """The build gets tier and start key, but none of the tier's job identifiers."""
    await read_success(await service.post(TYPED_PATH, json=provisioning_event(tier="STANDARD")))
    values = variables(only_build(codebuild))
    assert not [name for name in values if name.lower().endswith("jobidentifier")]
    assert values["tier"] == "STANDARD"
    assert 0 < len(values["ORCHESTRATOR_RUN_ID"]) <= 64


@pytest.mark.parametrize(
    "body",
    [
        {"tenant": {"id": "t-1"}, "planConfig": {"tier": "STANDARD"}},
        {"tenant": '{"id": "t-1"}', "subscription": {"plan": {"tier": "STANDARD"}}},
        {"tenantId": "t-1", "plan": {"tier": "STANDARD"}},
        {"TENANT_ID": "t-1", "tier": "STANDARD"},
        {"tenantId": "t-1", "planConfig": {"tier": "STANDARD"}, "tier": "BASIC"},
    ],
    ids=["object", "JSON text", "tenantId", "TENANT_ID", "two tiers"],
)
async def test_tenant_and_tier_may_stand_in_several_places(
    service: Client, codebuild: CodeBuildStandIn, body: dict[str, Any]
) -> None:
    """Each producer's spelling of tenant and tier leads to the same build for the same tenant."""
    run = await read_run(service, await read_success(await service.post(TYPED_PATH, json=body)))
    assert run["tenantId"] == "t-1"
    build = only_build(codebuild)
    assert build.project == "standard-tenant"
    assert json.loads(variables(build)["tenant"]) == {"id": "t-1"}


async def test_the_event_of_the_tenant_management_service_is_understood(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """`{type, tenant, subscription, secret, context}` as an envelope's detail starts the build."""
    detail = {
        "type": "TENANT_PROVISIONING",
        "tenant": {"id": "t-1", "name": "Bluebird Logistics"},
        "subscription": {"id": "s-1", "plan": {"name": "Standard", "tier": "STANDARD"}},
        "secret": "00112233445566778899aabbccddeeff",
        "context": "2f7c5d0a-53a1-4c77-9a3e-1d7f5c0b9e42",
    }
    await read_success(await service.post("/events", json={**ENVELOPE, "detail": detail}))
    build = only_build(codebuild)
    assert build.project == "standard-tenant"
    assert json.loads(variables(build)["tenant"]) == detail["tenant"]


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ([{"key": "IdP", "defaultValue": "cognito", "value": {"value": "auth0"}}], "auth0"),
        ([{"key": "IdP", "defaultValue": "cognito"}], "cognito"),
        ([{"key": "IdP", "defaultValue": "cognito", "value": {}}], "cognito"),
        ([{"key": "AuditLog", "defaultValue": "false"}], "the tenant's own"),
        ([], "the tenant's own"),
        (None, "the tenant's own"),
    ],
)
async def test_the_plans_idp_feature_becomes_the_tenants_identity_provider(
    service: Client,
    codebuild: CodeBuildStandIn,
    features: list[dict[str, Any]] | None,
    expected: str,
) -> None:
    """The feature `IdP` reaches the build inside the tenant, its value before its default."""
    event = provisioning_event()
    event["detail"]["planConfig"]["features"] = features
    del event["detail"]["builderConfig"]["config"]["environmentOverride"]["tenant"]
    event["detail"]["tenant"]["identityProvider"] = "the tenant's own"
    await read_success(await service.post(TYPED_PATH, json=event))
    tenant = json.loads(variables(only_build(codebuild))["tenant"])
    assert tenant["identityProvider"] == expected
    assert tenant["id"] == "tenant-1"


async def test_the_run_shows_the_build(service: Client, codebuild: CodeBuildStandIn) -> None:
    """The run that the answer links to has succeeded; it names its build, and links the console's
    page of it."""
    answer = await service.post(TYPED_PATH, json=provisioning_event())
    run = await read_run(service, await read_success(answer))
    assert (run["status"], run["attempt"], run["error"]) == ("succeeded", 1, None)
    build = only_build(codebuild)
    assert run["job"]["id"] == build.id
    assert run["job"]["builder"] == "CODE_BUILD"
    assert run["job"]["jobIdentifier"] == "standard-tenant"
    assert f"/build/{quote(build.id)}/log?" in run["job"]["logUrl"]
