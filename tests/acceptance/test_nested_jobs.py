"""Jobs that start jobs and pass their start key on: only the outer job is the service's."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    Job,
    JobDescription,
    JobStatus,
    Run,
    Settings,
)
from orchestrator.embedded import Build, CodeBuildStandIn, Fault
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import only_build, read_problem, read_success, variables
from tests.acceptance.stories import TENANT, state_of, sweep
from tests.conftest import Client, StartService
from tests.step_functions.stand_in import StepFunctionsStandIn

PROVISION = "/events/TENANT_PROVISIONING"
BODY = {"tenantId": TENANT, "tier": "STANDARD"}
STARTED = "ORCHESTRATOR_RUN_ID"


def start_nested(codebuild: CodeBuildStandIn, key: str, project: str = "terraform") -> Build:
    """Start a build as a buildspec does: StartBuild with the variables that the nested build
    needs."""
    codebuild.add_project(project)
    handed_on = [{"name": STARTED, "value": key, "type": "PLAINTEXT"}]
    request = {"projectName": project, "environmentVariablesOverride": handed_on}
    return codebuild.builds[codebuild._start_build(request)["build"]["id"]]


async def send_state_change(service: Client, build: Build) -> None:
    change = envelope("BUILD_STATE_CHANGE", build.as_state_change(), event_id=build.id)
    answer = await service.post("/events", json={**change, "source": "aws.codebuild"})
    assert answer.status == 200, await answer.text()


@pytest.fixture
async def on_machines(start_service: StartService, on_step_functions: Settings) -> Client:
    """The service with executions as its jobs."""
    return await start_service(on_step_functions)


@pytest.mark.parametrize("reports_itself", [False, True])
async def test_a_build_within_an_execution_runs_on(
    on_machines: Client,
    step_functions: StepFunctionsStandIn,
    codebuild: CodeBuildStandIn,
    reports_itself: bool,
) -> None:
    """A build that an execution started is neither stopped nor the job, whether its own report or
    its state change arrives."""
    await read_success(await on_machines.post(PROVISION, json=BODY))
    (execution,) = step_functions.executions.values()
    build = start_nested(codebuild, execution["name"])
    if reports_itself:
        self_report = {
            "tenantId": TENANT,
            STARTED: execution["name"],
            "CODEBUILD_BUILD_ID": build.id,
        }
        await on_machines.post("/events/TENANT_PROVISIONING_SUCCESS", json=self_report)
    else:
        await send_state_change(on_machines, build)
    assert build.status == "IN_PROGRESS"
    assert await state_of(on_machines) == "provisioning"


async def test_a_build_within_an_execution_is_not_taken_for_it(
    on_machines: Client,
    step_functions: StepFunctionsStandIn,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """A nested build isn't adopted, even if the answer to its execution's start was lost and its
    state change arrives first."""
    step_functions.inject("StartExecution", *[Fault.answer_lost()] * 2)
    await read_problem(await on_machines.post(PROVISION, json=BODY), 503)
    (execution,) = step_functions.executions.values()
    build = start_nested(codebuild, execution["name"])
    codebuild.finish(build.id, "SUCCEEDED")
    await send_state_change(on_machines, build)
    for _ in range(3):
        clock.turn(61)
        await sweep(on_machines)
    assert execution["status"] == "RUNNING"
    assert await state_of(on_machines) == "provisioning"


async def test_a_build_within_a_build_is_not_the_job(
    service: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A nested build isn't found for a lost start, isn't stopped, and its end ends no operation."""
    codebuild.inject("StartBuild", *[Fault.answer_lost()] * 2)
    await read_problem(await service.post(PROVISION, json=BODY), 503)
    outer = only_build(codebuild)
    nested = start_nested(codebuild, variables(outer)[STARTED])
    clock.turn(61)
    await sweep(service)
    await send_state_change(service, nested)
    assert nested.status == "IN_PROGRESS"
    codebuild.finish(nested.id, "SUCCEEDED")
    await send_state_change(service, nested)
    clock.turn(61)
    await sweep(service)
    assert (outer.status, await state_of(service)) == ("IN_PROGRESS", "provisioning")
    codebuild.finish(outer.id, "SUCCEEDED")
    await send_state_change(service, outer)
    assert await state_of(service) == "provisioned"


class Mine:
    """A user's builder whose jobs are known to built-in builders too."""

    def __init__(self, codebuild: CodeBuildStandIn) -> None:
        self.codebuild = codebuild
        self.stopped: list[str] = []

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        job_id = f"arn:aws:states:us-east-1:123456789012:execution:mine:{start_key}"
        if job_identifier == "build":
            job_id = start_nested(self.codebuild, start_key).id
        return Job(id=job_id, builder="MINE", job_identifier=job_identifier)

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        jobs = [Job(id=one, builder="MINE", job_identifier="up") for one in job_ids]
        return {job.id: JobDescription(job=job, status=JobStatus.IN_PROGRESS) for job in jobs}

    async def stop_job(self, *, job_id: str) -> None:
        self.stopped.append(job_id)


@pytest.mark.parametrize("job_identifier", ["build", "machine"])
async def test_jobs_of_a_users_builder_are_left_to_it(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    job_identifier: str,
) -> None:
    """A job of a user's builder isn't stopped, even if AWS sends a state change of it before it is
    recorded."""
    mine, registry = Mine(codebuild), HandlerRegistry()

    @registry.on("TENANT_PROVISIONING")
    async def provision(event: Event[dict[str, Any]], run: Run) -> None:
        job = await run.start_job(job_identifier, {}, builder="MINE")
        if job_identifier == "build":
            await send_state_change(service, only_build(codebuild))
            return
        detail = {"executionArn": job.id, "status": "RUNNING", "input": "{}"}
        change = envelope("Step Functions Execution Status Change", detail, source="aws.states")
        assert (await service.post("/events", json=change)).status == 200

    extension = Extension(builders={"MINE": mine}, registry=registry)
    service = await start_service(settings, extension=extension)
    await read_success(await service.post(PROVISION, json=BODY))
    assert mine.stopped == []
    assert [build.status for build in codebuild.builds.values()].count("STOPPED") == 0
    tenant = await (await service.get(f"/tenants/{TENANT}")).json()
    assert tenant["operation"]["job"]["builder"] == "MINE"
