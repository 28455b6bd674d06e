"""Outcomes of unexpected shapes and at unexpected times end their operation once, and are
reported."""

import asyncio
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from orchestrator import Event, Extension, HandlerRegistry, Job, Run, Settings, TemporaryError
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.settings import Aws, Callback, Events, Tiers
from orchestrator.testing import InMemoryBuilder, ManualClock, envelope, provisioning_event
from tests.acceptance.answers import only_build, read_problem, read_success
from tests.acceptance.stories import TENANT, replay, state_of, sweep, with_full_tier
from tests.acceptance.test_publish import BUS, Queue
from tests.acceptance.test_publish import queue as queue
from tests.conftest import Client, StartService
from tests.control_plane.receiver import SECRET, ControlPlane

PROVISION = "TENANT_PROVISIONING"
CREDENTIALS = {"secret": SECRET, "context": "c-1"}
Body = Event[dict[str, Any]]


async def post(service: Client, event_type: str, event_id: str = "e-1", **body: Any) -> int:
    event = envelope(event_type, {"tenantId": TENANT, **body}, event_id=event_id)
    return (await service.post("/events", json=event)).status


class Plain:
    """A builder that only starts jobs and can't describe them, so that reports count."""

    def __init__(self) -> None:
        self.started: list[str] = []

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        self.started.append(job_identifier)
        return Job(id=f"j-{len(self.started)}", builder="B", job_identifier=job_identifier)


@pytest.mark.parametrize("extra", [{}, {"plan": "premium"}, {"builderConfig": {"config": [1]}}])
async def test_an_odd_variable_of_a_build_spoils_no_report(
    start_service: StartService,
    settings_with_webhook: Settings,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    extra: dict[str, Any],
) -> None:
    """A self-report is the build's whole environment, so a variable with the name of a payload's
    field, but another shape, is ignored."""
    service = await start_service(settings_with_webhook)
    await control_plane.expect(TENANT, context="c-1")
    event = provisioning_event(tenant_id=TENANT, override=CREDENTIALS)
    await read_success(await service.post("/events", json=event))
    build = only_build(codebuild)
    self_report = {"CODEBUILD_BUILD_ID": build.id, **extra}
    assert await post(service, f"{PROVISION}_SUCCESS", "self", **self_report) == 200
    codebuild.finish(build.id)
    assert await post(service, "CodeBuild Build State Change", **build.as_state_change()) == 200
    assert await state_of(service) == "provisioned"
    assert len(await control_plane.accepted()) == 1


async def test_a_model_of_ones_own_spoils_no_report(
    start_service: StartService, settings_with_webhook: Settings, control_plane: ControlPlane
) -> None:
    """The end of an operation is reported even if the user's own model of the request has another
    shape of `plan`."""
    registry = HandlerRegistry()

    @attrs.frozen
    class Order:
        tenant_id: str
        plan: str

    @registry.on(PROVISION)
    async def provision(event: Event[Order], run: Run) -> None:
        run.complete()

    service = await start_service(settings_with_webhook, extension=Extension(registry=registry))
    await control_plane.expect(TENANT, context="c-1")
    assert await post(service, PROVISION, plan="gold", **CREDENTIALS) == 200
    assert await state_of(service) == "provisioned"
    assert len(await control_plane.accepted()) == 1


async def test_a_request_of_a_shape_of_its_own_is_deployed(
    start_service: StartService, settings: Settings, clock: ManualClock, queue: Queue
) -> None:
    """A request of the user's own shape is deployed, although the built-in deployment expects
    another shape of `plan`."""
    registry, builder = HandlerRegistry(), InMemoryBuilder("B")

    @attrs.frozen
    class Order:
        tenant_id: str
        plan: str

    @registry.on(PROVISION)
    async def provision(event: Event[Order], run: Run) -> None:
        await run.start_job("make", {"plan": event.payload.plan}, builder="B")

    service = await start_service(
        attrs.evolve(
            with_full_tier(settings),
            events=Events(bus=BUS, source="o"),
            aws=Aws(connect_timeout_s=2.0, read_timeout_s=5.0),
        ),
        extension=Extension(registry=registry, builders={"B": builder}),
    )
    assert await post(service, PROVISION, plan="gold") == 200
    builder.finish(builder.started[0].job.id)
    clock.turn(61)
    await sweep(service)
    (sent,) = await queue.received()
    assert sent["detail"]["plan"] == "gold"
    await read_success(await service.post("/events", json=sent))
    assert await state_of(service) == "active"


async def test_a_report_may_have_the_requests_name_for_the_operation(
    start_service: StartService,
) -> None:
    """An outcome may name the `operationId` of the request instead of the service's own; another id
    ends nothing."""
    registry = HandlerRegistry()

    @registry.on(PROVISION)
    async def provision(event: Body, run: Run) -> None:
        """Another system provisions the tenant, and reports."""

    service = await start_service(extension=Extension(registry=registry))
    assert await post(service, PROVISION, operationId="op-77") == 200
    assert await post(service, f"{PROVISION}_SUCCESS", "e-2", operationId="another") == 200
    assert await state_of(service) == "provisioning"
    assert await post(service, f"{PROVISION}_SUCCESS", "e-3", operationId="op-77") == 200
    assert await state_of(service) == "provisioned"


async def test_other_names_of_secrets_hold_up_no_outcome(
    start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """An outcome that waits for its retry stays the same event when a field of it becomes a secret
    by a new setting."""
    registry, ledger, is_down = HandlerRegistry(), InMemoryLedger(), [True]

    @registry.on(PROVISION)
    async def provision(event: Body, run: Run) -> None:
        """Another system provisions the tenant, and reports."""

    @registry.on(f"{PROVISION}_SUCCESS")
    async def provisioned(event: Body, run: Run) -> None:
        if is_down.pop():
            is_down.append(False)
            raise TemporaryError("not now")

    parts = {"extension": Extension(registry=registry), "ledger": ledger}
    service = await start_service(settings, **parts)
    assert await post(service, PROVISION) == 200
    assert await post(service, f"{PROVISION}_SUCCESS", "e-2", apiKey="k-1") == 503
    log = attrs.evolve(settings.log, redact=(*settings.log.redact, "apikey"))
    again = await start_service(attrs.evolve(settings, log=log), **parts)
    clock.turn(400)
    await sweep(again)
    assert await state_of(again) == "provisioned"


async def test_each_failure_has_its_clean_up(
    start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """Each failed provisioning has its clean-up, even if its outcome has equal content and no id,
    two days after the first."""
    builder = Plain()
    tier = {"jobIdentifier": "make", "cleanupJobIdentifier": "clean", "builder": "B"}
    patient = attrs.evolve(settings.operations, deadline_s=10_000_000)
    service = await start_service(
        attrs.evolve(
            settings, operations=patient, tiers=Tiers(backend="static", static={"FULL": tier})
        ),
        extension=Extension(builders={"B": builder}),
    )
    for _ in range(2):
        for event_type in (PROVISION, f"{PROVISION}_FAILURE", "TENANT_CLEAN_UP_SUCCESS"):
            body = {"tenantId": TENANT, "tier": "FULL"}
            await read_success(await service.post(f"/events/{event_type}", json=body))
            clock.turn(60)
        clock.turn(48 * 3600)
    assert builder.started == ["make", "clean"] * 2
    assert await state_of(service) == "provision_failed"


async def test_each_provisioning_is_deployed(
    start_service: StartService, settings: Settings, clock: ManualClock, queue: Queue
) -> None:
    """A provisioning is deployed after a forced replay too, and if the report of its end names no
    start key."""
    builder = Plain()
    tier = {"jobIdentifier": "make", "deploymentJobIdentifier": "deploy", "builder": "B"}
    service = await start_service(
        attrs.evolve(
            settings,
            tiers=Tiers(backend="static", static={"FULL": tier}),
            events=Events(bus=BUS, source="o"),
            aws=Aws(connect_timeout_s=2.0, read_timeout_s=5.0),
        ),
        extension=Extension(builders={"B": builder}),
    )
    body = {"tenantId": TENANT, "tier": "FULL"}
    first = await service.post("/events", json=envelope(PROVISION, body))
    for number in (1, 2):
        if number == 2:
            await read_success(await replay(service, first.headers["Location"], force=True))
        assert await post(service, f"{PROVISION}_SUCCESS", f"s-{number}") == 200
        (sent,) = await queue.received()
        await read_success(await service.post("/events", json=sent))
        assert await post(service, "TENANT_DEPLOYMENT_SUCCESS", f"d-{number}") == 200
        clock.turn(100)
    assert builder.started == ["make", "deploy"] * 2
    assert await state_of(service) == "active"


async def test_equal_content_of_an_old_cancelled_run_is_a_new_event(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """Equal content of a cancelled run is refused within 25 hours, and a new event afterwards."""
    service = await start_service(with_full_tier(settings))
    codebuild.inject("StartBuild", Fault.error("AccountLimitExceededException"))
    body = {"tenantId": TENANT, "tier": "FULL"}
    await read_problem(await service.post(f"/events/{PROVISION}", json=body), 503)
    assert (await service.post(f"/tenants/{TENANT}/cancel", json={})).status == 200
    await read_problem(await service.post(f"/events/{PROVISION}", json=body), 422)
    clock.turn(26 * 3600)
    await read_success(await service.post(f"/events/{PROVISION}", json=body))


async def test_a_webhook_that_is_no_address_breaks_no_sweep(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """A webhook that is no valid address fails neither the sweep nor the end of its operation."""
    url = "https://[tenant].control.example/webhook"
    tier = {"jobIdentifier": "standard-tenant", "API_ENDPOINT": url}
    service = await start_service(
        attrs.evolve(
            settings,
            tiers=Tiers(backend="static", static={"FULL": tier}),
            callback=Callback(after="provisioning"),
        )
    )
    event = provisioning_event(tenant_id=TENANT, tier="FULL", override=CREDENTIALS)
    await read_success(await service.post("/events", json=event))
    build = only_build(codebuild)
    codebuild.finish(build.id, "SUCCEEDED")
    assert await post(service, "CodeBuild Build State Change", **build.as_state_change()) == 200
    clock.turn(400)
    await sweep(service)
    assert await state_of(service) == "provisioned"


class Silent(InMemoryBuilder):
    """A builder whose answer to `describe_jobs` is None."""

    async def describe_jobs(self, *, job_ids: Any) -> Any:
        await asyncio.sleep(0)


async def test_a_builder_that_answers_nothing_breaks_no_sweep(
    start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """A builder that returns None counts as unreachable: the sweep is 503, and the operation stays
    open."""
    tiers = Tiers(backend="static", static={"FULL": {"jobIdentifier": "up", "builder": "B"}})
    service = await start_service(
        attrs.evolve(settings, tiers=tiers), extension=Extension(builders={"B": Silent("B")})
    )
    assert await post(service, PROVISION, tier="FULL") == 200
    clock.turn(61)
    problem = await read_problem(await service.post("/events/RECONCILE", json={}), 503)
    assert "B raised an exception" in problem["detail"]
    assert await state_of(service) == "provisioning"
