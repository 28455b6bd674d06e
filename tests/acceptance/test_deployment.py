"""TENANT_DEPLOYMENT over HTTP: the tier's job, or the success event at once."""

from typing import Any

import pytest

from orchestrator import Event, Extension, HandlerRegistry, Run, TemporaryError, handlers
from orchestrator.core.events.payloads import TenantOutcome
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.intake.app_keys import TRANSACTIONS
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import only_build, read_success
from tests.conftest import Client, StartService

WITHOUT_A_JOB = {"tenantId": "t-1", "planConfig": {"tier": "STANDARD"}, "note": "as sent"}


async def test_a_tiers_deployment_job_is_started(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A tier with a `deploymentJobIdentifier` has that job started."""
    body = {"tenantId": "t-1", "planConfig": {"tier": "PREMIUM"}}
    await read_success(await service.post("/events", json=envelope("TENANT_DEPLOYMENT", body)))
    assert only_build(codebuild).project == "premium-tenant-deployment"


async def test_with_a_deployment_job_success_is_reported_at_its_end(
    start_service: StartService,
) -> None:
    """The handler of the success isn't called before the job's end."""
    registry = HandlerRegistry()
    called = []

    @registry.on("TENANT_DEPLOYMENT_SUCCESS")
    async def succeed(event: Event[dict[str, Any]], run: Run) -> None:
        called.append(event.body)

    service = await start_service(extension=Extension(registry=registry))
    body = {"tenantId": "t-1", "planConfig": {"tier": "PREMIUM"}}
    await read_success(await service.post("/events/TENANT_DEPLOYMENT", json=body))
    assert called == []


@pytest.mark.parametrize("body", [WITHOUT_A_JOB, {"tenantId": "t-1"}], ids=["tier", "no tier"])
async def test_without_a_job_the_success_handler_of_the_user_is_called(
    start_service: StartService, codebuild: CodeBuildStandIn, body: dict[str, Any]
) -> None:
    """Without a job the request becomes TENANT_DEPLOYMENT_SUCCESS at once, with its body and
    operation."""
    registry = HandlerRegistry()
    called = []

    @registry.on("TENANT_DEPLOYMENT_SUCCESS")
    async def succeed(event: Event[dict[str, Any]], run: Run) -> None:
        called.append((event.type, event.body, run.tenant_id))

    service = await start_service(extension=Extension(registry=registry))
    await read_success(await service.post("/events/TENANT_DEPLOYMENT", json=body))
    ((event_type, seen, tenant_id),) = called
    assert (event_type, tenant_id) == ("TENANT_DEPLOYMENT_SUCCESS", "t-1")
    named = {name: seen[name] for name in ("operationId", "ORCHESTRATOR_RUN_ID")}
    assert seen == {**body, **named}
    assert not codebuild.builds


async def test_the_success_handler_may_wrap_the_built_in_one(start_service: StartService) -> None:
    """The built-in handler accepts the success event of a deployment without a job."""
    registry = HandlerRegistry()
    wrapped = []

    @registry.on("TENANT_DEPLOYMENT_SUCCESS")
    async def succeed(event: Event[TenantOutcome], run: Run) -> None:
        await handlers.tenant_deployment_success(event, run)
        wrapped.append(event.payload.tenant_id)

    service = await start_service(extension=Extension(registry=registry))
    await read_success(await service.post("/events/TENANT_DEPLOYMENT", json=WITHOUT_A_JOB))
    assert wrapped == ["t-1"]


async def test_without_a_job_the_built_in_handlers_suffice(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """Without a job and without users' handlers the deployment is answered as done, and starts
    nothing."""
    answer = await service.post("/events", json=envelope("TENANT_DEPLOYMENT", WITHOUT_A_JOB))
    await read_success(answer)
    assert not codebuild.builds


async def test_the_success_event_is_handled_once(start_service: StartService) -> None:
    """A redelivered deployment makes no second success event."""
    registry = HandlerRegistry()
    called = []

    @registry.on("TENANT_DEPLOYMENT_SUCCESS")
    async def succeed(event: Event[dict[str, Any]], run: Run) -> None:
        called.append(event.id)

    service = await start_service(extension=Extension(registry=registry))
    event = envelope("TENANT_DEPLOYMENT", WITHOUT_A_JOB)
    first = await read_success(await service.post("/events", json=event))
    assert await read_success(await service.post("/events", json=event)) == first
    assert len(called) == 1


async def tenant_state(service: Client) -> str | None:
    tenant = await service.app[TRANSACTIONS].find_tenant("t-1")
    return tenant.state if tenant else None


async def test_a_follow_up_that_fails_is_retried(
    start_service: StartService, clock: ManualClock
) -> None:
    """A success event that fails is stored and due: the deployment is answered 200, and the sweep
    retries it."""
    registry = HandlerRegistry()
    attempts = []

    @registry.on("TENANT_DEPLOYMENT_SUCCESS")
    async def succeed(event: Event[dict[str, Any]], run: Run) -> None:
        attempts.append(run.attempt)
        if run.attempt == 1:
            raise TemporaryError("not yet")

    service = await start_service(extension=Extension(registry=registry))
    event = envelope("TENANT_DEPLOYMENT", WITHOUT_A_JOB)
    assert (await service.post("/events", json=event)).status == 200
    assert await tenant_state(service) == "deploying"
    clock.turn(5)
    assert (await service.post("/events/RECONCILE", json={})).status == 200
    assert attempts == [1, 2]
    assert await tenant_state(service) == "active"
    assert (await service.post("/events", json=event)).headers["Idempotent-Replayed"] == "true"
