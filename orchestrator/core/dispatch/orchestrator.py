"""The orchestrator: parse, claim, structure, handle, settle.

All events (from HTTP, a queue, a library call, the sweep, a replay) are handled here; nothing else
runs a handler.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, partial
from typing import Any, Protocol

import attrs
import structlog

from orchestrator.core.callback.report import ReportSender
from orchestrator.core.clock import Dice, Ids
from orchestrator.core.dispatch.attempt import AttemptRunner
from orchestrator.core.dispatch.correlate import correlate
from orchestrator.core.dispatch.handling import Handling, Observer
from orchestrator.core.dispatch.last_resort import LastResort
from orchestrator.core.dispatch.sweep import Sweeper, SweepResult
from orchestrator.core.errors import (
    AttemptFailed,
    BeingHandled,
    EventKeyReused,
    EventTooLarge,
    NotAllowed,
    OrchestratorError,
    RunNotFound,
    TemporaryError,
    Waiting,
)
from orchestrator.core.events.envelope import Body, Delivery, parse_event
from orchestrator.core.events.event import Event, rewritten
from orchestrator.core.events.event_types import BUILD_STATE_CHANGE, RECONCILE
from orchestrator.core.evolve import evolve
from orchestrator.core.handlers.builtin import build_state_change
from orchestrator.core.handlers.registry import HandlerRegistry
from orchestrator.core.handlers.services import Services
from orchestrator.core.jobs.cancel import Stopped, cancel
from orchestrator.core.jobs.state_changes import Ended, act_on
from orchestrator.core.jobs.watch import JobWatcher
from orchestrator.core.ledger.claim_request import ClaimRequest, Trigger
from orchestrator.core.ledger.claim_result import (
    BodyDiffers,
    Deferred,
    Duplicate,
    InProgress,
    NeedsForce,
    NotClaimed,
    NotDue,
    NothingToDo,
    Refused,
)
from orchestrator.core.ledger.event_codec import decode_event
from orchestrator.core.ledger.guards import is_due
from orchestrator.core.ledger.lease import RunLease, claim_run
from orchestrator.core.ledger.records import PayloadRecord
from orchestrator.core.ledger.settle import FollowUp

#: Set by the entry point. As a context variable it survives a user's wrapper that passes on only
#: type and body, so that duplicates are still recognized.
current_delivery: ContextVar[Delivery] = ContextVar("delivery", default=Delivery())  # noqa: B039 - frozen

#: How long (seconds) the sender of the event waits for its answer; None: it has no deadline.
_waiting_s: ContextVar[float | None] = ContextVar("waiting_s", default=None)

#: A requested sweep ends after this share of the deadline: its answer must be in time.
SWEEP_SHARE = 0.8

log = structlog.get_logger("orchestrator.dispatch")


@contextmanager
def waiting(deadline_s: float) -> Iterator[None]:
    """Work that begins in this context has a sender that waits so long (seconds)."""
    token = _waiting_s.set(deadline_s)
    try:
        yield
    finally:
        _waiting_s.reset(token)


@attrs.frozen(kw_only=True)
class Handled:
    """The event was handled, now or (`replayed`) by an earlier delivery, or it is in the queue
    (`queued`).

    `run_id` is None if the event has no run: a build that the service did not start, a sweep.
    """

    run_id: str | None
    replayed: bool = False
    queued: bool = False


_IGNORED = Handled(run_id=None)


class EventOrchestrator(Protocol):
    """The interface for the entry points; a user's own orchestrator may replace it."""

    async def handle_event(self, event_type: str, body: Any) -> object:
        """Handle an event; `body` is the parsed JSON, as received."""


@attrs.frozen(kw_only=True)
class Limits:
    """How long a requested sweep lasts (seconds); whether a job beyond its deadline is stopped;
    whether a clean-up follows a provisioning whose job ended as unknown."""

    sweep_s: float
    stops_overdue: bool = True
    cleans_up_unknown: bool = False


@attrs.frozen(kw_only=True)
class Orchestrator:
    """Finds the handler of an event, claims the event, runs it and settles it."""

    registry: HandlerRegistry
    services: Services
    ids: Ids
    aliases: Mapping[str, str]
    limits: Limits
    dice: Dice
    sweeper: Sweeper = attrs.field(init=False)

    @sweeper.default
    def _build_sweeper(self) -> Sweeper:
        transactions = self.services.transactions
        return Sweeper(
            transactions=transactions,
            dice=self.dice,
            tracing=self.services.tracing,
            resume=partial(self._rerun, trigger=Trigger.SWEEP),
            look=self.watcher.check_due,
            report=self.report_sender.send,
            clear=partial(self.services.secret_remover.remove, transactions),
        )

    async def handle_event(
        self, event_type: str, body: object, *, event_id: str | None = None
    ) -> Handled:
        """Handle one event: `body` is parsed JSON in any of the shapes of `core.events.envelope`.

        Raises:
            BadEvent: it can't be parsed as an event.
            PermanentError: a retry would fail again; a failed run has the reason.
            TemporaryError: a retry may succeed.
            HandlerFailed: the handler, or the code around it, has a bug.
        """
        how = current_delivery.get()
        event = parse_event(
            event_type,
            body,
            delivery=evolve(how, event_id=event_id) if event_id else how,
            aliases=self.aliases,
            now=self.services.clock.now(),
            fresh_id=self.ids.fresh_id,
        )
        # Events that a handler sends itself are not deliveries of the entry point.
        token = current_delivery.set(Delivery())
        try:
            if event.type == RECONCILE:
                with self.observer.handling(event.type, trace=event.trace) as handling:
                    await self.reconcile(timeout_s=self._sweep_s())
                    handling.outcome = "succeeded"
                return _IGNORED
            if event.type == BUILD_STATE_CHANGE:
                return await self._handle_state_change(event)
            if self.services.notifications.sends(event.type):
                return await self._handle_change(event)
            return await self._handle(event, Trigger.DELIVERY)
        finally:
            current_delivery.reset(token)

    async def replay(self, run_id: str, *, force: bool = False, by: str | None = None) -> Handled:
        """Replay a run; with `force` even if it has succeeded, or isn't allowed. `by` is the name
        of who replays it, which is kept with the attempt.

        Raises:
            RunNotFound: there is no such run.
            PermanentError, TemporaryError, HandlerFailed: as `handle_event` does.
        """
        trigger = Trigger.FORCED_REPLAY if force else Trigger.REPLAY
        return await self._rerun(run_id, trigger, by=by)

    async def reconcile(self, *, timeout_s: float | None = None) -> SweepResult:
        """One sweep: resumes runs, checks jobs and sends reports that are due.

        A call joins a sweep that is under way. Runs that exceed the time are handed back.

        Raises:
            TemporaryError: ledger or builder can't be reached.
        """
        return await self.sweeper.sweep(timeout_s=timeout_s)

    async def cancel(
        self,
        tenant_id: str,
        *,
        reason: str | None = None,
        clean_up: bool = False,
        by: str | None = None,
        on_certain: Callable[[Stopped], None] = lambda _: None,
    ) -> Stopped:
        """Cancel the tenant's operation, which ends as failed; a clean-up only with `clean_up`.

        `by` is the name of who cancels it, which is kept with the operation and stands in its
        reason. `on_certain` is called once the cancel is recorded, even if this then raises a
        TemporaryError.

        Raises:
            TenantNotFound: there is no such tenant.
            NotAllowed: it has no operation under way, or a clean-up without `clean_up`.
            TemporaryError: a run of it is in progress, or a builder can't be reached.
        """

        async def resume(run_id: str) -> None:
            await self._rerun(run_id, Trigger.CANCEL)

        return await cancel(
            self.watcher.stopper,
            resume,
            tenant_id,
            reason,
            clean_up=clean_up,
            by=by,
            on_certain=on_certain,
        )

    def _sweep_s(self) -> float:
        waiting_s = _waiting_s.get()
        if waiting_s is None:
            return self.limits.sweep_s
        return min(self.limits.sweep_s, waiting_s * SWEEP_SHARE)

    @cached_property
    def watcher(self) -> JobWatcher:
        async def handle_outcome(event: Event[Body]) -> None:
            await self._handle(event, Trigger.DELIVERY)

        services = self.services
        return JobWatcher.over(
            services.transactions,
            services.builders,
            stops_overdue=self.limits.stops_overdue,
            cleans_up_unknown=self.limits.cleans_up_unknown,
            dry_run=services.dry_run,
            tracing=services.tracing,
            handle_outcome=handle_outcome,
        )

    @cached_property
    def observer(self) -> Observer:
        services = self.services
        return Observer(
            clock=services.clock,
            metrics=services.metrics,
            tracing=services.tracing,
            registered=self.registry.by_type,
        )

    @cached_property
    def report_sender(self) -> ReportSender:
        services = self.services
        return ReportSender(
            transactions=services.transactions,
            webhook=services.webhook,
            is_silent=services.dry_run,
            metrics=services.metrics,
            tracing=services.tracing,
        )

    @cached_property
    def last_resort(self) -> LastResort:
        return LastResort(
            services=self.services,
            report_sender=self.report_sender,
        )

    @cached_property
    def runner(self) -> AttemptRunner:
        return AttemptRunner(
            registry=self.registry,
            services=self.services,
            report_sender=self.report_sender,
            last_resort=self.last_resort,
        )

    async def _rerun(self, run_id: str, trigger: Trigger, *, by: str | None = None) -> Handled:
        run, payload = await self.services.transactions.find_kept(run_id)
        if run is None:
            raise RunNotFound(run_id)
        if trigger is Trigger.SWEEP and not is_due(run, self.services.clock.now()):
            return Handled(run_id=run_id, replayed=True)
        if run.ends_by_records and trigger is Trigger.SWEEP:
            with self.observer.handling(run.event_type, run_id) as handling:
                handling.tenant_id, handling.outcome = run.tenant_id, "failed"
                await self.last_resort.end(run_id)
            return Handled(run_id=run_id)
        try:
            if payload is None:
                raise RunNotFound(run_id)
            event = decode_event(run, payload)
        except Exception as bug:  # noqa: BLE001 - what can't be read must end, too
            await self.last_resort.broke_down(bug, run.event_type, run_id, trigger=trigger)
        return await self._handle(event, trigger, payload=payload, by=by)

    async def _handle_state_change(self, event: Event[Body]) -> Handled:
        """Query the builder; a job of the service that is over ends its operation.

        A user's handler gets all state changes, without the job's environment.
        """
        if self.registry.by_type[event.type].handler is not build_state_change:
            await self._act_on(event)
            shown = rewritten(event, self.services.notifications.without_inputs)
            return await self._handle(shown, Trigger.DELIVERY)
        with self.observer.handling(event.type, trace=event.trace) as handling:
            ended = await self._act_on(event)
            answer = Handled(run_id=ended.run_id, replayed=ended.replayed) if ended else _IGNORED
            handling.answer = answer
            return answer

    async def _act_on(self, event: Event[Body]) -> Ended | None:
        """Act on the job of a state change; the end of its operation, if it is over."""
        notifications = self.services.notifications
        state_change = notifications.read_state_change(event.body)
        if state_change is None:
            return None
        return await act_on(self.watcher, notifications, state_change, event.source)

    async def _handle_change(self, event: Event[Body]) -> Handled:
        """Handle another event of a builder's cloud: a user's handler, if there is one, gets it,
        without the job's environment."""
        if event.type not in self.registry.by_type:
            with self.observer.handling(event.type, trace=event.trace):
                return _IGNORED
        shown = rewritten(event, self.services.notifications.without_inputs)
        return await self._handle(shown, Trigger.DELIVERY)

    async def _handle(
        self,
        event: Event[Body],
        trigger: Trigger,
        *,
        payload: PayloadRecord | None = None,
        by: str | None = None,
    ) -> Handled:
        """Handle an event; `payload` None: it isn't stored yet. `by` is who replays it."""
        with self.observer.handling(event.type, event.key, trace=event.trace) as handling:
            handled = await self._claim_and_run(event, trigger, payload, by, handling)
            handling.answer = handled
            return handled

    async def _claim_and_run(
        self,
        event: Event[Body],
        trigger: Trigger,
        payload: PayloadRecord | None,
        by: str | None,
        handling: Handling,
    ) -> Handled:
        request, claim = await self._claim(event, trigger, payload, by)
        event = request.event
        handling.tenant_id, handling.tier = request.tenant_id, request.tier
        if isinstance(claim, RunLease):
            handling.lease = claim
            handling.span.link(claim.traceparent)
        with structlog.contextvars.bound_contextvars(
            run_id=event.key, event_type=event.type, tenant_id=request.tenant_id
        ):
            match claim:
                case RunLease() if claim.run.ends_by_records:
                    await self.last_resort.finish(claim)
                    raise AttemptFailed(event.type, event.key)
                case RunLease():
                    for follow_up in await self.runner.run(event, claim):
                        await self._follow(follow_up)
                    return Handled(run_id=event.key)
                case Duplicate(run_id):
                    return Handled(run_id=run_id, replayed=True)
                case NothingToDo(run_id, operation_id):
                    handling.outcome = "noted"
                    if operation_id is not None:
                        await self.watcher.ask_about(operation_id)
                    return Handled(run_id=run_id)
                case NotDue():
                    return Handled(run_id=event.key, replayed=True)
                case InProgress(run):
                    raise BeingHandled(run.run_id)
                case Deferred(run_id, reason, pause_s):
                    raise Waiting(reason, run_id, retry_after_s=pause_s)
                case Refused(run_id, reason):
                    raise NotAllowed(reason, run_id)
                case BodyDiffers(run):
                    raise EventKeyReused(event.id, run.run_id)
                case NeedsForce(run):
                    raise NotAllowed(f"run is {run.status} already; replay with force", run.run_id)

    async def _claim(
        self,
        event: Event[Body],
        trigger: Trigger,
        payload: PayloadRecord | None,
        by: str | None,
    ) -> tuple[ClaimRequest, RunLease | NotClaimed]:
        """Build the claim's request, and claim the event's run."""
        try:
            request = await correlate(
                event,
                trigger,
                payload,
                watcher=self.watcher,
                notifications=self.services.notifications,
                secrets=self.services.secrets,
                by=by,
            )
            payload = request.payload
            if (traceparent := self.services.tracing.current()) is not None:
                request = evolve(request, traceparent=traceparent)
            claim = await claim_run(self.services.transactions, request)
            if trigger is Trigger.SWEEP and isinstance(claim, BodyDiffers):
                raise ValueError("the stored event has another body than the run")
        except (TemporaryError, EventTooLarge):
            raise
        except Exception as bug:  # noqa: BLE001 - a run whose claim only raises must end, too
            await self.last_resort.broke_down(
                bug, event.type, event.key, trigger=trigger, event=event, payload=payload
            )
        return request, claim

    async def _follow(self, follow_up: FollowUp) -> None:
        """Handle the follow-ups of a settled run, which are stored, and stay due if this fails."""
        try:
            await self._handle(follow_up.event, Trigger.DELIVERY, payload=follow_up.payload)
        except OrchestratorError as error:
            log.info("follow-up not handled yet", follow_up=follow_up.event.type, reason=str(error))
