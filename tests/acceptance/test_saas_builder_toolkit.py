"""Events of the AWS SaaS Builder Toolkit: their names, their shapes, and their tenants."""

import json
from typing import Any

import attrs
import pytest

from orchestrator import Settings
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import Tiers
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import only_build, read_problem, read_run, read_success, variables
from tests.acceptance.stories import is_replay, read_tenant, state_of, sweep
from tests.acceptance.toolkit import (
    APPLICATION_PLANE,
    CONTROL_PLANE,
    ONBOARDING,
    REGISTRATION,
    TENANT,
    onboarding,
    post,
    result,
    tenants,
    toolkit_event,
)
from tests.conftest import Client, StartService


async def test_an_onboarding_is_about_the_tenant_not_its_registration(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """An onboarding provisions `tenantId`, and makes no tenant of the registration's id."""
    await post(either, onboarding())
    assert only_build(codebuild).project == "standard-tenant"
    assert await tenants(either) == [TENANT]
    assert await state_of(either, TENANT) == "provisioning"


@pytest.mark.parametrize("registration", [None, TENANT, 17, ""], ids=repr)
async def test_an_onboarding_needs_no_registration(service: Client, registration: Any) -> None:
    """An onboarding whose registration is missing, equals the tenant's id or isn't an id provisions
    the tenant."""
    await post(service, onboarding(tier="STANDARD", tenantRegistrationId=registration))
    assert await tenants(service) == [TENANT]


@pytest.mark.parametrize(
    ("name", "status", "reached"),
    [
        ("provisionSuccess", "SUCCEEDED", "provisioned"),
        ("provisionFailure", "FAILED", "provision_failed"),
        ("onboardingSuccess", "SUCCEEDED", "provisioned"),
        ("onboardingFailure", "FAILED", "provision_failed"),
    ],
)
async def test_a_result_ends_the_onboarding_of_its_registration(
    either: Client, codebuild: CodeBuildStandIn, name: str, status: Any, reached: str
) -> None:
    """A result, which names no tenant, ends the onboarding of its registration; delivered again it
    is a duplicate, and it makes no tenant."""
    await post(either, onboarding())
    codebuild.finish(only_build(codebuild).id, status)
    await post(either, result(name))
    assert await state_of(either, TENANT) == reached
    assert is_replay(await either.post("/events", json=result(name)))
    await post(either, result(name, "another delivery"))
    assert await state_of(either, TENANT) == reached
    assert await tenants(either) == [TENANT]


@pytest.mark.parametrize(
    ("name", "status", "reached"),
    [
        ("deprovisionSuccess", "SUCCEEDED", "deprovisioned"),
        ("deprovisionFailure", "FAILED", "deprovision_failed"),
        ("offboardingSuccess", "SUCCEEDED", "deprovisioned"),
        ("offboardingFailure", "FAILED", "deprovision_failed"),
    ],
)
async def test_a_result_ends_the_offboarding_of_its_registration(
    either: Client, codebuild: CodeBuildStandIn, name: str, status: Any, reached: str
) -> None:
    """A result ends the offboarding whose request named the registration."""
    detail = {**ONBOARDING["detail"], "tier": "FULL"}
    await post(either, toolkit_event("offboardingRequest", detail))
    build = only_build(codebuild)
    assert build.project == "standard-tenant-teardown"
    codebuild.finish(build.id, status)
    await post(either, result(name))
    assert await state_of(either, TENANT) == reached
    assert await tenants(either) == [TENANT]


async def test_a_result_by_the_tenants_id_is_understood_still(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A result of an older release of the toolkit, which names the tenant, ends its onboarding."""
    detail = {"tenantId": "t-1", "tier": "STANDARD"}
    await post(service, toolkit_event("onboardingRequest", detail))
    codebuild.finish(only_build(codebuild).id)
    detail_of_result = {"tenantId": "t-1", "jobOutput": {}}
    await post(
        service, toolkit_event("provisionSuccess", detail_of_result, source=APPLICATION_PLANE)
    )
    assert await state_of(service) == "provisioned"


async def test_the_builder_is_queried_before_a_result_counts(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A result only makes the service query CodeBuild, since a registration is no secret."""
    await post(either, onboarding())
    await post(either, result("provisionSuccess"))
    assert await state_of(either, TENANT) == "provisioning"


async def test_each_result_ends_its_own_tenants_operation(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A result ends the operation of its own registration's tenant, and no other's."""
    await post(either, onboarding())
    await post(either, onboarding("second", tenantId="t-2", tenantRegistrationId="r-2"))
    for build in list(codebuild.builds.values()):
        codebuild.finish(build.id)
    await post(either, result("provisionSuccess", of="r-2"))
    assert await state_of(either, "t-2") == "provisioned"
    assert await state_of(either, TENANT) == "provisioning"


@pytest.mark.parametrize("name", ["provisionSuccess", "deprovisionFailure", "onboardingSuccess"])
async def test_a_result_of_an_unknown_registration_is_refused(
    either: Client, codebuild: CodeBuildStandIn, name: str
) -> None:
    """A result of an unknown registration is a 422 and a failed run; it makes no tenant and ends
    nothing."""
    await post(either, onboarding())
    codebuild.finish(only_build(codebuild).id)
    answer = await either.post("/events", json=result(name, of="r-unknown"))
    problem = await read_problem(answer, 422)
    assert "No tenant with the registration 'r-unknown' is known" in problem["detail"]
    assert (await read_run(either, problem["instance"]))["status"] == "failed"
    assert await tenants(either) == [TENANT]
    assert await state_of(either, TENANT) == "provisioning"


async def test_a_result_that_was_early_is_replayed(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A result that was refused because it came early ends the onboarding when it is replayed."""
    problem = await read_problem(await either.post("/events", json=result("provisionSuccess")), 422)
    await post(either, onboarding())
    codebuild.finish(only_build(codebuild).id)
    answer = await either.post(f"{problem['instance']}/replay", json={})
    assert answer.status == 200, await answer.text()
    assert await state_of(either, TENANT) == "provisioned"


@pytest.mark.parametrize("name", ["onboardingRequest", "offboardingRequest"])
@pytest.mark.parametrize("is_known", [False, True])
async def test_a_request_names_its_tenant(
    either: Client, codebuild: CodeBuildStandIn, name: str, is_known: bool
) -> None:
    """A request with a registration alone is a 422 that says how to name the tenant, whether the
    registration is known or not."""
    if is_known:
        await post(either, onboarding())
    started = len(codebuild.builds)
    detail = {"tenantRegistrationId": REGISTRATION, "tier": "FULL"}
    answer = await either.post("/events", json=toolkit_event(name, detail, event_id="nameless"))
    problem = await read_problem(answer, 422)
    assert "must name the tenant" in problem["detail"]
    assert "tenantRegistrationId" in problem["detail"]
    assert (await read_run(either, problem["instance"]))["status"] == "failed"
    assert len(codebuild.builds) == started
    assert await tenants(either) == ([TENANT] if is_known else [])


async def test_a_registration_cannot_be_stolen(either: Client, codebuild: CodeBuildStandIn) -> None:
    """A request with another tenant's registration is refused, and the registration's results stay
    with that tenant."""
    await post(either, onboarding())
    answer = await either.post("/events", json=onboarding("thief", tenantId="t-thief"))
    problem = await read_problem(answer, 422)
    assert f"The registration {REGISTRATION!r} is another tenant's" in problem["detail"]
    assert TENANT not in problem["detail"]
    assert await tenants(either) == [TENANT]
    codebuild.finish(only_build(codebuild).id)
    await post(either, result("provisionSuccess"))
    assert await state_of(either, TENANT) == "provisioned"
    again = await either.post(f"{problem['instance']}/replay", json={})
    assert again.status == 422


async def test_a_registration_cannot_be_stolen_by_joining(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A request that would join another tenant's operation can't take a registration either."""
    await post(either, onboarding())
    await post(either, onboarding("other", tenantId="t-2", tenantRegistrationId="r-2"))
    answer = await either.post("/events", json=onboarding("thief", tenantId="t-2"))
    assert "is another tenant's" in (await read_problem(answer, 422))["detail"]


async def test_an_operator_may_move_a_registration(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A forced replay of a refused request moves the registration to its tenant."""
    await post(either, onboarding(tenantId="t-thief"))
    refused = await read_problem(await either.post("/events", json=onboarding("owner")), 422)
    answer = await either.post(f"{refused['instance']}/replay", json={"force": True})
    assert answer.status == 200, await answer.text()
    for build in list(codebuild.builds.values()):
        codebuild.finish(build.id)
    await post(either, result("provisionSuccess"))
    assert await state_of(either, TENANT) == "provisioned"
    assert await state_of(either, "t-thief") == "provisioning"


async def test_an_operation_that_was_given_back_keeps_no_registration_over_http(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A request that failed without a job leaves its registration to another tenant, and a result
    of it creates no tenant."""
    refused = await either.post("/events", json=onboarding("typo", tenantId="t-typo", tier="NONE"))
    assert refused.status == 422
    early = await either.post("/events", json=result("provisionSuccess", "early"))
    assert "No tenant with the registration" in (await read_problem(early, 422))["detail"]
    assert await tenants(either) == []
    await post(either, onboarding())
    codebuild.finish(only_build(codebuild).id)
    await post(either, result("provisionSuccess"))
    assert await state_of(either, TENANT) == "provisioned"


async def test_a_registration_that_joins_is_known(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A request of the toolkit that joins an operation adds its registration."""
    plain = envelope("TENANT_PROVISIONING", {"tenantId": TENANT, "tier": "FULL"}, event_id="plain")
    await post(either, plain)
    assert is_replay(await either.post("/events", json=onboarding()))
    codebuild.finish(only_build(codebuild).id)
    await post(either, result("provisionSuccess"))
    assert await state_of(either, TENANT) == "provisioned"


def in_full(settings: Settings, **attributes: Any) -> Settings:
    """Settings with one tier, with these attributes besides its jobs."""
    jobs = {
        "jobIdentifier": "standard-tenant",
        "deprovisioningJobIdentifier": "standard-tenant-teardown",
        "cleanupJobIdentifier": "basic-tenant",
    }
    tiers = Tiers(backend="static", static={"FULL": {**jobs, **attributes}})
    return attrs.evolve(settings, tiers=tiers)


async def test_a_build_gets_what_the_toolkits_scripts_get(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A build has each field of the detail under its own name, objects and lists as compact JSON;
    the tier's attributes take precedence."""
    service = await start_service(in_full(settings, VPC_ID="vpc-2", email="of the tier"))
    await post(service, onboarding(seats=3, isTrial=True, VPC_ID="vpc-1", nothing={"a": [1, 2.0]}))
    passed = dict(variables(only_build(codebuild)))
    assert passed.pop("ORCHESTRATOR_RUN_ID")
    assert passed.pop("TRACEPARENT")
    assert passed.pop("ORCHESTRATOR_PROJECT")
    assert passed == {
        "tenantId": TENANT,
        "tenantRegistrationId": REGISTRATION,
        "tenantName": "Harbour Books",
        "email": "of the tier",
        "tier": "FULL",
        "prices": '[{"id":"price_basic","metricName":"users"}]',
        "registrationStatus": "In progress",
        "seats": "3",
        "isTrial": "true",
        "nothing": '{"a":[1,2]}',
        "VPC_ID": "vpc-2",
        "tenant": json.dumps({"id": TENANT}, separators=(",", ":")),
    }


async def test_our_own_variables_stay_ours(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A field can't choose the job, replace the service's variables or be a reference to a secret;
    illegal names are left out, and the event's overrides take precedence over its fields."""
    service = await start_service(in_full(settings))
    reference = {"type": "SECRETS_MANAGER", "value": "prod/database"}
    detail: dict[str, Any] = {
        "jobIdentifier": "basic-tenant",
        "builder": "NONE",
        "codebuild": {"computeType": "HUGE"},
        "ORCHESTRATOR_RUN_ID": None,
        "TRACEPARENT": "mine",
        "CODEBUILD_SRC_DIR": "/",
        "not-a-name": 1,
        "password": reference,
        "builderConfig": {"config": {"environmentOverride": {"email": "overridden"}}},
    }
    await post(service, onboarding(**detail))
    build = only_build(codebuild)
    passed = variables(build)
    assert build.project == "standard-tenant"
    assert passed["email"] == "overridden"
    assert passed["TRACEPARENT"].startswith("00-")
    assert passed["password"] == json.dumps(reference, separators=(",", ":"))
    assert {variable["type"] for variable in build.overrides} == {"PLAINTEXT"}
    absent = {"jobIdentifier", "builder", "codebuild", "CODEBUILD_SRC_DIR", "not-a-name"}
    assert not (absent | {"builderConfig"}) & set(passed)


async def test_an_offboarding_gets_them_too_and_a_clean_up(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """The builds of an offboarding and of a clean-up have the same variables."""
    service = await start_service(in_full(settings))
    await post(service, onboarding())
    codebuild.finish(only_build(codebuild).id, "FAILED")
    await post(service, result("provisionFailure"))
    cleanup = list(codebuild.builds.values())[-1]
    assert cleanup.project == "basic-tenant"
    assert variables(cleanup)["tenantName"] == "Harbour Books"
    assert variables(cleanup)["tenantRegistrationId"] == REGISTRATION
    codebuild.finish(cleanup.id)
    clock.turn(60)
    await sweep(service)
    detail = {**ONBOARDING["detail"], "tier": "FULL", "sbtaws_active": False}
    await post(service, toolkit_event("offboardingRequest", detail))
    teardown = list(codebuild.builds.values())[-1]
    assert teardown.project == "standard-tenant-teardown"
    assert variables(teardown)["tenantId"] == TENANT
    assert variables(teardown)["sbtaws_active"] == "false"


@pytest.mark.parametrize(
    ("event_type", "source", "is_toolkits"),
    [
        ("TENANT_PROVISIONING", "TenantManagementService", False),
        ("TENANT_PROVISIONING", CONTROL_PLANE, True),
        ("sbt_aws_onboardingRequest", "my.control.plane", True),
    ],
)
async def test_a_request_is_the_toolkits_by_its_name_or_source(
    service: Client, codebuild: CodeBuildStandIn, event_type: str, source: str, is_toolkits: bool
) -> None:
    """A request has the toolkit's variables by its type or its source; other requests' builds don't
    have them."""
    detail = {**ONBOARDING["detail"], "tier": "STANDARD"}
    await post(service, envelope(event_type, detail, source=source))
    assert ("tenantName" in variables(only_build(codebuild))) is is_toolkits


async def test_a_name_in_the_path_is_as_good(service: Client, codebuild: CodeBuildStandIn) -> None:
    """The toolkit's type in the path counts if the body is the bare detail."""
    detail = {**ONBOARDING["detail"], "tier": "STANDARD"}
    await read_success(await service.post("/events/sbt_aws_onboardingRequest", json=detail))
    assert variables(only_build(codebuild))["tenantName"] == "Harbour Books"


async def test_a_later_attempt_knows_the_toolkit_still(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A later attempt has the toolkit's variables too, since the event's original type is
    stored."""
    service = await start_service(in_full(settings))
    await post(service, onboarding("first", tenantId="t-1", tenantRegistrationId="r-1"))
    other = onboarding("second", tenantRegistrationId="r-1")
    refused = await read_problem(
        await service.post("/events", json={**other, "source": "renamed"}), 422
    )
    answer = await service.post(f"{refused['instance']}/replay", json={"force": True})
    assert answer.status == 200, await answer.text()
    build = list(codebuild.builds.values())[-1]
    assert variables(build)["tenantName"] == "Harbour Books"


async def test_the_registration_is_not_lost_with_its_operation(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A result of an offboarding whose request names no registration finds the tenant by its
    onboarding's."""
    await post(either, onboarding())
    codebuild.finish(only_build(codebuild).id)
    await post(either, result("provisionSuccess"))
    plain = {"tenantId": TENANT, "tier": "FULL"}
    await post(either, envelope("TENANT_DEPROVISIONING", plain, event_id="plain"))
    codebuild.finish(list(codebuild.builds)[-1])
    await post(either, result("deprovisionSuccess"))
    assert (await read_tenant(either, TENANT))["state"] == "deprovisioned"
