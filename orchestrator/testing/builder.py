"""An in-memory builder whose jobs the test ends."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from orchestrator.core.jobs.job_description import JobDescription, JobStatus
from orchestrator.core.ledger.record_parts import Job


@attrs.frozen
class StartedJob:
    """A job that an `InMemoryBuilder` has started."""

    job: Job
    params: Mapping[str, Any]
    start_key: str


@attrs.define
class InMemoryBuilder:
    """A builder that records its jobs; the same start key never starts two.

    Jobs run until `finish` ends them or `forget` removes them.
    """

    name: str = "IN_MEMORY"
    started: list[StartedJob] = attrs.field(factory=list)
    _ended: dict[str, tuple[JobStatus, str | None]] = attrs.field(init=False, factory=dict)

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        for earlier in self.started:
            if earlier.start_key == start_key:
                return earlier.job
        job = Job(
            id=f"{job_identifier}:{len(self.started) + 1}",
            builder=self.name,
            job_identifier=job_identifier,
        )
        self.started.append(StartedJob(job, dict(params), start_key))
        return job

    async def find_job(
        self,
        *,
        start_key: str,
        job_identifier: str,  # noqa: ARG002 - the port's
        started_after: datetime,  # noqa: ARG002 - the port's
    ) -> Job | None:
        return next((one.job for one in self.started if one.start_key == start_key), None)

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        return {one.job.id: self._report(one) for one in self.started if one.job.id in job_ids}

    async def stop_job(self, *, job_id: str) -> None:
        if any(one.job.id == job_id for one in self.started):
            self._ended.setdefault(job_id, (JobStatus.STOPPED, None))

    def finish(
        self, job_id: str, status: JobStatus = JobStatus.SUCCEEDED, *, message: str | None = None
    ) -> None:
        """End a job; `message` is the reason."""
        self._ended[job_id] = (status, message)

    def finish_running(self, status: JobStatus = JobStatus.SUCCEEDED) -> None:
        """End every job that is running."""
        for one in self.started:
            self._ended.setdefault(one.job.id, (status, None))

    def forget(self, job_id: str) -> None:
        """Remove the job, which is then unknown to the builder."""
        self.started = [one for one in self.started if one.job.id != job_id]

    def _report(self, started: StartedJob) -> JobDescription:
        status, message = self._ended.get(started.job.id, (JobStatus.IN_PROGRESS, None))
        return JobDescription(
            job=started.job, status=status, start_key=started.start_key, message=message
        )
