"""A state change of a job: its builder is queried, and its answer alone counts."""

from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from orchestrator.adapters.notifications import BUILT_IN_NOTIFICATIONS
from orchestrator.core.errors import TemporaryError
from orchestrator.core.events.event import Event
from orchestrator.core.jobs.builder import Builder
from orchestrator.core.jobs.job_description import JobDescription, JobStatus
from orchestrator.core.jobs.state_changes import Ended, act_on
from orchestrator.core.jobs.watch import JobWatcher
from orchestrator.core.ledger.record_parts import Job, OperationState
from orchestrator.core.ledger.records import OperationRecord
from orchestrator.testing import InMemoryBuilder, StartedJob
from tests.desk import PROVISIONING, Desk

JOB = Job(id="b-1", builder="CODE_BUILD", job_identifier="standard")
CLOUD = "aws.codebuild"


class OnlyStarts:
    """It can't be queried."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        raise AssertionError


@attrs.define
class Scene:
    """An operation, its builder, and what was concluded."""

    desk: Desk
    operation: OperationRecord
    concluded: list[Event[Mapping[str, Any]]] = attrs.field(factory=list)
    builder: InMemoryBuilder = attrs.field(factory=lambda: InMemoryBuilder("CODE_BUILD"))

    async def notify(
        self,
        status: JobStatus,
        *,
        source: str = CLOUD,
        job: Job = JOB,
        start_key: str | None = None,
        builder: Builder | None = None,
        dry_run: bool = False,
    ) -> Ended | None:
        async def handle_outcome(event: Event[Mapping[str, Any]]) -> None:
            self.concluded.append(event)

        watcher = JobWatcher.over(
            self.desk.transactions,
            {"CODE_BUILD": builder or self.builder},
            stops_overdue=True,
            handle_outcome=handle_outcome,
            dry_run=dry_run,
        )
        description = JobDescription(job=job, status=status, start_key=start_key)
        return await act_on(watcher, BUILT_IN_NOTIFICATIONS, description, source)

    def runs(self, start_key: str | None = None) -> None:
        """The builder lists the job, under that start key."""
        key = start_key or self.operation.start_key
        self.builder.started = [StartedJob(JOB, {}, key)]

    async def now(self) -> OperationRecord:
        found = await self.desk.transactions.find_operation(self.operation.operation_id)
        assert found is not None
        return found


async def opened(*, job: Job | None = JOB) -> Scene:
    desk = Desk()
    attempt = await desk.claimed(PROVISIONING, "a")
    if job is not None:
        await desk.finish(attempt, job)
    return Scene(desk, await desk.operation(of=attempt))


async def test_the_builders_word_counts() -> None:
    """The end of a job that runs is not believed: the job is checked again soon."""
    scene = await opened()
    scene.runs()
    assert await scene.notify(JobStatus.IN_PROGRESS) is None
    assert (await scene.now()).due_at == scene.operation.due_at
    assert await scene.notify(JobStatus.SUCCEEDED) is None
    assert (await scene.now()).due_at == scene.desk.later(5)
    scene.builder.finish("b-1", JobStatus.FAILED)
    ended = await scene.notify(JobStatus.IN_PROGRESS)
    (outcome,) = scene.concluded
    assert ended == Ended(outcome.key)
    assert outcome.type == "TENANT_PROVISIONING_FAILURE"


async def test_a_job_whose_end_is_recorded_ends_nothing_again() -> None:
    """The answer names the run that ended it."""
    scene = await opened()
    scene.runs()
    scene.builder.finish("b-1")
    over = attrs.evolve(scene.operation, state=OperationState.OVER, outcome="r-1")
    await scene.desk.ledger.put(over)
    assert await scene.notify(JobStatus.SUCCEEDED) == Ended("r-1", replayed=True)
    assert scene.concluded == []


async def test_an_unknown_job_of_ours_is_left_to_the_sweep() -> None:
    """A message about one that isn't recorded yet is to be delivered again."""
    scene = await opened()
    assert await scene.notify(JobStatus.SUCCEEDED) is None
    scene = await opened(job=None)
    with pytest.raises(TemporaryError, match="doesn't show the job"):
        await scene.notify(JobStatus.SUCCEEDED, start_key=scene.operation.start_key)


async def test_a_job_that_is_found_by_its_start_key_is_adopted() -> None:
    """A job is adopted if the builder says that it carries the same start key."""
    scene = await opened(job=None)
    key = scene.operation.start_key
    scene.runs("another-1")
    assert await scene.notify(JobStatus.IN_PROGRESS, start_key=key) is None
    assert (await scene.now()).job is None
    scene.runs()
    assert await scene.notify(JobStatus.IN_PROGRESS, start_key=key) is None
    assert (await scene.now()).job == JOB


async def test_a_recorded_job_needs_no_start_key() -> None:
    """Its builder may not show what a job was started with."""
    scene = await opened()
    scene.runs("unreadable")
    scene.builder.finish("b-1")
    assert await scene.notify(JobStatus.SUCCEEDED) is not None


async def test_a_start_that_is_not_written_yet_is_left_alone() -> None:
    """The operation is at the start before, whether the builder shows the job or not."""
    scene = await opened(job=None)
    key = f"{scene.operation.operation_id}-2"
    assert await scene.notify(JobStatus.IN_PROGRESS, start_key=key) is None
    scene.runs(key)
    assert await scene.notify(JobStatus.IN_PROGRESS, start_key=key) is None
    assert len(scene.builder.started) == 1
    assert scene.builder._ended == {}


@pytest.mark.parametrize(("source", "counts"), [(CLOUD, True), ("anybody", False)])
async def test_the_source_of_a_state_change_counts_if_its_builder_cannot_describe_jobs(
    source: str, counts: bool
) -> None:
    """Where the builder can be queried, the source doesn't matter."""
    scene = await opened()
    ended = await scene.notify(JobStatus.SUCCEEDED, source=source, builder=OnlyStarts())
    assert (ended is not None) is counts
    scene = await opened()
    scene.runs()
    scene.builder.finish("b-1")
    assert await scene.notify(JobStatus.SUCCEEDED, source=source) is not None


async def test_a_dry_run_leaves_real_jobs_alone() -> None:
    """A dry run ends no operation with a real job, and a real job ends no dry run's operation."""
    scene = await opened()
    scene.runs()
    scene.builder.finish("b-1")
    assert await scene.notify(JobStatus.SUCCEEDED, dry_run=True) is None
    dry = attrs.evolve(scene.operation, job=attrs.evolve(JOB, request={"job": "up"}))
    await scene.desk.ledger.put(dry)
    assert await scene.notify(JobStatus.SUCCEEDED) is None
    assert scene.concluded == []


async def test_a_dry_run_adopts_no_real_job() -> None:
    """The job carries the start key of what the dry run has opened, and was started by another."""
    scene = await opened(job=None)
    key = scene.operation.start_key
    scene.runs()
    assert await scene.notify(JobStatus.IN_PROGRESS, start_key=key, dry_run=True) is None
    assert (await scene.now()).job is None
