"""The SaaS Builder Toolkit's control plane receives the results of its requests on the bus."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import attrs
import pytest

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    Job,
    Run,
    Settings,
    TemporaryError,
    handlers,
    payloads,
)
from orchestrator.adapters.dynamodb.items import table_schema
from orchestrator.embedded import BusQueue, CodeBuildStandIn, open_bus_queue, open_embedded_aws
from orchestrator.settings import Builders, Events, LedgerSettings
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import only_build, read_success, variables
from tests.acceptance.stories import is_replay, read_tenant, state_of, with_full_tier
from tests.acceptance.toolkit import (
    APPLICATION_PLANE,
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

BUS = "sbt-bus"
EXPORTED = {
    "tenantS3Bucket": "bucket-1",
    "tenantConfig": '{"userPoolId":"us-east-1_abc"}',
    "registrationStatus": "created",
    "tenantId": "not the script's to say",
    "ADMIN_PASSWORD": "hush",
}


@attrs.frozen
class Plane:
    """The application plane: the service, its builds, and all events that arrive on the bus."""

    service: Client
    codebuild: CodeBuildStandIn
    queue: BusQueue

    async def end_build(self, status: Any = "SUCCEEDED", **how: Any) -> None:
        """The only running build ends, and CodeBuild publishes its state change."""
        (build,) = (one for one in self.codebuild.builds.values() if one.ended is None)
        self.codebuild.finish(build.id, status, **how)
        change = build.as_state_change()
        await post(
            self.service,
            envelope(
                "CodeBuild Build State Change", change, event_id=build.id, source="aws.codebuild"
            ),
        )

    async def received_events(self) -> dict[str, dict[str, Any]]:
        """The events that arrived on the bus since the last call, by type. Moto's bus delivers at
        once."""
        return {event["detail-type"]: event for event in await self.queue.receive(wait_s=0)}


@pytest.fixture
def toolkit(settings: Settings) -> Settings:
    return attrs.evolve(with_full_tier(settings), events=Events(bus=BUS))


@pytest.fixture
async def queue(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BusQueue]:
    """A bus, and a DynamoDB, which AWS's own variables lead to."""
    async with open_embedded_aws() as aws:
        await aws.prepare(
            tier_table="tier-details",
            tiers=[],
            tables=[table_schema(LedgerSettings().table)],
            bus=BUS,
            projects=[],
        )
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", aws.endpoint_url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", aws.endpoint_url)
        async with open_bus_queue(aws, BUS) as queue:
            yield queue


@pytest.fixture(params=["memory", "dynamodb"])
async def plane(
    request: pytest.FixtureRequest,
    codebuild: CodeBuildStandIn,
    queue: BusQueue,
    start_service: StartService,
    toolkit: Settings,
) -> Plane:
    ledger = LedgerSettings(backend=request.param)
    service = await start_service(attrs.evolve(toolkit, ledger=ledger))
    return Plane(service, codebuild, queue)


async def test_a_tenants_life(plane: Plane) -> None:
    """In onboarding and offboarding each build has its variables, each end is published, the
    service's own results are duplicates when they come back over the bus, and there is one tenant
    in all."""
    await post(plane.service, onboarding())
    assert variables(only_build(plane.codebuild))["email"] == "owner@harbour.example"
    await plane.end_build(exported=EXPORTED)
    published = await plane.received_events()
    result_event = published["sbt_aws_provisionSuccess"]
    assert result_event["source"] == APPLICATION_PLANE
    assert result_event["detail"]["tenantRegistrationId"] == REGISTRATION
    assert result_event["detail"]["jobOutput"] == {
        "tenantData": {
            "tenantS3Bucket": "bucket-1",
            "tenantConfig": '{"userPoolId":"us-east-1_abc"}',
        },
        "tenantRegistrationData": {"registrationStatus": "created"},
    }
    assert await state_of(plane.service, TENANT) == "provisioned"
    assert is_replay(await plane.service.post("/events", json=result_event))
    await post(plane.service, published["TENANT_DEPLOYMENT"])
    assert variables(list(plane.codebuild.builds.values())[-1])["tenantId"] == TENANT
    await plane.end_build()
    assert await state_of(plane.service, TENANT) == "active"
    assert await plane.received_events() == {}

    detail = {**ONBOARDING["detail"], "tier": "FULL"}
    await post(plane.service, toolkit_event("offboardingRequest", detail))
    await plane.end_build(exported={"registrationStatus": "deleted"})
    result_event = (await plane.received_events())["sbt_aws_deprovisionSuccess"]
    assert result_event["source"] == APPLICATION_PLANE
    assert result_event["detail"]["tenantRegistrationId"] == REGISTRATION
    assert result_event["detail"]["jobOutput"] == {
        "tenantData": {},
        "tenantRegistrationData": {"registrationStatus": "deleted"},
    }
    assert is_replay(await plane.service.post("/events", json=result_event))
    assert await state_of(plane.service, TENANT) == "deprovisioned"
    assert await plane.received_events() == {}
    assert await tenants(plane.service) == [TENANT]


async def test_the_toolkits_own_result_is_matched(plane: Plane) -> None:
    """The result that a script job publishes itself ends the onboarding, and sent again it changes
    nothing."""
    await post(plane.service, onboarding())
    build = only_build(plane.codebuild)
    plane.codebuild.finish(build.id, exported=EXPORTED)
    await post(plane.service, result("provisionSuccess"))
    assert await state_of(plane.service, TENANT) == "provisioned"
    published = await plane.received_events()
    assert published.keys() == {"sbt_aws_provisionSuccess", "TENANT_DEPLOYMENT"}
    await post(plane.service, result("provisionSuccess", "again"))
    assert await plane.received_events() == {}
    assert await tenants(plane.service) == [TENANT]


@pytest.mark.parametrize(
    ("request_name", "result_name", "sentence", "reached"),
    [
        (
            "onboardingRequest",
            "sbt_aws_provisionFailure",
            "Failed to provision tenant.",
            "provision_failed",
        ),
        (
            "offboardingRequest",
            "sbt_aws_deprovisionFailure",
            "Failed to deprovision tenant.",
            "deprovision_failed",
        ),
    ],
)
async def test_a_failure_is_published_with_its_cause(
    plane: Plane, request_name: str, result_name: str, sentence: str, reached: str
) -> None:
    """A failure is published with the right status and reason, and without the failed build's
    variables."""
    detail = {**ONBOARDING["detail"], "tier": "FULL"}
    await post(plane.service, toolkit_event(request_name, detail))
    await plane.end_build("FAILED", reason="exit status 7", exported=EXPORTED)
    result_event = (await plane.received_events())[result_name]
    output = result_event["detail"]["jobOutput"]
    assert output["tenantStatus"] == sentence
    assert output["tenantData"] == {}
    assert output["tenantRegistrationData"]["registrationStatus"] == "failed"
    assert "exit status 7" in output["tenantRegistrationData"]["reason"]
    assert is_replay(await plane.service.post("/events", json=result_event))
    assert await state_of(plane.service, TENANT) == reached
    assert await tenants(plane.service) == [TENANT]


@pytest.mark.parametrize(
    ("request_name", "result_name", "status"),
    [
        ("onboardingRequest", "sbt_aws_provisionSuccess", "created"),
        ("offboardingRequest", "sbt_aws_deprovisionSuccess", "deleted"),
    ],
)
async def test_a_script_that_exports_nothing_leaves_no_status_in_progress(
    plane: Plane, request_name: str, result_name: str, status: str
) -> None:
    """If the script exports nothing, the registration's status is the toolkit's own word for the
    end."""
    detail = {**ONBOARDING["detail"], "tier": "FULL"}
    await post(plane.service, toolkit_event(request_name, detail))
    await plane.end_build()
    output = (await plane.received_events())[result_name]["detail"]["jobOutput"]
    data = {"registrationStatus": status}
    assert output == {"tenantData": {}, "tenantRegistrationData": data}


async def test_a_foreign_offboarding_is_published_with_the_tenants_registration(
    plane: Plane,
) -> None:
    """The result of an offboarding whose request names no registration has the one of the tenant's
    onboarding."""
    await post(plane.service, onboarding())
    await plane.end_build()
    await plane.received_events()
    plain = {"tenantId": TENANT, "tier": "FULL"}
    await post(plane.service, envelope("TENANT_DEPROVISIONING", plain, event_id="plain"))
    await plane.end_build()
    result_event = (await plane.received_events())["sbt_aws_deprovisionSuccess"]
    assert result_event["detail"]["tenantRegistrationId"] == REGISTRATION


async def test_tenants_without_a_registration_are_not_published(plane: Plane) -> None:
    """No result is published of a tenant without a registration, which the toolkit has no record
    of."""
    plain = {"tenantId": TENANT, "tier": "FULL"}
    await post(plane.service, envelope("TENANT_PROVISIONING", plain, event_id="plain"))
    await plane.end_build()
    assert (await plane.received_events()).keys() == {"TENANT_DEPLOYMENT"}


class SilentBuilder:
    """A builder that starts jobs and can't describe them, so that a message counts."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        return Job(id=f"job-{start_key}", job_identifier=job_identifier)


@pytest.fixture
async def silent(
    codebuild: CodeBuildStandIn, queue: BusQueue, start_service: StartService, toolkit: Settings
) -> Plane:
    """An application plane whose builder can't be queried."""
    settings = attrs.evolve(toolkit, builders=Builders(default="SILENT"))
    extension = Extension(builders={"SILENT": SilentBuilder()})
    return Plane(await start_service(settings, extension=extension), codebuild, queue)


async def test_a_result_that_was_published_is_not_published_again(silent: Plane) -> None:
    """A result that the job has published itself isn't published again, since the control plane has
    it."""
    await post(silent.service, onboarding())
    await post(silent.service, result("provisionSuccess"))
    assert await state_of(silent.service, TENANT) == "provisioned"
    assert (await silent.received_events()).keys() == {"TENANT_DEPLOYMENT"}


async def test_the_result_of_an_earlier_start_ends_no_later_one(silent: Plane) -> None:
    """A late result of an earlier start doesn't end the operation that was started again since."""
    first = await post(silent.service, onboarding())
    outcome = {"tenantId": TENANT}
    await post(silent.service, envelope("TENANT_PROVISIONING_SUCCESS", outcome, event_id="end"))
    result_event = (await silent.received_events())["sbt_aws_provisionSuccess"]
    answer = await silent.service.post(f"{first}/replay", json={"force": True})
    assert answer.status == 200, await answer.text()
    await post(silent.service, result_event)
    assert await state_of(silent.service, TENANT) == "provisioning"


async def test_it_is_published_once(
    codebuild: CodeBuildStandIn,
    queue: BusQueue,
    start_service: StartService,
    toolkit: Settings,
    clock: ManualClock,
) -> None:
    """A later attempt, which finds the step recorded, doesn't publish the result again."""
    registry = HandlerRegistry()

    @registry.on("TENANT_PROVISIONING_SUCCESS")
    async def succeed(event: Event[payloads.TenantOutcome], run: Run) -> None:
        await handlers.tenant_provisioning_success(event, run)
        if run.attempt == 1:
            raise TemporaryError("later")

    service = await start_service(toolkit, extension=Extension(registry=registry))
    plane = Plane(service, codebuild, queue)
    await post(service, onboarding())
    codebuild.finish(only_build(codebuild).id)
    clock.turn(60)
    for _ in range(2):
        assert (await service.post("/events/RECONCILE", json={})).status == 200
        clock.turn(60)
    assert await state_of(service, TENANT) == "provisioned"
    names = [event["detail-type"] for event in await plane.queue.receive(wait_s=0)]
    assert names.count("sbt_aws_provisionSuccess") == 1


async def test_a_bus_of_another_source(
    codebuild: CodeBuildStandIn, queue: BusQueue, start_service: StartService, toolkit: Settings
) -> None:
    """Results have the source that `events.sbt_source` says, since the toolkit's application plane
    may have any."""
    events = attrs.evolve(toolkit.events, sbt_source="my.application.plane")
    service = await start_service(attrs.evolve(toolkit, events=events))
    plane = Plane(service, codebuild, queue)
    await post(service, onboarding())
    await plane.end_build()
    published = await plane.received_events()
    assert published["sbt_aws_provisionSuccess"]["source"] == "my.application.plane"
    assert published["TENANT_DEPLOYMENT"]["source"] == toolkit.events.source


async def test_without_a_bus_the_timeline_has_a_note(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """Without a bus nothing is published, the timeline says so, and the tenant's operations
    continue."""
    service = await start_service(with_full_tier(settings))
    await read_success(await service.post("/events", json=onboarding()))
    codebuild.finish(only_build(codebuild).id)
    await post(service, result("provisionSuccess"))
    timeline = str((await read_tenant(service, TENANT))["timeline"])
    assert (
        "No sbt_aws_provisionSuccess was published, since the setting events.bus is empty"
        in timeline
    )
