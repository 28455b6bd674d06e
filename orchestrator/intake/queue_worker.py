"""Handles the messages of a queue, and polls the queue in a worker.

A queue limits the receives of a message, the ledger doesn't. So a message is deleted once its event
is in the ledger, whatever the result: failed and waiting runs are resumed from the ledger. Only a
message whose event could not be stored stays in the queue.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from orchestrator.core.clock import Clock
from orchestrator.core.dispatch.orchestrator import (
    EventOrchestrator,
    Orchestrator,
    current_delivery,
)
from orchestrator.core.errors import BeingHandled, OrchestratorError, TemporaryError, Waiting
from orchestrator.core.evolve import evolve
from orchestrator.core.metrics import (
    QUEUE_DURATION,
    QUEUE_FAILED_POLLS,
    QUEUE_HANDLED,
    QUEUE_IN_PROGRESS,
    QUEUE_KEPT,
    QUEUE_LAG,
    QUEUE_NOT_DELETED,
    Metrics,
)
from orchestrator.core.queue.enqueue import describe_messaging
from orchestrator.core.queue.inbox import Inbox, Message
from orchestrator.core.queue.message_codec import QueuedEvent, QueuedReplay, read_message
from orchestrator.core.tracing import SpanKind
from orchestrator.intake.problems import status_of, stays_in_queue
from orchestrator.intake.refusal_log import Refusal, RefusalLog, name_event

_POLL_S = 20.0
#: Backoff after a failed poll, in seconds: the first pause, doubling up to the longest.
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
#: How long (seconds) cancelled handlers may take to hand their runs back.
_CANCEL_S = 2.0

log = structlog.get_logger("orchestrator.queue")


class MessageHandler:
    """Handles a message: events with the `chosen` orchestrator, replays with the service's own."""

    def __init__(
        self,
        own: Orchestrator,
        chosen: EventOrchestrator,
        refusals: RefusalLog,
        *,
        queue: str = "",
    ) -> None:
        """`queue` is the queue's name, for traces."""
        self._own = own
        self._chosen = chosen
        self._refusals = refusals
        self._queue = queue

    async def handle(self, message: Message) -> bool:
        """Handle a message; True if it can be deleted, False if it must stay in the queue."""
        queued: QueuedEvent | QueuedReplay | None = None
        tracing = self._own.services.tracing
        about = {**describe_messaging("process", self._queue), "messaging.message.id": message.id}
        with (
            structlog.contextvars.bound_contextvars(message_id=message.id),
            tracing.span(
                f"process {self._queue}", SpanKind.CONSUMER, about, parent=message.trace
            ) as span,
        ):
            span.link(message.trace)
            try:
                queued = read_message(message.text, message_id=message.id)
                await self._handle(queued, message.trace)
            except OrchestratorError as error:
                stays = stays_in_queue(error)
                self._refuse(message, queued, error, stays=stays)
                return not stays
            except Exception as error:
                log.error("message failed", exc_info=error)
                return False
        return True

    async def _handle(self, queued: QueuedEvent | QueuedReplay, trace: str | None) -> None:
        if isinstance(queued, QueuedReplay):
            await self._replay(queued)
            return
        how = evolve(queued.delivery, trace=trace)
        token = current_delivery.set(how)
        try:
            await self._chosen.handle_event(queued.event_type, queued.body)
        except BeingHandled as error:
            if how.same_content_same_event and how.event_id is None:
                # Whether it is the same event is known only once the other one is handled.
                raise TemporaryError(str(error), retry_after_s=error.retry_after_s) from error
            raise
        finally:
            current_delivery.reset(token)

    def _refuse(
        self,
        message: Message,
        queued: QueuedEvent | QueuedReplay | None,
        error: OrchestratorError,
        *,
        stays: bool,
    ) -> None:
        named: dict[str, str | None] = {}
        if isinstance(queued, QueuedEvent):
            named = name_event(queued.event_type, queued.delivery.event_id, queued.body)
        self._refusals.add(
            Refusal(
                what="message",
                status=int(status_of(error)),
                error=type(error).__name__,
                reason=str(error),
                about={
                    "message_id": message.id,
                    "stays": stays,
                    **named,
                    "run_id": error.run_id,
                    "trace": message.trace,
                },
            )
        )

    async def _replay(self, wish: QueuedReplay) -> None:
        try:
            await self._own.replay(wish.run_id, force=wish.force, by=wish.by)
        except Waiting as error:
            if not wish.force:
                raise
            # The run is unchanged: the forced replay is recorded only in the message.
            raise TemporaryError(str(error), retry_after_s=error.retry_after_s) from error


async def handle_batch(
    messages: Sequence[Message],
    handle: Callable[[Message], Awaitable[bool]],
    *,
    timeout_s: float,
    hand_back_s: float = _CANCEL_S,
) -> list[str]:
    """Handle a batch of messages; returns the ids of those that must stay in the queue.

    Messages of one group are handled in order; once one must stay, so does the rest of its group
    (Lambda developer guide, partial batch responses). Messages that are not handled within
    `timeout_s` stay, too, and have `hand_back_s` to hand their runs back.
    """
    groups: dict[str, list[Message]] = {}
    for message in messages:
        groups.setdefault(message.group or message.id, []).append(message)
    done: set[str] = set()

    async def in_turn(group: Sequence[Message]) -> None:
        for message in group:
            if not await handle(message):
                return
            done.add(message.id)

    tasks = [asyncio.create_task(in_turn(group)) for group in groups.values()]
    await asyncio.wait(tasks, timeout=timeout_s)
    if late := sum(not task.done() for task in tasks):
        log.warning("messages not handled in time", at_work=late, waited_s=timeout_s)
    for task in tasks:
        task.cancel()
    _, stubborn = await asyncio.wait(tasks, timeout=hand_back_s)
    if stubborn:
        log.error("handlers did not stop when they were cancelled", messages=len(stubborn))
    return [message.id for message in messages if message.id not in done]


#: Handles messages that another component receives from the queue (Lambda's poller).
MESSAGES = web.AppKey("messages", MessageHandler)


class QueueWorker:
    """Receives and handles messages, at most `concurrency` at a time, until it is drained."""

    def __init__(
        self,
        inbox: Inbox,
        handle: Callable[[Message], Awaitable[bool]],
        clock: Clock,
        *,
        is_ready: Callable[[], Awaitable[None]],
        concurrency: int,
        metrics: Metrics,
    ) -> None:
        """`is_ready` raises TemporaryError while the ledger can't be reached: to receive a message
        then would only increase its receive count."""
        self._inbox = inbox
        self._handle = handle
        self._clock = clock
        self._is_ready = is_ready
        self._slots = asyncio.Semaphore(concurrency)
        self._concurrency = concurrency
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = asyncio.Event()
        self._must_check = False

    async def run(self) -> None:
        """Poll until `drain` is called; no message and no outage ends the loop."""
        pause_s = _FIRST_PAUSE_S
        while not self._draining.is_set():
            try:
                if self._must_check:
                    await self._is_ready()
                    self._must_check = False
                messages = await self._receive()
            except TemporaryError as error:
                self._metrics.add(QUEUE_FAILED_POLLS)
                log.warning("no messages received", reason=str(error), pause_s=pause_s)
                await self._unless_draining(self._clock.sleep(pause_s))
                pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)
                continue
            except Exception as error:
                self._metrics.add(QUEUE_FAILED_POLLS)
                log.error("the queue can't be read", exc_info=error)
                await self._unless_draining(self._clock.sleep(pause_s))
                continue
            pause_s = _FIRST_PAUSE_S
            if self._draining.is_set():
                return  # `drain` may have ended: messages received at this moment reappear
            self._measure_lag(messages)
            for message in messages:
                await self._slots.acquire()
                task = asyncio.create_task(self._process(message))
                self._tasks.add(task)
                self._metrics.set(QUEUE_IN_PROGRESS, len(self._tasks))
                task.add_done_callback(self._forget)

    def _measure_lag(self, messages: Sequence[Message]) -> None:
        """Of first receives alone: a message that comes again waited for its visibility timeout."""
        now = self._clock.now()
        for message in messages:
            if message.sent_at is not None and message.receives <= 1:
                lag_s = (now - message.sent_at).total_seconds()
                self._metrics.observe(QUEUE_LAG, max(0.0, lag_s))

    async def check(self) -> None:
        """The readiness check. Raises TemporaryError once no more messages are received."""
        if self._draining.is_set():
            raise TemporaryError("The worker is shutting down.", retry_after_s=1)

    async def drain(self, *, timeout_s: float) -> None:
        """Receive no more messages, wait for those in progress, hand back what exceeds the
        timeout."""
        self._draining.set()
        if self._tasks:
            log.info("draining", messages=len(self._tasks))
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CANCEL_S)

    async def _receive(self) -> Sequence[Message]:
        """The next messages; none if the worker begins to drain meanwhile."""
        async with self._slots:
            free = self._concurrency - len(self._tasks)
            polled = await self._unless_draining(
                self._inbox.receive(limit=max(1, min(10, free)), wait_s=_POLL_S)
            )
            return polled or ()

    async def _unless_draining(
        self, waiting: Awaitable[Sequence[Message] | None]
    ) -> Sequence[Message] | None:
        """The result of `waiting`; None if the worker begins to drain first."""
        work = asyncio.ensure_future(waiting)
        ending = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({work, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                # Messages received at this moment reappear after their visibility timeout.
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work
                return None
            return work.result()
        finally:
            ending.cancel()

    async def _process(self, message: Message) -> None:
        received_at = self._clock.now()
        async with self._hidden(message):
            is_done = await self._handle(message)
        took_s = (self._clock.now() - received_at).total_seconds()
        self._metrics.observe(QUEUE_DURATION, took_s)
        if not is_done:
            self._metrics.add(QUEUE_KEPT)
            self._must_check = True
            return
        self._metrics.add(QUEUE_HANDLED)
        try:
            await self._inbox.delete(message)
        except OrchestratorError as error:
            # The message is received again, and recognized as a duplicate.
            self._metrics.add(QUEUE_NOT_DELETED)
            log.warning("message not deleted", message_id=message.id, reason=str(error))

    @asynccontextmanager
    async def _hidden(self, message: Message) -> AsyncIterator[None]:
        """Extend the message's visibility timeout for the life of the context."""

        async def keep() -> None:
            while True:
                await self._clock.sleep(self._inbox.visibility_s / 2)
                try:
                    await self._inbox.hide(message, seconds=self._inbox.visibility_s)
                except OrchestratorError as error:
                    log.warning(
                        "visibility timeout not extended",
                        message_id=message.id,
                        reason=str(error),
                    )
                except Exception as bug:
                    # Such as of a user's inbox: it must not end the extensions.
                    log.error(
                        "visibility timeout not extended", message_id=message.id, exc_info=bug
                    )

        heartbeat = asyncio.create_task(keep())
        try:
            yield
        finally:
            heartbeat.cancel()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._metrics.set(QUEUE_IN_PROGRESS, len(self._tasks))
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("message failed", exc_info=error)
