"""Starts a job, once for each start: send it under the lease, or find an earlier start's job.

nothing can be out ──────────────────────────────► check, send
a start may be out ──► look it up ── found ───────► it is the job
                          ├── none, for certain ──► check, send, with the same start key
                          └── none, perhaps ──────► hand back

The whole request is built and checked before it is sent, so that an invalid one needs no lookup.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Any

import structlog

from orchestrator.core.clock import Clock
from orchestrator.core.errors import (
    NotPermitted,
    OrchestratorError,
    PermanentError,
    TemporaryError,
)
from orchestrator.core.jobs import builder_calls
from orchestrator.core.jobs.builder import Builder, DescribesJobs, FindsJobs, StopsJobs
from orchestrator.core.jobs.plan import as_variables
from orchestrator.core.ledger.guards import Timings, certain_from, is_none_certain, may_replace
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.possible_start import PossibleStart
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.metrics import JOBS_STARTED, NO_METRICS, Metrics
from orchestrator.core.secrets.references import SecretReferences
from orchestrator.core.tracing import NO_TRACING, SpanKind, Tracing

#: A send is cut off this long (seconds) before the lease ends.
CUT_OFF_S = 1.0
#: How long (seconds) a builder may refuse other parameters under the same start key: the longest
#: known memory of an idempotency token, 5 minutes, and a margin.
_TOKEN_MEMORY_S = 360.0
#: The largest difference between the service's clock and a builder's.
_CLOCKS_APART = timedelta(minutes=5)

log = structlog.get_logger("orchestrator.start")


class JobStarter:
    """Starts the job of one attempt."""

    def __init__(
        self,
        lease: RunLease,
        builders: Mapping[str, Builder],
        clock: Clock,
        timings: Timings,
        secret_references: SecretReferences | None,
        metrics: Metrics = NO_METRICS,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._lease = lease
        self._builders = builders
        self._clock = clock
        self._timings = timings
        self._secret_references = secret_references
        self._metrics = metrics
        self._tracing = tracing
        self._is_closed = False

    def close(self) -> None:
        """Start nothing more: from now on the attempt is settled by what was started until now.

        handler ─ ends ── settle: nothing is out ────────────── given back
           └ task ──────────────────────────── StartBuild ✗ a build without an operation
        """
        self._is_closed = True

    async def start(
        self,
        builder_name: str,
        job_identifier: str,
        variables: Mapping[str, Any],
        options: Mapping[str, Any] = {},
    ) -> Job:
        """The job of an earlier start, or one that is started now.

        `options` are for a builder that is `Configurable`.

        Raises:
            PermanentError: the builder refuses it permanently, or the operation is over.
            TemporaryError: it can't be started now, or a start may be out.
            Exception: a bug of the builder, which may have started it.
        """
        lease, earlier = self._lease, self._lease.possible_start
        if lease.run.attempt > 1 and await lease.is_over():
            raise PermanentError(
                "The operation of this event is over: replay with force to start again."
            )
        if earlier is not None:
            found = await self.look_up(builder_name, job_identifier)
            if found is not None:
                return found
        variables = as_variables(variables)
        builder = builder_calls.prepare(
            self._builders[builder_name],
            job_identifier,
            variables,
            options=options,
            start_key=lease.start_key,
        )
        if self._secret_references is not None:
            # Under the lease, too: a late write might come after the removal of the secrets.
            async with self._under_the_lease("The store of secrets"):
                variables = await self._secret_references.replace_secrets(lease, variables)
        try:
            return await self._send(builder_name, builder, job_identifier, variables)
        except PermanentError as error:
            memory = timedelta(seconds=_TOKEN_MEMORY_S)
            if earlier is None or earlier.until + memory <= self._clock.now():
                raise
            # Other parameters under the same start key: the refusal proves that a start is out.
            lease.possible_start = earlier
            found = await self.look_up(builder_name, job_identifier)
            if found is not None:
                return found
            lease.possible_start = earlier
            raise TemporaryError(f"An earlier start may be out: {error}") from error

    async def look_up(
        self, builder_name: str | None = None, job_identifier: str = ""
    ) -> Job | None:
        """The job of an earlier start; None: there is certainly none.

        It is looked up on the builder that the start was sent to; if that is unknown, on all
        builders, the one for a start now first, since the tier may have changed. A builder that
        denies access to the lookup has most likely denied the start, too.

        Raises:
            TemporaryError: none is listed, but that isn't certain yet.
        """
        lease = self._lease
        operation = await lease.find_operation()
        began = operation.opened_at if operation else lease.run.first_seen
        # A slow answer has the state at the time when the lookup began.
        asked_at = self._clock.now()
        start = lease.possible_start
        sent_to = start.builder if start else None
        known = [name for name in self._builders if name == sent_to]
        sent_job = start.job_identifier if start and known else None
        for name in sorted(known or self._builders, key=lambda name: name != builder_name):
            builder = self._builders[name]
            if not isinstance(builder, FindsJobs):
                continue
            try:
                found = await builder_calls.find_job(
                    name,
                    builder,
                    start_key=lease.start_key,
                    job_identifier=job_identifier if sent_job is None else sent_job,
                    is_where_sent=sent_job is not None,
                    started_after=began - _CLOCKS_APART,
                )
            except NotPermitted as error:
                if builder_name in (None, name) or name == sent_to:
                    raise
                log.warning("a builder denies the lookup of a job", builder=name, reason=str(error))
                continue
            if found is not None:
                log.info("job found by its start key", job_id=found.id, builder=found.builder)
                return found
        if start is not None and not is_none_certain(start, asked_at, self._timings):
            certain_at = certain_from(start.until, self._timings)
            wait_s = (certain_at - self._clock.now()).total_seconds()
            raise TemporaryError(
                "A start may be out that the builder doesn't list yet.",
                retry_after_s=max(1.0, wait_s),
            )
        lease.possible_start = None
        return None

    async def _send(
        self,
        builder_name: str,
        builder: Builder,
        job_identifier: str,
        variables: Mapping[str, Any],
    ) -> Job:
        # OpenTelemetry, Semantic conventions for CICD.
        pipeline = {"cicd.pipeline.name": job_identifier, "cicd.pipeline.action.name": "RUN"}
        async with self._under_the_lease(builder_name):
            with (
                self._tracing.span(f"RUN {job_identifier}", SpanKind.CLIENT, pipeline) as span,
                self._may_be_out(builder_name, job_identifier),
            ):
                job = await builder_calls.start_job(
                    builder_name,
                    builder,
                    job_identifier,
                    variables,
                    start_key=self._lease.start_key,
                )
                span.set(
                    {"cicd.pipeline.run.id": job.id, "cicd.pipeline.run.url.full": job.log_url}
                )
            self._metrics.add(JOBS_STARTED, builder_name)
            return job

    @contextmanager
    def _may_be_out(self, builder_name: str, job_identifier: str) -> Iterator[None]:
        """Mark the start as possibly out while it is sent, since the handler may end meanwhile, and
        afterwards unless the builder's answer was definite."""
        if self._is_closed:
            raise TemporaryError(
                "The attempt has ended: nothing is started any more.", nothing_done=True
            )
        lease, before = self._lease, self._lease.possible_start

        def sent_by(until: datetime) -> PossibleStart:
            return PossibleStart(until, builder_name, job_identifier)

        assert lease.run.lease_until is not None  # noqa: S101 - it is ours
        lease.possible_start = sent_by(lease.run.lease_until)
        try:
            yield
        except PermanentError:
            lease.possible_start = before
            raise
        except TemporaryError as error:
            lease.possible_start = before if error.nothing_done else sent_by(self._clock.now())
            raise
        except BaseException:
            lease.possible_start = sent_by(self._clock.now())
            raise
        lease.possible_start = before

    @asynccontextmanager
    async def _under_the_lease(self, who: str) -> AsyncIterator[None]:
        """Cut off before the lease ends. Raises TemporaryError; `nothing_done` if it has ended."""
        lease, now = self._lease, self._clock.now()
        assert lease.run.lease_until is not None  # noqa: S101 - it is ours
        remaining_s = (lease.run.lease_until - now).total_seconds() - CUT_OFF_S
        if remaining_s <= 0:
            raise TemporaryError(
                "The lease is over: nothing is started any more.", nothing_done=True
            )
        try:
            async with asyncio.timeout(remaining_s):
                yield
        except TimeoutError as error:
            raise TemporaryError(f"{who} did not answer before the lease was over.") from error

    async def stop(self, job: Job) -> None:
        """Stop an orphaned job, which no operation can have."""
        builder: object = self._builders.get(job.builder)
        if await self._was_built_again(job, builder):
            log.info("left to the next check: the operation's job was built again", job_id=job.id)
            return
        if not isinstance(builder, StopsJobs):
            log.error("an orphaned job runs, and its builder can't stop it", job_id=job.id)
            return
        try:
            await builder_calls.stop_job(job.builder, builder, job.id)
        except OrchestratorError as error:
            log.error("an orphaned job was not stopped", job_id=job.id, reason=str(error))
        else:
            log.warning("stopped an orphaned job", job_id=job.id)

    async def _was_built_again(self, job: Job, builder: object) -> bool:
        """Whether the job is the newest of its start, whose recorded job is over: the next check
        records it.

        first  ─ StartBuild: A ✗ paused ······················ looks up: B, which isn't recorded ✗
        second ─ finds A, records it ── A fails ── B: A again
        """
        try:
            operation = await self._lease.find_operation()
            known = operation.job if operation else None
            if known is None or not isinstance(builder, DescribesJobs):
                return False
            if not may_replace(operation, self._lease.run.start_number, known):
                return False
            report = (await builder_calls.describe_jobs(job.builder, builder, [known.id])).get(
                known.id
            )
        except OrchestratorError as error:
            log.warning("a job can't be described", job_id=job.id, reason=str(error))
            return False
        is_newer = report is not None and report.replaces == known.id
        return report is not None and is_newer and report.job.id == job.id
