"""A request that could never begin is reported to the control plane, which waits for its
outcome."""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
from yarl import URL

from orchestrator import Event, Extension, HandlerRegistry, PermanentError, Run, Settings
from orchestrator.core.errors import TemporaryError
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.settings import Runs, Tiers
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.answers import read_problem, read_success
from tests.acceptance.reports import (
    CONTEXT,
    body,
    credentials_kept,
    end,
    provision,
    running,
    sweep,
    tenant,
)
from tests.conftest import TIERS, Client, StartService
from tests.control_plane.receiver import SECRET, ControlPlane

REQUEST = {"secret": SECRET, "context": CONTEXT}


def request(
    *, tier: str = "STANDARD", event_id: str = "refused", **override: Any
) -> dict[str, Any]:
    """A request whose outcome the control plane waits for."""
    override = {**REQUEST, **override}
    return provisioning_event(tenant_id="t-1", tier=tier, event_id=event_id, override=override)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(request(tier="NONE"), id="unknown tier"),
        pytest.param(request(tier="EMPTY"), id="no job"),
        pytest.param(request(CODEBUILD_SRC_DIR="/"), id="bad variable"),
        pytest.param(
            envelope("TENANT_PROVISIONING", {"tenantId": "t-1", **REQUEST, "builderConfig": 7}),
            id="misfit payload",
        ),
        pytest.param(
            envelope("TENANT_DEPROVISIONING", {"tenantId": "t-1", "tier": "PREMIUM", **REQUEST}),
            id="deprovisioning",
        ),
    ],
)
async def test_a_request_that_could_never_begin_is_reported(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    event: dict[str, Any],
) -> None:
    """Such a request is reported at once as a failure; the tenant's timeline has the reason, and
    the secret is erased."""
    service = await start_service(settings_with_webhook)
    await control_plane.expect("t-1", context=CONTEXT)
    problem = await read_problem(await service.post("/events", json=event), 422)
    assert await control_plane.accepted() == [body(0)]
    (entry,) = (await tenant(service))["timeline"]
    assert (entry["status"], entry["reason"]) == ("failed", problem["detail"])
    run = await (await service.get(problem["instance"])).json()
    assert run["note"].endswith("The control plane accepted the report.")
    assert await credentials_kept(service) == 0
    assert codebuild.builds == {}


async def test_a_request_that_is_refused_again_is_reported_once(
    start_service: StartService,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    clock: ManualClock,
) -> None:
    """A refused request is reported once, however often it is sent again."""
    service = await start_service(settings_with_webhook)
    await control_plane.expect("t-1", context=CONTEXT)
    for _ in range(3):
        await read_problem(await service.post("/events", json=request(tier="NONE")), 422)
        clock.turn(60)
        await sweep(service)
    assert await control_plane.accepted() == [body(0)]
    assert await control_plane.refused() == []


async def test_a_refusal_is_reported_once_the_control_plane_is_up(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    clock: ManualClock,
) -> None:
    """The sweep sends the refusal's report later; if the cause is fixed before, that attempt's
    success is reported instead."""
    down = 503
    for is_fixed in (False, True):
        tiers = dict(TIERS)

        async def find_tier(name: str, tiers: dict[str, Any] = tiers) -> Any:
            return tiers.get(name)

        service = await start_service(settings_with_webhook, extension=Extension(tiers=find_tier))
        await control_plane.expect("t-1", context=CONTEXT)
        await control_plane.fail(down)
        await read_problem(await service.post("/events", json=request(tier="NEW")), 422)
        if is_fixed:
            tiers["NEW"] = TIERS["STANDARD"]
            await read_success(await service.post("/events", json=request(tier="NEW")))
            clock.turn(5)
            await control_plane.turn_clock(clock.now())
            await sweep(service)
            await end(service, codebuild)
        else:
            clock.turn(5)
            await control_plane.turn_clock(clock.now())
            await sweep(service)
        assert (await control_plane.accepted())[is_fixed:] == [body(int(is_fixed))]
        assert await control_plane.refused() == []


async def stands(service: Client, codebuild: CodeBuildStandIn, control_plane: ControlPlane) -> None:
    await provision(service, control_plane)


async def is_provisioned(
    service: Client, codebuild: CodeBuildStandIn, control_plane: ControlPlane
) -> None:
    await provision(service, control_plane)
    await end(service, codebuild)


@pytest.mark.parametrize(
    ("before", "event", "status"),
    [
        pytest.param(is_provisioned, request(context="other"), 422, id="already provisioned"),
        pytest.param(
            is_provisioned,
            {**request(context="other"), "time": "2020-01-01T00:00:00Z"},
            422,
            id="already provisioned, stale",
        ),
        pytest.param(stands, request(tier="PREMIUM"), 422, id="another tier"),
        pytest.param(
            stands,
            envelope("TENANT_DEPROVISIONING", {"tenantId": "t-1", "tier": "STANDARD", **REQUEST}),
            503,
            id="busy",
        ),
    ],
)
async def test_a_refusal_because_of_the_tenants_state_is_not_reported(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    clock: ManualClock,
    before: Callable[[Client, CodeBuildStandIn, ControlPlane], Awaitable[None]],
    event: dict[str, Any],
    status: int,
) -> None:
    """A request that the tenant's state refuses isn't reported, since another operation of the
    tenant is in progress or has ended."""
    service = await start_service(settings_with_webhook)
    await before(service, codebuild, control_plane)
    reports = await control_plane.accepted()
    await control_plane.expect("t-1", context=CONTEXT)
    await read_problem(await service.post("/events", json=event), status)
    clock.turn(10)
    await sweep(service)
    assert await control_plane.accepted() == reports
    assert await control_plane.refused() == []


async def test_a_request_that_was_cancelled_before_it_began_is_reported(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
) -> None:
    """A cancel before the start ends the request for good, which is reported as a failure."""
    service = await start_service(settings_with_webhook)
    codebuild.inject("StartBuild", Fault.error("AccountLimitExceededException"))
    await control_plane.expect("t-1", context=CONTEXT)
    await read_problem(await service.post("/events", json=request()), 503)
    assert await control_plane.accepted() == []
    assert (await service.post("/tenants/t-1/cancel")).status == 200
    assert await control_plane.accepted() == [body(0)]


@pytest.mark.parametrize("outside", [False, True], ids=["in the handler", "around the handler"])
async def test_a_request_that_only_breaks_down_is_reported(
    start_service: StartService,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    clock: ManualClock,
    outside: bool,
) -> None:
    """A request whose attempts all break down is reported as a failure once no attempt is left."""

    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("what is it?")

    registry = HandlerRegistry()

    @registry.on("TENANT_PROVISIONING")
    async def broken(event: Event[dict[str, Any]], run: Run) -> None:
        raise UnprintableError if outside else ValueError("no")

    service = await start_service(
        attrs.evolve(settings_with_webhook, runs=Runs(max_attempts=1)),
        extension=Extension(registry=registry),
    )
    await control_plane.expect("t-1", context=CONTEXT)
    await read_problem(await service.post("/events", json=request()), 503 if outside else 500)
    # For so long a start may be out.
    for _ in range(2):
        clock.turn(70)
        await control_plane.turn_clock(clock.now())
        await sweep(service)
    assert await control_plane.accepted() == [body(0)]
    assert (await tenant(service))["state"] is None


async def test_refusals_may_be_turned_off(
    start_service: StartService, control_plane: ControlPlane, settings_with_webhook: Settings
) -> None:
    """With `callback.refusals = false` a refusal isn't reported, and no secret is stored for it."""
    callback = attrs.evolve(settings_with_webhook.callback, refusals=False)
    service = await start_service(attrs.evolve(settings_with_webhook, callback=callback))
    await control_plane.expect("t-1", context=CONTEXT)
    await read_problem(await service.post("/events", json=request(tier="NONE")), 422)
    await sweep(service)
    assert await control_plane.accepted() == []
    assert await credentials_kept(service) == 0


@pytest.mark.parametrize("where", ["tier", "event", "another host"])
async def test_the_webhook_of_a_refusal_is_found(
    start_service: StartService,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    where: str,
) -> None:
    """A refusal is reported to the address of any report: the tier's, else the event's if its
    origin is trusted."""
    endpoint = {"API_ENDPOINT": control_plane.url}
    empty = {**TIERS["EMPTY"], **(endpoint if where == "tier" else {})}
    origin = str(URL(control_plane.url).origin())
    hosts = (origin,) if where == "event" else ("control.example",)
    service = await start_service(
        attrs.evolve(
            settings_with_webhook,
            callback=attrs.evolve(settings_with_webhook.callback, url=None, allowed_hosts=hosts),
            tiers=Tiers(backend="static", static={"EMPTY": empty}),
        )
    )
    await control_plane.expect("t-1", context=CONTEXT)
    event = request(tier="EMPTY", **({} if where == "tier" else endpoint))
    problem = await read_problem(await service.post("/events", json=event), 422)
    is_reported = where != "another host"
    assert await control_plane.accepted() == [body(0)] * is_reported
    run = await (await service.get(problem["instance"])).json()
    assert ("callback.allowed_hosts" in (run["note"] or "")) is not is_reported


async def test_a_tier_that_can_not_be_read_now_puts_the_end_off(
    start_service: StartService,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
    clock: ManualClock,
) -> None:
    """While the tier, which may have the webhook's address, can't be read, the answer is 503; the
    request is refused and reported once it can."""
    is_down = True
    registry = HandlerRegistry()

    @registry.on("TENANT_PROVISIONING")
    async def refuse(event: Event[dict[str, Any]], run: Run) -> None:
        raise PermanentError("Never.")

    async def find_tier(name: str) -> dict[str, Any]:
        if is_down:
            raise TemporaryError("The catalog can't be reached.")
        return {"API_ENDPOINT": control_plane.url}

    callback = attrs.evolve(settings_with_webhook.callback, url=None)
    service = await start_service(
        attrs.evolve(settings_with_webhook, callback=callback),
        extension=Extension(registry=registry, tiers=find_tier),
    )
    await control_plane.expect("t-1", context=CONTEXT)
    await read_problem(await service.post("/events", json=request()), 503)
    is_down = False
    await read_problem(await service.post("/events", json=request()), 422)
    assert await control_plane.accepted() == [body(0)]


async def test_a_deployment_that_could_not_begin_is_reported(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
    settings_with_webhook: Settings,
) -> None:
    """A deployment that could not begin is reported with the secret of the provisioning before it,
    whose success wasn't reported yet."""
    callback = attrs.evolve(settings_with_webhook.callback, after="deployment")
    registry = HandlerRegistry()

    @registry.on("TENANT_DEPLOYMENT")
    async def refuse(event: Event[dict[str, Any]], run: Run) -> None:
        raise PermanentError("Never.")

    service = await start_service(
        attrs.evolve(settings_with_webhook, callback=callback),
        extension=Extension(registry=registry),
    )
    await provision(service, control_plane)
    key = next(
        one["value"] for one in running(codebuild).overrides if one["name"] == "ORCHESTRATOR_RUN_ID"
    )
    await end(service, codebuild)
    detail = {"tenantId": "t-1", "operationId": key.rpartition("-")[0], "ORCHESTRATOR_RUN_ID": key}
    deployment = envelope("TENANT_DEPLOYMENT", detail)
    await read_problem(await service.post("/events", json=deployment), 422)
    assert await control_plane.accepted() == [body(0)]
    assert await credentials_kept(service) == 0
