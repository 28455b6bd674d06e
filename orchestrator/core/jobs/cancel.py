"""Stops jobs: on an operator's cancel of the operation, and at the deadline."""

import contextlib
from collections.abc import Awaitable, Callable

import attrs
import structlog

from orchestrator.core.errors import (
    Cancelled,
    HandlerFailed,
    NotAllowed,
    PermanentError,
    TenantNotFound,
)
from orchestrator.core.events.event_types import Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.jobs import builder_calls
from orchestrator.core.jobs.adopt import JobAdopter
from orchestrator.core.jobs.builder import StopsHarder, StopsJobs
from orchestrator.core.jobs.describe import JobDescriber
from orchestrator.core.jobs.job_description import Answer, JobDescription, NotDescribed
from orchestrator.core.jobs.looks import Next, what_follows
from orchestrator.core.jobs.outcome import OutcomeMaker
from orchestrator.core.ledger.guards import has_begun_anew
from orchestrator.core.ledger.operations import ask_to_stop, count_stops, note_stop
from orchestrator.core.ledger.record_parts import Job, OperationState
from orchestrator.core.ledger.records import MAX_NAME, OperationRecord, RunStatus
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.texts import shorten

log = structlog.get_logger("orchestrator.cancel")


@attrs.frozen(kw_only=True)
class JobStopper:
    """Stops jobs, and ends their operations.

    `stops_overdue`: a job beyond its deadline is stopped. `dry_run`: real jobs are not touched;
    without it a dry run's are not.
    """

    transactions: Transactions
    describer: JobDescriber
    adopter: JobAdopter
    outcomes: OutcomeMaker
    stops_overdue: bool
    dry_run: bool = False

    async def stop(self, operation: OperationRecord, reason: str) -> None:
        """Stop the operation's job; the operation ends once the job is over, at once without a
        job.

        Raises:
            OrchestratorError: the builder can't be reached, or the outcome couldn't be handled yet.
        """
        current = await self.transactions.run(
            lambda snapshot: ask_to_stop(
                snapshot, operation.operation_id, operation.start_number, reason
            )
        )
        if current is None:
            return
        if current.job is None:
            await self.outcomes.end(current, NotDescribed.NOT_ASKED, current.stop_reason)
            return
        job = current.job
        builder: object = self.describer.builders.get(job.builder)
        if isinstance(builder, StopsJobs):
            await self._stop(current, job, builder)
        else:
            log.error("a job must be stopped, and its builder can't", job_id=job.id)
        if job.builder not in self.describer.describable:
            await self.outcomes.end(current, NotDescribed.NOT_ASKED, current.stop_reason)
            return
        answer = await self.describer.describe(job) or NotDescribed.UNKNOWN
        match self.what_follows(current, answer):
            case Next.END:
                await self.outcomes.end(current, answer)
            case Next.REPLACE if isinstance(answer, JobDescription):
                await self.adopter.replace(current, job, answer.job)
            case _:
                pass

    async def _stop(self, operation: OperationRecord, job: Job, builder: StopsJobs) -> None:
        """Stop the job; in a harder way if it ignored an earlier stop for long enough."""
        if not isinstance(builder, StopsHarder):
            await builder_calls.stop_job(job.builder, builder, job.id)
            log.info("job stopped", job_id=job.id, reason=operation.stop_reason)
            return
        ways = builder.stop_ways
        number = count_stops(operation, ways, self.transactions.clock.now())
        way = ways[min(number, len(ways)) - 1]
        await builder_calls.stop_job(job.builder, builder, job.id, way=way)
        log.info("job stopped", job_id=job.id, way=way, reason=operation.stop_reason)
        if number > operation.stops:
            await self.transactions.run(
                lambda snapshot: note_stop(snapshot, operation, number, ways)
            )
        if number > len(ways):
            log.error(
                "a job doesn't obey a stop: end it by hand", job_id=job.id, builder=job.builder
            )

    def leaves_alone(self, job: Job | None) -> bool:
        """Whether this service must not touch the job: a dry run's, or a real one in a dry run."""
        return job is not None and job.is_dry is not self.dry_run

    def what_follows(self, operation: OperationRecord, answer: Answer) -> Next:
        """The next action for the operation, by the builder's answer about its job."""
        now, timings = self.transactions.clock.now(), self.transactions.timings
        return what_follows(operation, answer, now, timings, stops_overdue=self.stops_overdue)


@attrs.frozen(kw_only=True)
class Stopped:
    """The operation that a cancel stops; without `has_ended` its job is not over yet."""

    kind: Kind
    operation_id: str
    has_ended: bool


async def cancel(
    stopper: JobStopper,
    resume: Callable[[str], Awaitable[object]],
    tenant_id: str,
    reason: str | None,
    *,
    clean_up: bool,
    on_certain: Callable[[Stopped], None],
    by: str | None = None,
) -> Stopped:
    """Stop the tenant's operation, which ends as failed; a clean-up only with `clean_up`.

    A run that is still opening it is resumed, and fails, since only that run can end the operation
    without a job. `by` is the name of who cancels it. `on_certain` is called with the operation
    once the cancel is recorded: the sweep then completes it, even if this call fails.

    Raises:
        TenantNotFound: there is no such tenant.
        NotAllowed: it has no operation under way, or one of a dry run while this is none, or the
            reverse; or it is a clean-up, without `clean_up`.
        TemporaryError: a run of it is in progress, or a builder can't be reached.
    """
    transactions = stopper.transactions
    tenant = await transactions.find_tenant(tenant_id)
    if tenant is None:
        raise TenantNotFound(tenant_id)
    found = await transactions.find_operation(tenant.operation_id) if tenant.operation_id else None
    if found is None or found.kind is None:
        raise NotAllowed(f"the tenant {tenant_id} has no operation under way")
    if found.kind is Kind.CLEAN_UP and not clean_up:
        # A second cancel of a provisioning must not stop its clean-up.
        raise NotAllowed(
            f"the tenant {tenant_id} is being cleaned up: to stop that as well, and leave the rest "
            'of its provisioning, send {"cleanUp": true}'
        )
    if found.job is not None and stopper.leaves_alone(found.job):
        raise NotAllowed(
            f"the job {found.job.id} is a dry run's, whose next sweep ends it: sweep this ledger "
            "with builders.dry_run, or use an empty one"
            if found.job.is_dry
            else f"the job {found.job.id} was started for real, and this is a dry run"
        )
    wanted, number = found.operation_id, found.start_number
    given = f": {reason.rstrip('.')}" if reason else ""
    by = shorten(by, MAX_NAME) if by else None
    why = shorten(f"Cancelled by {by or 'an operator'}{given}.")
    pending = Stopped(kind=found.kind, operation_id=wanted, has_ended=False)
    operation = await transactions.run(
        lambda snapshot: ask_to_stop(snapshot, wanted, number, why, by)
    )
    if operation is not None and operation.job is not None:
        on_certain(pending)
    elif operation is not None:
        opener = await transactions.find_run(operation.opener)
        if opener is not None and has_begun_anew(opener, operation):
            opener = None
        if opener is not None and opener.status is RunStatus.RETRY:
            # The run is due, and its next claim finds the reason; a run in progress might not.
            on_certain(pending)
        if opener is not None and not opener.status.is_finished:
            try:
                with contextlib.suppress(Cancelled):
                    await resume(opener.run_id)
            except HandlerFailed:
                # The failed attempt has ended the operation by its records, or is retried: then
                # a job may run that is not recorded yet.
                operation = await transactions.find_operation(wanted)
                if operation is not None and _is_open(operation):
                    raise
            else:
                on_certain(pending)
            operation = await transactions.find_operation(wanted)
    if operation is not None and _is_open(operation):
        try:
            await stopper.stop(operation, why)
        except (PermanentError, HandlerFailed) as error:
            # The outcome's run stores the error; the cancel itself succeeded.
            log.warning("the outcome's handler failed", reason=str(error))
        on_certain(pending)
        operation = await transactions.find_operation(wanted)
    has_ended = operation is None or not _is_open(operation)
    return evolve(pending, has_ended=has_ended)


def _is_open(operation: OperationRecord) -> bool:
    return operation.state is OperationState.OPEN
