"""Whose a job is: by its record, else by its start key; an orphaned one is stopped."""

from collections.abc import Mapping, Sequence

import attrs
import pytest

from orchestrator.core.errors import PermanentError, TemporaryError
from orchestrator.core.jobs.job_description import JobDescription, JobStatus
from orchestrator.core.ledger.record_parts import Job, OperationState
from orchestrator.core.ledger.records import OperationRecord
from orchestrator.testing import InMemoryBuilder, StartedJob
from tests.desk import PROVISIONING, Desk, operation_id
from tests.unit.core.jobs.watching import Bench, OnlyStarts, OnlyTells


class CannotStop(InMemoryBuilder):
    """It refuses every stop."""

    async def stop_job(self, *, job_id: str) -> None:
        raise PermanentError("not allowed")


class RebuiltFrom(InMemoryBuilder):
    """It has built the newer job of the older one, which it still describes by the newer."""

    def __init__(self, older: Job, newer: Job) -> None:
        super().__init__()
        self.older, self.newer = [older], newer
        self.started = [StartedJob(newer, {}, "")]

    def rebuild(self, newer: Job) -> None:
        """Build the newest job again."""
        self.older.append(self.newer)
        self.newer = newer
        self.started.append(StartedJob(newer, {}, ""))

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        return {
            one.id: JobDescription(job=self.newer, status=JobStatus.IN_PROGRESS, replaces=one.id)
            for one in self.older
            if one.id in job_ids
        }


async def under_way(desk: Desk) -> OperationRecord:
    await desk.finish(await desk.claimed(PROVISIONING, "a", key="k"), desk.job("b-1"))
    return await desk.operation("k")


def runs(desk: Desk, job_id: str) -> JobDescription:
    return JobDescription(job=desk.job(job_id), status=JobStatus.IN_PROGRESS)


async def test_a_recorded_job_needs_no_answer_of_its_builder(desk: Desk) -> None:
    """It needs no start key, and no builder that can describe it."""
    operation = await under_way(desk)
    for builder in (OnlyStarts(), InMemoryBuilder()):
        adopter = Bench(desk, {"IN_MEMORY": builder}).adopter
        assert await adopter.identify(desk.job("b-1"), None) == operation


async def test_a_job_of_an_earlier_start_is_not_adopted(desk: Desk) -> None:
    """A job isn't its operation's any more if that is at another start by now."""
    operation = await under_way(desk)
    await desk.ledger.put(attrs.evolve(operation, start_number=2, job=None))
    adopter = Bench(desk, {"IN_MEMORY": InMemoryBuilder()}).adopter
    assert await adopter.identify(desk.job("b-1"), operation.start_key) is None


@pytest.mark.parametrize("job", [None, "b-1"])
async def test_a_start_that_is_not_written_yet_is_left_alone(desk: Desk, job: str | None) -> None:
    """Its job is neither adopted by the start before nor stopped."""
    opener = await desk.claimed(PROVISIONING, "a", key="k")
    await desk.finish(opener, desk.job(job) if job else None)
    builder = InMemoryBuilder()
    builder.started = [StartedJob(desk.job("b-2"), {}, f"{operation_id('k')}-2")]
    before = await desk.operation("k")
    assert await Bench(desk, {"IN_MEMORY": builder}).adopter.identify(desk.job("b-2"), None) is None
    assert await desk.operation("k") == before
    assert builder._ended == {}


@pytest.mark.parametrize("start_key", ["", "other", f"{operation_id('unknown')}-1"])
async def test_a_job_of_no_known_start_is_left_alone(desk: Desk, start_key: str) -> None:
    """It was made by hand, or for an operation that the ledger doesn't have."""
    builder = InMemoryBuilder()
    builder.started = [StartedJob(desk.job("b-1"), {}, start_key)]
    assert await Bench(desk, {"IN_MEMORY": builder}).adopter.identify(desk.job("b-1"), None) is None
    assert builder._ended == {}


async def test_a_job_that_is_recorded_already_costs_no_request(desk: Desk) -> None:
    """Its operation was read before the builder was queried."""
    operation = await under_way(desk)
    adopter = Bench(desk, {"IN_MEMORY": InMemoryBuilder()}).adopter
    desk.ledger.requests.clear()
    assert await adopter.adopt(runs(desk, "b-1"), operation, 1) == operation
    assert desk.ledger.requests == []


async def test_a_job_is_adopted_by_the_operation_as_it_is_now(desk: Desk) -> None:
    """It was read before the builder was queried, and has ended meanwhile: the job is stopped."""
    await desk.claimed(PROVISIONING, "a", key="k")
    operation = await desk.operation("k")
    await desk.ledger.put(attrs.evolve(operation, state=OperationState.OVER))
    builder = InMemoryBuilder()
    builder.started = [StartedJob(desk.job("b-1"), {}, operation.start_key)]
    adopter = Bench(desk, {"IN_MEMORY": builder}).adopter
    assert await adopter.adopt(runs(desk, "b-1"), operation, 1) is None
    assert list(builder._ended) == ["b-1"]
    assert (await desk.operation("k")).job is None


async def test_an_orphaned_job_that_is_not_stopped_is_redelivered(desk: Desk) -> None:
    """Its message is redelivered; where its builder can't stop jobs at all, the log has it."""
    operation = await under_way(desk)
    adopter = Bench(desk, {"IN_MEMORY": CannotStop()}).adopter
    with pytest.raises(TemporaryError, match="The orphaned job b-2 can't be stopped: not allowed"):
        await adopter.adopt(runs(desk, "b-2"), operation, 1)
    adopter = Bench(desk, {"IN_MEMORY": OnlyTells()}).adopter
    assert await adopter.adopt(runs(desk, "b-2"), operation, 1) is None


@pytest.mark.parametrize("status", [JobStatus.IN_PROGRESS, JobStatus.FAILED])
async def test_a_rebuild_that_another_process_has_recorded_meanwhile_is_adopted(
    desk: Desk, status: JobStatus
) -> None:
    """Its messages come twice at once: it is the operation's job to both, and neither stops it."""
    stale = await under_way(desk)
    builder = RebuiltFrom(desk.job("b-1"), desk.job("b-2"))
    rebuilt = JobDescription(job=desk.job("b-2"), status=status)
    adopter = Bench(desk, {"IN_MEMORY": builder}).adopter
    assert stale.job is not None
    await adopter.replace(stale, stale.job, desk.job("b-2"))
    adopted = await adopter.adopt(rebuilt, stale, stale.start_number)
    assert adopted == await desk.operation("k")
    assert adopted.job == desk.job("b-2")
    assert builder._ended == {}


@pytest.mark.parametrize("status", [JobStatus.IN_PROGRESS, JobStatus.FAILED])
async def test_a_rebuild_of_a_job_that_was_recorded_meanwhile_is_adopted(
    desk: Desk, status: JobStatus
) -> None:
    """The operation had no job when it was read; the rebuild replaces the job that it has now."""
    attempt = await desk.claimed(PROVISIONING, "a", key="k")
    without_job = await desk.operation("k")
    await desk.finish(attempt, desk.job("b-1"))
    builder = RebuiltFrom(desk.job("b-1"), desk.job("b-2"))
    rebuilt = JobDescription(job=desk.job("b-2"), status=status)
    adopter = Bench(desk, {"IN_MEMORY": builder}).adopter
    adopted = await adopter.adopt(rebuilt, without_job, 1)
    assert adopted is not None
    assert adopted.job == (await desk.operation("k")).job == desk.job("b-2")
    assert builder._ended == {}


@pytest.mark.parametrize("status", [JobStatus.IN_PROGRESS, JobStatus.FAILED])
async def test_a_rebuild_of_a_rebuild_that_was_recorded_meanwhile_is_adopted(
    desk: Desk, status: JobStatus
) -> None:
    """The first job was read, and the second one is recorded by now; the builder has a third."""
    stale = await under_way(desk)
    builder = RebuiltFrom(desk.job("b-1"), desk.job("b-2"))
    adopter = Bench(desk, {"IN_MEMORY": builder}).adopter
    assert stale.job is not None
    await adopter.replace(stale, stale.job, desk.job("b-2"))
    builder.rebuild(desk.job("b-3"))
    adopted = await adopter.adopt(JobDescription(job=desk.job("b-3"), status=status), stale, 1)
    assert adopted is not None
    assert adopted.job == (await desk.operation("k")).job == desk.job("b-3")
    assert builder._ended == {}


async def test_a_job_that_reports_itself_before_it_is_recorded_is_adopted(desk: Desk) -> None:
    """Its builder's answer has the start key of an operation without a job."""
    attempt = await desk.claimed(PROVISIONING, "a", key="k")
    await desk.finish(attempt)
    builder = InMemoryBuilder()
    builder.started = [StartedJob(desk.job("b-1"), {}, attempt.start_key)]
    adopted = await Bench(desk, {"IN_MEMORY": builder}).adopter.identify(desk.job("b-1"), None)
    assert adopted is not None
    assert adopted.operation_id == operation_id("k")
    assert adopted.job == (await desk.operation("k")).job == desk.job("b-1")


async def test_a_rebuild_of_a_job_whose_end_is_claimed_is_stopped(desk: Desk) -> None:
    """The end was claimed after the operation was read: the rebuild can't be its job any more."""
    stale = await under_way(desk)
    builder = RebuiltFrom(desk.job("b-1"), desk.job("b-2"))
    await desk.claimed("TENANT_PROVISIONING_FAILURE", "over", job="b-1")
    adopter = Bench(desk, {"IN_MEMORY": builder}).adopter
    assert await adopter.adopt(runs(desk, "b-2"), stale, stale.start_number) is None
    assert set(builder._ended) == {"b-2"}
