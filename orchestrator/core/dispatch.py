"""The orchestrator: parse, claim, structure, handle, settle.

Whatever brings an event (HTTP, a queue, a library call) comes through
`Orchestrator.handle_event`; nothing else runs a handler.
"""

import asyncio
import traceback
from collections.abc import Coroutine, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

import attrs
import structlog

from orchestrator.core.envelopes import Body, Delivery, parse_event
from orchestrator.core.errors import (
    BeingHandled,
    EventKeyReused,
    HandlerFailed,
    PermanentError,
    TemporaryError,
)
from orchestrator.core.events import BUILD_STATE_CHANGE, TENANT_PROVISIONING, Event
from orchestrator.core.handlers import build_state_change
from orchestrator.core.lifecycle import STATE_AFTER
from orchestrator.core.payloads import read_build_id, read_tenant_id, read_tier
from orchestrator.core.ports import Ids
from orchestrator.core.records import (
    BodyDiffers,
    Claimed,
    Duplicate,
    Failure,
    InOtherHands,
    RunRecord,
    RunStatus,
    Settlement,
)
from orchestrator.core.registry import HandlerRegistry
from orchestrator.core.run import Run, Services

#: Set by the way in. It reaches us through a user's wrapper that passes type and body alone,
#: so that wrapping the orchestrator can't cost anybody the recognition of duplicates.
delivery: ContextVar[Delivery] = ContextVar("delivery", default=Delivery())  # noqa: B039 - frozen

log = structlog.get_logger("orchestrator.dispatch")


@attrs.frozen(kw_only=True)
class Handled:
    """The event is handled: just now, or (`replayed`) by an earlier delivery of it.

    `run_id` is None where no run is kept of it: a stranger's build.
    """

    run_id: str | None
    replayed: bool = False


class EventOrchestrator(Protocol):
    """What the ways in call; a user's own may take its place."""

    async def handle_event(self, event_type: str, body: Any) -> object:
        """Handle an event; `body` is the parsed JSON, as received."""


@attrs.frozen(kw_only=True)
class Limits:
    """How many attempts may end by a bug, and how long equal content is one event (seconds)."""

    max_attempts: int
    dedupe_window_s: float


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
            return await self._handle(event)
        finally:
            delivery.reset(token)

    async def _handle(self, event: Event[Body]) -> Handled:
        if await self._is_nobodys_business(event):
            return Handled(run_id=None)
        tenant_id = read_tenant_id(event.body)
        with structlog.contextvars.bound_contextvars(
            run_id=event.key, event_type=event.type, tenant_id=tenant_id
        ):
            claim = await self.services.ledger.claim(
                event=event, tenant_id=tenant_id, dedupe_window_s=self.limits.dedupe_window_s
            )
            match claim:
                case Claimed(record):
                    await self._work(event, record)
                    return Handled(run_id=record.run_id)
                case Duplicate(record):
                    log.info("duplicate", status=record.status)
                    return Handled(run_id=record.run_id, replayed=True)
                case InOtherHands(record):
                    raise BeingHandled(record.run_id)
                case BodyDiffers(record):
                    raise EventKeyReused(event.id, record.run_id)

    async def _is_nobodys_business(self, event: Event[Body]) -> bool:
        """A stranger's build changed state, and no handler of the user's asks for those."""
        if event.type != BUILD_STATE_CHANGE:
            return False
        if self.registry.resolve(event.type).handler is not build_state_change:
            return False
        build_id = read_build_id(event.body)
        return build_id is None or not await self.services.ledger.has_job(job_id=build_id)

    async def _work(self, event: Event[Body], record: RunRecord) -> None:
        """One attempt at a claimed run, from its handler to its settlement."""
        run = Run(record, self.services)
        log.info("started", attempt=record.attempt)
        try:
            registration = self.registry.resolve(event.type)
            payload = self.services.structure.structure(event.body, registration.payload)
            await registration.handler(attrs.evolve(event, payload=payload), run)
            # Within the attempt: one that fails is handed back with it and comes again; what
            # was handled before is then a duplicate.
            for event_type, body in run.follow_ups:
                await self._handle(_follow_up(event, event_type, body))
        except (PermanentError, TemporaryError) as error:
            final = isinstance(error, PermanentError)
            await self._settle(run, RunStatus.FAILED if final else RunStatus.RETRY, error)
            error.run_id = record.run_id
            raise
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                reason = TemporaryError("The attempt was cancelled and handed back.")
                await self._settle(run, RunStatus.RETRY, reason)
                raise
            log.error("handler failed", exc_info=error)
            final = record.bugs + 1 >= self.limits.max_attempts
            await self._settle(run, RunStatus.FAILED if final else RunStatus.RETRY, error)
            raise HandlerFailed(event.type, record.run_id) from error
        else:
            await self._settle(
                run,
                RunStatus.SUCCEEDED,
                # What a follow-up made of the tenant is later news than this.
                tenant_state=None if run.follow_ups else STATE_AFTER.get(event.type),
                tier=read_tier(event.body) if event.type == TENANT_PROVISIONING else None,
            )

    async def _settle(
        self,
        run: Run,
        status: RunStatus,
        error: BaseException | None = None,
        tenant_state: str | None = None,
        tier: str | None = None,
    ) -> None:
        settlement = Settlement(
            status=status,
            progress=run.unrecorded,
            error=_failure(error) if error else None,
            tenant_state=tenant_state,
            tier=tier,
        )
        await _to_its_end(
            self.services.ledger.settle(
                run_id=run.run_id, attempt=run.attempt, settlement=settlement
            )
        )
        log.info("settled", status=status, **({"reason": str(error)} if error else {}))


def _follow_up(event: Event[Body], event_type: str, body: Body) -> Event[Body]:
    """What `event` amounts to; the same each time, so that it is handled once."""
    return attrs.evolve(
        event,
        type=event_type,
        source="orchestrator",
        id=event.key,
        body=body,
        raw=body,
        payload=body,
        identified_by_content=False,
    )


def _is_cancelled() -> bool:
    """Whether this task was asked to stop, and not just something that a handler awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _to_its_end(write: Coroutine[Any, Any, None]) -> None:
    """A write that is under way is finished, whoever cancels us: half of it is worse than none."""
    task = asyncio.ensure_future(write)
    cancelled = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


def _failure(error: BaseException) -> Failure:
    is_bug = not isinstance(error, PermanentError | TemporaryError)
    return Failure(
        type=type(error).__name__,
        message=str(error),
        errors=error.errors if isinstance(error, PermanentError) else (),
        traceback="".join(traceback.format_exception(error)) if is_bug else None,
    )
