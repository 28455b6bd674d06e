"""The orchestrator: parse, claim, structure, handle, settle.

Whatever brings an event (HTTP, a queue, a library call, the sweep, a replay) comes through
here; nothing else runs a handler.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import attrs
import structlog

from orchestrator.core import answers
from orchestrator.core.answers import ClaimRequest, Why
from orchestrator.core.books import Attempt, held
from orchestrator.core.builds import CODE_BUILD, read_state_change, without_environment
from orchestrator.core.envelopes import Body, Delivery, parse_event
from orchestrator.core.errors import (
    BeingHandled,
    Cancelled,
    EventKeyReused,
    HandedBack,
    NotAllowed,
    OrchestratorError,
    PermanentError,
    RunNotFound,
    TakenOver,
    TemporaryError,
    TenantNotFound,
    Waiting,
)
from orchestrator.core.events import BUILD_STATE_CHANGE, RECONCILE, Event
from orchestrator.core.handlers import build_state_change
from orchestrator.core.lifecycle import ENDS, OPENS, Ending, Kind
from orchestrator.core.operations import Orphaned, ask_to_stop
from orchestrator.core.oversight import Overseer
from orchestrator.core.parcels import pack_event, rewritten, unpack_event
from orchestrator.core.payloads import (
    read_job_id,
    read_object,
    read_operation,
    read_request_key,
    read_secret,
    read_tenant_id,
    read_tier,
)
from orchestrator.core.ports import Ids
from orchestrator.core.records import Credentials, OperationState, PayloadRecord, is_operation_id
from orchestrator.core.registry import HandlerRegistry
from orchestrator.core.reporting import Reporter
from orchestrator.core.run import Run, Services
from orchestrator.core.settlements import FollowUp, Uncertain
from orchestrator.core.sweep import Swept, sweep
from orchestrator.core.variables import START_KEY
from orchestrator.core.verdicts import is_final, judge, with_ending

#: Set by the way in. It reaches us through a user's wrapper that passes type and body alone,
#: so that wrapping the orchestrator can't cost anybody the recognition of duplicates.
delivery: ContextVar[Delivery] = ContextVar("delivery", default=Delivery())  # noqa: B039 - frozen

Result = TypeVar("Result")

log = structlog.get_logger("orchestrator.dispatch")


@attrs.frozen(kw_only=True)
class Handled:
    """The event is handled: just now, or (`replayed`) by an earlier delivery of it.

    `run_id` is None where no run is kept of it: a stranger's build, a sweep.
    """

    run_id: str | None
    replayed: bool = False


class EventOrchestrator(Protocol):
    """What the ways in call; a user's own may take its place."""

    async def handle_event(self, event_type: str, body: Any) -> object:
        """Handle an event; `body` is the parsed JSON, as received."""


@attrs.frozen(kw_only=True)
class Limits:
    """How many attempts may end by a bug; how long a sweep that was asked for lasts (seconds);
    whether a job beyond its deadline is stopped."""

    max_attempts: int
    sweep_s: float
    stops_overdue: bool = True


@attrs.frozen(kw_only=True)
class Orchestrator:
    """Finds the handler of an event, claims the event, runs it and settles it."""

    registry: HandlerRegistry
    services: Services
    ids: Ids
    aliases: Mapping[str, str]
    limits: Limits

    async def handle_event(
        self, event_type: str, body: object, *, event_id: str | None = None
    ) -> Handled:
        """Handle one event: `body` is parsed JSON in any of the shapes of `core.envelopes`.

        Raises:
            BadEvent: it can't be read as an event.
            PermanentError: it will never work as it is; a failed run says why.
            TemporaryError: try again later.
            HandlerFailed: the handler has a bug.
        """
        how = delivery.get()
        event = parse_event(
            event_type,
            body,
            delivery=attrs.evolve(how, event_id=event_id) if event_id else how,
            aliases=self.aliases,
            now=self.services.clock.now(),
            fresh_id=self.ids.fresh_id(),
        )
        # What a handler calls in its turn is no delivery of the way in.
        token = delivery.set(Delivery())
        try:
            if event.type == RECONCILE:
                await self.reconcile(timeout_s=self.limits.sweep_s)
                return Handled(run_id=None)
            if event.type == BUILD_STATE_CHANGE:
                return await self._handle_state_change(event)
            return await self._handle(event, Why.DELIVERY)
        finally:
            delivery.reset(token)

    async def replay(self, run_id: str, *, force: bool = False) -> Handled:
        """Run a kept event again; `force` does so even with what is over or not allowed.

        Raises:
            RunNotFound: there is no such run.
            PermanentError, TemporaryError, HandlerFailed: as `handle_event` does.
        """
        return await self._rerun(run_id, Why.FORCED_REPLAY if force else Why.REPLAY)

    async def reconcile(self, *, timeout_s: float | None = None) -> Swept:
        """One sweep: runs that are due are run again, jobs asked about, reports sent.

        What isn't done in time is handed back.

        Raises:
            TemporaryError: ledger or builder can't be reached.
        """

        async def resume(run_id: str) -> None:
            await self._rerun(run_id, Why.SWEEP)

        async def attend(operation_ids: Sequence[str]) -> None:
            over = await self.overseer.attend(operation_ids)
            await asyncio.gather(*map(self.reporter.send, over))

        books = self.services.books
        return await sweep(
            books.ledger, books.clock, resume=resume, attend=attend, timeout_s=timeout_s
        )

    async def cancel(self, tenant_id: str, *, reason: str | None = None) -> bool:
        """Stop what is being done to the tenant; it ends as failed. False: it has not ended yet.

        Raises:
            TenantNotFound: there is no such tenant.
            NotAllowed: nothing is being done to it.
            TemporaryError: a run is at work on it right now, or a builder can't be reached.
        """
        books = self.services.books
        tenant = await books.find_tenant(tenant_id)
        if tenant is None:
            raise TenantNotFound(tenant_id)
        operation = await books.find_operation(tenant.operation_id or "")
        if operation is None or operation.state is not OperationState.OPEN:
            raise NotAllowed(f"nothing is being done to the tenant {tenant_id}")
        wanted, number = operation.operation_id, operation.start_number
        why = f"Cancelled by an operator{f': {reason}' if reason else ''}."
        operation = await books.decide(lambda view: ask_to_stop(view, wanted, number, why))
        opener = await books.find_run(operation.opener) if operation else None
        if operation and not operation.job and opener and not opener.status.is_finished:
            # It holds the operation, so it is the one that can end it without a job.
            with contextlib.suppress(Cancelled):
                await self._rerun(opener.run_id, Why.DELIVERY)
            operation = await books.find_operation(wanted)
        if operation is not None and operation.state is OperationState.OPEN:
            if operation.job is None:
                await self.overseer.end(operation, None, operation.stop_reason)
            else:
                await self.overseer.stop(operation, why)
            operation = await books.find_operation(wanted)
        return operation is None or operation.state is not OperationState.OPEN

    @property
    def overseer(self) -> Overseer:
        async def conclude(event: Event[Body]) -> None:
            await self._handle(event, Why.DELIVERY)

        services = self.services
        return Overseer(
            books=services.books,
            builders=services.builders,
            secrets=services.secrets,
            stops_overdue=self.limits.stops_overdue,
            conclude=conclude,
        )

    @property
    def reporter(self) -> Reporter:
        return Reporter(books=self.services.books, webhook=self.services.webhook)

    async def _rerun(self, run_id: str, why: Why) -> Handled:
        run, payload = await self.services.books.find_kept(run_id)
        if run is None or payload is None:
            raise RunNotFound(run_id)
        return await self._handle(unpack_event(run, payload), why, payload=payload)

    async def _handle_state_change(self, event: Event[Body]) -> Handled:
        """A build of ours that is over ends its operation; a stranger's is nobody's business here.

        A handler of the user's gets them all, without the environment that they carry.
        """
        report = read_state_change(event.body)
        operation = await self.overseer.find(report) if report else None
        handled = Handled(run_id=None)
        if report and operation and report.is_over:
            if operation.state is OperationState.OPEN:
                await self.overseer.end(operation, report)
            ended = await self.services.books.find_operation(operation.operation_id)
            handled = Handled(
                run_id=(ended.outcome or ended.opener) if ended else None,
                replayed=operation.state is not OperationState.OPEN,
            )
        if self.registry.resolve(event.type).handler is build_state_change:
            return handled
        return await self._handle(rewritten(event, without_environment), Why.DELIVERY)

    async def _handle(
        self, event: Event[Body], why: Why, *, payload: PayloadRecord | None = None
    ) -> Handled:
        """Handle an event; `payload` None: it isn't kept yet."""
        request = await self._claim_request(event, why, payload)
        event = request.event
        with structlog.contextvars.bound_contextvars(
            run_id=event.key, event_type=event.type, tenant_id=request.tenant_id
        ):
            claim = await self.services.books.claim(request)
            match claim:
                case Attempt():
                    await self._work(event, claim)
                    return Handled(run_id=event.key)
                case answers.Duplicate(run_id):
                    log.info("duplicate", of=run_id)
                    return Handled(run_id=run_id, replayed=True)
                case answers.Noted(run_id, operation_id):
                    log.info("noted")
                    if operation_id is not None:
                        await self._ask_about(operation_id)
                    return Handled(run_id=run_id)
                case answers.NotDue():
                    return Handled(run_id=event.key, replayed=True)
                case answers.InOtherHands(run):
                    raise BeingHandled(run.run_id)
                case answers.Waits(run_id, reason, pause_s):
                    log.info("waits", reason=reason)
                    raise Waiting(reason, run_id, retry_after_s=pause_s)
                case answers.Refused(run_id, reason):
                    log.info("refused", reason=reason)
                    raise NotAllowed(reason, run_id)
                case answers.BodyDiffers(run):
                    raise EventKeyReused(event.id, run.run_id)
                case answers.NeedsForce(run):
                    raise NotAllowed(f"run is {run.status} already; replay with force", run.run_id)

    async def _claim_request(
        self, event: Event[Body], why: Why, payload: PayloadRecord | None
    ) -> ClaimRequest:
        """What the claim needs to know. An outcome is matched by its job before it is claimed, and
        what a build tells of itself is its whole environment: secrets go no further than here."""
        secret, opens = read_secret(event.body), OPENS.get(event.type)
        tenant_id, ending = read_tenant_id(event.body), ENDS.get(event.type)
        named, number = read_operation(event.body)
        outcome = None
        if ending is not None:
            event = rewritten(event, self.services.secrets.leave_out)
            job_id = read_job_id(event.body) if event.ends_start is None else None
            if tenant_id is None or job_id is not None:
                tenant_id = await self._find_tenant_id(event, job_id, named) or tenant_id
            outcome = answers.Outcome(
                ending=ending,
                job=(CODE_BUILD, job_id) if job_id else None,
                operation_id=named,
                start_number=number,
                outranked_by=frozenset() if event.ends_start else self.overseer.askable,
            )
        ended_job = read_object(event.body.get("endedJob")) if event.ends_start else {}
        return ClaimRequest(
            event=event,
            payload=payload or pack_event(event),
            tenant_id=tenant_id,
            why=why,
            opens=opens,
            reports=outcome,
            request_key=read_request_key(event.body),
            tier=read_tier(event.body),
            credentials=Credentials(secret=secret[0], context=secret[1], as_of=event.time)
            if secret
            else None,
            follows=named if named and is_operation_id(named) else None,
            link=ended_job.get("logUrl"),
        )

    async def _find_tenant_id(
        self, event: Event[Body], job_id: str | None, operation_id: str | None
    ) -> str | None:
        """The tenant of the operation that a report is about, which it may not name: a build
        that fails early doesn't know it yet."""
        if job_id is not None:
            own_key = event.body.get(START_KEY)
            start_key = own_key if isinstance(own_key, str) else None
            operation = await self.overseer.identify(job_id, start_key)
        else:
            operation = await self.services.books.find_operation(operation_id or "")
        return operation.tenant_id if operation else None

    async def _work(self, event: Event[Body], attempt: Attempt) -> None:
        """One attempt at a claimed run, from its handler to its settlement."""
        services, opens = self.services, _opened(event)
        run = Run(attempt, services, opens)
        log.info("started", attempt=run.attempt)
        async with held(run.renew, services.clock, lease_s=services.books.terms.lease_s):
            reached, error = await self._run_handler(event, attempt, run)
            if opens is not None and is_final(error, attempt, self.limits.max_attempts):
                error = await self._make_certain(attempt, run, error)
        # That a job is over holds whether the user's model of the event fits or not.
        is_certain = reached or event.ends_start is not None
        ending = ENDS.get(event.type) if is_certain else None
        error, follow_ups = await _to_its_end(
            self._settle(event, attempt, run, opens, error, ending)
        )
        if run.reports is not None and attempt.run.outcome_of is not None:
            await self._send_report(attempt.run.outcome_of)
        if isinstance(error, HandedBack):
            raise asyncio.CancelledError
        if error is not None:
            raise error
        for follow_up in follow_ups:
            await self._follow(follow_up)

    async def _run_handler(
        self, event: Event[Body], attempt: Attempt, run: Run
    ) -> tuple[bool, BaseException | None]:
        """Whether the handler was called at all, and what it raised."""
        reached = False
        if attempt.stop_reason is not None:
            return reached, Cancelled(attempt.stop_reason)
        try:
            registration = self.registry.resolve(event.type)
            payload = self.services.structure.structure(event.body, registration.payload)
            reached = True
            await registration.handler(attrs.evolve(event, payload=payload), run)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - settled as a bug
            return reached, HandedBack() if _is_asked_to_stop(error) else error
        return reached, None

    async def _make_certain(
        self, attempt: Attempt, run: Run, error: BaseException | None
    ) -> BaseException | None:
        """Before an operation ends without a job: nothing may be out that an attempt started."""
        if attempt.possible_until is None or run.job is not None:
            return error
        try:
            found = await run.starter.look_up()
        except OrchestratorError as uncertain:
            return uncertain
        except asyncio.CancelledError:
            return HandedBack()
        if found is not None:
            run.found(found)
        return error

    async def _settle(
        self,
        event: Event[Body],
        attempt: Attempt,
        run: Run,
        opens: Kind | None,
        error: BaseException | None,
        ending: Ending | None,
    ) -> tuple[BaseException | None, tuple[FollowUp, ...]]:
        """End the attempt; what whoever sent the event is told, and what was kept with it."""
        settlement, told = judge(event, attempt, run, opens, error, self.limits.max_attempts)
        if ending is not None:
            settlement = with_ending(settlement, event, run, ending)
        try:
            outcome = await attempt.settle(settlement)
        except TakenOver:
            await self._leave_behind(attempt, run)
            raise
        except PermanentError as refusal:
            if not settlement.progress.steps:
                raise
            # The ledger can't keep what a step gave, however often it is tried.
            run.forget_steps()
            final: BaseException | None = refusal
            if opens is not None:
                final = await self._make_certain(attempt, run, refusal)
            return await self._settle(event, attempt, run, opens, final, ending)
        if isinstance(outcome, Orphaned):
            await run.disown(outcome.job)
            reason = TemporaryError("The operation has another job by now.")
            return await self._settle(event, attempt, run, opens, reason, ending)
        if isinstance(outcome, Uncertain):
            attempt.possible_until = attempt.possible_until or self.services.clock.now()
            reason = TemporaryError("A start of the operation may be out.")
            return await self._settle(event, attempt, run, opens, reason, ending)
        log.info("settled", status=settlement.status, **({"reason": str(told)} if told else {}))
        return told, outcome.follow_ups

    async def _leave_behind(self, attempt: Attempt, run: Run) -> None:
        """The run is another's by now: its operation may still want the job that we started.

        A send whose answer came too late is looked up: what it made may run beside another's.
        """
        job = run.unrecorded.job
        if job is None and attempt.possible_until is not None:
            try:
                job = await run.starter.look_up()
            except OrchestratorError as error:
                log.warning("a start may be out that nobody looks after", reason=str(error))
        if job is None:
            return
        outcome = await self.services.books.adopt(
            operation_id=attempt.run.operation_id,
            number=attempt.run.start_number,
            job=job,
            run_id=attempt.run.run_id,
        )
        if isinstance(outcome, Orphaned):
            await run.starter.stop(job)

    async def _ask_about(self, operation_id: str) -> None:
        """A job has told of itself: see what its builder says. It is due, whatever comes of it."""
        try:
            await self.overseer.attend([operation_id])
        except TemporaryError as error:
            log.info("not asked about yet", operation_id=operation_id, reason=str(error))

    async def _send_report(self, operation_id: str) -> None:
        """Send what the settle has noted; it is kept and due, whatever comes of it now."""
        try:
            await self.reporter.send(operation_id)
        except TemporaryError as error:
            log.info("not reported yet", operation_id=operation_id, reason=str(error))

    async def _follow(self, follow_up: FollowUp) -> None:
        """Handle what a settled run amounts to; it is kept and due, whatever comes of it now."""
        try:
            await self._handle(follow_up.event, Why.DELIVERY, payload=follow_up.payload)
        except OrchestratorError as error:
            log.info("follow-up not handled yet", follow_up=follow_up.event.type, reason=str(error))


def _opened(event: Event[Body]) -> Kind | None:
    """The kind of operation that the event's run works on."""
    return OPENS.get(event.type) if read_tenant_id(event.body) else None


def _is_asked_to_stop(error: BaseException) -> bool:
    """Whether this task is, and not just something that a handler awaited."""
    task = asyncio.current_task()
    is_asked = task is not None and task.cancelling() > 0
    return isinstance(error, asyncio.CancelledError) and is_asked


async def _to_its_end(write: Coroutine[Any, Any, Result]) -> Result:
    """A write that is under way is finished, whoever cancels us: half of it is worse than none."""
    task = asyncio.ensure_future(write)
    cancelled = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result
