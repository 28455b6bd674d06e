"""The contract of builders finds what is wrong with a builder, and skips what one leaves out."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
import pytest

from orchestrator import Job, JobDescription, JobStatus
from orchestrator.testing import InMemoryBuilder, StartedJob
from orchestrator.testing.builder_contract import BuilderBench, BuilderContract
from tests.contracts.test_builder import InMemoryBench

#: What a builder that only starts jobs is not asked for.
OPTIONAL = {
    "test_a_job_is_found_by_its_start_key",
    "test_jobs_are_described_together",
    "test_no_jobs_are_described_for_no_ids",
    "test_many_jobs_are_described_at_once",
    "test_a_job_that_is_over_has_its_end_and_its_cause",
    "test_a_job_is_stopped",
    "test_the_end_of_a_job_ends_its_operation",
}


class Forgetful(InMemoryBuilder):
    """Starts a job at each call, and finds none."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        job = Job(id=f"{job_identifier}:{len(self.started)}", job_identifier=job_identifier)
        self.started.append(StartedJob(job, dict(params), start_key))
        return job

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        return None


class FindsAny(InMemoryBuilder):
    """Its lookup ignores the start key."""

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        return self.started[0].job if self.started else None


class DescribesTen(InMemoryBuilder):
    """Describes the first ten ids that it is given."""

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        return await super().describe_jobs(job_ids=job_ids[:10])


class CallsAllEndsFailed(InMemoryBuilder):
    """Gives no cause, and one end for all."""

    def finish(
        self, job_id: str, status: JobStatus = JobStatus.SUCCEEDED, *, message: str | None = None
    ) -> None:
        super().finish(job_id, JobStatus.FAILED)


class NeverStops(InMemoryBuilder):
    """Accepts a stop, and lets the job run."""

    async def stop_job(self, *, job_id: str) -> None:
        return


class DropsVariables(InMemoryBuilder):
    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        return await super().start_job(job_identifier, {}, start_key=start_key)


@attrs.define
class OnlyStarts:
    """All that a builder must have."""

    inner: InMemoryBuilder = attrs.field(factory=lambda: InMemoryBuilder("MINE"))

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        return await self.inner.start_job(job_identifier, params, start_key=start_key)


class OnlyStartsBench(BuilderBench):
    builder: OnlyStarts

    async def started(self) -> Mapping[str, tuple[str, Collection[str]]]:
        return await InMemoryBench(self.builder.inner).started()


TESTS = [name for name in vars(BuilderContract) if name.startswith("test_")]


async def run(name: str, bench: BuilderBench) -> None:
    await getattr(BuilderContract(), name)(bench)


async def failing_on(builder: type[InMemoryBuilder]) -> set[str]:
    """The tests of the contract that fail, each on a builder of its own."""
    failed = set()
    for name in TESTS:
        try:
            await run(name, InMemoryBench(builder("MINE")))
        except AssertionError:
            failed.add(name)
    return failed


@pytest.mark.parametrize(
    ("builder", "expected"),
    [
        (InMemoryBuilder, set[str]()),
        (
            Forgetful,
            {
                "test_the_same_start_key_never_starts_twice",
                "test_parallel_starts_with_one_key_are_one_job",
                "test_a_job_is_found_by_its_start_key",
                "test_a_lost_answer_is_one_job",
                "test_a_crash_between_start_and_record_is_one_job",
            },
        ),
        (FindsAny, {"test_a_job_is_found_by_its_start_key"}),
        (DescribesTen, {"test_many_jobs_are_described_at_once"}),
        (
            CallsAllEndsFailed,
            {
                "test_a_job_that_is_over_has_its_end_and_its_cause",
                "test_the_end_of_a_job_ends_its_operation",
            },
        ),
        (NeverStops, {"test_a_job_is_stopped"}),
        (DropsVariables, {"test_a_job_is_started_with_its_variables"}),
    ],
)
async def test_the_suite_finds_faulty_builders(
    builder: type[InMemoryBuilder], expected: set[str]
) -> None:
    """And passes right ones."""
    assert await failing_on(builder) == expected


async def test_a_failure_of_the_suite_has_the_values() -> None:
    """In a sentence: a user's pytest doesn't rewrite the suite's assertions."""
    with pytest.raises(AssertionError, match="One request has made 2 jobs"):
        await run("test_a_lost_answer_is_one_job", InMemoryBench(Forgetful("MINE")))


@pytest.mark.parametrize("name", TESTS)
async def test_abilities_that_a_builder_lacks_are_skipped(name: str) -> None:
    """All else is required of one that only starts jobs, and it passes."""
    if name in OPTIONAL:
        with pytest.raises(pytest.skip.Exception, match="OnlyStarts has no "):
            await run(name, OnlyStartsBench(OnlyStarts()))
    else:
        await run(name, OnlyStartsBench(OnlyStarts()))
