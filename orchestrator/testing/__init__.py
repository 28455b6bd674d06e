"""For tests, yours and ours: a clock to turn, ids in order, a builder in memory, sample events,
and EventBridge's way of delivering them."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from orchestrator.core.jobs import JobReport, JobStatus
from orchestrator.core.records import Job
from orchestrator.testing.simulator import (
    SHORT_LIVED_BUS,
    STANDARD_BUS,
    Delivered,
    Deliveries,
    EventBridgeSimulator,
    RetryPolicy,
    Try,
)

__all__ = [
    "SHORT_LIVED_BUS",
    "STANDARD_BUS",
    "Delivered",
    "Deliveries",
    "EventBridgeSimulator",
    "InMemoryBuilder",
    "LoadedDice",
    "ManualClock",
    "RetryPolicy",
    "SequentialIds",
    "StartedJob",
    "Try",
    "envelope",
    "provisioning_event",
]


@attrs.define
class ManualClock:
    """A clock that moves when it is told to; whoever sleeps by it wakes when it has."""

    time: datetime = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
    _sleepers: list[tuple[datetime, asyncio.Future[None]]] = attrs.field(init=False, factory=list)

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        until = self.time + timedelta(seconds=seconds)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sleeper = (until, woken)
        self._sleepers.append(sleeper)
        try:
            await woken
        finally:
            self._sleepers.remove(sleeper)

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        self.time += timedelta(seconds=seconds)
        for until, woken in self._sleepers:
            if until <= self.time and not woken.done():
                woken.set_result(None)


@attrs.define
class LoadedDice:
    """They always fall on the first."""

    def pick(self, count: int) -> int:  # noqa: ARG002 - the port's
        return 0


@attrs.define
class SequentialIds:
    """`id-1`, `id-2`, ..."""

    given: int = 0

    def fresh_id(self) -> str:
        self.given += 1
        return f"id-{self.given}"


@attrs.frozen
class StartedJob:
    """What an `InMemoryBuilder` was asked to start."""

    job: Job
    params: Mapping[str, Any]
    start_key: str


@attrs.define
class InMemoryBuilder:
    """A builder that remembers what it started; the same start key never starts twice.

    Its jobs run until `finish` ends them, or `forget` has them never have been.
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

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobReport]:
        return {one.job.id: self._report(one) for one in self.started if one.job.id in job_ids}

    async def stop_job(self, *, job_id: str) -> None:
        if any(one.job.id == job_id for one in self.started):
            self._ended.setdefault(job_id, (JobStatus.STOPPED, None))

    def finish(
        self, job_id: str, status: JobStatus = JobStatus.SUCCEEDED, *, message: str | None = None
    ) -> None:
        """End a job; `message` is why."""
        self._ended[job_id] = (status, message)

    def forget(self, job_id: str) -> None:
        """Have the builder not know the job any more."""
        self.started = [one for one in self.started if one.job.id != job_id]

    def _report(self, started: StartedJob) -> JobReport:
        status, message = self._ended.get(started.job.id, (JobStatus.IN_PROGRESS, None))
        return JobReport(
            job=started.job, status=status, start_key=started.start_key, message=message
        )


def provisioning_event(
    *,
    tenant_id: str = "tenant-1",
    tier: str = "STANDARD",
    event_id: str = "event-1",
    override: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """TENANT_PROVISIONING in an EventBridge envelope, as a control plane sends it."""
    tenant = {"id": tenant_id, "name": "Bluebird Logistics", "key": "bluebird"}
    environment = {"tenant": json.dumps(tenant), **(override or {})}
    detail = {
        "tenant": tenant,
        "planConfig": {"tier": tier},
        "builderConfig": {
            "type": "CODE_BUILD",
            "config": {"environmentOverride": environment},
        },
    }
    return envelope("TENANT_PROVISIONING", detail, event_id=event_id)


def envelope(
    event_type: str,
    detail: Mapping[str, Any],
    *,
    event_id: str = "event-1",
    source: str = "TenantManagementService",
    time: str = "2026-11-20T09:14:03Z",
) -> dict[str, Any]:
    """An EventBridge envelope around a detail; `time` is when its sender says that it was sent."""
    return {
        "version": "0",
        "id": event_id,
        "detail-type": event_type,
        "source": source,
        "account": "123456789012",
        "time": time,
        "region": "us-east-1",
        "resources": [],
        "detail": dict(detail),
    }
