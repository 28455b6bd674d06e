"""Waits at a terminal: shows a view again whenever it changes, and follows an event to the end of
its operation."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import attrs

from orchestrator.cli.client import (
    Client,
    Reply,
    ServiceRefusedError,
    ServiceUnreachableError,
)
from orchestrator.core.clock import Clock

View = TypeVar("View")

_POLL_S = 2.0
_UNFINISHED = {
    "queued": "the run is in the queue",
    "running": "the run is in progress",
    "retry": "the run waits",
}


@attrs.frozen
class Followed:
    """An event, its last known run and operation; `operation` is None for a run that has none."""

    sent: Reply
    operation: dict[str, Any] | None
    timed_out: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the operation succeeded; without one, whether the run did."""
        run, operation = self.sent.run, self.operation
        if self.timed_out or run is None:
            return self.sent.succeeded and not self.timed_out
        ended_well = operation is None or bool(operation["succeeded"])
        return run["status"] in ("succeeded", "duplicate") and ended_well

    def as_json(self) -> dict[str, Any]:
        return {
            **self.sent.as_json(),
            "operation": self.operation,
            "timedOut": self.timed_out,
        }


async def watch(
    look: Callable[[], Awaitable[View]], show: Callable[[View], None], *, clock: Clock
) -> None:
    """Show a view, and again whenever it has changed, until it is cancelled.

    Raises:
        ServiceRefusedError, ServiceUnreachableError: the first request fails. A later failure
            that may pass is retried.
    """
    last = await look()
    show(last)
    while True:
        await clock.sleep(_POLL_S)
        try:
            found = await look()
        except (ServiceRefusedError, ServiceUnreachableError) as error:
            if not _may_pass(error):
                raise
            continue
        if found != last:
            last = found
            show(last)


async def follow(
    client: Client,
    sent: Reply,
    *,
    timeout_s: float,
    clock: Clock,
    tell: Callable[[str, float], None],
) -> Followed:
    """Wait until the operation of an event that was sent is over; without an operation, its run.

    `tell` receives what is waited for, and for how many seconds so far. An outage of the service is
    waited for, too.

    Raises:
        ServiceRefusedError: the run or the operation can't be read.
    """
    if sent.run is None:
        return Followed(sent, None)
    began, run = clock.now(), sent.run
    until = began + timedelta(seconds=timeout_s)
    operation: dict[str, Any] | None = None
    while True:
        what = "waiting for the service"
        try:
            run, operation = await _look(client, run["runId"])
            stage = _stage(run, operation)
            if stage is None:
                return Followed(attrs.evolve(sent, run=run), operation)
            what = stage
        except (ServiceRefusedError, ServiceUnreachableError) as error:
            if not _may_pass(error):
                raise
        now = clock.now()
        if now >= until:
            return Followed(attrs.evolve(sent, run=run), operation, timed_out=True)
        tell(what, (now - began).total_seconds())
        await clock.sleep(min(_POLL_S, (until - now).total_seconds()))


async def _look(client: Client, run_id: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The run and its operation as they are now; for a duplicate, those of the first run."""
    run = await client.get_run(run_id)
    if run["duplicateOf"]:
        run = await client.get_run(run["duplicateOf"])
    return run, await client.find_operation(run["outcomeOf"] or run["operationId"])


def _stage(run: dict[str, Any], operation: dict[str, Any] | None) -> str | None:
    """What is waited for; None if all is over."""
    if run["status"] in _UNFINISHED:
        reason = run["error"]["message"] if run["error"] else run["note"]
        return _UNFINISHED[run["status"]] + (f": {reason}" if reason else "")
    if run["status"] == "failed" or operation is None or operation["state"] != "open":
        return None
    job = operation["job"]
    doing = f"{job['builder']} {job['id']}" if job else "its job"
    return f"{operation['kind'] or 'job'}: waiting for {doing}"


def _may_pass(error: ServiceRefusedError | ServiceUnreachableError) -> bool:
    return isinstance(error, ServiceUnreachableError) or error.status in (429, 500, 502, 503, 504)
