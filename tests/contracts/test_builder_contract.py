"""The contract of builders finds what is wrong with a builder, and skips what one leaves out."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
import pytest

from orchestrator import Job, JobDescription, JobStatus, PermanentError
from orchestrator.testing import InMemoryBuilder, StartedJob
from orchestrator.testing.builder_contract import BuilderBench, BuilderContract
from tests.contracts.test_builder import InMemoryBench

#: What a builder that only starts jobs need not pass.
OPTIONAL = {
    "test_a_job_is_found_by_its_start_key",
    "test_jobs_are_described_together",
    "test_no_jobs_are_described_for_no_ids",
    "test_many_jobs_are_described_at_once",
    "test_a_job_that_is_over_has_its_end_and_its_cause",
    "test_a_job_is_stopped",
    "test_the_end_of_a_job_ends_its_operation",
    "test_a_job_is_found_without_its_job_identifier",
    "test_its_own_jobs_are_known_as_its_own",
    "test_options_are_for_their_own_starts",
    "test_an_unknown_option_is_refused",
    "test_the_request_of_a_start_starts_nothing",
    "test_each_way_of_a_stop_can_be_used",
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
class Able(InMemoryBuilder):
    """Has every ability that a builder may leave out; its one option is `size`."""

    options: Mapping[str, Any] = attrs.field(factory=dict)

    async def find_job_anywhere(self, *, start_key: str, started_after: datetime) -> Job | None:
        return await self.find_job(
            start_key=start_key, job_identifier="", started_after=started_after
        )

    def owns(self, job_id: str) -> bool:
        return any(one.job.id == job_id for one in self.started)

    def configured(self, options: Mapping[str, Any]) -> "Able":
        if unknown := options.keys() - {"size"}:
            raise PermanentError(f"There is no option {unknown}.")
        return self._with(options)

    def _with(self, options: Mapping[str, Any]) -> "Able":
        copy = type(self)(self.name, self.started, options=dict(options))
        copy._ended = self._ended
        return copy

    def build_start(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Mapping[str, Any]:
        return {"job": job_identifier, "params": params, "key": start_key, **self.options}

    @property
    def stop_ways(self) -> Sequence[str]:
        return ("stop", "kill")

    async def stop_job(self, *, job_id: str, way: str = "") -> None:
        await InMemoryBuilder.stop_job(self, job_id=job_id)


class FindsAnyAnywhere(Able):
    """Its lookup among all identifiers ignores the start key."""

    async def find_job_anywhere(self, *, start_key: str, started_after: datetime) -> Job | None:
        return self.started[0].job if self.started else None


class OwnsNone(Able):
    def owns(self, job_id: str) -> bool:
        return False


class KeepsOptions(Able):
    """Configures itself, for each start after that, too."""

    def _with(self, options: Mapping[str, Any]) -> "Able":
        self.options = dict(options)
        return self


class TakesAnyOption(Able):
    def configured(self, options: Mapping[str, Any]) -> "Able":
        return self._with(options)


class StartsWhileItBuilds(Able):
    """Building the request of a start is a start."""

    def build_start(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Mapping[str, Any]:
        job = Job(id=f"{start_key}-0", job_identifier=job_identifier)
        self.started.append(StartedJob(job, dict(params), f"{start_key}-0"))
        return super().build_start(job_identifier, params, start_key=start_key)


class BuildsNoJson(Able):
    """Its request can't be recorded."""

    def build_start(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Mapping[str, Any]:
        return {"of": object()}


class CannotKill(Able):
    """Names a way to stop that it then refuses."""

    async def stop_job(self, *, job_id: str, way: str = "") -> None:
        if way == "kill":
            raise ValueError(way)
        await super().stop_job(job_id=job_id)


@attrs.define
class OnlyStarts:
    """All that a builder must have."""

    inner: InMemoryBuilder = attrs.field(factory=lambda: InMemoryBuilder("MINE"))

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        return await self.inner.start_job(job_identifier, params, start_key=start_key)


class AbleBench(InMemoryBench):
    options: Mapping[str, Any] = {"size": "large"}


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
            await run(name, AbleBench(builder("MINE")))
        except AssertionError:
            failed.add(name)
        except pytest.skip.Exception:
            assert name in OPTIONAL
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
        (Able, set[str]()),
        (FindsAnyAnywhere, {"test_a_job_is_found_without_its_job_identifier"}),
        (OwnsNone, {"test_its_own_jobs_are_known_as_its_own"}),
        (KeepsOptions, {"test_options_are_for_their_own_starts"}),
        (TakesAnyOption, {"test_an_unknown_option_is_refused"}),
        (
            StartsWhileItBuilds,
            {
                "test_a_crash_before_the_start_loses_no_job",
                "test_a_crash_between_start_and_record_is_one_job",
                "test_a_lost_answer_is_one_job",
                "test_a_request_that_comes_twice_is_one_job",
                "test_the_end_of_a_job_ends_its_operation",
                "test_the_request_of_a_start_starts_nothing",
                "test_options_are_for_their_own_starts",
            },
        ),
        (
            BuildsNoJson,
            {
                "test_the_request_of_a_start_starts_nothing",
                "test_options_are_for_their_own_starts",
            },
        ),
        (CannotKill, {"test_each_way_of_a_stop_can_be_used"}),
    ],
)
async def test_the_suite_finds_faulty_builders(
    builder: type[InMemoryBuilder], expected: set[str]
) -> None:
    """A faulty builder fails the tests for its fault, and a right one passes all."""
    assert await failing_on(builder) == expected


async def test_a_failure_of_the_suite_has_the_values() -> None:
    """The failure says it in a sentence: a user's pytest doesn't rewrite the suite's assertions."""
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
