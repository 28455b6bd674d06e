"""Requests for one tenant that arrive in any order: their turn, and those that are too late."""

from typing import Any

import attrs
import pytest
from aiohttp import ClientResponse

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import Callback
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import only_build, read_problem, read_run, read_success
from tests.acceptance.stories import (
    DEPLOY,
    DEPROVISION,
    PROVISION,
    TENANT,
    is_replay,
    list_runs,
    read_refusal,
    read_tenant,
    read_wait,
    send,
    state_of,
    sweep,
    with_full_tier,
)
from tests.conftest import Client, StartService
from tests.control_plane.receiver import SECRET, ControlPlane


async def send_at(
    service: Client, event_type: str, event_id: str, time: str, **body: Any
) -> ClientResponse:
    """Deliver a request with the time of its sender."""
    detail = {"tenantId": TENANT, "tier": "FULL", **body}
    sent = envelope(event_type, detail, event_id=event_id, time=f"2026-11-20T{time}Z")
    answer: ClientResponse = await service.post("/events", json=sent)
    return answer


async def test_each_request_has_its_turn(either: Client, codebuild: CodeBuildStandIn) -> None:
    """Provision, deprovision and provision are handled in turn, and no provisioning that is removed
    afterwards is a duplicate's success."""
    await read_success(await send(either, PROVISION, "first"))
    second = await read_wait(await send(either, DEPROVISION, "second"), pause_s=15)
    third = await read_wait(await send(either, PROVISION, "third"), pause_s=15)
    waiting = [second.removeprefix("/runs/"), third.removeprefix("/runs/")]
    assert (await read_tenant(either))["waiting"] == waiting

    for outcome in (f"{PROVISION}_SUCCESS", f"{DEPROVISION}_SUCCESS"):
        await read_success(await send(either, outcome, outcome))
        await sweep(either)
    assert (await read_run(either, third))["status"] == "succeeded"
    assert await state_of(either) == "provisioning"
    assert (await read_tenant(either))["waiting"] == []
    assert len(codebuild.builds) == 3


async def test_an_archive_tears_no_tenant_down(
    either: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A request that was sent before the latest one is refused, and an operator may force it."""
    await read_success(await send_at(either, PROVISION, "new", "08:05:00"))
    await read_success(await send(either, f"{PROVISION}_SUCCESS", "outcome"))
    words = "tenant was asked later for provisioning; replay with force"
    address = await read_refusal(await send_at(either, DEPROVISION, "old", "08:00:00"), words)
    assert await state_of(either) == "provisioned"
    answer = await either.post(f"{address}/replay", json={"force": True})
    assert answer.status == 200
    assert await state_of(either) == "deprovisioning"


async def test_a_date_in_the_future_counts_as_now(either: Client, clock: ManualClock) -> None:
    """A request that is dated in the future makes no later one stale."""
    detail = {"tenantId": TENANT, "tier": "FULL"}
    dated = envelope(PROVISION, detail, event_id="a", time="2096-01-01T00:00:00Z")
    await read_success(await either.post("/events", json=dated))
    await read_success(await send(either, f"{PROVISION}_SUCCESS", "outcome"))
    clock.turn(60)
    time = clock.now().strftime("%H:%M:%S")
    await read_success(await send_at(either, DEPROVISION, "b", time))


@pytest.mark.parametrize("other", [{"tier": "GOLD"}, {"builderConfig": {"type": "JENKINS"}}])
async def test_a_request_for_something_else_cannot_join(
    either: Client, codebuild: CodeBuildStandIn, other: dict[str, Any]
) -> None:
    """A request for another tier or builder than the operation under way is a 422 that names the
    difference, and its run is kept as failed."""
    first = await read_success(await send(either, PROVISION, "first"))
    answer = await send(either, PROVISION, "second", **other)
    problem = await read_problem(answer, 422)
    assert "The provisioning under way has the " in problem["detail"]
    assert (await read_run(either, problem["instance"]))["status"] == "failed"
    assert await read_success(await send(either, PROVISION, "third")) == first
    assert only_build(codebuild)


async def test_a_request_that_means_two_tenants_is_refused(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A request whose variables name another tenant is refused, since its job would work on that
    one."""
    override = {"tenant": '{"id":"t-2"}'}
    config = {"type": "CODE_BUILD", "config": {"environmentOverride": override}}
    answer = await send(either, PROVISION, "first", builderConfig=config)
    problem = await read_problem(answer, 422)
    assert "'t-1'" in problem["detail"]
    assert "'t-2'" in problem["detail"]
    assert not codebuild.builds
    assert await state_of(either) == "unseen"


@pytest.mark.parametrize("by", ["context", "operationId"])
async def test_a_repeated_outcome_ends_no_later_request(either: Client, by: str) -> None:
    """The failure of the first request, sent again under another event id, doesn't end the second
    request."""
    await read_success(await send(either, PROVISION, "first", context="context-1"))
    (run,) = await list_runs(either, eventType=PROVISION)
    named = {"context": "context-1", "operationId": run["operationId"]}[by]
    outcome = f"{PROVISION}_FAILURE"
    await read_success(await send(either, outcome, "one", **{by: named}))
    assert await state_of(either) == "provision_failed"
    await read_success(await send(either, PROVISION, "second", context="context-2"))
    await read_success(await send(either, outcome, "two", ends=False, **{by: named}))
    assert await state_of(either) == "provisioning"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"some": "thing"},
        {"Type": "Notification", "Message": "x"},
        {"Source": "a", "DetailType": "b", "Detail": "{}"},
        {"tenant": {}},
        {"tenantId": ""},
        {"tenantId": 7},
    ],
)
async def test_an_outcome_that_names_nothing_is_refused(
    either: Client, body: dict[str, Any]
) -> None:
    """An outcome that names no tenant is a 422 and a failed run, since a 200 would lose it."""
    sent = {"version": "0", "id": "a", "detail-type": f"{PROVISION}_SUCCESS", "detail": body}
    problem = await read_problem(await either.post("/events", json={**sent, "source": "s"}), 422)
    assert (await read_run(either, problem["instance"]))["status"] == "failed"


async def test_equal_content_is_another_event_after_another_request(
    either: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """Provision, deprovision and the same provision again, all without an id, are three jobs."""
    body = {"tenantId": TENANT, "tier": "FULL"}
    addresses = []
    for event_type in (PROVISION, DEPROVISION, PROVISION):
        clock.turn(60)
        answer = await either.post(f"/events/{event_type}", json=body)
        addresses.append(await read_success(answer))
        again = await either.post(f"/events/{event_type}", json=body)
        assert await read_success(again) == addresses[-1]
        assert is_replay(again)
        await read_success(await send(either, f"{event_type}_SUCCESS", f"o-{len(addresses)}"))
    assert addresses[0] == addresses[2]
    assert len(codebuild.builds) == 3
    run = await read_run(either, addresses[0])
    assert (run["attempt"], run["status"]) == (2, "succeeded")


@pytest.mark.parametrize("ended_by", ["outcome", "cancel"])
async def test_an_operation_without_a_job_ends_while_its_content_waits(
    start_service: StartService, settings: Settings, clock: ManualClock, ended_by: str
) -> None:
    """An operation whose handler started nothing ends by an outcome or a cancel although a request
    with its content waits behind a deprovisioning: that is another request."""
    registry = HandlerRegistry()

    @registry.on(PROVISION)
    async def by_hand(event: Event[dict[str, Any]], run: Run) -> None:
        return None

    service = await start_service(with_full_tier(settings), extension=Extension(registry=registry))
    body = {"tenantId": TENANT, "tier": "FULL"}
    address = await read_success(await service.post(f"/events/{PROVISION}", json=body))
    for event_type in (DEPROVISION, PROVISION):
        clock.turn(1)
        await read_wait(await service.post(f"/events/{event_type}", json=body), pause_s=15)
    tenant = await read_tenant(service)
    assert (len(tenant["waiting"]), tenant["isSlow"], tenant["reason"]) == (2, False, None)
    if ended_by == "outcome":
        await read_success(await send(service, f"{PROVISION}_SUCCESS", "done"))
    else:
        assert (await service.post(f"/tenants/{TENANT}/cancel")).status == 200
    expected = {"outcome": "provisioned", "cancel": "provision_failed"}[ended_by]
    assert await state_of(service) == expected
    await sweep(service)
    tenant = await read_tenant(service)
    assert tenant["state"] == "deprovisioning"
    assert tenant["waiting"] == [address.removeprefix("/runs/")]


async def test_a_report_that_was_left_to_a_missing_deployment_is_sent(
    start_service: StartService,
    settings: Settings,
    control_plane: ControlPlane,
    clock: ManualClock,
) -> None:
    """A provisioning whose deployment never came is reported when the tenant's next operation
    opens, and the late deployment starts nothing."""
    callback = Callback(url=control_plane.url, after="deployment")
    service = await start_service(attrs.evolve(with_full_tier(settings), callback=callback))
    secret: dict[str, Any] = {"secret": SECRET, "context": "context-1"}
    await control_plane.expect(TENANT, context="context-1")
    await read_success(await send(service, PROVISION, "first", **secret))
    (run,) = await list_runs(service, eventType=PROVISION)
    await read_success(await send(service, f"{PROVISION}_SUCCESS", "outcome"))
    clock.turn(600)
    await control_plane.turn_clock(clock.now())
    await sweep(service)
    assert not await control_plane.accepted()

    await read_success(await send(service, DEPROVISION, "second"))
    await sweep(service)
    (report,) = await control_plane.accepted()
    assert report["data"]["status"] == 1
    await read_success(await send(service, f"{DEPROVISION}_SUCCESS", "gone"))
    follow_up: dict[str, Any] = {"operationId": run["operationId"]}
    address = await read_success(await send(service, DEPLOY, "late", **follow_up))
    late = await read_run(service, address)
    assert (late["status"], late["job"]) == ("succeeded", None)
    assert late["note"] == "Skipped: the tenant has had another request since."
    assert await state_of(service) == "deprovisioned"
    assert len(await control_plane.accepted()) == 1
