"""Logs refusals: one line for each lost event, and at most one a second during an outage.

    refused ──► a line at once                      (count 1)
    refused ──► held ┐
    refused ──► held ┴─ the second is over ──► a line with the last of them  (count 2)

Refusals for the content (400, 422, 500) are logged for each event, since the sender won't retry it.
All others are grouped by status and error class: many requests without a key, or an outage's 503s,
may have any number of event ids.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import structlog
from aiohttp import web

from orchestrator.core import metrics
from orchestrator.core.clock import Clock
from orchestrator.core.events.envelope import read_names
from orchestrator.core.texts import shorten

#: How long refusals of one group are held, in seconds.
_EVERY_S = 1.0
#: The statuses that are logged for each event.
_FINAL = (400, 422, 500)
#: Beyond this many groups within a second, all refusals are grouped by status and error class.
_MOST_KINDS = 1000
#: Names and traces, which the sender chooses, are cut off after this many characters.
_LONGEST_NAME = 512

_Kind = tuple[object, ...]

log = structlog.get_logger("orchestrator.refusals")


@attrs.frozen(kw_only=True)
class Refusal:
    """One response other than success. `what` was refused ("request", "message"), `error` is the
    class of the error; `about` has further fields: the request or message, the event, the trace."""

    what: str
    status: int
    error: str
    reason: str
    about: Mapping[str, Any]


class RefusalLog:
    """Logs refusals, each group at most once a second."""

    def __init__(self, clock: Clock, counts: metrics.Metrics = metrics.NO_METRICS) -> None:
        self._clock = clock
        self._metrics = counts
        #: The groups that were logged in this second, each with the number and the last of the
        #: refusals held since.
        self._seen: dict[_Kind, tuple[int, Refusal | None]] = {}

    def add(self, refusal: Refusal) -> None:
        """Log it at once, or hold it if one of its group was logged in this second."""
        self._metrics.add(metrics.REFUSALS, refusal.what, str(int(refusal.status)))
        kind = self._kind(refusal)
        if kind not in self._seen:
            self._seen[kind] = (0, None)
            _write(refusal, 1)
        else:
            held, _ = self._seen[kind]
            self._seen[kind] = (held + 1, refusal)

    def write_held(self) -> None:
        """Log what was held in the last second; groups that had any are held for another one."""
        held = {kind: last for kind, (_, last) in self._seen.items() if last is not None}
        counts = {kind: self._seen[kind][0] for kind in held}
        self._seen = dict.fromkeys(held, (0, None))
        for kind, refusal in held.items():
            _write(refusal, counts[kind])

    @asynccontextmanager
    async def written_regularly(self) -> AsyncIterator[None]:
        """Log what is held each second, and when the context ends."""

        async def keep_writing() -> None:
            while True:
                await self._clock.sleep(_EVERY_S)
                self.write_held()

        task = asyncio.create_task(keep_writing())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            self.write_held()

    def _kind(self, refusal: Refusal) -> _Kind:
        kind: _Kind = (refusal.status, refusal.error)
        if refusal.status not in _FINAL or len(self._seen) >= _MOST_KINDS:
            return kind
        return (*kind, refusal.about.get("event_type"), refusal.about.get("event_id"))


REFUSALS = web.AppKey("refusals", RefusalLog)


def name_event(event_type: str | None, event_id: str | None, body: object) -> dict[str, str | None]:
    """The event's type and id, where known; the given ones take precedence over the body's."""
    own_type, own_id = read_names(body)
    return {"event_type": event_type or own_type, "event_id": event_id or own_id}


def read_trace(headers: Iterable[tuple[str, str]]) -> str | None:
    """The trace id of a request: its `traceparent`, else AWS's `X-Amzn-Trace-Id`.

    W3C Trace Context, section 3.2; Elastic Load Balancing user guide for Application Load
    Balancers, "Request tracing".
    """
    sent = {name.lower(): value for name, value in headers}
    return sent.get("traceparent") or sent.get("x-amzn-trace-id")


def _write(refusal: Refusal, count: int) -> None:
    about = {name: _cut(value) for name, value in refusal.about.items() if value is not None}
    log.warning(
        f"{refusal.what} refused",
        status=refusal.status,
        reason=shorten(refusal.reason),
        error=refusal.error,
        count=count,
        **about,
    )


def _cut(value: object) -> object:
    is_long = isinstance(value, str) and len(value) > _LONGEST_NAME
    return f"{value[:_LONGEST_NAME]}…" if isinstance(value, str) and is_long else value
