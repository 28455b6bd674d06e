"""An operator stops what is being done to a tenant."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from attrs import evolve

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.errors import TemporaryError
from orchestrator.core.ledger.records import Record
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.settings import Intake
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.answers import only_build, read_problem, read_success
from tests.acceptance.stories import bring_into, send
from tests.conftest import CODEBUILD, Client, StartService

JSON = {"Content-Type": "application/json"}
PROVISION = "/events/TENANT_PROVISIONING"


async def provision(service: Client, *, event_id: str = "event-1") -> str:
    event = provisioning_event(tenant_id="t-1", event_id=event_id)
    return await read_success(await service.post(PROVISION, json=event))


async def cancel(service: Client, *, status: int = 200, **body: Any) -> dict[str, Any]:
    """What was stopped: what was being done to the tenant before."""
    doing = (await tenant(service))["operation"]
    answer = await service.post("/tenants/t-1/cancel", json=body)
    assert answer.status == status, await answer.text()
    stopped = {"kind": doing["kind"], "operationId": doing["operationId"]}
    assert await answer.json() == {"success": True, "stopped": stopped}
    assert answer.headers["Location"] == "/tenants/t-1"
    return stopped


async def tenant(service: Client) -> dict[str, Any]:
    found: dict[str, Any] = await (await service.get("/tenants/t-1")).json()
    return found


async def why(service: Client) -> str:
    """What the timeline says of the failure."""
    (reason,) = [
        run["reason"]
        for run in (await tenant(service))["timeline"]
        if run["eventType"].endswith("_FAILURE")
    ]
    return str(reason)


async def test_the_job_is_stopped_and_the_operation_has_failed(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """At once, if the builder stops at once; the reason is kept."""
    await provision(service)
    await cancel(service, reason="the customer changed his mind")
    assert only_build(codebuild).status == "STOPPED"
    assert (await tenant(service))["state"] == "provision_failed"
    reason = await why(service)
    assert "Cancelled by an operator: the customer changed his mind." in reason
    assert "was stopped" in reason


async def test_a_reason_is_not_needed(service: Client, codebuild: CodeBuildStandIn) -> None:
    """Nor is a body."""
    await provision(service)
    answer = await service.post("/tenants/t-1/cancel")
    assert answer.status == 200
    assert "Cancelled by an operator." in await why(service)


async def test_a_job_that_takes_its_time_to_stop(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """202: told to stop, and the tenant is held until the builder says that it has."""
    await provision(service)
    build = only_build(codebuild)
    codebuild.stops_at_once = False
    await cancel(service, status=202, reason="enough")
    found = await tenant(service)
    assert found["state"] == "provisioning"
    assert found["operation"]["reason"] == "Cancelled by an operator: enough."
    codebuild.finish(build.id, "STOPPED")
    assert (await service.post("/events/RECONCILE", json={})).status == 200
    assert (await tenant(service))["state"] == "provision_failed"


async def test_a_build_that_succeeded_before_it_was_stopped_has_succeeded(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """The cancel came too late: the tenant has what it asked for."""
    await provision(service)
    codebuild.finish(only_build(codebuild).id, "SUCCEEDED")
    await cancel(service)
    assert (await tenant(service))["state"] == "provisioned"


async def test_cancelling_twice_is_refused_once_it_has_ended(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """There is nothing left to stop."""
    await provision(service)
    await cancel(service)
    problem = await read_problem(await service.post("/tenants/t-1/cancel"), 422)
    assert problem["detail"] == "the tenant t-1 has no operation under way"


async def test_an_unknown_tenant_can_not_be_cancelled(service: Client) -> None:
    """404, and nothing is written."""
    problem = await read_problem(await service.post("/tenants/t-9/cancel"), 404)
    assert problem["detail"] == "There is no tenant 't-9'."


async def test_a_tenant_whose_requests_never_began_has_nothing_to_cancel(either: Client) -> None:
    """422: the tenant has a page, so it would be wrong to say that there is no such tenant."""
    event = envelope("TENANT_CLEAN_UP", {"tenantId": "t-1"})
    refused = await read_problem(await either.post("/events", json=event), 422)
    assert refused["detail"] == "tenant has had no operation yet; replay with force"
    assert (await either.get("/tenants/t-1")).status == 200
    problem = await read_problem(await either.post("/tenants/t-1/cancel"), 422)
    assert problem["detail"] == "the tenant t-1 has no operation under way"


@pytest.mark.parametrize(
    ("body", "status"), [(b'{"reason": 7}', 422), (b"[]", 422), (b'{"reason', 400)]
)
async def test_a_body_that_does_not_fit(service: Client, body: bytes, status: int) -> None:
    """The problem says what is wrong with it."""
    await provision(service)
    await read_problem(await service.post("/tenants/t-1/cancel", data=body, headers=JSON), status)
    assert (await tenant(service))["state"] == "provisioning"


async def test_a_request_that_waits_to_be_started_is_never_started(
    service: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """Its run fails with the reason, and the tenant is as it was before."""
    codebuild.inject("StartBuild", Fault.error("AccountLimitExceededException"))
    event = provisioning_event(tenant_id="t-1")
    await read_problem(await service.post(PROVISION, json=event), 503)
    await cancel(service, reason="enough")
    assert (await (await service.get("/tenants/t-1")).json())["state"] is None
    (run,) = (await (await service.get("/runs")).json())["items"]
    assert run["status"] == "failed"
    assert run["error"]["message"] == "Cancelled by an operator: enough."
    clock.turn(3600)
    await service.post("/events/RECONCILE", json={})
    assert not codebuild.builds


async def test_a_cancelled_request_that_is_redelivered_is_refused(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """Its sender was answered 503 and retries; only an operator's replay undoes the cancel."""
    codebuild.inject("StartBuild", Fault.error("AccountLimitExceededException"))
    event = provisioning_event(tenant_id="t-1")
    waits = await read_problem(await service.post(PROVISION, json=event), 503)
    await cancel(service, reason="enough.")
    for _ in range(2):
        problem = await read_problem(await service.post(PROVISION, json=event), 422)
        assert problem["detail"] == "Cancelled by an operator: enough."
    assert not codebuild.builds
    await read_success(await service.post(f"{waits['instance']}/replay", json={}))
    assert only_build(codebuild)


async def test_a_reason_has_its_limits(service: Client, codebuild: CodeBuildStandIn) -> None:
    """An item of the ledger must hold it."""
    await provision(service)
    await cancel(service, reason="x" * 300_000)
    reason = await why(service)
    assert "Cancelled by an operator: xxx" in reason
    assert len(reason) < 5000


async def test_a_start_whose_answer_was_lost_is_found_and_stopped(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """The tenant isn't let go while its build runs."""
    codebuild.inject("StartBuild", Fault.answer_lost(), Fault.answer_lost())
    event = provisioning_event(tenant_id="t-1")
    await read_problem(await service.post(PROVISION, json=event), 503)
    await cancel(service, reason="enough")
    assert only_build(codebuild).status == "STOPPED"
    assert (await tenant(service))["state"] == "provision_failed"


async def test_a_cancelled_run_in_progress_is_stopped_once_its_job_is_known(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """503 while it starts its job; then the sweep stops the job."""
    slow = Fault.slow()
    codebuild.inject("StartBuild", slow)
    event = provisioning_event(tenant_id="t-1")
    opening = asyncio.create_task(service.post(PROVISION, json=event))
    await slow.reached.wait()
    await read_problem(await service.post("/tenants/t-1/cancel"), 503)
    slow.release.set()
    await read_success(await opening)
    assert (await service.post("/events/RECONCILE", json={})).status == 200
    assert only_build(codebuild).status == "STOPPED"
    assert (await tenant(service))["state"] == "provision_failed"


async def test_an_operation_without_a_job_ends(start_service: StartService) -> None:
    """A handler of the user's has begun something that nobody else can see."""
    registry = HandlerRegistry()

    @registry.on("TENANT_PROVISIONING")
    async def by_hand(event: Event[dict[str, Any]], run: Run) -> None:
        return None

    service = await start_service(extension=Extension(registry=registry))
    await provision(service)
    assert (await tenant(service))["operation"]["job"] is None
    await cancel(service, reason="enough")
    assert (await tenant(service))["state"] == "provision_failed"
    assert await why(service) == "Cancelled by an operator: enough."


async def test_the_tenant_may_be_requested_again(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """The next request opens the next operation, which isn't stopped."""
    await provision(service)
    await cancel(service)
    await provision(service, event_id="event-2")
    assert (await tenant(service))["state"] == "provisioning"
    assert [build.status for build in codebuild.builds.values()] == ["STOPPED", "IN_PROGRESS"]


async def test_a_cancel_succeeds_although_the_outcomes_handler_fails(
    start_service: StartService, codebuild: CodeBuildStandIn
) -> None:
    """The operation has ended; the handler's failure is kept with its run."""
    registry = HandlerRegistry()

    @registry.on("TENANT_PROVISIONING_FAILURE")
    async def broken(event: Event[dict[str, Any]], run: Run) -> None:
        raise ValueError("no")

    service = await start_service(extension=Extension(registry=registry))
    await provision(service)
    await cancel(service, status=202)
    assert only_build(codebuild).status == "STOPPED"
    for _ in range(5):
        await service.post("/events/RECONCILE", json={})
    assert (await tenant(service))["state"] == "provision_failed"


async def test_a_clean_up_can_be_cancelled(
    start_service: StartService, codebuild: CodeBuildStandIn, settings: Settings
) -> None:
    """The tenant is what it was without it: not provisioned."""
    codebuild.add_project("cleanup")
    tiers = {**settings.tiers.static}
    tiers["STANDARD"] = {**tiers["STANDARD"], "cleanupJobIdentifier": "cleanup"}
    service = await start_service(evolve(settings, tiers=evolve(settings.tiers, static=tiers)))
    await provision(service)
    codebuild.finish(only_build(codebuild).id, "FAILED")
    await service.post("/events/RECONCILE", json={})
    assert (await tenant(service))["state"] == "cleaning_up"
    for body in ({}, {"reason": "again"}, {"cleanUp": False}):
        refused = await service.post("/tenants/t-1/cancel", json=body)
        problem = await read_problem(refused, 422)
        assert '{"cleanUp": true}' in problem["detail"]
    assert list(codebuild.builds.values())[-1].status == "IN_PROGRESS"
    assert (await tenant(service))["operation"]["reason"] is None
    stopped = await cancel(service, reason="by hand instead", cleanUp=True)
    assert stopped["kind"] == "clean_up"
    assert (await tenant(service))["state"] == "provision_failed"
    assert list(codebuild.builds.values())[-1].status == "STOPPED"


async def test_a_deployment_and_a_deprovisioning_can_be_cancelled(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """As a provisioning can."""
    for event_type, tier, state in (
        ("TENANT_DEPLOYMENT", "PREMIUM", "deployment_failed"),
        ("TENANT_DEPROVISIONING", "STANDARD", "deprovision_failed"),
    ):
        event = envelope(event_type, {"tenantId": "t-1", "tier": tier}, event_id=event_type)
        await read_success(await service.post("/events", json=event))
        await cancel(service)
        assert (await tenant(service))["state"] == state


async def test_cancelling_twice_while_the_job_stops_keeps_the_first_reason(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """202 each time, until the builder says that it has stopped."""
    await provision(service)
    codebuild.stops_at_once = False
    await cancel(service, status=202, reason="enough")
    await cancel(service, status=202, reason="really")
    assert (await tenant(service))["operation"]["reason"] == "Cancelled by an operator: enough."
    codebuild.finish(only_build(codebuild).id, "STOPPED")
    await cancel(service, reason="at last")
    assert (await tenant(service))["state"] == "provision_failed"
    assert (await why(service)).startswith("Cancelled by an operator: enough. The job ")


@pytest.mark.parametrize("action", ["StopBuild", "BatchGetBuilds"])
async def test_a_cancel_of_a_job_whose_builder_is_unreachable_is_left_to_the_sweep(
    service: Client, codebuild: CodeBuildStandIn, action: str
) -> None:
    """202: the request to stop is recorded."""
    await provision(service)
    codebuild.inject(action, *[Fault.error("ThrottlingException")] * 2)
    await cancel(service, status=202, reason="enough")
    found = await tenant(service)
    assert found["state"] == "provisioning"
    assert found["operation"]["reason"] == "Cancelled by an operator: enough."
    assert (await service.post("/events/RECONCILE", json={})).status == 200
    assert only_build(codebuild).status == "STOPPED"
    assert (await tenant(service))["state"] == "provision_failed"
    assert "Cancelled by an operator: enough." in await why(service)


async def test_a_builder_that_hangs_is_not_waited_for(
    start_service: StartService, codebuild: CodeBuildStandIn, settings: Settings
) -> None:
    """202 at the deadline: the cancel is written, and goes on behind the answer."""
    patient = evolve(settings, aws=evolve(settings.aws, read_timeout_s=60))
    service = await start_service(evolve(patient, intake=Intake(deadline_s=2)))
    await provision(service)
    slow = Fault.slow()
    codebuild.inject("StopBuild", slow)
    await cancel(service, status=202, reason="enough")
    assert slow.reached.is_set()
    slow.release.set()
    while (await tenant(service))["state"] == "provisioning":
        assert (await service.post("/events/RECONCILE", json={})).status == 200
    assert (await why(service)).startswith("Cancelled by an operator: enough. ")


async def test_a_start_that_cannot_be_looked_up_is_looked_up_later(
    service: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """202: its run is due by itself, and whoever takes it up finds that it was cancelled."""
    codebuild.inject("StartBuild", Fault.answer_lost(), Fault.answer_lost())
    event = provisioning_event(tenant_id="t-1")
    await read_problem(await service.post(PROVISION, json=event), 503)
    codebuild.inject("ListBuildsForProject", *[Fault.error("ThrottlingException")] * 2)
    await cancel(service, status=202, reason="enough")
    clock.turn(400)
    for _ in range(2):  # the first finds the build, the second has it stopped
        assert (await service.post("/events/RECONCILE", json={})).status == 200
    assert only_build(codebuild).status == "STOPPED"
    assert (await tenant(service))["state"] == "provision_failed"


class FailingReads(InMemoryLedger):
    """Can't be read once `fails` is set, though it can be written."""

    def __init__(self) -> None:
        super().__init__()
        self.fails_after: int | None = None

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        if self.fails_after is not None:
            self.fails_after -= 1
            if self.fails_after < 0:
                raise TemporaryError("It can't be read.")
        return await super().load(keys)


@pytest.mark.parametrize("reads", range(12))
async def test_a_recorded_cancel_is_not_answered_as_a_failure(
    start_service: StartService, codebuild: CodeBuildStandIn, reads: int
) -> None:
    """Whatever read fails: 503 if nothing was written, else 202 or, if all was read, 200."""
    ledger = FailingReads()
    service = await start_service(ledger=ledger)
    await provision(service)
    ledger.fails_after = reads
    answer = await service.post("/tenants/t-1/cancel", json={"reason": "enough"})
    ledger.fails_after = None
    operation = (await tenant(service))["operation"]
    is_written = operation is None or operation["reason"] is not None
    assert (answer.status in (200, 202)) is is_written
    assert operation is None or answer.status != 200


async def test_a_cancelled_build_that_is_unknown_is_waited_for(
    service: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """202: CodeBuild may not show it yet; then the reason has both sentences."""
    await provision(service)
    codebuild.remove_build(only_build(codebuild).id)
    await cancel(service, status=202, reason="enough")
    clock.turn(62)
    assert (await service.post("/events/RECONCILE", json={})).status == 200
    assert (await tenant(service))["state"] == "provision_failed"
    reason = await why(service)
    assert reason.startswith("Cancelled by an operator: enough. ")
    assert "it was deleted" in reason


async def test_an_outcome_that_is_being_handled_is_not_disturbed(
    start_service: StartService, codebuild: CodeBuildStandIn
) -> None:
    """202 while its handler works, since it ends; once it has ended there is nothing to stop."""
    registry = HandlerRegistry()
    reached, release = asyncio.Event(), asyncio.Event()

    @registry.on("TENANT_PROVISIONING_FAILURE")
    async def slow(event: Event[dict[str, Any]], run: Run) -> None:
        reached.set()
        await release.wait()

    service = await start_service(extension=Extension(registry=registry))
    await provision(service)
    build = only_build(codebuild)
    codebuild.finish(build.id, "FAILED")
    change = envelope("BUILD_STATE_CHANGE", build.as_state_change())
    ending = asyncio.create_task(service.post("/events", json=change))
    await reached.wait()
    await cancel(service, status=202)
    release.set()
    await read_success(await ending)
    await read_problem(await service.post("/tenants/t-1/cancel"), 422)
    assert (await tenant(service))["state"] == "provision_failed"


async def test_a_clean_up_that_waits_to_be_started_is_never_started(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    settings: Settings,
    clock: ManualClock,
) -> None:
    """Its run fails as cancelled, and the tenant is given back as it was."""
    codebuild.add_project("cleanup")
    tiers = {**settings.tiers.static}
    tiers["STANDARD"] = {**tiers["STANDARD"], "cleanupJobIdentifier": "cleanup"}
    service = await start_service(evolve(settings, tiers=evolve(settings.tiers, static=tiers)))
    await provision(service)
    codebuild.finish(only_build(codebuild).id, "FAILED")
    codebuild.inject("StartBuild", Fault.error("AccountLimitExceededException"))
    assert (await service.post("/events/RECONCILE", json={})).status == 200
    assert (await tenant(service))["state"] == "cleaning_up"
    await cancel(service, reason="by hand", cleanUp=True)
    found = await tenant(service)
    assert (found["state"], found["operation"]) == ("provision_failed", None)
    (run,) = (one for one in found["timeline"] if one["eventType"] == "TENANT_CLEAN_UP")
    assert (run["status"], run["reason"]) == ("failed", "Cancelled by an operator: by hand.")
    clock.turn(3600)
    assert (await service.post("/events/RECONCILE", json={})).status == 200
    assert len(codebuild.builds) == 1


async def test_a_tenant_that_waits_to_be_taken_down_stays_what_it_is(either: Client) -> None:
    """It is given back in the state that it was taken from, in each ledger."""
    await bring_into(either, "active")
    either.app[CODEBUILD].inject("StartBuild", Fault.error("AccountLimitExceededException"))
    await read_problem(await send(either, "TENANT_DEPROVISIONING", "gone"), 503)
    await cancel(either, reason="it stays")
    found = await tenant(either)
    assert (found["state"], found["operation"]) == ("active", None)
    (run,) = (one for one in found["timeline"] if one["eventType"] == "TENANT_DEPROVISIONING")
    assert (run["status"], run["reason"]) == ("failed", "Cancelled by an operator: it stays.")


async def test_a_cancel_is_kept_in_each_ledger(either: Client) -> None:
    """State, reason, and the build that is stopped."""
    await read_success(await send(either, "TENANT_PROVISIONING", "request"))
    await cancel(either, reason="enough")
    assert only_build(either.app[CODEBUILD]).status == "STOPPED"
    assert (await tenant(either))["state"] == "provision_failed"
    assert "Cancelled by an operator: enough." in await why(either)
