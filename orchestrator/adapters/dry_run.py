"""A service that only says what it would do, for running beside an old one.

Each builder is wrapped: a start is worked out to the last parameter, kept with the run and
logged, and counts as a job that succeeded. Nothing is published and nobody is told.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from orchestrator.core.checkable import Permission
from orchestrator.core.errors import OrchestratorError, event_mismatch
from orchestrator.core.events.json_text import kept_size
from orchestrator.core.jobs import builder_calls
from orchestrator.core.jobs.builder import Builder, Configurable, FindsJobs, TellsStarts
from orchestrator.core.jobs.job_description import JobDescription, JobStatus
from orchestrator.core.ledger.records import Job
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.core.secrets.references import is_reference

_PREFIX = "dry-run:"
#: It is kept in items of the ledger, which DynamoDB takes up to 400 KB of. Step Functions' input
#: has at most 256 KiB (developer guide, Service quotas), Jenkins' form 200 kB (Jetty's default).
_LARGEST_BYTES = 260_000

log = structlog.get_logger("orchestrator.dry_run")


class DryRunBuilder:
    """In place of a builder: what it would have been asked is `Job.request`, secrets masked."""

    permissions: tuple[Permission, ...] = ()

    def __init__(self, builder: Builder, *, name: str, secrets: Redactor) -> None:
        self._builder = builder
        self._name = name
        self._secrets = secrets
        self._stopped: set[str] = set()
        self.description = "a dry run: nothing is started"

    async def check(self) -> None:
        """Nothing is asked, so nothing can be missing."""

    def configured(self, options: Mapping[str, Any]) -> "DryRunBuilder":
        if not isinstance(self._builder, Configurable):
            return self
        builder = self._builder.configured(options)
        return DryRunBuilder(builder, name=self._name, secrets=self._secrets)

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        request = self.build_start(job_identifier, params, start_key=start_key)
        log.info("would have been started", builder=self._name, request=request)
        return self._job(f"{_PREFIX}{start_key}", job_identifier, request)

    def build_start(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Mapping[str, Any]:
        """The request as it is kept."""
        masked = self._secrets.redact(params)
        shown = {n: v if is_reference(v) else masked[n] for n, v in params.items()}
        request: Mapping[str, Any] = {
            "jobIdentifier": job_identifier,
            "params": shown,
            "startKey": start_key,
        }
        if isinstance(self._builder, TellsStarts):
            request = self._builder.build_start(job_identifier, shown, start_key=start_key)
        size = kept_size(request)
        if size > _LARGEST_BYTES:
            raise event_mismatch(
                f"What would be started on {self._name} has {size} bytes, of which a dry run keeps "
                f"{_LARGEST_BYTES}; no builder takes so much either: pass a reference to it."
            )
        return request

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        """What a service for real has started over the same ledger, if the builder lets us look:
        over a ledger of its own there is nothing."""
        if not isinstance(self._builder, FindsJobs):
            return None
        try:
            return await builder_calls.find_job(
                self._name,
                self._builder,
                start_key=start_key,
                job_identifier=job_identifier,
                is_where_sent=False,
                started_after=started_after,
            )
        except OrchestratorError as error:
            log.warning("no lookup of real jobs", reason=str(error))
            return None

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        return {
            job_id: JobDescription(
                job=self._job(job_id, "", None),
                status=JobStatus.STOPPED if job_id in self._stopped else JobStatus.SUCCEEDED,
                start_key=job_id.removeprefix(_PREFIX),
            )
            for job_id in job_ids
            if job_id.startswith(_PREFIX)
        }

    async def stop_job(self, *, job_id: str) -> None:
        """It ends as one that was stopped."""
        self._stopped.add(job_id)

    def _job(self, job_id: str, job_identifier: str, request: Mapping[str, Any] | None) -> Job:
        return Job(id=job_id, builder=self._name, job_identifier=job_identifier, request=request)


class DryRunPublisher:
    """In place of the bus: an event is logged, and counts as published."""

    why_silent: str | None = "this is a dry run"
    description = "a dry run: nothing is published"
    permissions: tuple[Permission, ...] = ()

    async def check(self) -> None:
        """Nothing is asked, so nothing can be missing."""

    async def publish(
        self,
        *,
        event_type: str,
        detail: Mapping[str, Any],  # noqa: ARG002
        source: str | None = None,  # noqa: ARG002
    ) -> str:
        log.info("would have been published", event_type=event_type)
        return "dry-run"
