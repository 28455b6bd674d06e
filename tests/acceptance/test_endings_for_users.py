"""What users' handlers get when an operation ends, and how jobs of users' own event types end."""

import json
from typing import Any

import attrs
import pytest

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings
from orchestrator.core.ledger.records import RunRecord
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.intake.app_keys import TRANSACTIONS
from orchestrator.settings import Operations
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import only_build, read_problem, read_run, read_success
from tests.acceptance.endings import change_state, read_ledger, send_self_report
from tests.acceptance.stories import (
    PROVISION,
    TENANT,
    list_runs,
    send,
    state_of,
    sweep,
    with_full_tier,
)
from tests.conftest import StartService


async def test_user_handlers_get_the_self_report_and_the_builders_answer(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A user's handler of the outcome gets the build's own variables without its secrets, and
    CodeBuild's description of its end."""
    seen: list[Event[Any]] = []
    changes: list[Event[Any]] = []
    registry = HandlerRegistry()

    @registry.on(f"{PROVISION}_SUCCESS")
    async def succeeded(event: Event[dict[str, Any]], run: Run) -> None:
        seen.append(event)

    @registry.on("BUILD_STATE_CHANGE")
    async def changed(event: Event[dict[str, Any]], run: Run) -> None:
        changes.append(event)

    service = await start_service(with_full_tier(settings), extension=Extension(registry=registry))
    await read_success(await send(service, PROVISION, "request"))
    build = only_build(codebuild)
    await send_self_report(
        service, build, f"{PROVISION}_SUCCESS", CLUSTER="c-1", DB_PASSWORD="hush"
    )
    codebuild.finish(build.id, "SUCCEEDED", exported={"URL": "https://a.example"})
    await change_state(service, build)
    (event,) = seen
    assert (event.body["CLUSTER"], event.body["tenantId"]) == ("c-1", TENANT)
    assert "DB_PASSWORD" not in event.body
    assert event.body["endedJob"]["status"] == "SUCCEEDED"
    assert event.body["endedJob"]["exportedVariables"] == {"URL": "https://a.example"}
    (change,) = changes
    assert change.body["build-status"] == "SUCCEEDED"
    assert '"environment-variables"' not in json.dumps(change.raw)
    assert await state_of(service) == "provisioned"


@pytest.mark.parametrize(("status", "said"), [("SUCCEEDED", "succeeded"), ("FAILED", "failed")])
async def test_the_job_of_a_users_own_type_ends_on_its_run(
    start_service: StartService, codebuild: CodeBuildStandIn, status: Any, said: str
) -> None:
    """A job of a user's own type holds no tenant; its run shows how it ended, with the link to its
    log."""
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        await run.start_job("standard-tenant", {})

    service = await start_service(extension=Extension(registry=registry))
    address = await read_success(await service.post("/events/ORDER", json={"a": 1}))
    build = only_build(codebuild)
    codebuild.finish(build.id, status)
    assert await change_state(service, build) == address
    run = await read_run(service, address)
    assert run["status"] == "succeeded"
    assert said in run["note"]
    ledger = service.app[TRANSACTIONS].ledger
    record = (await ledger.load([f"RUN#{run['runId']}"]))[f"RUN#{run['runId']}"]
    assert isinstance(record, RunRecord)
    assert record.link == build.as_document()["logs"]["deepLink"]


async def test_an_outcome_that_does_not_fit_a_users_model_ends_it_all_the_same(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """An outcome that doesn't fit a handler's model ends its operation, and its run has the
    mismatch."""

    @attrs.frozen
    class Model:
        surprise: str

    registry = HandlerRegistry()

    @registry.on(f"{PROVISION}_SUCCESS", payload=Model)
    async def succeeded(event: Event[Any], run: Run) -> None:
        raise AssertionError

    service = await start_service(with_full_tier(settings), extension=Extension(registry=registry))
    await read_success(await send(service, PROVISION, "request"))
    codebuild.finish(only_build(codebuild).id, "SUCCEEDED")
    await sweep(service)
    assert await state_of(service) == "provisioned"
    (run,) = await list_runs(service, status="failed")
    assert "surprise" in run["error"]["message"]


@pytest.mark.parametrize("as_text", [False, True])
async def test_a_handler_of_state_changes_never_has_the_environment(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    as_text: bool,
) -> None:
    """Neither a user's handler nor ledger, log or answer has a build's environment, even if the
    handler has a bug."""
    registry = HandlerRegistry()

    @registry.on("BUILD_STATE_CHANGE")
    async def changed(event: Event[dict[str, Any]], run: Run) -> None:
        run.log.info("it has changed", body=event.body)
        raise ValueError(str(event.raw))

    service = await start_service(with_full_tier(settings), extension=Extension(registry=registry))
    await read_success(await send(service, PROVISION, "request"))
    build = only_build(codebuild)
    build.overrides.append({"name": "NO_SECRET_BY_NAME", "value": "hush-hush"})
    codebuild.finish(build.id, "SUCCEEDED")
    change = build.as_state_change()
    if as_text:
        change["additional-information"] = json.dumps(change["additional-information"])
    answer = await service.post("/events", json=envelope("BUILD_STATE_CHANGE", change))
    problem = await read_problem(answer, 500)
    assert await state_of(service) == "provisioned"
    printed = capsys.readouterr()
    assert "it has changed" in printed.out + printed.err
    shown = json.dumps([problem, await list_runs(service)])
    assert "hush-hush" not in "".join([read_ledger(service), shown, printed.out, printed.err])


@pytest.mark.parametrize(
    "cause",
    [
        json.dumps({"ExecutionArn": "arn", "Input": '{"SECRET": "hush-hush"}'}),
        json.dumps({"Overrides": {"Environment": [{"Name": "SECRET", "Value": "hush-hush"}]}}),
        "Path '$.x' isn't in the input '{\"SECRET\": \"hush-hush\"}'",
        "The timestamp does not match the format: $.SECRET == hush-hush",
    ],
)
async def test_a_handler_of_state_changes_has_a_cause_in_words(
    start_service: StartService, settings: Settings, cause: str
) -> None:
    """A handler gets the cause of an execution's failure without the input that it may quote."""
    registry, bodies = HandlerRegistry(), []

    @registry.on("BUILD_STATE_CHANGE")
    async def changed(event: Event[dict[str, Any]], run: Run) -> None:
        bodies.append(str([event.body, event.raw]))

    service = await start_service(with_full_tier(settings), extension=Extension(registry=registry))
    arn = "arn:aws:states:us-east-1:123456789012:execution:theirs:x"
    change = {"executionArn": arn, "status": "FAILED", "cause": cause, "error": "States.Runtime"}
    event = envelope("Step Functions Execution Status Change", change, source="aws.states")
    await read_success(await service.post("/events", json=event))
    assert "States.Runtime" in bodies[0]
    assert "hush-hush" not in bodies[0] + read_ledger(service)


@pytest.mark.parametrize(
    ("status", "note"),
    [("SUCCEEDED", " succeeded."), ("STOPPED", "took longer than 600 s. The job ")],
)
async def test_the_job_of_a_users_own_type_has_a_deadline_too(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    status: Any,
    note: str,
) -> None:
    """A job of a user's own type is stopped at the deadline; if it succeeds all the same, that
    counts."""
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        await run.start_job("standard-tenant", {})

    operations = Operations(reconcile_every_s=0, deadline_s=600)
    service = await start_service(
        attrs.evolve(settings, operations=operations), extension=Extension(registry=registry)
    )
    address = await read_success(await service.post("/events/ORDER", json={"a": 1}))
    codebuild.stops_at_once = False
    clock.turn(600)
    await sweep(service)
    assert "StopBuild" in [action for action, _ in codebuild.calls]
    codebuild.finish(only_build(codebuild).id, status)
    await sweep(service)
    said = (await read_run(service, address))["note"]
    assert note in said
    assert ("took longer" in said) is (status == "STOPPED")
