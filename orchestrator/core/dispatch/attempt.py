"""One attempt of a run: its handler, its settlement, and the report of an outcome."""

import asyncio
from functools import partial
from typing import Any, NoReturn

import attrs
import structlog

from orchestrator.core.callback.report import ReportSender
from orchestrator.core.dispatch.last_resort import LastResort
from orchestrator.core.dispatch.settlement import is_final, is_used_up, settlement_of, with_outcome
from orchestrator.core.errors import (
    Cancelled,
    HandedBack,
    InvalidPayload,
    OrchestratorError,
    PermanentError,
    TakenOver,
    TemporaryError,
    UnsupportedEventType,
)
from orchestrator.core.events.body import read_tenant_id
from orchestrator.core.events.envelope import Body
from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import ENDS, OPENS, Ending, Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.handlers.builtin import report_refusal
from orchestrator.core.handlers.registry import HandlerRegistry
from orchestrator.core.handlers.run import Run
from orchestrator.core.handlers.services import Services
from orchestrator.core.identifiers import START_KEY
from orchestrator.core.ledger.lease import RunLease, keep_renewed
from orchestrator.core.ledger.operations import Adopted, OrphanedJob, adopt
from orchestrator.core.ledger.possible_start import PossibleStart
from orchestrator.core.ledger.record_parts import Failure, Job
from orchestrator.core.ledger.records import RunRecord, RunStatus
from orchestrator.core.ledger.settle import FollowUp, Saved, Settlement, StartUnresolved
from orchestrator.core.ledger.snapshot import Decision, Snapshot
from orchestrator.core.tasks import is_cancelled, run_to_its_end, sole_error

log = structlog.get_logger("orchestrator.attempt")


@attrs.frozen(kw_only=True)
class AttemptRunner:
    """Executes attempts of claimed runs; at most `runs.max_attempts` of a run end by a bug."""

    registry: HandlerRegistry
    services: Services
    report_sender: ReportSender
    last_resort: LastResort

    async def run(self, event: Event[Body], lease: RunLease) -> tuple[FollowUp, ...]:
        """Execute one attempt of a claimed run: its handler, its settlement, and the report of an
        operation that it ended; returns the follow-ups.

        Raises:
            PermanentError, TemporaryError, HandlerFailed: the error that the sender gets.
        """
        opens = OPENS.get(event.type) if lease.run.tenant_id else None
        run = Run(lease, self.services, opens)
        try:
            sender_error, follow_ups = await self._attempt(event, lease, run, opens)
        except TemporaryError:
            raise
        except Exception as bug:  # noqa: BLE001 - a run whose attempts only raise must end, too
            await run_to_its_end(self._count(event, lease, run, bug))
        if run.reports is not None:
            await self.report_sender.send(lease.run.outcome_of or lease.run.operation_id)
        if isinstance(sender_error, HandedBack):
            raise asyncio.CancelledError
        if sender_error is not None:
            raise sender_error
        return follow_ups

    @property
    def _max_attempts(self) -> int:
        return self.services.transactions.timings.max_attempts

    async def _attempt(
        self, event: Event[Body], lease: RunLease, run: Run, opens: Kind | None
    ) -> tuple[BaseException | None, tuple[FollowUp, ...]]:
        """Run the handler and settle; returns the error that the sender gets, and the
        follow-ups."""
        services = self.services
        log.debug("started", attempt=run.attempt)
        async with keep_renewed(
            run.renew, services.clock, lease_s=services.transactions.timings.lease_s
        ):
            try:
                reached, error = await self._run_handler(event, lease, run, opens)
                if opens is not None and is_final(error, lease, self._max_attempts):
                    error = await self._make_certain(lease, run, error)
                    error = await self._refuse(event, lease, run, error)
            except asyncio.CancelledError:
                reached, error = False, HandedBack()
        # An own outcome ends its operation even if it doesn't match the handler's model.
        is_certain = reached or event.ends_start is not None
        ending = ENDS.get(event.type) if is_certain else None
        return await run_to_its_end(self._settle(event, lease, run, opens, error, ending))

    async def _count(
        self, event: Event[Body], lease: RunLease, run: Run, bug: Exception
    ) -> NoReturn:
        """The attempt failed outside of its handler.

        Raises:
            OrchestratorError: the error that the sender gets.
        """
        try:
            # Recorded first, so that a later attempt doesn't repeat finished steps.
            await run.record_progress()
        except Exception as error:  # noqa: BLE001 - then a look-up finds the job
            log.warning("progress not recorded", error=type(error).__name__)
        held_by = lease.run.attempt
        try:
            await self.last_resort.broke_down(bug, event.type, lease.run.run_id, attempt=held_by)
        except TakenOver:
            await self._leave_behind(lease, run)
            raise

    async def _run_handler(
        self, event: Event[Body], lease: RunLease, run: Run, opens: Kind | None
    ) -> tuple[bool, BaseException | None]:
        """Run the handler; returns whether it was called, and the exception that it raised."""
        if lease.stop_reason is not None:
            return False, Cancelled(lease.stop_reason)
        try:
            if opens is not None and is_used_up(lease, self._max_attempts):
                await self._find_last_job(run)
            registration = self.registry.by_type.get(event.type)
            if registration is None:
                raise UnsupportedEventType(event.type)
            payload = self._structured(event, registration.payload)
        except OrchestratorError as error:
            return False, error
        if event.type in ENDS and lease.run.outcome_of is None:
            run.note("It names no tenant, and no job of this service.")
            return True, None
        try:
            await registration.handler(evolve(event, payload=payload), run)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - settled as a bug
            return True, HandedBack() if is_cancelled(error) else sole_error(error)
        return True, None

    def _structured(self, event: Event[Body], model: Any) -> Any:
        """The body as the handler's model.

        An event that follows one of the service's starts contains other senders' fields: a build's
        environment, a request. Those that don't match the model are left out, since the operation's
        end mustn't depend on them.
        """
        structure = self.services.structure.structure
        try:
            return structure(event.body, model)
        except InvalidPayload as misfit:
            if event.ends_start is None and START_KEY not in event.body:
                raise
            paths = [error.path.removeprefix("$.") for error in misfit.errors]
            odd = {path.partition(".")[0].partition("[")[0] for path in paths}
            fitting = {name: value for name, value in event.body.items() if name not in odd}
            return structure({**fitting, "tenantId": read_tenant_id(event.body)}, model)

    async def _find_last_job(self, run: Run) -> None:
        """The job that the last attempt may have started; nothing is started any more.

        Raises:
            PermanentError: there is none.
            TemporaryError: that isn't certain yet.
        """
        found = await run.starter.look_up()
        if found is None:
            raise PermanentError(
                f"{self._max_attempts} attempts (runs.max_attempts) ended by bugs, and none of "
                "them started a job: fix the cause that the log shows, then replay the run."
            )
        run.found(found)

    async def _make_certain(
        self, lease: RunLease, run: Run, error: BaseException | None
    ) -> BaseException | None:
        """Before an operation ends without a job: look up a start that may be out."""
        if lease.possible_start is None or run.job is not None:
            return error
        try:
            found = await run.starter.look_up()
        except OrchestratorError as uncertain:
            # A bug is counted all the same: attempts come to an end, and checks continue.
            return uncertain if error is None or isinstance(error, PermanentError) else error
        if found is not None:
            run.found(found)
        return error

    async def _refuse(
        self, event: Event[Body], lease: RunLease, run: Run, error: BaseException | None
    ) -> BaseException | None:
        """Report an operation that never began to the control plane, once its webhook is known."""
        if error is None or run.job is not None or not is_final(error, lease, self._max_attempts):
            return error
        try:
            await report_refusal(event, run)
        except TemporaryError as unknown:
            if isinstance(error, PermanentError):
                return unknown
            # A bug is counted all the same: attempts come to an end.
            run.note(f"No report is sent to the control plane: its webhook is unknown: {unknown}")
        return error

    async def _settle(
        self,
        event: Event[Body],
        lease: RunLease,
        run: Run,
        opens: Kind | None,
        error: BaseException | None,
        ending: Ending | None,
    ) -> tuple[BaseException | None, tuple[FollowUp, ...]]:
        """End the attempt; returns the error that the sender gets, and the follow-ups.

        If the ledger refuses the settlement, it is retried with less in it: without the job that
        isn't the operation's, the end without a job, the steps, all except the bare failure.
        """
        run.starter.close()
        while True:
            settlement, sender_error = settlement_of(
                event, lease, run, opens, error, self._max_attempts
            )
            if ending is not None:
                settlement = with_outcome(settlement, event, run, ending, lease.start_key)
            try:
                outcome = await lease.settle(settlement)
            except TakenOver:
                await self._leave_behind(lease, run)
                raise
            except PermanentError as refusal:
                if not settlement.progress.steps:
                    return await self._give_up(lease, settlement, opens, refusal)
                error = await self._drop_steps(event, lease, run, opens, refusal)
                continue
            match outcome:
                case Saved():
                    return sender_error, outcome.follow_ups
                case OrphanedJob():
                    await run.disown(outcome.job)
                    error = TemporaryError("The operation has another job by now.")
                case StartUnresolved():
                    now = self.services.clock.now()
                    lease.possible_start = lease.possible_start or PossibleStart(now)
                    error = TemporaryError("A start of the operation may be out.")

    async def _drop_steps(
        self,
        event: Event[Body],
        lease: RunLease,
        run: Run,
        opens: Kind | None,
        refusal: PermanentError,
    ) -> BaseException | None:
        """Drop steps whose results the ledger can never store; returns the error that the attempt
        ends with instead."""
        run.forget_steps()
        if opens is None:
            return refusal
        error = await self._make_certain(lease, run, refusal)
        return await self._refuse(event, lease, run, error)

    async def _give_up(
        self, lease: RunLease, settlement: Settlement, opens: Kind | None, refusal: PermanentError
    ) -> tuple[BaseException, tuple[FollowUp, ...]]:
        """Settle with the bare failure, since the items have no room for more.

        Raises:
            PermanentError: there isn't even room for that.
        """
        bare = evolve(
            settlement,
            status=RunStatus.FAILED,
            error=Failure(type="PermanentError", message="The ledger has no room for more."),
            note=None,
            follow_ups=(),
            ends_without_job=opens is not None,
        )
        outcome = await lease.settle(bare)
        if not isinstance(outcome, Saved):
            raise refusal
        log.error("settled without its reason", reason=str(refusal))
        return refusal, outcome.follow_ups

    async def _leave_behind(self, lease: RunLease, run: Run) -> None:
        """Another attempt has taken the run over: record this one's job with the operation if
        possible, else stop it.

        A start whose answer came too late is looked up: its job may run beside another one.
        """
        job = run.unrecorded.job
        if job is None and lease.possible_start is not None:
            try:
                job = await run.starter.look_up()
            except OrchestratorError as error:
                log.warning("a start may be out that no process watches", reason=str(error))
        if job is None:
            return
        outcome = await self.services.transactions.run(partial(self._adopt, lease.run, job))
        if isinstance(outcome, OrphanedJob):
            await run.starter.stop(job)

    def _adopt(
        self, run: RunRecord, job: Job, snapshot: Snapshot
    ) -> Decision[Adopted | OrphanedJob]:
        timings = self.services.transactions.timings
        return adopt(snapshot, run.operation_id, run.start_number, job, run.run_id, timings)
