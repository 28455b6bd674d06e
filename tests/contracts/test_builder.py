"""The service's own builders pass the contract that users' builders are held to."""

import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest

from orchestrator.adapters.aws import Transport
from orchestrator.adapters.codebuild.builder import CodeBuildBuilder
from orchestrator.adapters.codebuild.builds import PROJECT
from orchestrator.adapters.codebuild.listings import BuildListings
from orchestrator.adapters.jenkins.builder import open_jenkins
from orchestrator.adapters.step_functions.builder import StepFunctionsBuilder
from orchestrator.core.jobs.builder import Builder
from orchestrator.core.jobs.job_description import JobStatus
from orchestrator.embedded import CodeBuildStandIn, open_codebuild
from orchestrator.embedded.codebuild import Outcome
from orchestrator.testing import InMemoryBuilder, ManualClock
from orchestrator.testing.builder_contract import BuilderBench, BuilderContract
from tests.aws import aws_session, open_service_aws
from tests.jenkins.stand_in import START_KEY, TOKEN, USER, JenkinsStandIn, open_jenkins_stand_in
from tests.step_functions.stand_in import StepFunctionsStandIn, open_step_functions

PROJECTS = BuilderBench.job_identifiers


class InMemoryBench(BuilderBench):
    builder: InMemoryBuilder

    async def started(self) -> Mapping[str, tuple[str, Collection[str]]]:
        return {one.job.id: (one.job.job_identifier, one.params) for one in self.builder.started}

    async def finish(self, job_id: str, status: JobStatus, message: str) -> None:
        self.builder.finish(job_id, status, message=message)

    async def forget(self, job_id: str) -> None:
        self.builder.forget(job_id)


@asynccontextmanager
async def open_in_memory() -> AsyncIterator[BuilderBench]:
    yield InMemoryBench(InMemoryBuilder("MINE"))


class CodeBuildBench(BuilderBench):
    options: Mapping[str, Any] = {"computeType": "BUILD_GENERAL1_LARGE"}

    def __init__(self, builder: Builder, stand_in: CodeBuildStandIn) -> None:
        super().__init__(builder)
        self.stand_in = stand_in

    async def started(self) -> Mapping[str, tuple[str, Collection[str]]]:
        """Without the project, by which a build knows itself as the service's."""
        return {
            build.id: (build.project, {one["name"] for one in build.overrides} - {PROJECT})
            for build in self.stand_in.builds.values()
        }

    async def finish(self, job_id: str, status: JobStatus, message: str) -> None:
        self.stand_in.finish(job_id, cast("Outcome", status.value), reason=message)

    async def forget(self, job_id: str) -> None:
        self.stand_in.remove_build(job_id)


@asynccontextmanager
async def open_code_build(transport: Transport = "sdk") -> AsyncIterator[BuilderBench]:
    async with open_codebuild() as stand_in, open_service_aws(stand_in.url, transport) as aws:
        for project in PROJECTS:
            stand_in.add_project(project)
        listings = BuildListings(aws.codebuild, ManualClock(), name="MINE")
        yield CodeBuildBench(CodeBuildBuilder(aws.codebuild, listings, name="MINE"), stand_in)


_EXECUTION_STATUSES = {
    JobStatus.SUCCEEDED: "SUCCEEDED",
    JobStatus.FAILED: "FAILED",
    JobStatus.TIMED_OUT: "TIMED_OUT",
    JobStatus.STOPPED: "ABORTED",
}


class StepFunctionsBench(BuilderBench):
    ends = _EXECUTION_STATUSES

    def __init__(
        self, builder: Builder, stand_in: StepFunctionsStandIn, projects: Mapping[str, str]
    ) -> None:
        """`projects` are by the ARN of their state machine."""
        super().__init__(builder)
        self.stand_in = stand_in
        self.projects = projects

    async def started(self) -> Mapping[str, tuple[str, Collection[str]]]:
        return {
            arn: (self.projects[one["stateMachineArn"]], json.loads(one["input"]))
            for arn, one in self.stand_in.executions.items()
        }

    async def finish(self, job_id: str, status: JobStatus, message: str) -> None:
        self.stand_in.finish(job_id, _EXECUTION_STATUSES[status], error="Error", cause=message)

    async def forget(self, job_id: str) -> None:
        del self.stand_in.executions[job_id]


@asynccontextmanager
async def open_step_functions_builder() -> AsyncIterator[BuilderBench]:
    session = aws_session()
    async with (
        open_step_functions() as stand_in,
        session.client("stepfunctions", endpoint_url=stand_in.url) as client,
    ):
        machines = {project: stand_in.add_machine(f"{project}-machine") for project in PROJECTS}

        async def opened() -> Any:
            return client

        builder = StepFunctionsBuilder(opened, name="MINE", state_machines=machines)
        yield StepFunctionsBench(
            builder, stand_in, {arn: project for project, arn in machines.items()}
        )


_RESULTS = {
    JobStatus.SUCCEEDED: "SUCCESS",
    JobStatus.FAILED: "FAILURE",
    JobStatus.STOPPED: "ABORTED",
}


class JenkinsBench(BuilderBench):
    ends = _RESULTS

    def __init__(self, builder: Builder, stand_in: JenkinsStandIn) -> None:
        super().__init__(builder)
        self.stand_in = stand_in

    async def started(self) -> Mapping[str, tuple[str, Collection[str]]]:
        """Without the start key, which each build has whether it is among the parameters."""
        return {
            f"{item.job}#{item.id}:{item.parameters[START_KEY]}": (
                item.job,
                set(item.parameters) - {START_KEY},
            )
            for item in self.stand_in.items.values()
        }

    async def finish(self, job_id: str, status: JobStatus, message: str) -> None:
        self.stand_in.finish(_queue_id(job_id), _RESULTS[status], message)

    async def forget(self, job_id: str) -> None:
        self.stand_in.forget(_queue_id(job_id))


def _queue_id(job_id: str) -> int:
    return int(job_id.rpartition("#")[2].partition(":")[0])


@asynccontextmanager
async def open_jenkins_bench() -> AsyncIterator[BuilderBench]:
    async def token() -> str:
        return TOKEN

    async with (
        open_jenkins_stand_in(jobs=dict.fromkeys(PROJECTS, ("A", "B", START_KEY))) as stand_in,
        open_jenkins(
            url=stand_in.url,
            user=USER,
            token=token,
            name="MINE",
            connect_timeout_s=5,
            timeout_s=10,
        ) as builder,
    ):
        yield JenkinsBench(builder, stand_in)


_BENCHES: dict[str, Callable[[], AbstractAsyncContextManager[BuilderBench]]] = {
    "InMemoryBuilder": open_in_memory,
    "CodeBuildBuilder": open_code_build,
    "CodeBuildBuilder, lean": partial(open_code_build, "lean"),
    "StepFunctionsBuilder": open_step_functions_builder,
    "JenkinsBuilder": open_jenkins_bench,
}


class TestOurBuilders(BuilderContract):
    """What every builder does."""

    @pytest.fixture(params=_BENCHES)
    async def builder_bench(self, request: pytest.FixtureRequest) -> AsyncIterator[BuilderBench]:
        async with _BENCHES[request.param]() as bench:
            yield bench
