"""What every builder does: one suite for the port, run against each implementation."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, cast

import attrs
import pytest

from orchestrator.adapters.aws import Transport
from orchestrator.adapters.codebuild.builder import CodeBuildBuilder
from orchestrator.adapters.codebuild.builds import PROJECT
from orchestrator.adapters.codebuild.listings import BuildListings
from orchestrator.adapters.jenkins.builder import open_jenkins
from orchestrator.adapters.step_functions.builder import StepFunctionsBuilder
from orchestrator.core.jobs.builder import Builder, DescribesJobs, FindsJobs, StopsJobs
from orchestrator.core.jobs.job_description import JobStatus
from orchestrator.core.ledger.records import Job
from orchestrator.embedded import open_codebuild
from orchestrator.embedded.codebuild import Outcome
from orchestrator.testing import InMemoryBuilder, ManualClock
from tests.aws import aws_session, open_service_aws
from tests.jenkins.stand_in import START_KEY, TOKEN, USER, open_jenkins_stand_in
from tests.step_functions.stand_in import open_step_functions

PROJECTS = ("basic-tenant", "standard-tenant")
LONG_KEY = "k" * 64


class FullBuilder(Builder, FindsJobs, DescribesJobs, StopsJobs, Protocol):
    """A builder that can do all that a builder can."""


@attrs.frozen
class Bench:
    """A builder, its name, the way to see what it started (job id -> project, variables), and
    the ways to end a job and to have it never have been, and the ends that it knows."""

    builder: FullBuilder
    name: str
    started: Callable[[], Mapping[str, tuple[str, set[str]]]]
    finish: Callable[[str, JobStatus, str], None]
    forget: Callable[[str], None]
    ends: frozenset[JobStatus] = frozenset(JobStatus) - {JobStatus.IN_PROGRESS}

    async def start(
        self, start_key: str, project: str = "basic-tenant", **params: Any
    ) -> Job | None:
        return await self.builder.start_job(project, params, start_key=start_key)


@asynccontextmanager
async def open_in_memory() -> AsyncIterator[Bench]:
    builder = InMemoryBuilder("MINE")

    def started() -> Mapping[str, tuple[str, set[str]]]:
        return {job.job.id: (job.job.job_identifier, set(job.params)) for job in builder.started}

    def finish(job_id: str, status: JobStatus, message: str) -> None:
        builder.finish(job_id, status, message=message)

    yield Bench(builder, "MINE", started, finish, builder.forget)


@asynccontextmanager
async def open_code_build(transport: Transport = "sdk") -> AsyncIterator[Bench]:
    async with open_codebuild() as stand_in, open_service_aws(stand_in.url, transport) as aws:
        for project in PROJECTS:
            stand_in.add_project(project)

        def started() -> Mapping[str, tuple[str, set[str]]]:
            # Besides those parameters a build knows its project, by which it knows itself as ours.
            return {
                build.id: (build.project, {one["name"] for one in build.overrides} - {PROJECT})
                for build in stand_in.builds.values()
            }

        def finish(job_id: str, status: JobStatus, message: str) -> None:
            stand_in.finish(job_id, cast("Outcome", status.value), reason=message)

        listings = BuildListings(aws.codebuild, ManualClock(), name="MINE")
        builder = CodeBuildBuilder(aws.codebuild, listings, name="MINE")
        yield Bench(builder, "MINE", started, finish, stand_in.remove_build)


_EXECUTION_STATUSES = {
    JobStatus.SUCCEEDED: "SUCCEEDED",
    JobStatus.FAILED: "FAILED",
    JobStatus.TIMED_OUT: "TIMED_OUT",
    JobStatus.STOPPED: "ABORTED",
}


@asynccontextmanager
async def open_step_functions_builder() -> AsyncIterator[Bench]:
    session = aws_session()
    async with (
        open_step_functions() as stand_in,
        session.client("stepfunctions", endpoint_url=stand_in.url) as client,
    ):
        machines = {project: stand_in.add_machine(f"{project}-machine") for project in PROJECTS}
        projects = {arn: project for project, arn in machines.items()}

        async def opened() -> Any:
            return client

        def started() -> Mapping[str, tuple[str, set[str]]]:
            return {
                arn: (projects[one["stateMachineArn"]], set(json.loads(one["input"])))
                for arn, one in stand_in.executions.items()
            }

        def finish(job_id: str, status: JobStatus, message: str) -> None:
            stand_in.finish(job_id, _EXECUTION_STATUSES[status], error="Error", cause=message)

        def forget(job_id: str) -> None:
            del stand_in.executions[job_id]

        builder = StepFunctionsBuilder(opened, name="MINE", state_machines=machines)
        yield Bench(builder, "MINE", started, finish, forget, frozenset(_EXECUTION_STATUSES))


_RESULTS = {
    JobStatus.SUCCEEDED: "SUCCESS",
    JobStatus.FAILED: "FAILURE",
    JobStatus.STOPPED: "ABORTED",
}


@asynccontextmanager
async def open_jenkins_bench() -> AsyncIterator[Bench]:
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

        def queue_id(job_id: str) -> int:
            return int(job_id.rpartition("#")[2].partition(":")[0])

        def started() -> Mapping[str, tuple[str, set[str]]]:
            """Without the start key, which each build has whether it is among the parameters."""
            return {
                f"{item.job}#{item.id}:{item.parameters[START_KEY]}": (
                    item.job,
                    set(item.parameters) - {START_KEY},
                )
                for item in stand_in.items.values()
            }

        def finish(job_id: str, status: JobStatus, message: str) -> None:
            stand_in.finish(queue_id(job_id), _RESULTS[status], message)

        def forget(job_id: str) -> None:
            stand_in.forget(queue_id(job_id))

        yield Bench(builder, "MINE", started, finish, forget, frozenset(_RESULTS))


_BENCHES: dict[str, Callable[[], AbstractAsyncContextManager[Bench]]] = {
    "InMemoryBuilder": open_in_memory,
    "CodeBuildBuilder": open_code_build,
    "CodeBuildBuilder, lean": partial(open_code_build, "lean"),
    "StepFunctionsBuilder": open_step_functions_builder,
    "JenkinsBuilder": open_jenkins_bench,
}


@pytest.fixture(params=_BENCHES)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with _BENCHES[request.param]() as bench:
        yield bench


async def test_a_job_is_started_with_its_parameters(bench: Bench) -> None:
    """The job that comes back names its builder and what it runs; it has the parameters."""
    job = await bench.start("key-1", "standard-tenant", A="1", B={"c": [True]})
    assert job is not None
    assert job.id
    assert (job.builder, job.job_identifier) == (bench.name, "standard-tenant")
    assert bench.started() == {job.id: ("standard-tenant", {"A", "B"})}


async def test_the_same_start_key_never_starts_twice(bench: Bench) -> None:
    """A repeated start is answered with the job of the first."""
    first = await bench.start("key-1", A="1", B="2")
    second = await bench.start("key-1", B="2", A="1")
    assert first is not None
    assert second == first
    assert list(bench.started()) == [first.id]


async def test_parallel_starts_with_one_key_are_one_job(bench: Bench) -> None:
    """Two processes that start the same thing at once get the same job."""
    jobs = await asyncio.gather(*(bench.start("key-1", A="1") for _ in range(4)))
    assert len({job.id for job in jobs if job is not None}) == len(bench.started()) == 1


async def test_another_start_key_is_another_job(bench: Bench) -> None:
    """Equal jobs are told apart by their start key alone."""
    jobs = [await bench.start(key, A="1") for key in ("key-1", "key-2", LONG_KEY)]
    assert len({job.id for job in jobs if job is not None}) == len(bench.started()) == 3


async def test_jobs_of_different_identifiers_run_side_by_side(bench: Bench) -> None:
    """Each start runs what it names."""
    jobs = [await bench.start(project, project) for project in PROJECTS]
    identified = {job.id: job.job_identifier for job in jobs if job is not None}
    assert sorted(identified.values()) == sorted(PROJECTS)
    assert {job_id: project for job_id, (project, _) in bench.started().items()} == identified


async def test_a_job_may_have_no_parameters(bench: Bench) -> None:
    """An empty map of parameters is a start like any other."""
    job = await bench.start("key-1")
    assert job is not None
    assert bench.started() == {job.id: ("basic-tenant", set())}


def without_log(job: Job | None) -> Job | None:
    """Where to watch it may only be known once it has begun."""
    return None if job is None else attrs.evolve(job, log_url=None)


async def started(bench: Bench, start_key: str = "op-1") -> Job:
    """A job that carries its start key, as each of ours does."""
    job = without_log(await bench.start(start_key, ORCHESTRATOR_RUN_ID=start_key))
    assert job is not None
    return job


async def test_a_job_is_found_by_its_start_key(bench: Bench) -> None:
    """And none by the key of another start."""
    job = await started(bench)
    long_ago = datetime(2000, 1, 1, tzinfo=UTC)
    for start_key, found in (("op-1", job), ("op-2", None)):
        seen = await bench.builder.find_job(
            start_key=start_key, job_identifier="basic-tenant", started_after=long_ago
        )
        assert without_log(seen) == found


async def test_jobs_are_described_together(bench: Bench) -> None:
    """Each under its id, with its start key; one that isn't there is left out."""
    jobs = [await started(bench, f"op-{number}") for number in range(3)]
    bench.forget(jobs[1].id)
    described = await bench.builder.describe_jobs(job_ids=[*(job.id for job in jobs), "none:1"])
    assert set(described) == {jobs[0].id, jobs[2].id}
    for number, job in ((0, jobs[0]), (2, jobs[2])):
        report = described[job.id]
        assert (without_log(report.job), report.start_key) == (job, f"op-{number}")
        assert (report.status, report.is_over, report.reason) == ("IN_PROGRESS", False, None)


async def test_no_jobs_are_described_without_asking_for_any(bench: Bench) -> None:
    """An empty question is no error."""
    assert await bench.builder.describe_jobs(job_ids=[]) == {}


async def test_more_jobs_are_described_than_fit_one_request(bench: Bench) -> None:
    """CodeBuild takes a hundred ids at once."""
    jobs = [await started(bench, f"op-{number}") for number in range(101)]
    described = await bench.builder.describe_jobs(job_ids=[job.id for job in jobs])
    assert set(described) == {job.id for job in jobs}


async def test_a_job_that_is_over_says_how_and_why(bench: Bench) -> None:
    """In its builder's words, for each end that there is."""
    for status in bench.ends:
        job = await started(bench, f"op-{status}")
        bench.finish(job.id, status, "the cause")
        report = (await bench.builder.describe_jobs(job_ids=[job.id]))[job.id]
        assert (report.status, report.is_over) == (status, True)
        assert report.succeeded is (status is JobStatus.SUCCEEDED)
        assert report.succeeded or "the cause" in (report.reason or "")


async def test_a_job_is_stopped(bench: Bench) -> None:
    """Also if it is told twice; one that is over or gone is left alone."""
    job, over, gone = [await started(bench, f"op-{number}") for number in range(3)]
    bench.finish(over.id, JobStatus.FAILED, "")
    bench.forget(gone.id)
    for one in (job, job, over, gone):
        await bench.builder.stop_job(job_id=one.id)
    described = await bench.builder.describe_jobs(job_ids=[job.id, over.id, gone.id])
    assert {job_id: report.status for job_id, report in described.items()} == {
        job.id: "STOPPED",
        over.id: "FAILED",
    }
