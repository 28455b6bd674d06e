"""Events of a builder's cloud: they make the service query the builder, and hide what a job was
started with from any handler."""

from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator import Event, Run
from orchestrator.core.ledger.records import OperationRecord, RunRecord
from orchestrator.testing import ManualClock, envelope
from tests.unit.core.dispatch.lost_answers import Forgetful, Scene, opened

STATE_CHANGE = "CodeBuild Build State Change"
PHASE_CHANGE = "CodeBuild Build Phase Change"
PROVISIONED = "TENANT_PROVISIONING_SUCCESS"
#: What the builds of the tests were started with.
VARIABLES = [{"name": "TOKEN", "value": "hunter2", "type": "PLAINTEXT"}]


def change(event_type: str, build_id: str, status: str = "SUCCEEDED") -> Mapping[str, Any]:
    """What CodeBuild sends of a build (CodeBuild user guide, Build notifications reference)."""
    project = build_id.partition(":")[0]
    detail = {
        "build-id": f"arn:aws:codebuild:eu-west-1:123456789012:build/{build_id}",
        "build-status": status,
        "project-name": project,
        "additional-information": {"environment": {"environment-variables": VARIABLES}},
    }
    return envelope(event_type, detail, source="aws.codebuild", event_id="change")


async def start(event: Event[Any], run: Run) -> None:
    await run.start_job("build", {})


def runs(scene: Scene) -> set[str]:
    return {run.event_type for run in scene.all(RunRecord)}


@pytest.mark.parametrize("event_type", [STATE_CHANGE, PHASE_CHANGE])
async def test_without_a_handler_an_event_of_the_cloud_has_no_run(
    clock: ManualClock, event_type: str
) -> None:
    """No run is stored, for builds of ours and others; the end of ours is an event of its own."""
    builder = Forgetful("CODE_BUILD", error=None)
    async with opened(clock, builder=builder, TENANT_PROVISIONING=start) as scene:
        assert await scene.send(change(event_type, "build:foreign")) is None
        assert runs(scene) == set()
        await scene.send()
        builder.finish(scene.job.id)
        assert await scene.send(change(event_type, scene.job.id)) is None
        outcomes = {PROVISIONED} if event_type == STATE_CHANGE else set()
        assert runs(scene) == {"TENANT_PROVISIONING"} | outcomes
        assert scene.operation.state == ("over" if outcomes else "open")


@pytest.mark.parametrize(
    ("event_type", "name"), [(STATE_CHANGE, "BUILD_STATE_CHANGE"), (PHASE_CHANGE, PHASE_CHANGE)]
)
async def test_a_handler_of_such_events_sees_no_input_of_the_job(
    clock: ManualClock, event_type: str, name: str
) -> None:
    """The inputs are neither in what was received nor in the body, and aren't stored."""
    seen = list[Event[Any]]()

    async def see(event: Event[Any], run: Run) -> None:
        seen.append(event)

    handlers: dict[str, Any] = {name: see}
    async with opened(clock, **handlers) as scene:
        assert await scene.send(change(event_type, "build:foreign", "FAILED")) is None
        (event,) = seen
        assert "hunter2" not in repr((event.raw, event.body, event.payload))
        assert event.body["build-status"] == "FAILED"
        assert scene.all(OperationRecord) == []


async def test_a_self_report_of_a_job_makes_its_builder_be_queried_at_once(
    clock: ManualClock,
) -> None:
    """The operation ends with the report, without a sweep."""
    builder = Forgetful("CODE_BUILD", error=None)
    async with opened(clock, builder=builder, TENANT_PROVISIONING=start) as scene:
        await scene.send()
        builder.finish(scene.job.id)
        self_report = {"tenantId": "t-1", "ORCHESTRATOR_RUN_ID": scene.operation.start_key}
        assert await scene.send(envelope(PROVISIONED, self_report, event_id="self")) is None
        assert (scene.operation.state, scene.operation.succeeded) == ("over", True)
