"""Runs events in tasks: limits their number and the sender's wait, drains them at shutdown.

sender ──► handle ──► task ──┬── done in time ──► its outcome
                             └── deadline ──► 503; the task continues, the redelivery finds it done
reader ──► GET ─────────────────── deadline ──► 503; its reads are cancelled
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from orchestrator.core.dispatch.orchestrator import waiting
from orchestrator.core.errors import OrchestratorError, Overloaded, TemporaryError

#: How long (seconds) a cancelled handler may take to stop; then it is abandoned.
_CANCEL_S = 2.0

#: What the answer is waiting for, as named in the problem, such as "the check 'ledger'".
WAITS_FOR = web.RequestKey("waits_for", str)

Outcome = TypeVar("Outcome")

log = structlog.get_logger("orchestrator.workload")


class Workload:
    """Runs each event in a task of its own, which isn't cancelled when the sender disconnects.

    One sender may have `sender_share` of `max_concurrency` events in progress, so that one
    sender never locks the others out. `deadline_s` is how long the sender waits for an answer. If
    tasks can't continue after the answer (`hands_back`: Lambda freezes the process), the run is
    handed back at the deadline.
    """

    def __init__(
        self,
        *,
        max_concurrency: int,
        sender_share: float = 1.0,
        deadline_s: float,
        hands_back: bool,
    ) -> None:
        self._max_concurrency = max_concurrency
        self._max_of_sender = max(1, int(max_concurrency * sender_share))
        self._deadline_s = self._configured_s = deadline_s
        self._hands_back = hands_back
        #: The events in progress, each with the name of its sender.
        self._tasks: dict[asyncio.Task[Any], str | None] = {}
        self._draining = False

    @property
    def deadline_s(self) -> float:
        """How long a sender waits at present, in seconds."""
        return self._deadline_s

    def shorten(self, deadline_s: float) -> None:
        """Shorten the deadline from now on, at most to the configured one."""
        self._deadline_s = min(self._configured_s, deadline_s)

    async def handle(
        self, work: Coroutine[Any, Any, Outcome], *, sender: str | None = None
    ) -> Outcome:
        """The outcome of `work`, or what it raised. `sender` None has no limit of their own.

        Raises:
            Overloaded: `http.max_concurrency` events are in progress, or the sender's share of it.
            TemporaryError: the service is shutting down, or the deadline passed.
        """
        try:
            await self.check()
            self._check_room(sender)
        except TemporaryError:
            work.close()
            raise
        deadline_s = self._deadline_s
        with waiting(deadline_s):
            task = asyncio.create_task(work)
        self._tasks[task] = sender
        task.add_done_callback(self._forget)
        await asyncio.wait({task}, timeout=deadline_s)
        if not task.done() and self._hands_back:
            await _cancel({task})
        if not task.done() or (self._hands_back and task.cancelled()):
            raise TemporaryError(
                f"The event is still being handled after {deadline_s:.3g} s: send it again."
            )
        if task.cancelled():
            raise TemporaryError("The service is shutting down; the event is handed back.")
        return task.result()

    def _check_room(self, sender: str | None) -> None:
        if len(self._tasks) >= self._max_concurrency:
            raise Overloaded(self._max_concurrency)
        if sender is not None:
            of_sender = sum(1 for name in self._tasks.values() if name == sender)
            if of_sender >= self._max_of_sender:
                raise Overloaded(self._max_of_sender, sender=sender)

    async def check(self) -> None:
        """The readiness check. Raises TemporaryError once no new work is accepted."""
        if self._draining:
            raise TemporaryError("The service is shutting down.", retry_after_s=1)

    async def drain(self, *, timeout_s: float) -> None:
        """Accept no new work, wait for the work in progress, hand back what exceeds the timeout.

        Draining again doesn't wait: what is left then has ignored that it was cancelled.
        """
        was_drained, self._draining = self._draining, True
        if self._tasks and not was_drained:
            log.info("draining", events=len(self._tasks))
            await asyncio.wait(self._tasks, timeout=timeout_s)
        await _cancel(self._tasks)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]
        # The sender may have gone; an OrchestratorError is logged where the run is settled.
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, OrchestratorError):
            log.error("event failed", exc_info=error)


async def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until each has handed its run back."""
    cancelled = set(tasks)
    if not cancelled:
        return
    for task in cancelled:
        task.cancel()
    _, stubborn = await asyncio.wait(cancelled, timeout=_CANCEL_S)
    if stubborn:
        log.error("handlers did not stop when they were cancelled", events=len(stubborn))


def answer_reads_by(deadline_s: Callable[[], float]) -> Middleware:
    """Answer each GET and HEAD within the seconds that `deadline_s` returns at its start, else 503.

    The handler is cancelled then, since a read has no effects.
    """

    @web.middleware
    async def limit(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return await handler(request)
        seconds = deadline_s()
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                return await handler(request)
        except TimeoutError:
            if not deadline.expired():
                raise
            slow = request.get(WAITS_FOR, "what it reads")
            raise TemporaryError(
                f"There was no answer within {seconds:.3g} s, since {slow} is slow: retry."
            ) from None

    return limit
