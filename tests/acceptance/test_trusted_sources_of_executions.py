"""A message about a Step Functions execution counts as far as DescribeExecution confirms it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings
from orchestrator.embedded import Fault
from orchestrator.settings import Builders, StepFunctions, Tiers
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import read_problem, read_success
from tests.acceptance.endings import read_ledger
from tests.acceptance.forged import post
from tests.acceptance.stories import PROVISION, send, state_of, sweep
from tests.conftest import Client, StartService
from tests.step_functions.stand_in import StepFunctionsStandIn

STATUS_CHANGE = "Step Functions Execution Status Change"


@pytest.fixture
async def over_machines(start_service: StartService, on_step_functions: Settings) -> Client:
    """The service with executions as its jobs."""
    return await start_service(on_step_functions)


@pytest.fixture
async def on_machines(over_machines: Client) -> Client:
    """The service, which has started an execution for the tenant."""
    await read_success(await send(over_machines, PROVISION, "request"))
    return over_machines


def status_change_of(execution: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    detail = {**execution, **changes}
    return envelope(STATUS_CHANGE, detail, event_id=str(sorted(changes.items())))


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "ABORTED"])
async def test_a_message_ends_no_execution_that_runs(
    on_machines: Client, step_functions: StepFunctionsStandIn, status: str
) -> None:
    """No message ends an execution that runs by DescribeExecution."""
    (execution,) = step_functions.executions.values()
    await post(
        on_machines, status_change_of(execution, status=status, output='{"APP_PLANE_URL": "x"}')
    )
    assert await state_of(on_machines) == "provisioning"
    assert execution["status"] == "RUNNING"


async def test_a_message_of_an_unknown_execution_with_a_start_key_is_503(
    over_machines: Client, step_functions: StepFunctionsStandIn
) -> None:
    """A message about an execution that Step Functions may not list yet is 503; on a state machine
    that isn't configured it is ignored."""
    step_functions.inject("StartExecution", *[Fault.answer_lost()] * 2)
    await read_problem(await send(over_machines, PROVISION, "request"), 503)
    ((arn, _),) = step_functions.executions.items()
    step_functions.executions.clear()
    before = read_ledger(over_machines)
    theirs = arn.replace(":provision:", ":theirs:")
    await post(over_machines, status_change_of({"executionArn": theirs}, status="RUNNING"))
    event = status_change_of({"executionArn": arn}, status="RUNNING")
    await read_problem(await over_machines.post("/events", json=event), 503)
    assert read_ledger(over_machines) == before


async def test_a_redriven_execution_of_an_ended_operation_is_stopped(
    on_machines: Client, step_functions: StepFunctionsStandIn
) -> None:
    """An execution that is redriven after its operation's end, where it would run beside the
    tenant's next one, is stopped each time; the answer is 503 until the stop is confirmed."""
    (execution,) = step_functions.executions.values()
    step_functions.finish(execution["executionArn"], "FAILED")
    await read_success(await on_machines.post("/events", json=status_change_of(execution)))
    assert await state_of(on_machines) == "provision_failed"
    before = read_ledger(on_machines)
    for count in (1, 2):
        step_functions.redrive(execution["executionArn"])
        step_functions.inject("StopExecution", *[Fault.error("ThrottlingException")] * 2)
        event = status_change_of(execution)
        await read_problem(await on_machines.post("/events", json=event), 503)
        assert (execution["status"], execution["redriveCount"]) == ("RUNNING", count)
        await post(on_machines, event)
        assert execution["status"] == "ABORTED"
    assert read_ledger(on_machines) == before


async def test_an_execution_that_was_redriven_before_its_end_was_claimed_runs(
    on_machines: Client, step_functions: StepFunctionsStandIn, clock: ManualClock
) -> None:
    """A late failure event of an execution that was redriven since ends nothing; the execution's
    second end does."""
    (execution,) = step_functions.executions.values()
    arn = execution["executionArn"]
    step_functions.finish(arn, "FAILED")
    failed = status_change_of(execution)
    step_functions.redrive(arn)
    for event in (failed, status_change_of(execution)):
        await post(on_machines, event)
    clock.turn(62)
    await sweep(on_machines)
    assert execution["status"] == "RUNNING"
    assert await state_of(on_machines) == "provisioning"
    step_functions.finish(arn, "SUCCEEDED")
    for event in (status_change_of(execution), failed):
        await read_success(await on_machines.post("/events", json=event))
    assert await state_of(on_machines) == "provisioned"


async def test_an_execution_that_is_redriven_while_its_end_is_handled_is_stopped(
    start_service: StartService, settings: Settings, step_functions: StepFunctionsStandIn
) -> None:
    """An execution that is redriven after its end was claimed, though not settled, is stopped,
    since the end is final."""
    registry = HandlerRegistry()
    reached, release = asyncio.Event(), asyncio.Event()

    @registry.on(f"{PROVISION}_FAILURE")
    async def failed(event: Event[dict[str, Any]], run: Run) -> None:
        reached.set()
        await release.wait()

    arns = {"up": step_functions.add_machine("provision")}
    tier = {"jobIdentifier": "up", "builder": "STEP_FUNCTIONS"}
    service = await start_service(
        attrs.evolve(
            settings,
            builders=Builders(step_functions=StepFunctions(state_machines=arns)),
            tiers=Tiers(backend="static", static={"FULL": tier}),
        ),
        extension=Extension(registry=registry),
    )
    await read_success(await send(service, PROVISION, "request"))
    (execution,) = step_functions.executions.values()
    step_functions.finish(execution["executionArn"], "FAILED")
    ending = asyncio.create_task(service.post("/events", json=status_change_of(execution)))
    await reached.wait()
    step_functions.redrive(execution["executionArn"])
    await post(service, status_change_of(execution))
    assert execution["status"] == "ABORTED"
    release.set()
    assert (await ending).status == 200
    assert await state_of(service) == "provision_failed"
