"""A tenant's life on Step Functions: started by an event, ended by a status change."""

import json
from typing import Any

import pytest

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import read_success
from tests.conftest import Client, StartService
from tests.step_functions.stand_in import StepFunctionsStandIn

PROVISION = "/events/TENANT_PROVISIONING"
BODY = {"tenantId": "t-1", "tier": "STANDARD", "secret": "hush-hush", "context": "c-1"}


def status_change(execution: dict[str, Any], event_id: str = "change-1") -> dict[str, Any]:
    """The status change that EventBridge delivers of an execution."""
    detail = {
        **execution,
        "startDate": 1_551_225_146_847,
        "stopDate": 1_551_225_151_881,
        "inputDetails": {"included": True},
    }
    return envelope(
        "Step Functions Execution Status Change", detail, event_id=event_id, source="aws.states"
    )


async def tenant(service: Client) -> dict[str, Any]:
    answer: dict[str, Any] = await (await service.get("/tenants/t-1")).json()
    return answer


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        ("SUCCEEDED", "provisioned", None),
        ("FAILED", "provision_failed", "failed: Terraform: No more addresses."),
        ("TIMED_OUT", "provision_failed", "timed out."),
        ("ABORTED", "provision_failed", "was stopped."),
    ],
)
async def test_a_status_change_ends_the_operation(
    start_service: StartService,
    on_step_functions: Settings,
    step_functions: StepFunctionsStandIn,
    status: str,
    state: str,
    reason: str | None,
) -> None:
    """A status change ends the operation once, however often it is delivered, with error and cause
    as the reason."""
    service = await start_service(on_step_functions)
    await read_success(await service.post(PROVISION, json=BODY))
    ((arn, execution),) = step_functions.executions.items()
    assert (await tenant(service))["operation"]["job"]["builder"] == "STEP_FUNCTIONS"
    why = {"error": "Terraform", "cause": "No more addresses."} if status == "FAILED" else {}
    step_functions.finish(arn, status, **why)
    for number in range(2):
        change = status_change(execution | step_functions.executions[arn], f"change-{number}")
        answer = await service.post("/events", json=change)
        assert answer.status == 200
        assert ("Idempotent-Replayed" in answer.headers) is bool(number)
    found = await tenant(service)
    assert found["state"] == state
    shown = found["timeline"][0].get("reason") or found["operation"].get("reason")
    assert reason is None or shown.endswith(reason)


async def test_the_sweep_notices_an_end_whose_event_was_lost(
    start_service: StartService,
    on_step_functions: Settings,
    step_functions: StepFunctionsStandIn,
    clock: ManualClock,
) -> None:
    """The sweep detects an end whose status change was lost, since EventBridge delivers these with
    best effort."""
    service = await start_service(on_step_functions)
    await read_success(await service.post(PROVISION, json=BODY))
    (arn,) = step_functions.executions
    step_functions.finish(arn, "SUCCEEDED")
    clock.turn(61)
    assert (await service.post("/events/RECONCILE", json={})).status == 200
    assert (await tenant(service))["state"] == "provisioned"


async def test_a_cancel_stops_the_execution(
    start_service: StartService, on_step_functions: Settings, step_functions: StepFunctionsStandIn
) -> None:
    """A cancel stops the execution, and the tenant's operation fails."""
    service = await start_service(on_step_functions)
    await read_success(await service.post(PROVISION, json=BODY))
    answer = await service.post("/tenants/t-1/cancel", json={"reason": "A mistake."})
    assert answer.status == 200, await answer.text()
    (execution,) = step_functions.executions.values()
    assert execution["status"] == "ABORTED"
    assert (await tenant(service))["state"] == "provision_failed"


async def test_an_execution_that_the_service_did_not_start_is_ignored(
    start_service: StartService, on_step_functions: Settings, step_functions: StepFunctionsStandIn
) -> None:
    """A status change of another system's execution is answered 200, and no run is stored."""
    service = await start_service(on_step_functions)
    arn = "arn:aws:states:us-east-1:123456789012:execution:theirs:nightly"
    change = status_change({"executionArn": arn, "status": "FAILED", "input": "{}"})
    assert (await service.post("/events", json=change)).status == 200
    assert (await (await service.get("/runs")).json())["items"] == []


async def test_a_handler_of_status_changes_sees_no_input(
    start_service: StartService, on_step_functions: Settings, step_functions: StepFunctionsStandIn
) -> None:
    """A user's handler gets neither the input of the execution, which has secrets, nor its output,
    which may have some."""
    registry, seen = HandlerRegistry(), []

    @registry.on("BUILD_STATE_CHANGE")
    async def changed(event: Event[dict[str, Any]], run: Run) -> None:
        seen.append(json.dumps([event.body, event.raw]))

    service = await start_service(on_step_functions, extension=Extension(registry=registry))
    await read_success(await service.post(PROVISION, json=BODY))
    ((arn, execution),) = step_functions.executions.items()
    step_functions.finish(arn, "SUCCEEDED", password="hush-hush")
    change = status_change(execution | step_functions.executions[arn])
    await read_success(await service.post("/events", json=change))
    (received,) = seen
    assert arn in received
    assert "hush-hush" not in received


def nested(aws: StepFunctionsStandIn, parent: dict[str, Any]) -> str:
    """An execution that the parent has started under its own name, since a name is unique within
    its state machine only."""
    machine = aws.add_machine("child")
    arn = f"{machine.replace(':stateMachine:', ':execution:')}:{parent['name']}"
    aws.executions[arn] = {**parent, "executionArn": arn, "stateMachineArn": machine}
    return arn


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_nested_execution_of_the_same_name_is_not_the_job(
    start_service: StartService,
    on_step_functions: Settings,
    step_functions: StepFunctionsStandIn,
    is_over: bool,
) -> None:
    """A nested execution of the same name is neither stopped as an orphaned job nor adopted as the
    tenant's."""
    if is_over:
        step_functions.inject("StartExecution", *[Fault.answer_lost()] * 2)
    service = await start_service(on_step_functions)
    answer = await service.post(PROVISION, json=BODY)
    assert answer.status == (503 if is_over else 200)
    (parent,) = step_functions.executions.values()
    child = nested(step_functions, parent)
    if is_over:
        step_functions.finish(child, "SUCCEEDED")
    change = status_change(step_functions.executions[child])
    assert (await service.post("/events", json=change)).status == 200
    assert step_functions.executions[child]["status"] == ("SUCCEEDED" if is_over else "RUNNING")
    assert parent["status"] == "RUNNING"
    assert (await tenant(service))["state"] == "provisioning"


async def test_an_execution_that_may_not_be_described_delays_no_other(
    start_service: StartService,
    on_step_functions: Settings,
    step_functions: StepFunctionsStandIn,
    clock: ManualClock,
) -> None:
    """An execution that the role may not describe makes the sweep 503, and the end of another is
    detected all the same."""
    service = await start_service(on_step_functions)
    for number in (1, 2):
        body = {**BODY, "tenantId": f"t-{number}", "context": f"c-{number}"}
        await read_success(await service.post(PROVISION, json=body))
    allowed, denied = step_functions.executions
    for arn in (allowed, denied):
        step_functions.finish(arn, "SUCCEEDED")
    step_functions.deny(denied)
    clock.turn(61)
    assert (await service.post("/events/RECONCILE", json={})).status == 503
    assert (await tenant(service))["state"] == "provisioned"


async def test_an_unused_builder_without_permission_delays_no_start(
    start_service: StartService,
    on_step_functions: Settings,
    step_functions: StepFunctionsStandIn,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """A start that was lost is made again although the role may not query CodeBuild, which isn't
    used."""
    codebuild.inject("ListBuilds", *[Fault.error("AccessDeniedException")] * 100)
    step_functions.inject("StartExecution", *[Fault.answer_lost()] * 2)
    service = await start_service(on_step_functions)
    assert (await service.post(PROVISION, json=BODY)).status == 503
    step_functions.executions.clear()
    for _ in range(2):
        clock.turn(65)
        await service.post("/events/RECONCILE", json={})
    assert len(step_functions.executions) == 1


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"ExecutionArn": "arn", "Input": '{"SECRET": "hush-hush"}', "Status": "FAILED"}, None),
        ({"Input": "hush-hush", "Cause": "No more addresses."}, ": No more addresses."),
        ({"Cause": '{"password": "hush-hush"}', "StoppedReason": "OOM"}, ": OOM."),
        (["hush-hush"], None),
        ("No more addresses.", ": No more addresses."),
        ({"Cause": 'No path in {"password": "hush-hush"}'}, ": No path in."),
        (
            "Path '$.x' isn't in the input '{\"a\": \"hush-hush\"}'",
            ": Path '$.x' isn't in the input.",
        ),
        ("Path '$.x' isn't in the input '\"hush-hush\"'", ": Path '$.x' isn't in the input."),
    ],
)
async def test_a_cause_that_is_a_description_is_not_passed_on(
    start_service: StartService,
    on_step_functions: Settings,
    step_functions: StepFunctionsStandIn,
    told: Any,
    said: str | None,
) -> None:
    """The cause of a nested execution, task or build is shown without its input, which may have
    secrets."""
    service = await start_service(on_step_functions)
    await read_success(await service.post(PROVISION, json=BODY))
    (arn,) = step_functions.executions
    step_functions.finish(
        arn,
        "FAILED",
        error="States.TaskFailed",
        cause=told if isinstance(told, str) else json.dumps(told),
    )
    change = status_change(step_functions.executions[arn])
    await read_success(await service.post("/events", json=change))
    shown = await (await service.get("/tenants/t-1")).text()
    shown += await (await service.get("/runs")).text()
    assert "hush-hush" not in shown
    assert f"failed: States.TaskFailed{said or '.'}" in shown
