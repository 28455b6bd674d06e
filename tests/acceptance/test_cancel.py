"""An operator cancels a tenant's operation."""

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
    """Cancel, and return the operation that was stopped."""
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
    """The reason of the failure in the timeline."""
    (reason,) = [
        run["reason"]
        for run in (await tenant(service))["timeline"]
        if run["eventType"].endswith("_FAILURE")
    ]
    return str(reason)


async def test_the_job_is_stopped_and_the_operation_has_failed(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """If the builder stops at once the operation has failed at once, with the operator's reason."""
    await provision(service)
    await cancel(service, reason="the customer changed his mind")
    assert only_build(codebuild).status == "STOPPED"
    assert (await tenant(service))["state"] == "provision_failed"
    reason = await why(service)
    assert "Cancelled by an operator: the customer changed his mind." in reason
    assert "was stopped" in reason


async def test_a_reason_is_not_needed(service: Client, codebuild: CodeBuildStandIn) -> None:
    """A cancel needs neither a reason nor a body."""
    await provision(service)
    answer = await service.post("/tenants/t-1/cancel")
    assert answer.status == 200
    assert "Cancelled by an operator." in await why(service)


async def test_a_job_that_takes_its_time_to_stop(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A cancel is 202 while the job stops, and the tenant is held until the builder says that it
    has stopped."""
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
    """A build that succeeded before its cancel counts as succeeded."""
    await provision(service)
    codebuild.finish(only_build(codebuild).id, "SUCCEEDED")
    await cancel(service)
    assert (await tenant(service))["state"] == "provisioned"


async def test_cancelling_twice_is_refused_once_it_has_ended(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A second cancel after the end is 422, since no operation is under way."""
    await provision(service)
    await cancel(service)
    problem = await read_problem(await service.post("/tenants/t-1/cancel"), 422)
    assert problem["detail"] == "the tenant t-1 has no operation under way"


async def test_an_unknown_tenant_can_not_be_cancelled(service: Client) -> None:
    """A cancel of an unknown tenant is 404."""
    problem = await read_problem(await service.post("/tenants/t-9/cancel"), 404)
    assert problem["detail"] == "There is no tenant 't-9'."


async def test_a_tenant_whose_requests_never_began_has_nothing_to_cancel(either: Client) -> None:
    """A cancel of a tenant whose requests never began is 422, not 404, since the tenant has a
    page."""
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
    """A body that doesn't fit is a problem, and nothing is cancelled."""
    await provision(service)
    await read_problem(await service.post("/tenants/t-1/cancel", data=body, headers=JSON), status)
    assert (await tenant(service))["state"] == "provisioning"


async def test_a_request_that_waits_to_be_started_is_never_started(
    service: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A cancelled request that waits for its start fails with the reason and is never started; the
    tenant has its former state."""
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
    """A cancelled request that its sender retries is refused; only an operator's replay undoes the
    cancel."""
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
    """A long reason is cut, so that an item of the ledger can hold it."""
    await provision(service)
    await cancel(service, reason="x" * 300_000)
    reason = await why(service)
    assert "Cancelled by an operator: xxx" in reason
    assert len(reason) < 5000


async def test_a_start_whose_answer_was_lost_is_found_and_stopped(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """The build of a start whose answer was lost is found and stopped before the tenant is
    released."""
    codebuild.inject("StartBuild", Fault.answer_lost(), Fault.answer_lost())
    event = provisioning_event(tenant_id="t-1")
    await read_problem(await service.post(PROVISION, json=event), 503)
    await cancel(service, reason="enough")
    assert only_build(codebuild).status == "STOPPED"
    assert (await tenant(service))["state"] == "provision_failed"


async def test_a_cancelled_run_in_progress_is_stopped_once_its_job_is_known(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A cancel is 503 while the run starts its job; once that is recorded the sweep stops it."""
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
    """A cancel ends an operation without a recorded job at once."""
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
    """The request after a cancel opens the next operation, which isn't stopped."""
    await provision(service)
    await cancel(service)
    await provision(service, event_id="event-2")
    assert (await tenant(service))["state"] == "provisioning"
    assert [build.status for build in codebuild.builds.values()] == ["STOPPED", "IN_PROGRESS"]


async def test_a_cancel_succeeds_although_the_outcomes_handler_fails(
    start_service: StartService, codebuild: CodeBuildStandIn
) -> None:
    """A cancel is 202 if the outcome's handler fails, and the operation ends later."""
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
    """A clean-up is cancelled only with `cleanUp`, and leaves the tenant as not provisioned."""
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
    """A deployment and a deprovisioning are cancelled like a provisioning."""
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
    """A repeated cancel is 202 until the job has stopped, and the first reason stays."""
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
    """While the builder is unreachable a cancel is 202, since it is recorded, and the sweep stops
    the job."""
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
    """If the builder hangs a cancel is 202 at the deadline, since it is recorded, and continues
    after the answer."""
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
    """If a start can't be looked up a cancel is 202, and the sweep that resumes its run finds and
    stops the job."""
    codebuild.inject("StartBuild", Fault.answer_lost(), Fault.answer_lost())
    event = provisioning_event(tenant_id="t-1")
    await read_problem(await service.post(PROVISION, json=event), 503)
    codebuild.inject("ListBuildsForProject", *[Fault.error("ThrottlingException")] * 2)
    await cancel(service, status=202, reason="enough")
    clock.turn(400)
    for _ in range(2):  # the first finds the build, the second stops it
        assert (await service.post("/events/RECONCILE", json={})).status == 200
    assert only_build(codebuild).status == "STOPPED"
    assert (await tenant(service))["state"] == "provision_failed"


class FailingReads(InMemoryLedger):
    """A ledger whose reads fail after so many, though it can be written."""

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
    """Whichever read fails, a cancel is 503 if it wasn't recorded, else 202, or 200 if its
    operation has ended."""
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
    """A cancel of a build that CodeBuild may not list yet is 202; once it is unknown for good the
    reason has both sentences."""
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
    """A cancel is 202 while the outcome's handler works, and 422 once the operation has ended."""
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
    """A cancelled clean-up that waits for its start fails as cancelled and is never started; the
    tenant has its former state."""
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
    """A tenant whose waiting deprovisioning is cancelled is given back in its former state, in each
    ledger."""
    await bring_into(either, "active")
    either.app[CODEBUILD].inject("StartBuild", Fault.error("AccountLimitExceededException"))
    await read_problem(await send(either, "TENANT_DEPROVISIONING", "gone"), 503)
    await cancel(either, reason="it stays")
    found = await tenant(either)
    assert (found["state"], found["operation"]) == ("active", None)
    (run,) = (one for one in found["timeline"] if one["eventType"] == "TENANT_DEPROVISIONING")
    assert (run["status"], run["reason"]) == ("failed", "Cancelled by an operator: it stays.")


async def test_a_cancel_is_kept_in_each_ledger(either: Client) -> None:
    """In each ledger a cancel stops the build and records state and reason."""
    await read_success(await send(either, "TENANT_PROVISIONING", "request"))
    await cancel(either, reason="enough")
    assert only_build(either.app[CODEBUILD]).status == "STOPPED"
    assert (await tenant(either))["state"] == "provision_failed"
    assert "Cancelled by an operator: enough." in await why(either)
