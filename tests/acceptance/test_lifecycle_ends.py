"""How a tenant's operations end, over HTTP: by their handlers, and by outcome events."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings, handlers
from orchestrator.core.events.payloads import TenantProvisioning
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.testing import ManualClock
from tests.acceptance.answers import (
    only_build,
    read_problem,
    read_run,
    read_success,
)
from tests.acceptance.stories import (
    DEPLOY,
    DEPROVISION,
    OPENING,
    PROVISION,
    bring_into,
    is_replay,
    read_tenant,
    read_wait,
    send,
    state_of,
    sweep,
    with_full_tier,
)
from tests.conftest import Client, StartService

Handler = Callable[[Any, Run], Awaitable[None]]

FAILED = {PROVISION: "provision_failed", DEPROVISION: "deprovision_failed"}
DURING = {PROVISION: "provisioning", DEPLOY: "deploying", DEPROVISION: "deprovisioning"}


# Users' handlers


def extension_of(**by_type: Any) -> Extension:
    registry = HandlerRegistry()
    for event_type, handler in by_type.items():
        registry.register(event_type, handler)
    return Extension(registry=registry)


async def start_with(start_service: StartService, settings: Settings, **by_type: Any) -> Client:
    return await start_service(with_full_tier(settings), extension=extension_of(**by_type))


async def do_nothing(event: Event[dict[str, Any]], run: Run) -> None:
    """Another system's job was started, of which the service has no record."""


def taking_a_second(clock: ManualClock, handler: Handler) -> Handler:
    """The handler, and a second that passes after it, so that the next event is later."""

    async def handle(event: Any, run: Run) -> None:
        await handler(event, run)
        clock.turn(1)

    return handle


@pytest.mark.parametrize("event_type", [PROVISION, DEPROVISION])
async def test_an_operation_without_a_job_of_ours_stays_open(
    start_service: StartService, settings: Settings, clock: ManualClock, event_type: str
) -> None:
    """An operation whose overridden handler started no recorded job stays open until an outcome
    event ends it."""
    service = await start_with(start_service, settings, **{event_type: do_nothing})
    address = await read_success(await send(service, event_type, "first"))
    clock.turn(10 * 24 * 3600)
    await sweep(service)
    tenant = await read_tenant(service)
    assert tenant["state"] == DURING[event_type]
    assert (tenant["operation"]["state"], tenant["operation"]["job"]) == ("open", None)
    assert f"/runs/{tenant['operation']['runId']}" == address
    await read_wait(await send(service, event_type, "second"), pause_s=15)
    await read_success(await send(service, f"{event_type}_FAILURE", "outcome"))
    assert await state_of(service) == FAILED[event_type]
    assert (await read_tenant(service))["operation"] is None


async def test_an_overridden_deployment_without_a_job_ends_when_it_returns(
    start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """A deployment whose overridden handler started no job succeeds when it returns, with request
    and outcome in the timeline."""
    handler = taking_a_second(clock, do_nothing)
    service = await start_with(start_service, settings, **{DEPLOY: handler})
    await read_success(await send(service, DEPLOY, "first"))
    tenant = await read_tenant(service)
    assert (tenant["state"], tenant["operation"]) == ("active", None)
    assert [entry["eventType"] for entry in tenant["timeline"]] == [f"{DEPLOY}_SUCCESS", DEPLOY]
    assert {entry["status"] for entry in tenant["timeline"]} == {"succeeded"}


async def test_an_overridden_handler_that_wraps_ours_keeps_the_job(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """The operation has the build that the built-in handler started."""

    async def wrap(event: Event[TenantProvisioning], run: Run) -> None:
        await handlers.tenant_provisioning(event, run)

    service = await start_with(start_service, settings, **{PROVISION: wrap})
    await read_success(await send(service, PROVISION, "first"))
    operation = (await read_tenant(service))["operation"]
    assert operation["job"]["id"] == only_build(codebuild).id


@pytest.mark.parametrize(
    ("event_type", "reason", "state"),
    [
        (PROVISION, None, "provisioned"),
        (PROVISION, "no room", "provision_failed"),
        (DEPLOY, None, "active"),
        (DEPLOY, "no room", "deployment_failed"),
        (DEPROVISION, None, "deprovisioned"),
        (DEPROVISION, "no room", "deprovision_failed"),
    ],
)
async def test_a_handler_ends_its_operation_itself(
    start_service: StartService,
    settings: Settings,
    clock: ManualClock,
    event_type: str,
    reason: str | None,
    state: str,
) -> None:
    """`run.complete()` and `run.fail(reason)` make the outcome event, which the registered handler
    gets once."""
    reasons = []

    async def end(event: Event[dict[str, Any]], run: Run) -> None:
        run.complete() if reason is None else run.fail(reason)

    async def hear(event: Event[dict[str, Any]], run: Run) -> None:
        reasons.append(event.body.get("reason"))

    outcome = f"{event_type}_{'FAILURE' if reason else 'SUCCESS'}"
    ending = taking_a_second(clock, end)
    service = await start_with(start_service, settings, **{event_type: ending, outcome: hear})
    answer = await send(service, event_type, "first", context="k")
    run = await read_run(service, await read_success(answer))
    assert run["status"] == "succeeded"
    assert reasons == [reason]
    tenant = await read_tenant(service)
    assert (tenant["state"], tenant["operation"]) == (state, None)
    assert [entry["eventType"] for entry in tenant["timeline"]] == [outcome, event_type]

    assert is_replay(await send(service, event_type, "again", context="k"))
    assert reasons == [reason]


@pytest.mark.parametrize("action", ["complete", "fail"])
async def test_only_an_operation_that_was_opened_can_be_ended(
    start_service: StartService, settings: Settings, action: str
) -> None:
    """`run.complete()` and `run.fail()` in an event type that opens no operation are a bug of the
    handler: 500."""

    async def end(event: Event[dict[str, Any]], run: Run) -> None:
        run.complete() if action == "complete" else run.fail("why")

    service = await start_with(start_service, settings, MY_EVENT=end)
    await read_problem(await send(service, "MY_EVENT", "first"), 500)
    assert await state_of(service) == "unseen"


async def test_an_outcomes_handler_that_failed_is_retried(
    start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """The sweep retries the handler of an outcome that failed, and then the operation ends."""
    attempts = []

    async def end(event: Event[dict[str, Any]], run: Run) -> None:
        run.complete()

    async def hear(event: Event[dict[str, Any]], run: Run) -> None:
        attempts.append(run.attempt)
        if run.attempt == 1:
            raise KeyError("a bug")

    service = await start_with(
        start_service, settings, **{PROVISION: end, f"{PROVISION}_SUCCESS": hear}
    )
    await read_success(await send(service, PROVISION, "first"))
    assert await state_of(service) == "provisioning"
    clock.turn(5)
    await sweep(service)
    assert (attempts, await state_of(service)) == ([1, 2], "provisioned")


# Outcomes


@pytest.mark.parametrize("outcome", ["SUCCESS", "FAILURE"])
@pytest.mark.parametrize("event_type", OPENING)
async def test_an_outcome_of_an_unseen_tenant_moves_it(
    either: Client, event_type: str, outcome: str
) -> None:
    """An outcome of a tenant that is older than the ledger sets its state and tier."""
    await read_success(await send(either, f"{event_type}_{outcome}", "outcome", tier="GOLD"))
    tenant = await read_tenant(either)
    states = {"SUCCESS": ("provisioned", "active", "deprovisioned")}
    states["FAILURE"] = ("provision_failed", "deployment_failed", "deprovision_failed")
    assert tenant["state"] == states[outcome][OPENING.index(event_type)]
    assert (tenant["tier"], tenant["operation"]) == ("GOLD", None)


@pytest.mark.parametrize(("first", "late"), [("SUCCESS", "FAILURE"), ("FAILURE", "SUCCESS")])
@pytest.mark.parametrize("names_operation", [True, False])
async def test_the_first_outcome_counts(
    either: Client, first: str, late: str, names_operation: bool
) -> None:
    """A later outcome that contradicts the first is in the timeline, and changes no state."""
    await read_success(await send(either, PROVISION, "request"))
    operation_id = (await read_tenant(either))["operation"]["operationId"]
    named = {"operationId": operation_id} if names_operation else {}
    await read_success(await send(either, f"{PROVISION}_{first}", "1", **named))
    before = await read_tenant(either)
    (ended,) = [
        run["runId"]
        for run in before["timeline"]
        if "The job reports" not in run["reason"] and run["eventType"] != PROVISION
    ]

    answer = await send(either, f"{PROVISION}_{late}", "2", **named)
    late_run = await read_success(answer)
    assert is_replay(answer) is names_operation
    assert (late_run == f"/runs/{ended}") is names_operation
    after = await read_tenant(either)
    assert (after["state"], after["changedAt"]) == (before["state"], before["changedAt"])
    assert len(after["timeline"]) == len(before["timeline"]) + 1


@pytest.mark.parametrize("event_type", OPENING)
async def test_an_outcome_of_another_kind_ends_nothing(either: Client, event_type: str) -> None:
    """An outcome of one kind of operation ends no open operation of another kind."""
    await read_success(await send(either, event_type, "request"))
    before = await read_tenant(either)
    for other in set(OPENING) - {event_type}:
        await read_success(await send(either, f"{other}_SUCCESS", other))
    after = await read_tenant(either)
    assert (after["state"], after["operation"]) == (before["state"], before["operation"])


@pytest.mark.parametrize("names_operation", [True, False])
async def test_an_outcome_that_names_another_build_ends_nothing(
    either: Client, codebuild: CodeBuildStandIn, names_operation: bool
) -> None:
    """An outcome that names another build ends nothing, whatever operation it names; one of the
    operation's own build does."""
    await read_success(await send(either, PROVISION, "request"))
    operation_id = (await read_tenant(either))["operation"]["operationId"]
    named = {"operationId": operation_id} if names_operation else {}
    own = only_build(codebuild).id
    # A query of the builder because of the foreign outcome would show that it is over.
    codebuild.finish(own, "SUCCEEDED")
    named["CODEBUILD_BUILD_ID"] = "standard-tenant:other"
    stranger = await send(either, f"{PROVISION}_FAILURE", "1", **named)
    run = await read_run(either, await read_success(stranger))
    assert (run["status"], run["note"]) == ("succeeded", "It ends no operation of this tenant.")
    assert await state_of(either) == "provisioning"

    await read_success(await send(either, f"{PROVISION}_SUCCESS", "2", CODEBUILD_BUILD_ID=own))
    assert await state_of(either) == "provisioned"


async def test_the_report_of_an_earlier_build_does_not_end_the_next_operation(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A late report that names the build, the operation or the start key of an ended operation
    doesn't end the next one."""
    await read_success(await send(either, PROVISION, "request-1"))
    operation_id = (await read_tenant(either))["operation"]["operationId"]
    build = only_build(codebuild)
    await read_success(await send(either, f"{PROVISION}_FAILURE", "outcome-1"))
    await read_success(await send(either, PROVISION, "request-2"))
    for number, names in enumerate(
        (
            {"CODEBUILD_BUILD_ID": build.id},
            {"operationId": operation_id},
            {"ORCHESTRATOR_RUN_ID": f"{operation_id}-1"},
        )
    ):
        late = await send(either, f"{PROVISION}_SUCCESS", f"late-{number}", **names)
        await read_success(late)
        assert await state_of(either) == "provisioning", names


async def test_an_outcome_waits_for_the_run_that_opened_its_operation(
    either: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """An outcome waits until the job is recorded, since before it can't be matched; then the sweep
    ends the operation."""
    codebuild.inject("StartBuild", Fault.error("AccountLimitExceededException"))
    await read_wait(await send(either, PROVISION, "request"), pause_s=30)
    early = await read_wait(await send(either, f"{PROVISION}_SUCCESS", "early"), pause_s=15)
    clock.turn(15)
    await sweep(either)
    assert (await read_run(either, early))["status"] == "retry"
    assert await state_of(either) == "provisioning"

    clock.turn(15)
    await sweep(either)
    clock.turn(15)
    await sweep(either)
    assert (await read_run(either, early))["status"] == "succeeded"
    assert await state_of(either) == "provisioning"
    codebuild.finish(only_build(codebuild).id, "SUCCEEDED")
    await sweep(either)
    assert await state_of(either) == "provisioned"
    assert only_build(codebuild)


async def test_an_outcome_waits_while_the_request_is_in_progress(
    start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """An outcome that arrives while its request is in progress is postponed, and ends the operation
    later."""
    entered, release = asyncio.Event(), asyncio.Event()

    async def slow(event: Event[dict[str, Any]], run: Run) -> None:
        entered.set()
        await release.wait()

    service = await start_with(start_service, settings, **{PROVISION: slow})
    request = asyncio.create_task(send(service, PROVISION, "request"))
    await entered.wait()
    early = await read_wait(await send(service, f"{PROVISION}_SUCCESS", "early"), pause_s=15)
    release.set()
    await read_success(await request)
    clock.turn(15)
    await sweep(service)
    assert (await read_run(service, early))["status"] == "succeeded"
    assert await state_of(service) == "provisioned"


@pytest.mark.parametrize("event_type", [DEPROVISION, DEPLOY])
async def test_the_tier_is_remembered(
    either: Client, codebuild: CodeBuildStandIn, event_type: str
) -> None:
    """A later request need not name the tier that the tenant was provisioned with."""
    await bring_into(either, "provisioned")
    assert (await read_tenant(either))["tier"] == "FULL"
    await read_success(await send(either, event_type, "request", tier=None))
    projects = [build.project for build in codebuild.builds.values()]
    second = {DEPROVISION: "standard-tenant-teardown", DEPLOY: "premium-tenant-deployment"}
    assert projects == ["standard-tenant", second[event_type]]


async def test_the_tier_of_a_provisioning_that_failed_is_remembered_too(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """The deprovisioning after a failed provisioning starts the job of that provisioning's tier."""
    await bring_into(either, "provision_failed")
    await read_success(await send(either, DEPROVISION, "request", tier=None))
    assert [build.project for build in codebuild.builds.values()][-1] == "standard-tenant-teardown"


async def test_a_deployment_without_a_job_ends_at_once(
    start_service: StartService, codebuild: CodeBuildStandIn
) -> None:
    """A deployment of a tier without a deployment job makes the tenant active at once, without a
    build."""
    service = await start_service()
    await read_success(await send(service, DEPLOY, "request", tier="BASIC"))
    assert await state_of(service) == "active"
    assert not codebuild.builds
