"""Dry run: records and logs what the service would do, for running it beside an old one.

Each builder is wrapped: the request of a start is built completely, recorded with the run and
logged, and counts as a job that succeeded. Nothing is published or reported.
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
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.core.secrets.references import is_reference

_PREFIX = "dry-run:"
#: The request is stored in items of the ledger, of at most 400 KB in DynamoDB. Step Functions'
#: input has at most 256 KiB (developer guide, Service quotas), Jenkins' form 200 kB (Jetty's
#: default).
_LARGEST_BYTES = 260_000

log = structlog.get_logger("orchestrator.dry_run")


class DryRunBuilder:
    """Replaces a builder: the request that it would send is `Job.request`, with secrets masked."""

    permissions: tuple[Permission, ...] = ()

    def __init__(self, builder: Builder, *, name: str, secrets: Redactor) -> None:
        self._builder = builder
        self._name = name
        self._secrets = secrets
        self._stopped: set[str] = set()
        self.description = "a dry run: nothing is started"

    async def check(self) -> None:
        """Always passes: nothing is queried."""

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
        """The request as it is recorded."""
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
                f"The request to {self._name} has {size} bytes; a dry run records at most "
                f"{_LARGEST_BYTES}, and no builder accepts more: pass a reference to the data."
            )
        return request

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        """A real job that another service started over the same ledger, if the builder can be
        queried; with a ledger of its own there is none."""
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
        """The job then ends as stopped."""
        self._stopped.add(job_id)

    def _job(self, job_id: str, job_identifier: str, request: Mapping[str, Any] | None) -> Job:
        return Job(id=job_id, builder=self._name, job_identifier=job_identifier, request=request)


class DryRunPublisher:
    """Replaces the bus: an event is logged, and counts as published."""

    why_silent: str | None = "this is a dry run"
    description = "a dry run: nothing is published"
    permissions: tuple[Permission, ...] = ()

    async def check(self) -> None:
        """Always passes: nothing is queried."""

    async def publish(
        self,
        *,
        event_type: str,
        detail: Mapping[str, Any],  # noqa: ARG002
        source: str | None = None,  # noqa: ARG002
    ) -> str:
        log.info("would have been published", event_type=event_type)
        return "dry-run"
