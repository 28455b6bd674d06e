"""What every builder does: one suite for the port, run against each implementation."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aioboto3
import attrs
import pytest

from orchestrator.adapters.codebuild import CodeBuildBuilder
from orchestrator.core.ports import Builder
from orchestrator.core.records import Job
from orchestrator.embedded import open_codebuild
from orchestrator.testing import InMemoryBuilder

PROJECTS = ("basic-tenant", "standard-tenant")
LONG_KEY = "k" * 64


@attrs.frozen
class Bench:
    """A builder, its name, and the way to see what it started: job id -> (project, variables)."""

    builder: Builder
    name: str
    started: Callable[[], Mapping[str, tuple[str, set[str]]]]

    async def start(
        self, start_key: str, project: str = "basic-tenant", **params: Any
    ) -> Job | None:
        return await self.builder.start_job(project, params, start_key=start_key)


@asynccontextmanager
async def open_in_memory() -> AsyncIterator[Bench]:
    builder = InMemoryBuilder("MINE")

    def started() -> Mapping[str, tuple[str, set[str]]]:
        return {job.job.id: (job.job.job_identifier, set(job.params)) for job in builder.started}

    yield Bench(builder, "MINE", started)


@asynccontextmanager
async def open_code_build() -> AsyncIterator[Bench]:
    session = aioboto3.Session("testing", "testing", region_name="us-east-1")
    async with (
        open_codebuild() as stand_in,
        session.client("codebuild", endpoint_url=stand_in.url) as client,
    ):
        for project in PROJECTS:
            stand_in.add_project(project)

        async def opened() -> Any:
            return client

        def started() -> Mapping[str, tuple[str, set[str]]]:
            return {
                build.id: (build.project, {variable["name"] for variable in build.overrides})
                for build in stand_in.builds.values()
            }

        yield Bench(CodeBuildBuilder(opened, name="MINE"), "MINE", started)


@pytest.fixture(
    params=[open_in_memory, open_code_build], ids=["InMemoryBuilder", "CodeBuildBuilder"]
)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    open_bench: Callable[[], AbstractAsyncContextManager[Bench]] = request.param
    async with open_bench() as bench:
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
