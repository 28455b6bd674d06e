"""Counts attempts that fail outside of the handler, and ends runs after the last one.

Nothing in here uses the event, a handler or redaction, since these may be the cause: a run's last
attempt uses only the items of the ledger, and its builder's answer about a start.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NoReturn

import attrs
import structlog

from orchestrator.core.backoff import doubling_pause_s
from orchestrator.core.callback.report import ReportSender, report_body
from orchestrator.core.errors import AttemptFailed, OrchestratorError, TakenOver, TemporaryError
from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import ENDS, OPENS, TENANT_DEPLOYMENT, Ending, Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.handlers.run import publish_step
from orchestrator.core.handlers.services import Services
from orchestrator.core.jobs.start import JobStarter
from orchestrator.core.ledger.breakdowns import DIED, Breakdown, count
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.lease import RunLease, claim_by_records, keep_renewed
from orchestrator.core.ledger.operations import OrphanedJob
from orchestrator.core.ledger.record_parts import Job, Report
from orchestrator.core.ledger.records import (
    OperationRecord,
    PayloadRecord,
    Progress,
    RunRecord,
    RunStatus,
)
from orchestrator.core.ledger.settle import Settlement

#: The longest pause that a builder's `retry_after_s` can make, in seconds.
_LONGEST_PAUSE_S = 300.0

log = structlog.get_logger("orchestrator.last_resort")


@attrs.frozen(kw_only=True)
class LastResort:
    """Counts attempts that failed outside of the handler, and ends runs without attempts left."""

    services: Services
    report_sender: ReportSender

    async def broke_down(
        self,
        bug: Exception,
        event_type: str,
        run_id: str,
        *,
        attempt: int | None = None,
        trigger: Trigger = Trigger.DELIVERY,
        event: Event[Mapping[str, Any]] | None = None,
        payload: PayloadRecord | None = None,
    ) -> NoReturn:
        """Count an attempt that raised `bug` without a settlement.

        `attempt` is the claimed one; None: the claim of `event`, caused by `trigger`, raised.

        Raises:
            AttemptFailed, or `bug` if it is an OrchestratorError: the sender's answer.
            TakenOver: another attempt had taken the run over before.
            TemporaryError: the ledger can't be reached, or the run can't be ended yet.
        """
        is_own = event is not None and event.ends_start is not None
        breakdown = Breakdown(
            run_id=run_id,
            cause=type(bug).__name__,
            attempt=attempt,
            trigger=trigger,
            # An OrchestratorError would be raised again, and its caller handles it.
            outcome=event if is_own and not isinstance(bug, OrchestratorError) else None,
            payload=payload,
            delivered=event if trigger is Trigger.DELIVERY else None,
        )
        transactions = self.services.transactions
        counted = await transactions.run(
            lambda snapshot: count(snapshot, breakdown, transactions.timings)
        )
        log.error("attempt failed outside of the handler", run_id=run_id, exc_info=bug)
        if counted is None and attempt is not None:
            raise TakenOver(run_id)
        if counted is not None and counted.ends_by_records:
            await self.end(run_id)
        if isinstance(bug, OrchestratorError):
            raise bug
        raise AttemptFailed(event_type, run_id if counted is not None else None) from bug

    async def end(self, run_id: str) -> None:
        """End a run by its records, if it is due.

        Raises:
            TemporaryError: it can't be ended yet.
        """
        lease = await claim_by_records(self.services.transactions, run_id)
        if lease is not None:
            await self.finish(lease)

    async def finish(self, lease: RunLease) -> None:
        """End a claimed run by its records, with the operation that it opened or was to end.

        Raises:
            TemporaryError: the ledger can't be reached, or a start of the run may be out.
        """
        try:
            await self._finish(lease)
        except TemporaryError:
            raise
        except Exception as bug:
            # Even the items can't be used: at least the run isn't retried forever.
            run = lease.run
            note = (
                "What it should have ended could not be: see the log, and the items "
                f"{run.outcome_of or run.operation_id} and {run.tenant_id} of the ledger."
            )
            await lease.fail_alone(run.error or DIED, note)
            log.error("a run was ended without its operation", run_id=run.run_id, exc_info=bug)

    async def _finish(self, lease: RunLease) -> None:
        services = self.services
        starter = JobStarter(
            lease,
            services.builders,
            services.clock,
            services.transactions.timings,
            services.secret_references,
        )
        async with keep_renewed(
            lease.renew, services.clock, lease_s=services.transactions.timings.lease_s
        ):
            await lease.go_on_by_records()
            job = await self._look_up(lease, starter)
        settlement = await self._settlement(lease, job)
        outcome = await lease.settle(settlement)
        if isinstance(outcome, OrphanedJob):
            await starter.stop(outcome.job)
            outcome = await lease.settle(evolve(settlement, progress=Progress()))
        log.warning("ended by its records", run_id=lease.run.run_id, note=settlement.note)
        if settlement.report is not None:
            await self.report_sender.send(lease.run.outcome_of or lease.run.operation_id)

    async def _look_up(self, lease: RunLease, starter: JobStarter) -> Job | None:
        """The job of a start that may be out; None if there is none, or the deadline has passed."""
        run, start = lease.run, lease.possible_start
        if start is None or run.job is not None or run.event_type not in OPENS:
            return None
        asked_at = self.services.clock.now()
        try:
            return await starter.look_up()
        except Exception as error:
            deadline_s = self.services.transactions.timings.deadline_s
            if start.until + timedelta(seconds=deadline_s) > asked_at:
                raise await self._hand_back(lease, error) from error
            log.error("a start may be out that no process watches", run_id=run.run_id)
            lease.possible_start = None
            return None

    async def _hand_back(self, lease: RunLease, error: Exception) -> TemporaryError:
        """Hand the run back until the lookup succeeds; returns the error that its sender gets."""
        asked_s = error.retry_after_s if isinstance(error, TemporaryError) else None
        pause_s = doubling_pause_s(TemporaryError.first_pause_s, lease.run.waits)
        waits = TemporaryError(
            "A start may be out that no look-up has found or ruled out.",
            retry_after_s=pause_s if asked_s is None else min(asked_s, _LONGEST_PAUSE_S),
        )
        waits.run_id = lease.run.run_id
        await lease.settle(
            Settlement(
                status=RunStatus.RETRY,
                pause_s=waits.retry_after_s or pause_s,
                possible_start=lease.possible_start,
                error=lease.run.error,
                note=str(waits),
            )
        )
        return waits

    async def _settlement(self, lease: RunLease, job: Job | None) -> Settlement:
        """The run's settlement: failed, with its operation's end by the event's type."""
        run = lease.run
        ending = ENDS.get(run.event_type)
        failed = Settlement(
            status=RunStatus.FAILED,
            progress=Progress(job=job),
            error=run.error or DIED,
            possible_start=lease.possible_start,
            ends_without_job=run.event_type in OPENS,
        )
        operation = None
        is_begun = job is not None or run.job is not None
        if run.event_type in OPENS and not is_begun and self.services.callback.refusals:
            return await self._refused(failed, run)
        if ending is not None and run.outcome_of is not None:
            operation = await self.services.transactions.find_operation(run.outcome_of)
        if ending is None or operation is None or operation.outcome != run.run_id:
            return failed
        report, why_not = self._report(operation, ending)
        is_followed = publish_step(TENANT_DEPLOYMENT) in run.steps
        is_reported_later = self.services.callback.after is Kind.DEPLOYMENT and is_followed
        said = f"{run.event_type} counts by its type alone: no clean-up follows."
        return evolve(
            failed,
            ending=ending,
            reason=None if ending.succeeded else f"{run.event_type} was reported.",
            report=None if is_reported_later else report,
            owed=report if is_reported_later else None,
            note=" ".join(filter(None, (said, why_not))),
        )

    async def _refused(self, failed: Settlement, run: RunRecord) -> Settlement:
        """Report that a request could not begin, if it had credentials."""
        operation = await self.services.transactions.find_operation(run.operation_id)
        if operation is None:
            return failed
        report, why_not = self._report(operation, Ending(OPENS[run.event_type], False))
        return evolve(failed, report=report, note=why_not)

    def _report(
        self, operation: OperationRecord, ending: Ending
    ) -> tuple[Report | None, str | None]:
        """A report of the bare status, if there are credentials; or why none is sent."""
        callback = self.services.callback
        if operation.credentials is None or operation.tenant_id is None:
            return None, None
        if self.services.dry_run:
            return None, "No report is sent to the control plane, since this is a dry run."
        if callback.url is None:
            return None, "No report is sent to the control plane: callback.url is not set."
        try:
            body = report_body(
                operation.tenant_id, succeeded=ending.succeeded, resources=(), app_plane_url=None
            )
        except ValueError as error:
            return None, f"No report is sent to the control plane, since {error}."
        return Report(url=callback.url, body=body), None
