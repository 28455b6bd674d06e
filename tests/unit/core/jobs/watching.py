"""A watcher over builders of every ability, and what it has concluded."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs

from orchestrator.core.errors import PermanentError, TemporaryError
from orchestrator.core.events.event import Event
from orchestrator.core.jobs.adopt import JobAdopter
from orchestrator.core.jobs.builder import Builder
from orchestrator.core.jobs.cancel import JobStopper
from orchestrator.core.jobs.job_description import Answer, JobDescription, SomeNotDescribed
from orchestrator.core.jobs.watch import JobWatcher
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.ledger.records import OperationRecord
from orchestrator.testing import InMemoryBuilder
from tests.desk import PROVISIONING, Desk, operation_id

Concluded = Event[Mapping[str, Any]]


class OnlyStarts:
    """All that a builder must be able to do."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        raise AssertionError


class OnlyTells(InMemoryBuilder):
    """It can't stop what it has started."""

    stop_job = None  # type: ignore[assignment]


class Picky(InMemoryBuilder):
    """It refuses a whole query for one job in it."""

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        if "bad" in job_ids:
            raise PermanentError("InvalidInputException")
        return await super().describe_jobs(job_ids=job_ids)


class PickyAndBlind(Picky):
    """It can't describe one job, and doesn't show whether another one is there."""

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        reports = await super().describe_jobs(job_ids=job_ids)
        failed, hidden = {"failed"} & set(job_ids), {"hidden"} & set(job_ids)
        if job_ids == ["failed"]:
            raise TemporaryError("down")
        if failed or hidden:
            raise SomeNotDescribed("blind", reports=reports, failed=failed, hidden=hidden)
        return reports


class Broken(InMemoryBuilder):
    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        raise KeyError("a bug")


class Down(InMemoryBuilder):
    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        raise TemporaryError("down")


class Partial(InMemoryBuilder):
    """It can describe some jobs, and others not."""

    known: Mapping[str, JobDescription]
    failed: Collection[str]
    hidden: Collection[str]

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        raise SomeNotDescribed(
            "some can't be told of", reports=self.known, failed=self.failed, hidden=self.hidden
        )


@attrs.define
class Bench:
    """A watcher, and the outcomes that it had handled, or that raised the `outcome_error`."""

    desk: Desk
    builders: Mapping[str, Builder]
    stops_overdue: bool = True
    dry_run: bool = False
    outcome_error: Exception | None = None
    concluded: list[Concluded] = attrs.field(factory=list)

    @property
    def watcher(self) -> JobWatcher:
        async def handle_outcome(event: Concluded) -> None:
            if self.outcome_error is not None:
                raise self.outcome_error
            self.concluded.append(event)

        return JobWatcher.over(
            self.desk.transactions,
            self.builders,
            stops_overdue=self.stops_overdue,
            handle_outcome=handle_outcome,
            dry_run=self.dry_run,
        )

    @property
    def stopper(self) -> JobStopper:
        return self.watcher.stopper

    @property
    def adopter(self) -> JobAdopter:
        return self.watcher.adopter

    async def end(
        self, operation: OperationRecord, answer: Answer, reason: str | None = None
    ) -> str:
        return await self.watcher.outcomes.end(operation, answer, reason)

    async def check_due(self, *operation_ids: str) -> TemporaryError | None:
        return await self.watcher.check_due(operation_ids)

    @property
    def reasons(self) -> list[str | None]:
        return [event.body.get("reason") for event in self.concluded]


async def watched(
    desk: Desk, *jobs: str, builder: str = "IN_MEMORY", **changes: Any
) -> list[OperationRecord]:
    """Operations under way, one for each job, all due for a check."""
    attempt = await desk.claimed(PROVISIONING, "a", key="k")
    await desk.finish(attempt, desk.job("first"))
    first = await desk.operation("k")
    made = [
        attrs.evolve(
            first,
            operation_id=operation_id(job),
            job=desk.job(job, builder=builder),
            due_at=desk.clock.now(),
            **changes,
        )
        for job in jobs
    ]
    await desk.ledger.put(*made)
    return made


def running(builder: InMemoryBuilder, *jobs: str) -> InMemoryBuilder:
    """The builder, with these jobs of ours."""
    for job_id in jobs:
        asyncio.run(builder.start_job(job_id, {}, start_key=f"{operation_id(job_id)}-1"))
    builder.started = [
        attrs.evolve(one, job=attrs.evolve(one.job, id=one.job.job_identifier))
        for one in builder.started
    ]
    return builder
