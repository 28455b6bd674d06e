"""The orchestrator: parse, claim, structure, handle, settle.

Whatever brings an event (HTTP, a queue, a library call, the sweep, a replay) comes through
here; nothing else runs a handler.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import attrs
import structlog

from orchestrator.core import claims
from orchestrator.core.books import Attempt, held
from orchestrator.core.claims import ClaimRequest, Why
from orchestrator.core.envelopes import Body, Delivery, parse_event
from orchestrator.core.errors import (
    BeingHandled,
    EventKeyReused,
    HandedBack,
    NotAllowed,
    OrchestratorError,
    PermanentError,
    RunNotFound,
    TakenOver,
    TemporaryError,
    Waiting,
)
from orchestrator.core.events import BUILD_STATE_CHANGE, RECONCILE, Event
from orchestrator.core.handlers import build_state_change
from orchestrator.core.lifecycle import ENDS, OPENS, Ending, Kind
from orchestrator.core.parcels import pack_event, unpack_event
from orchestrator.core.payloads import (
    read_build_id,
    read_job_id,
    read_operation,
    read_request_key,
    read_secret,
    read_tenant_id,
    read_tier,
)
from orchestrator.core.ports import Ids
from orchestrator.core.records import Credentials, PayloadRecord
from orchestrator.core.registry import HandlerRegistry
from orchestrator.core.run import Run, Services
from orchestrator.core.settlements import FollowUp, Orphaned, Uncertain
from orchestrator.core.sweep import Swept, sweep
from orchestrator.core.verdicts import is_final, judge

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
    """How many attempts may end by a bug; how long a sweep that was asked for lasts (seconds)."""

    max_attempts: int
    sweep_s: float


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
            if await self._is_nobodys_business(event):
                return Handled(run_id=None)
            return await self._handle(event, pack_event(event), Why.DELIVERY)
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
        """One sweep: whatever is due is run again. What isn't done in time is handed back.

        Raises:
            TemporaryError: the ledger can't be reached.
        """

        async def resume(run_id: str) -> None:
            await self._rerun(run_id, Why.SWEEP)

        books = self.services.books
        return await sweep(books.ledger, books.clock, resume, timeout_s=timeout_s)

    async def _rerun(self, run_id: str, why: Why) -> Handled:
        run, payload = await self.services.books.find_kept(run_id)
        if run is None or payload is None:
            raise RunNotFound(run_id)
        return await self._handle(unpack_event(run, payload), payload, why)

    async def _is_nobodys_business(self, event: Event[Body]) -> bool:
        """A stranger's build changed state, and no handler of the user's asks for those."""
        if event.type != BUILD_STATE_CHANGE:
            return False
        if self.registry.resolve(event.type).handler is not build_state_change:
            return False
        build_id = read_build_id(event.body)
        return build_id is None or not await self.services.books.find_job("CODE_BUILD", build_id)

    async def _handle(self, event: Event[Body], payload: PayloadRecord, why: Why) -> Handled:
        tenant_id = read_tenant_id(event.body)
        with structlog.contextvars.bound_contextvars(
            run_id=event.key, event_type=event.type, tenant_id=tenant_id
        ):
            request = _claim_request(event, payload, tenant_id, why)
            claim = await self.services.books.claim(request)
            match claim:
                case Attempt():
                    await self._work(event, claim)
                    return Handled(run_id=event.key)
                case claims.Duplicate(run_id):
                    log.info("duplicate", of=run_id)
                    return Handled(run_id=run_id, replayed=True)
                case claims.Noted(run_id):
                    log.info("nothing to do")
                    return Handled(run_id=run_id)
                case claims.NotDue():
                    return Handled(run_id=event.key, replayed=True)
                case claims.InOtherHands(run):
                    raise BeingHandled(run.run_id)
                case claims.Waits(run_id, reason, pause_s):
                    log.info("waits", reason=reason)
                    raise Waiting(reason, run_id, retry_after_s=pause_s)
                case claims.Refused(run_id, reason):
                    log.info("refused", reason=reason)
                    raise NotAllowed(reason, run_id)
                case claims.BodyDiffers(run):
                    raise EventKeyReused(event.id, run.run_id)
                case claims.NeedsForce(run):
                    raise NotAllowed(f"run is {run.status} already; replay with force", run.run_id)

    async def _work(self, event: Event[Body], attempt: Attempt) -> None:
        """One attempt at a claimed run, from its handler to its settlement."""
        services, opens = self.services, _opened(event)
        run = Run(attempt, services, opens)
        log.info("started", attempt=run.attempt)
        async with held(run.renew, services.clock, lease_s=services.books.terms.lease_s):
            reached, error = await self._run_handler(event, run)
            if opens is not None and is_final(error, attempt, self.limits.max_attempts):
                error = await self._make_certain(attempt, run, error)
        ending = ENDS.get(event.type) if reached else None
        error, follow_ups = await _to_its_end(
            self._settle(event, attempt, run, opens, error, ending)
        )
        if isinstance(error, HandedBack):
            raise asyncio.CancelledError
        if error is not None:
            raise error
        for follow_up in follow_ups:
            await self._follow(follow_up)

    async def _run_handler(self, event: Event[Body], run: Run) -> tuple[bool, BaseException | None]:
        """Whether the handler was called at all, and what it raised."""
        reached = False
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
            settlement = attrs.evolve(settlement, ending=ending, tier=read_tier(event.body))
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

    async def _follow(self, follow_up: FollowUp) -> None:
        """Handle what a settled run amounts to; it is kept and due, whatever comes of it now."""
        try:
            await self._handle(follow_up.event, follow_up.payload, Why.DELIVERY)
        except OrchestratorError as error:
            log.info("follow-up not handled yet", follow_up=follow_up.event.type, reason=str(error))


def _claim_request(
    event: Event[Body], payload: PayloadRecord, tenant_id: str | None, why: Why
) -> ClaimRequest:
    secret = read_secret(event.body)
    ending = ENDS.get(event.type)
    outcome = None
    if ending is not None:
        job_id = read_job_id(event.body)
        named, number = read_operation(event.body)
        outcome = claims.Outcome(
            ending=ending,
            job=("CODE_BUILD", job_id) if job_id else None,
            operation_id=named,
            start_number=number,
        )
    return ClaimRequest(
        event=event,
        payload=payload,
        tenant_id=tenant_id,
        why=why,
        opens=OPENS.get(event.type),
        reports=outcome,
        request_key=read_request_key(event.body),
        tier=read_tier(event.body),
        credentials=Credentials(secret=secret[0], context=secret[1], as_of=event.time)
        if secret
        else None,
    )


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
