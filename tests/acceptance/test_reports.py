"""The end of each operation is reported to the control plane: once, signed, and through
failures."""

import json
from typing import Any

import attrs
import pytest
from yarl import URL

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.intake.app_keys import TRANSACTIONS
from orchestrator.settings import Callback, Tiers
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.answers import read_success
from tests.acceptance.reports import (
    CONTEXT,
    PROVISIONED,
    body,
    credentials_kept,
    end,
    provision,
    running,
    tenant,
    why,
)
from tests.acceptance.witness import Witness
from tests.conftest import TIERS, StartService
from tests.control_plane.receiver import SECRET, ControlPlane


@pytest.mark.parametrize(
    ("status", "reported_status", "state"),
    [
        ("SUCCEEDED", 1, "provisioned"),
        ("FAILED", 0, "provision_failed"),
        ("FAULT", 0, "provision_failed"),
        ("TIMED_OUT", 0, "provision_failed"),
        ("STOPPED", 0, "provision_failed"),
    ],
)
async def test_the_verifier_accepts_how_a_provisioning_ended(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    status: str,
    reported_status: int,
    state: str,
) -> None:
    """The control plane accepts a report of each end; then the secret is erased, and the timeline
    has the acceptance."""
    service = await start_service(settings_with_webhook)
    await provision(service, control_plane)
    assert await credentials_kept(service) == 1
    await end(service, codebuild, status)
    assert await control_plane.accepted() == [body(reported_status)]
    assert (await tenant(service))["state"] == state
    assert (await why(service)).endswith("The control plane accepted the report.")
    assert await credentials_kept(service) == 0


async def test_a_report_does_not_wait_for_a_job_that_can_not_be_described(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    clock: ManualClock,
) -> None:
    """One sweep that finds both sends the due report although the builder is down."""
    service = await start_service(settings_with_webhook)
    await provision(service, control_plane)
    await control_plane.fail(503)
    await end(service, codebuild)
    await provision(service, control_plane, tenant_id="t-2")
    clock.turn(61)
    await control_plane.turn_clock(clock.now())
    codebuild.inject("BatchGetBuilds", *[Fault.error("ThrottlingException", "Rate exceeded")] * 9)
    answer = await service.post("/events/RECONCILE", json={})
    assert answer.status == 503
    assert await control_plane.accepted() == [body(1)]


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
@pytest.mark.parametrize("url", ["https://bluebird.example", "https://forged.example"])
async def test_a_provisioning_is_reported_after_its_deployment(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    url: str,
    status: str,
) -> None:
    """With `callback.after = "deployment"` the report has what the provisioning reported and
    exported, under its secret, whatever the deployment's request says: any sender may name the
    provisioning."""
    callback = attrs.evolve(settings_with_webhook.callback, after="deployment")
    service = await start_service(attrs.evolve(settings_with_webhook, callback=callback))
    await provision(service, control_plane, tier="PREMIUM")
    build = running(codebuild)
    report = {
        "CODEBUILD_BUILD_ID": build.id,
        "TENANT_ID": "t-1",
        "TF_STATE_BUCKET": "state",
        "TF_KEY": "t-1/terraform.tfstate",
    }
    await read_success(await service.post("/events", json=envelope(PROVISIONED, report)))
    await end(service, codebuild, exported={"APP_PLANE_URL": "https://bluebird.example"})
    assert await control_plane.accepted() == []
    # As it would have been published: a follow-up names the operation that it follows.
    runs = (await tenant(service))["timeline"]
    opened = await service.app[TRANSACTIONS].find_run(runs[0]["runId"])
    assert opened is not None
    detail = {
        "tenantId": "t-1",
        "tier": "PREMIUM",
        "operationId": opened.outcome_of or opened.operation_id,
        "resources": [{"type": "bucket", "metadata": {"bucket": "state-of-the-request"}}],
        "appPlaneUrl": url,
    }
    await read_success(await service.post("/events", json=envelope("TENANT_DEPLOYMENT", detail)))
    await end(service, codebuild, status)
    bucket = {"bucket": "state", "path": "t-1/terraform.tfstate"}
    assert await control_plane.accepted() == [
        body(
            int(status == "SUCCEEDED"),
            resources=[{"type": "bucket", "metadata": bucket}],
            appPlaneUrl="https://bluebird.example",
        )
    ]
    assert await credentials_kept(service) == 0


async def test_values_of_the_self_report_are_reported(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
) -> None:
    """The bucket of the build's state and the address of the tenant's application, from its
    self-report, are reported."""
    service = await start_service(settings_with_webhook)
    await provision(service, control_plane)
    report = {
        "CODEBUILD_BUILD_ID": running(codebuild).id,
        "TENANT_ID": "t-1",
        "TF_STATE_BUCKET": "state",
        "TF_KEY": "t-1.tfstate",
        "APP_PLANE_REDIRECT_URL": "https://bluebird.example/app",
        "CLIENT_SECRET": "cs-1",
    }
    await read_success(await service.post("/events", json=envelope(PROVISIONED, report)))
    await end(service, codebuild)
    bucket = {"type": "bucket", "metadata": {"bucket": "state", "path": "t-1.tfstate"}}
    assert await control_plane.accepted() == [
        body(1, resources=[bucket], appPlaneUrl="https://bluebird.example/app")
    ]


async def test_a_webhooks_password_is_in_no_log(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    witness: Witness,
) -> None:
    """A password in the user part or the query of a tier's webhook address isn't logged."""
    url = control_plane.url.replace("http://", "http://user:hush-hush@") + "?key=hush-hush"
    tier = {**TIERS["STANDARD"], "API_ENDPOINT": url}
    service = await start_service(
        attrs.evolve(
            settings,
            callback=Callback(after="provisioning", timeout_s=30),
            tiers=Tiers(backend="static", static={"STANDARD": tier}),
        )
    )
    await provision(service, control_plane)
    await end(service, codebuild)
    assert f'"url":"{control_plane.url}"' in witness.log.getvalue().replace(": ", ":")
    assert "hush-hush" not in witness.log.getvalue()


async def test_resources_that_are_too_large_to_be_kept_are_left_out(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
) -> None:
    """Resources too large to be stored are left out, so that the end is reported all the same."""
    service = await start_service(settings_with_webhook)
    await provision(service, control_plane)
    report = {
        "CODEBUILD_BUILD_ID": running(codebuild).id,
        "resources": [{"type": "bucket", "metadata": {"name": "x" * 200_000}}],
    }
    await read_success(await service.post("/events", json=envelope(PROVISIONED, report)))
    await end(service, codebuild)
    assert await control_plane.accepted() == [body(1)]
    assert "sent without resources, since they have 200" in await why(service)


def origin_of(control_plane: ControlPlane) -> str:
    return str(URL(control_plane.url).origin())


@pytest.mark.parametrize(
    ("tier", "event", "allowed", "is_reported"),
    [
        (True, False, [], True),
        (False, True, ["its origin"], True),
        (False, True, ["127.0.0.1"], False),
        (False, True, [], False),
        (False, True, ["control.example"], False),
        (False, False, ["its origin"], False),
    ],
    ids=["tier", "event, allowed", "event, another port", "event", "event, other host", "nowhere"],
)
async def test_the_webhook_is_found(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings: Settings,
    tier: bool,
    event: bool,
    allowed: list[str],
    is_reported: bool,
) -> None:
    """Without the setting the webhook's address is the tier's, else the event's if its origin is
    trusted."""
    where = {"API_ENDPOINT": control_plane.url}
    origins = tuple(origin_of(control_plane) if one == "its origin" else one for one in allowed)
    standard = {**TIERS["STANDARD"], **(where if tier else {})}
    service = await start_service(
        attrs.evolve(
            settings,
            callback=Callback(after="provisioning", allowed_hosts=origins, timeout_s=30),
            tiers=Tiers(backend="static", static={**TIERS, "STANDARD": standard}),
        )
    )
    await provision(service, control_plane, **(where if event else {}))
    await end(service, codebuild)
    assert len(await control_plane.accepted()) == is_reported
    if event and not is_reported:
        assert "callback.allowed_hosts" in await why(service)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1@evil.example/webhook",
        "http://127.0.0.1\\@evil.example/webhook",
        "http://user:s3cr3t@127.0.0.1/webhook?s3cr3t",
        "http://127.1/webhook",
        "http://2130706433/webhook",
        "http://127.0.0.1./webhook",
        "https://127.0.0.1/webhook",
        "http://evil.example#127.0.0.1",
        "http://[::1",
        "127.0.0.1/webhook",
        "file://127.0.0.1/etc/passwd",
    ],
)
async def test_no_address_of_an_event_leads_elsewhere(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings: Settings,
    address: str,
) -> None:
    """No report is sent to an address that only looks like a trusted host; the operation ends all
    the same."""
    callback = Callback(after="provisioning", allowed_hosts=("http://127.0.0.1",), timeout_s=30)
    service = await start_service(attrs.evolve(settings, callback=callback))
    await provision(service, control_plane, API_ENDPOINT=address)
    await end(service, codebuild)
    assert (await tenant(service))["state"] == "provisioned"
    assert "No report is sent" in await why(service)
    assert "s3cr3t" not in await why(service)


async def test_a_resource_that_cannot_be_signed_is_left_out(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
) -> None:
    """The end is reported without the resource, and the timeline says what was left out."""
    service = await start_service(settings_with_webhook)
    await provision(service, control_plane)
    report = {
        "CODEBUILD_BUILD_ID": running(codebuild).id,
        "tenantId": "t-1",
        "resources": [{"type": "disk", "metadata": {"sizeGb": 1.5}}],
    }
    await read_success(await service.post("/events", json=envelope(PROVISIONED, report)))
    await end(service, codebuild)
    assert await control_plane.accepted() == [body(1)]
    assert "sizeGb is 1.5" in await why(service)


async def test_without_a_secret_nothing_is_reported(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
) -> None:
    """Nothing is reported of a request without a secret, since the report couldn't be signed."""
    service = await start_service(settings_with_webhook)
    event = provisioning_event(tenant_id="t-1")
    await read_success(await service.post("/events", json=event))
    await end(service, codebuild)
    assert (await tenant(service))["state"] == "provisioned"
    assert await control_plane.accepted() == []
    assert await control_plane.refused() == []


async def test_the_latest_secret_of_several_requests_counts(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    clock: ManualClock,
) -> None:
    """A request that joins brings the secret that the control plane expects from then on; one that
    is dated in the future counts as of its receipt."""
    service = await start_service(settings_with_webhook)
    await provision(service, control_plane)
    override = {"secret": "a forged one", "context": "forged"}
    dated = provisioning_event(tenant_id="t-1", event_id="dated", override=override)
    dated["time"] = "2096-01-01T00:00:00Z"
    clock.turn(60)
    await read_success(await service.post("/events", json=dated))
    clock.turn(60)
    await control_plane.turn_clock(clock.now())
    override = {"secret": "the newer one", "context": "newer"}
    later = provisioning_event(tenant_id="t-1", event_id="later", override=override)
    later["time"] = clock.now().isoformat()
    await read_success(await service.post("/events", json=later))
    await control_plane.expect("t-1", secret="the newer one", context="newer")
    await end(service, codebuild)
    assert await control_plane.accepted() == [body(1)]


async def test_a_deprovisioning_is_reported_if_its_request_has_a_secret(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
) -> None:
    """A deprovisioning with a secret is reported as any other operation."""
    service = await start_service(settings_with_webhook)
    await control_plane.expect("t-1", context=CONTEXT)
    detail = {"tenantId": "t-1", "tier": "STANDARD", "secret": SECRET, "context": CONTEXT}
    leaving = envelope("TENANT_DEPROVISIONING", detail)
    await read_success(await service.post("/events", json=leaving))
    await end(service, codebuild)
    assert await control_plane.accepted() == [body(1)]


async def test_a_users_handler_reports_as_it_likes(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
) -> None:
    """A user's handler chooses address and resources of the report by `run.report`."""
    registry = HandlerRegistry()

    @registry.on(PROVISIONED)
    async def provisioned(event: Event[dict[str, Any]], run: Run) -> None:
        resources = [{"type": "build", "metadata": {"id": event.body["endedJob"]["id"]}}]
        run.report(succeeded=True, url=control_plane.url, resources=resources)
        run.note("As I like.")

    service = await start_service(settings_with_webhook, extension=Extension(registry=registry))
    await provision(service, control_plane)
    build = running(codebuild)
    await end(service, codebuild)
    resources = [{"type": "build", "metadata": {"id": build.id}}]
    assert await control_plane.accepted() == [body(1, resources=resources)]
    reason = await why(service)
    assert reason.endswith("succeeded. As I like. The control plane accepted the report.")


async def test_no_secret_is_seen_anywhere(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The secret is in no answer and no log line while the report can't be delivered."""
    service = await start_service(settings_with_webhook)
    await provision(service, control_plane)
    await control_plane.fail(500)
    await end(service, codebuild)
    found = await tenant(service)
    addresses = [f"/runs/{run['runId']}" for run in found["timeline"]]
    shown = [json.dumps(found), *[await (await service.get(at)).text() for at in addresses]]
    printed = capsys.readouterr()
    assert SECRET not in "".join([*shown, printed.out, printed.err])
