"""What a build reports on itself: which operation it names, and which of its values reach the
control plane."""

from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from orchestrator import Event, Extension, HandlerRegistry, Job, Run, Settings
from orchestrator.embedded import Build, CodeBuildStandIn
from orchestrator.testing import InMemoryBuilder, ManualClock, envelope, provisioning_event
from tests.acceptance.answers import only_build, read_run, read_success, variables
from tests.acceptance.endings import change_state, read_ledger
from tests.acceptance.stories import (
    PROVISION,
    TENANT,
    list_runs,
    read_tenant,
    send,
    state_of,
    sweep,
    with_full_tier,
)
from tests.conftest import Client, StartService
from tests.control_plane.receiver import SECRET, ControlPlane

STARTED = "ORCHESTRATOR_RUN_ID"
URL, EXPORTED, FORGED = "https://told.example", "https://out.example", "https://forged.example"
DISK = [{"type": "disk", "metadata": {}}]
CREDENTIALS = {"secret": SECRET, "context": "c-1"}
ENDED = {"id": "b", "builder": "CODE_BUILD", "jobIdentifier": "b", "status": "SUCCEEDED"}


async def provision(
    service: Client, control_plane: ControlPlane, *, tier: str = "STANDARD"
) -> None:
    await control_plane.expect(TENANT, context="c-1")
    request = provisioning_event(tenant_id=TENANT, override=CREDENTIALS)
    await read_success(await service.post("/events", json=request))


async def report(service: Client, event_id: str, **detail: Any) -> str:
    """The address of the run of the message which reports that the provisioning succeeded."""
    event = envelope(f"{PROVISION}_SUCCESS", detail, event_id=event_id)
    return await read_success(await service.post("/events", json=event))


def naming(how: str, build: Build) -> dict[str, str]:
    """The ways in which a report names its operation."""
    key = variables(build)[STARTED]
    return {
        "job": {"CODEBUILD_BUILD_ID": build.id},
        "start": {STARTED: key},
        "earlier start": {"TENANT_ID": TENANT, STARTED: f"{key.rpartition('-')[0]}-0"},
        "operation": {"operationId": key.rpartition("-")[0], "TENANT_ID": TENANT},
        "tenant": {"TENANT_ID": TENANT},
    }[how]


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ({"appPlaneUrl": URL, "resources": DISK}, {"appPlaneUrl": URL, "resources": DISK}),
        ({"APP_PLANE_URL": URL}, {"appPlaneUrl": URL, "resources": []}),
        (
            {"TF_STATE_BUCKET": "b", "TF_KEY": "k"},
            {"resources": [{"type": "bucket", "metadata": {"bucket": "b", "path": "k"}}]},
        ),
    ],
)
@pytest.mark.parametrize("how", ["job", "start", "earlier start", "operation", "tenant"])
async def test_values_of_a_self_report_count_if_it_names_the_job_or_its_start(
    start_service: StartService,
    settings_with_webhook: Settings,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    how: str,
    spelling: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    """Values of a self-report are in the signed report only if it names the job or its start key,
    since any sender can name the tenant."""
    service = await start_service(settings_with_webhook)
    await provision(service, control_plane)
    build = only_build(codebuild)
    await report(service, "told", **naming(how, build), **spelling)
    codebuild.finish(build.id)
    await change_state(service, build)
    (accepted,) = await control_plane.accepted()
    counts = how in ("job", "start")
    assert accepted["data"] == {"status": 1, **(expected if counts else {"resources": []})}


@pytest.mark.parametrize("how", ["operation", "tenant"])
async def test_a_report_that_names_the_tenant_makes_the_service_query_the_builder(
    service: Client, codebuild: CodeBuildStandIn, how: str
) -> None:
    """A report that names the tenant alone doesn't end the operation; CodeBuild's answer does."""
    await read_success(await service.post("/events", json=provisioning_event(tenant_id=TENANT)))
    build = only_build(codebuild)
    await report(service, "early", **naming(how, build))
    assert await state_of(service) == "provisioning"
    codebuild.finish(build.id, "FAILED")
    await report(service, "late", **naming(how, build))
    assert await state_of(service) == "provision_failed"


async def test_a_report_that_names_the_tenant_displaces_none_of_the_jobs(
    start_service: StartService,
    settings_with_webhook: Settings,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
) -> None:
    """The values that the job reported before stay when a report names the tenant alone."""
    service = await start_service(settings_with_webhook)
    await provision(service, control_plane)
    build = only_build(codebuild)
    await report(service, "told", **naming("job", build), appPlaneUrl=URL)
    await report(service, "forged", **naming("tenant", build), appPlaneUrl=FORGED)
    codebuild.finish(build.id)
    await sweep(service)
    (accepted,) = await control_plane.accepted()
    assert accepted["data"]["appPlaneUrl"] == URL


async def test_a_report_that_names_the_tenant_brings_no_secret(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """Secret and context of the webhook come from the request or from the job, not from a report
    that names the tenant alone."""
    await read_success(await service.post("/events", json=provisioning_event(tenant_id=TENANT)))
    await report(service, "forged", TENANT_ID=TENANT, secret="forged-secret", context="forged-id")
    assert "forged-id" not in read_ledger(service).split("OperationRecord(", 1)[1].split("\n")[0]
    await report(
        service, "told", **naming("job", only_build(codebuild)), secret=SECRET, context="c-1"
    )
    assert "context='c-1'" in read_ledger(service)


async def test_exported_variables_outrank_the_self_report(
    start_service: StartService,
    settings_with_webhook: Settings,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
) -> None:
    """Variables in CodeBuild's answer replace the values that the build reported."""
    service = await start_service(settings_with_webhook)
    await provision(service, control_plane)
    build = only_build(codebuild)
    await report(service, "told", **naming("job", build), appPlaneUrl=URL, resources=DISK)
    exported = {"APP_PLANE_URL": EXPORTED, "TF_STATE_BUCKET": "b", "TF_KEY": "k"}
    codebuild.finish(build.id, exported=exported)
    await sweep(service)
    (accepted,) = await control_plane.accepted()
    bucket = {"type": "bucket", "metadata": {"bucket": "b", "path": "k"}}
    assert accepted["data"] == {"status": 1, "resources": [bucket], "appPlaneUrl": EXPORTED}


@pytest.mark.parametrize("how", ["job", "start"])
async def test_job_and_start_key_outrank_the_tenant_that_is_named(
    service: Client, codebuild: CodeBuildStandIn, how: str
) -> None:
    """A job's id or start key leads to its operation and tenant; another tenant that the report
    names is unchanged."""
    for tenant_id in ("mine", "yours"):
        request = provisioning_event(tenant_id=tenant_id, event_id=tenant_id)
        await read_success(await service.post("/events", json=request))
    mine, yours = codebuild.builds.values()
    for build in (mine, yours):
        codebuild.finish(build.id)
    await report(service, "told", **{**naming(how, mine), "TENANT_ID": "yours"})
    assert await state_of(service, "mine") == "provisioned"
    assert await state_of(service, "yours") == "provisioning"


async def test_a_start_key_leads_to_its_tenant_where_another_was_never_seen(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A start key beside an unknown tenant's id adds no tenant of that id."""
    await read_success(await service.post("/events", json=provisioning_event(tenant_id=TENANT)))
    await report(
        service, "told", **{**naming("start", only_build(codebuild)), "TENANT_ID": "nobody"}
    )
    assert await state_of(service, "nobody") == "unseen"


class OnlyStarts:
    """A builder that can't be queried, so that reports count."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        return Job(id="j:1", builder="CODE_BUILD", job_identifier=job_identifier)


@pytest.mark.parametrize(
    ("named", "url"),
    [
        ({"tenantId": TENANT}, None),
        ({"tenantId": TENANT, "CODEBUILD_BUILD_ID": "j:1"}, URL),
    ],
)
async def test_a_report_on_a_job_that_cannot_be_described_ends_it(
    start_service: StartService,
    settings_with_webhook: Settings,
    control_plane: ControlPlane,
    named: dict[str, str],
    url: str | None,
) -> None:
    """A report ends a job that can't be described, even by its tenant; other values of the report
    count only with the job's id."""
    extension = Extension(builders={"CODE_BUILD": OnlyStarts()})
    service = await start_service(settings_with_webhook, extension=extension)
    await provision(service, control_plane)
    await report(service, "told", **named, appPlaneUrl=URL)
    assert await state_of(service) == "provisioned"
    (accepted,) = await control_plane.accepted()
    assert accepted["data"].get("appPlaneUrl") == url


async def test_a_report_that_ends_an_operation_without_a_job_counts(
    start_service: StartService, settings_with_webhook: Settings, control_plane: ControlPlane
) -> None:
    """Without a job to describe, the values of the sender are reported."""
    registry = HandlerRegistry()

    @registry.on(PROVISION)
    async def provision_elsewhere(event: Event[dict[str, Any]], run: Run) -> None:
        """Another system provisions the tenant, and reports."""

    service = await start_service(settings_with_webhook, extension=Extension(registry=registry))
    await provision(service, control_plane)
    await report(service, "told", tenantId=TENANT, appPlaneUrl=URL)
    (accepted,) = await control_plane.accepted()
    assert accepted["data"]["appPlaneUrl"] == URL


@pytest.mark.parametrize(
    "ended",
    [
        {**ENDED, "logUrl": FORGED, "exportedVariables": {"APP_PLANE_URL": FORGED}},
        {"a": 1},
        {"exportedVariables": {"APP_PLANE_URL": FORGED}},
        "odd",
    ],
)
async def test_a_foreign_event_can_not_describe_an_ended_job(
    start_service: StartService,
    settings_with_webhook: Settings,
    control_plane: ControlPlane,
    ended: Any,
) -> None:
    """`endedJob` is for the service's own events: it is removed from another sender's, for the
    handler and for the report."""
    registry, seen = HandlerRegistry(), []

    @registry.on(PROVISION)
    async def provision_elsewhere(event: Event[dict[str, Any]], run: Run) -> None:
        """Another system provisions the tenant, and reports."""

    @registry.on(f"{PROVISION}_FAILURE")
    async def failed(event: Event[dict[str, Any]], run: Run) -> None:
        seen.append(event.body)

    service = await start_service(settings_with_webhook, extension=Extension(registry=registry))
    await provision(service, control_plane)
    address = await report(service, "told", tenantId=TENANT, endedJob=ended, appPlaneUrl=URL)
    assert await state_of(service) == "provisioned"
    (accepted,) = await control_plane.accepted()
    assert accepted["data"]["appPlaneUrl"] == URL
    assert FORGED not in str([await read_run(service, address), await read_tenant(service)])
    event = envelope(f"{PROVISION}_FAILURE", {"tenantId": "t-2", "endedJob": ended})
    await read_success(await service.post("/events", json=event))
    assert seen == [{"tenantId": "t-2"}]


async def test_a_request_describes_no_ended_job_either(
    start_service: StartService, settings_with_webhook: Settings, control_plane: ControlPlane
) -> None:
    """`endedJob` of a request isn't reported when the request's handler ends the operation at
    once."""
    registry = HandlerRegistry()

    @registry.on(PROVISION)
    async def provision_at_once(event: Event[dict[str, Any]], run: Run) -> None:
        run.complete()

    service = await start_service(settings_with_webhook, extension=Extension(registry=registry))
    await control_plane.expect(TENANT, context="c-1")
    ended = {"exportedVariables": {"APP_PLANE_URL": FORGED}}
    body = {"tenantId": TENANT, **CREDENTIALS, "endedJob": ended}
    await read_success(await service.post(f"/events/{PROVISION}", json=body))
    (accepted,) = await control_plane.accepted()
    assert "appPlaneUrl" not in accepted["data"]


async def test_a_request_describes_no_ended_job_to_what_ends_it(
    start_service: StartService,
    settings_with_webhook: Settings,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
) -> None:
    """`endedJob` of a request or self-report isn't reported when the build exported nothing."""
    service = await start_service(settings_with_webhook)
    await control_plane.expect(TENANT, context="c-1")
    ended = {"exportedVariables": {"APP_PLANE_URL": FORGED}}
    body = {"tenantId": TENANT, "tier": "STANDARD", **CREDENTIALS, "endedJob": ended}
    await read_success(await service.post(f"/events/{PROVISION}", json=body))
    await report(service, "told", **naming("job", only_build(codebuild)), endedJob=ended)
    codebuild.finish(only_build(codebuild).id)
    await sweep(service)
    (accepted,) = await control_plane.accepted()
    assert "appPlaneUrl" not in accepted["data"]


@attrs.define
class Linked(InMemoryBuilder):
    """A user's builder whose jobs have a link."""

    link: str = ""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        job = await super().start_job(job_identifier, params, start_key=start_key)
        linked = attrs.evolve(job, log_url=self.link)
        self.started[-1] = attrs.evolve(self.started[-1], job=linked)
        return linked


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("https://ci.example/1", "https://ci.example/1"),
        ("http://ci.example/1", "http://ci.example/1"),
        ("javascript:alert(1)", None),
        ("data:text/html,hello", None),
        ("//ci.example/1", None),
        ("https:", None),
        ("https://[ci", None),
        ("", None),
    ],
)
async def test_a_link_leads_to_a_web_page(
    start_service: StartService,
    settings: Settings,
    clock: ManualClock,
    link: str,
    shown: str | None,
) -> None:
    """A job's link is shown only if it is http or https with a host, whichever builder it comes
    from."""
    builder = Linked("CODE_BUILD", link=link)
    extension = Extension(builders={"CODE_BUILD": builder})
    service = await start_service(with_full_tier(settings), extension=extension)
    await read_success(await send(service, PROVISION, "request", ends=False))
    assert (await read_tenant(service))["operation"]["job"]["logUrl"] == shown
    builder.finish(builder.started[0].job.id)
    clock.turn(61)
    await sweep(service)
    assert await state_of(service) == "provisioned"
    assert (await read_tenant(service))["timeline"][0]["link"] == shown
    assert len(await list_runs(service)) == 2
