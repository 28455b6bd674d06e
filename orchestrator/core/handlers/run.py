"""The handler's interface to its run: starting jobs, steps, reports, publishing."""

import asyncio
import copy
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
import structlog

from orchestrator.core.callback.report import CallbackPolicy, report_body
from orchestrator.core.errors import TemporaryError
from orchestrator.core.events.body import named_for, without_context, without_ended_job
from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.handlers.services import Services
from orchestrator.core.identifiers import START_KEY, TRACEPARENT, digest
from orchestrator.core.jobs.plan import choose_builder, find_tier, named_job
from orchestrator.core.jobs.start import JobStarter
from orchestrator.core.jobs.tier_catalog import Tier
from orchestrator.core.ledger.event_codec import decode_event
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.operations import find_followed, is_reported_by_job
from orchestrator.core.ledger.record_parts import Job, Report, Step
from orchestrator.core.ledger.records import OperationRecord, Progress


@attrs.frozen
class EndWithoutJob:
    """The end of the operation without a job; `reason` None: succeeded, else why it failed."""

    reason: str | None


class Run:
    """The second argument of every handler."""

    def __init__(self, lease: RunLease, services: Services, opens: Kind | None = None) -> None:
        self._lease = lease
        self._services = services
        self._opens = opens
        self._steps = dict(lease.run.steps)
        self._taken: set[str] = set()
        self._recording = asyncio.Lock()
        self.job = lease.run.job
        self.starter = JobStarter(
            lease,
            services.builders,
            services.clock,
            services.transactions.timings,
            services.secret_references,
            services.metrics,
            services.tracing,
        )
        self.unrecorded = Progress()
        self.ending: EndWithoutJob | None = None
        self.notes: list[str] = []
        self.reports: Report | None = None
        self.owes: Report | None = None
        self.cleans_up: Mapping[str, Any] | None = None
        self._operation: OperationRecord | None = None
        self.log: structlog.stdlib.BoundLogger = structlog.get_logger("orchestrator.run")

    @property
    def run_id(self) -> str:
        return self._lease.run.run_id

    @property
    def attempt(self) -> int:
        """The number of the attempt, 1 for the first."""
        return self._lease.run.attempt

    @property
    def tenant_id(self) -> str | None:
        return self._lease.run.tenant_id

    @property
    def resources(self) -> Any:
        """The value of the extension's `lifespan`."""
        return self._services.resources

    @property
    def identity(self) -> Mapping[str, str]:
        """`tenantId`, `operationId` and `runId`, those that exist."""
        run = self._lease.run
        own = {
            "tenantId": run.tenant_id,
            "operationId": run.outcome_of or run.operation_id,
            "runId": run.run_id,
        }
        return {name: value for name, value in own.items() if value}

    @property
    def callback(self) -> CallbackPolicy:
        """When and where reports are sent, by the settings."""
        return self._services.callback

    @property
    def is_dry(self) -> bool:
        """A dry run: nothing is reported or published."""
        return self._services.dry_run

    @property
    def why_silent(self) -> str | None:
        """Why events can't be published; None if they can."""
        return self._services.publisher.why_silent

    async def tenant_tier(self) -> str | None:
        """The tier of the operation that the event opens or ends, else the one that the tenant
        was provisioned with; None if unknown."""
        operation = await self._find_operation()
        if operation is not None and operation.tier is not None:
            return operation.tier
        if self.tenant_id is None:
            return None
        tenant = await self._services.transactions.find_tenant(self.tenant_id)
        return tenant.tier if tenant else None

    async def ended_start(self) -> str | None:
        """The start key of the operation that the event ends, whatever its source."""
        operation = await self._find_operation()
        return operation.start_key if operation is not None else None

    async def registration_id(self) -> str | None:
        """The tenant's registration in the SaaS Builder Toolkit; None without one."""
        operation = await self._find_operation()
        return operation.registration_id if operation is not None else None

    @property
    def sbt_source(self) -> str:
        """The source of results for the toolkit's control plane, by the settings."""
        return self._services.sbt_source

    async def request_body(self) -> Mapping[str, Any]:
        """The business body of the request that opened the operation which this event ends.

        Without its secrets, and without the webhook's `context`, which would make a request with
        it a duplicate. Empty if it is unknown: the tenant is older than the ledger, or the request
        has expired.
        """
        operation = await self._find_operation()
        if operation is None or operation.opener == self.run_id:
            return {}
        run, payload = await self._services.transactions.find_kept(operation.opener)
        if run is None or payload is None:
            return {}
        body = without_ended_job(decode_event(run, payload).body)
        return without_context(self.without_secrets(body))

    async def made_before(self) -> Mapping[str, Any]:
        """The values known of the tenant besides the event's own: those of its request.

        For a deployment that follows a provisioning, those of the report that the provisioning left
        to it, since any sender may send a deployment that names a provisioning.
        """
        operation = await self._find_operation()
        followed = find_followed(operation) if operation is not None else None
        before = await self._services.transactions.find_operation(followed) if followed else None
        if operation is None or before is None or before.tenant_id != operation.tenant_id:
            return await self.request_body()
        made: Mapping[str, Any] = before.owed.body["data"] if before.owed else {}
        return made

    async def trusted_body(self, event: Event[Any]) -> Mapping[str, Any]:
        """The trusted content of an event that ends an operation.

        A report about a job is trusted only with that job's id or start key: any sender could name
        the tenant.
        """
        operation = await self._find_operation()
        body: Mapping[str, Any] = event.body
        if event.ends_start is not None or operation is None or operation.job is None:
            return body
        job = self._services.notifications.read_self_report(body)
        reported = (job.builder, job.id) if job else None
        return body if is_reported_by_job(operation, reported, body.get(START_KEY)) else {}

    async def told(self, event: Event[Any]) -> Mapping[str, Any]:
        """The former name of `trusted_body`, which works for one release."""
        warnings.warn("Run.told was renamed to Run.trusted_body.", DeprecationWarning, stacklevel=2)
        return await self.trusted_body(event)

    def without_secrets(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The body without secrets, which are recognized by the names in `log.redact`."""
        shown: Mapping[str, Any] = self._services.secrets.leave_out(body)
        return shown

    async def has_credentials(self) -> bool:
        """Whether the request that the event ends had a secret to sign a report with."""
        operation = await self._find_operation()
        return operation is not None and operation.credentials is not None

    async def _find_operation(self) -> OperationRecord | None:
        """The operation that the event ends, or the one that its starts belong to."""
        if self._operation is None:
            run = self._lease.run
            wanted = run.outcome_of or (run.operation_id if self._opens else None)
            self._operation = (
                await self._services.transactions.find_operation(wanted) if wanted else None
            )
        return self._operation

    async def tier_details(self, tier: str | None) -> Tier:
        """The attributes of a tier.

        Raises:
            PermanentError: the tier isn't in the catalog, or `tier` is None.
        """
        return await find_tier(tier, self._services.tiers)

    def job_identifier(self, tier: Tier) -> str:
        """The job that a tier names, under whichever attribute: for the operation that the event
        opens, else for a provisioning (`jobIdentifier` or `jobName`).

        Raises:
            PermanentError: the tier names none.
        """
        return named_job(tier, self._opens or Kind.PROVISIONING)

    async def step(
        self, name: str, action: Callable[[], Awaitable[Any]], returns: Any = None
    ) -> Any:
        """The result of `action`, or its recorded result of an earlier attempt of this run.

        The result is converted to JSON and back in the first attempt, too, so that it is the same
        in all; `returns` is its model. If the process crashes after the action and before its
        result is recorded, the action runs again: pass `step_key(name)` on as idempotency key.

        Raises:
            ValueError: the name was used in this run before.
            TypeError: JSON can't represent the result.
        """
        self._take(name)
        remembered = self._steps.get(name)
        if remembered is None:
            await self.record_progress()
            clock = self._services.clock
            started_at = clock.now()
            result = self._services.structure.unstructure(await action())
            remembered = Step(
                name=name, result=result, started_at=started_at, recorded_at=clock.now()
            )
            self._steps[name] = remembered
            self.unrecorded = evolve(self.unrecorded, steps=(*self.unrecorded.steps, remembered))
        # A copy, so that a handler can't modify the recorded result.
        return self._services.structure.structure(copy.deepcopy(remembered.result), returns)

    def step_key(self, name: str) -> str:
        """The idempotency key of a step: the same in all attempts at the event."""
        return digest(self._lease.run.request_key, name)

    async def start_job(
        self,
        job_identifier: str,
        params: Mapping[str, Any],
        builder: str | None = None,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> Job:
        """Start a job on a builder (None: the default one): a step that is never done twice.

        `params` become the job's variables, together with ORCHESTRATOR_RUN_ID (the start
        key) and TRACEPARENT (https://www.w3.org/TR/trace-context/). `options` are for a builder
        that supports them, such as those of the tier's attribute `codebuild`. The job belongs to
        the operation that the event opens, or, if it opens none, to the run itself.

        Raises:
            PermanentError: no such builder or option, or the builder refuses the job permanently.
            TemporaryError: the builder can't start it now.
        """
        self._take("start_job")
        if self.job is None:
            services = self._services
            chosen = choose_builder(builder, services.builders, services.default_builder)
            await self.record_progress()
            start_key = self._lease.start_key
            variables = {
                **params,
                START_KEY: start_key,
                TRACEPARENT: self._lease.traceparent or _traceparent(start_key),
            }
            self.found(await self.starter.start(chosen, job_identifier, variables, options or {}))
        assert self.job is not None  # noqa: S101
        return self.job

    @property
    def secret_prefix(self) -> str:
        """What the names of the service's own secrets begin with."""
        return self._services.secret_prefix

    def found(self, job: Job) -> None:
        """Set the run's job, which is recorded with the next write."""
        self.job = job
        self.unrecorded = evolve(self.unrecorded, job=job)
        self.log.info("job started", job_id=job.id, builder=job.builder)

    def complete(self) -> None:
        """End the operation that the event opened as succeeded, without a job."""
        self._end(EndWithoutJob(None))

    def fail(self, reason: str) -> None:
        """End the operation that the event opened as failed, without a job."""
        self._end(EndWithoutJob(reason))

    def note(self, sentence: str) -> None:
        """Add a sentence to the tenant's timeline."""
        self.notes.append(sentence)

    def report(
        self,
        *,
        succeeded: bool,
        url: str,
        resources: Sequence[Any] = (),
        app_plane_url: str | None = None,
        unless_deployed: bool = False,
    ) -> None:
        """Request a report to the control plane of how the operation of this event ended.

        It is sent once the run has settled, to the webhook at `url`, signed with the secret of the
        operation's request, and retried until it is accepted. `resources` are objects
        `{"type", "metadata"}`. `unless_deployed`: the report is left to the deployment that
        follows, and sent when the tenant's next operation is opened if none has ended by then.

        Raises:
            ValueError: the event ends nothing, or a resource can't be signed.
        """
        if self.tenant_id is None or self._lease.run.outcome_of is None:
            raise ValueError("This event ends no operation that could be reported.")
        if self._services.dry_run:
            self.note("No report is sent to the control plane, since this is a dry run.")
            return
        body = report_body(
            self.tenant_id,
            succeeded=succeeded,
            resources=resources,
            app_plane_url=app_plane_url,
        )
        report = Report(url=url, body=body)
        self.reports, self.owes = (None, report) if unless_deployed else (report, None)

    def report_refusal(self, url: str) -> None:
        """Request a report that the event's operation could not begin.

        Raises:
            ValueError: the tenant's id can't be signed.
        """
        assert self.tenant_id is not None  # noqa: S101 - what the event opened is a tenant's
        body = report_body(self.tenant_id, succeeded=False, resources=(), app_plane_url=None)
        self.reports = Report(url=url, body=body)

    def clean_up(self, body: Mapping[str, Any]) -> None:
        """Request a TENANT_CLEAN_UP with this body after the failure, before any other operation.

        Raises:
            ValueError: the event ends no operation.
        """
        if self.tenant_id is None or self._lease.run.outcome_of is None:
            raise ValueError("This event ends no operation that could be cleaned up.")
        self.cleans_up = named_for(without_context(body), self.tenant_id)

    def _end(self, ending: EndWithoutJob) -> None:
        if self._opens is None:
            raise ValueError("This event opened no operation that could end.")
        if self.job is not None:
            raise ValueError("This run has a job: its end is the operation's.")
        self.ending = ending

    async def publish(
        self,
        event_type: str,
        detail: Mapping[str, Any],
        *,
        name: str | None = None,
        source: str | None = None,
    ) -> None:
        """Publish an event on the bus: a step, called `publish TYPE` unless `name` is given.

        `source` None is the setting `events.source`.

        `tenantId`, `operationId` and `runId` are added to a detail that doesn't have them.

        Raises:
            TemporaryError: the bus doesn't accept it now, or the setting `events.bus` is empty.
        """
        published = {**self.identity, **detail}

        async def put() -> str:
            return await self._services.publisher.publish(
                event_type=event_type,
                detail=self._services.structure.unstructure(published),
                source=source,
            )

        await self.step(name or publish_step(event_type), put)

    def _take(self, name: str) -> None:
        if name in self._taken:
            raise ValueError(f"The step {name!r} is taken twice in one run: give each its name.")
        self._taken.add(name)

    async def record_progress(self) -> None:
        # One at a time: progress counts as recorded only once it is written.
        async with self._recording:
            if not self.unrecorded:
                return
            # Reset before the write, since a concurrent step may add to it meanwhile.
            progress, self.unrecorded = self.unrecorded, Progress()
            try:
                orphaned = await self._lease.record(progress)
            except BaseException:
                self.unrecorded = progress.followed_by(self.unrecorded)
                raise
        if orphaned is not None:
            await self.disown(orphaned.job)
            raise TemporaryError("The operation has another job by now.")

    async def renew(self) -> None:
        """Renew the lease, and record progress with it."""
        if self.unrecorded:
            await self.record_progress()
        else:
            await self._lease.renew()

    def forget_steps(self) -> None:
        """Drop unrecorded steps, which the ledger can't store; the job is kept."""
        self.unrecorded = Progress(job=self.unrecorded.job)

    async def disown(self, job: Job) -> None:
        """Stop a job that the operation can't have."""
        self.job = None
        self.unrecorded = evolve(self.unrecorded, job=None)
        await self.starter.stop(job)


def publish_step(event_type: str) -> str:
    """The name of the step that publishes an event of the type."""
    return f"publish {event_type}"


def _traceparent(start_key: str) -> str:
    return f"00-{digest('trace', start_key)[:32]}-{digest('span', start_key)[:16]}-01"
