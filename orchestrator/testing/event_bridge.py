"""Simulates EventBridge: retries with backoff, duplicates, reordering, the dead-letter queue.

    simulator = EventBridgeSimulator(client, clock)
    deliveries = await simulator.deliver(events)
    assert not deliveries.dead_letters

`client` posts to the app (aiohttp's `TestClient` or `ClientSession`); `clock` is the app's own,
which the simulator turns from one delivery to the next, without waiting.
"""

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any, Literal, Protocol

import aiohttp
import attrs

TargetKind = Literal["api_destination", "api_gateway"]

#: The statuses that each kind of target retries, besides 5xx and time-outs (EventBridge user guide,
#: API destinations; event retry policy).
_RETRIED: Mapping[TargetKind, frozenset[int]] = {
    "api_destination": frozenset({401, 407, 409, 429}),
    "api_gateway": frozenset({429}),
}
_LONGEST_PAUSE_S = 600.0


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often and how long an event is retried."""

    max_tries: int
    max_age_s: float


#: The default of a bus: 24 hours and 185 tries.
STANDARD_BUS = RetryPolicy(max_tries=185, max_age_s=24 * 3600)
#: The newer kind of custom bus, with a short retry policy.
SHORT_LIVED_BUS = RetryPolicy(max_tries=5, max_age_s=300)


class HttpClient(Protocol):
    """An HTTP client that posts events."""

    @property
    def post(self) -> Callable[..., Any]: ...


@attrs.frozen
class Try:
    """One delivery of an event; `status` None if the answer timed out."""

    at: datetime
    status: int | None


@attrs.define
class Delivered:
    """The deliveries of one event, and why it went to the dead-letter queue, if it did."""

    event: Mapping[str, Any]
    tries: list[Try] = attrs.field(factory=list)
    dead_letter_reason: str | None = None

    @property
    def status(self) -> int | None:
        """The status of its last delivery."""
        return self.tries[-1].status if self.tries else None


@attrs.frozen
class Deliveries:
    """The deliveries of all events, including EventBridge's duplicates."""

    all: Sequence[Delivered]

    @property
    def dead_letters(self) -> list[Delivered]:
        """The events that EventBridge sent to the dead-letter queue."""
        return [one for one in self.all if one.dead_letter_reason is not None]


class TurnableClock(Protocol):
    """A clock that can be advanced, such as `ManualClock`."""

    def now(self) -> datetime: ...
    def turn(self, seconds: float) -> None: ...


@attrs.define(kw_only=True)
class EventBridgeSimulator:
    """Delivers events to an app as EventBridge delivers them.

    `target` is the kind of target, `policy` the retry policy of the bus. An event is delivered
    twice with the probability `duplicates`, and up to `disorder_s` late, by a generator seeded with
    `seed`. A delivery times out after `timeout_s` of real time, as in EventBridge.
    """

    client: HttpClient = attrs.field(kw_only=False)
    clock: TurnableClock = attrs.field(kw_only=False)
    path: str = "/events"
    headers: Mapping[str, str] = attrs.field(factory=dict)
    target: TargetKind = "api_destination"
    policy: RetryPolicy = STANDARD_BUS
    duplicates: float = 0.0
    disorder_s: float = 0.0
    seed: int = 0
    timeout_s: float = 5.0
    at_once: int = 20
    #: Called whenever the clock was turned, to simulate other activity.
    meanwhile: Callable[[datetime], Awaitable[None]] | None = None

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> Deliveries:
        """Deliver the events until each is accepted or in the dead-letter queue."""
        chance, numbers, start = random.Random(self.seed), count(), self.clock.now()  # noqa: S311
        waiting: list[tuple[datetime, int, Delivered, datetime]] = []

        def add(event: Mapping[str, Any]) -> Delivered:
            at = start + timedelta(seconds=chance.uniform(0, self.disorder_s))
            delivered = Delivered(event)
            heapq.heappush(waiting, (at, next(numbers), delivered, at))
            return delivered

        everything = []
        for event in events:
            everything += [add(event) for _ in range(2 if chance.random() < self.duplicates else 1)]
        while waiting:
            await self._turn_to(waiting[0][0])
            now = self.clock.now()
            due: list[tuple[datetime, int, Delivered, datetime]] = []
            while waiting and waiting[0][0] <= now and len(due) < self.at_once:
                due.append(heapq.heappop(waiting))
            answers = await asyncio.gather(*(self._post(one[2].event) for one in due))
            for (_, _, delivered, since), (status, headers) in zip(due, answers, strict=True):
                delivered.tries.append(Try(now, status))
                pause_s = self._pause_s(delivered, status, headers, now, since, chance)
                if pause_s is not None:
                    again = now + timedelta(seconds=pause_s)
                    heapq.heappush(waiting, (again, next(numbers), delivered, since))
        return Deliveries(everything)

    async def _turn_to(self, moment: datetime) -> None:
        ahead_s = (moment - self.clock.now()).total_seconds()
        if ahead_s <= 0:
            return
        self.clock.turn(ahead_s)
        if self.meanwhile is not None:
            await self.meanwhile(self.clock.now())

    async def _post(self, event: Mapping[str, Any]) -> tuple[int | None, Mapping[str, str]]:
        """The status and headers of the answer; None if it timed out."""
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Amazon/EventBridge/ApiDestinations",
            "Range": "bytes=0-1048575",
            **self.headers,
        }
        try:
            async with (
                asyncio.timeout(self.timeout_s),
                self.client.post(self.path, json=dict(event), headers=headers) as answer,
            ):
                return answer.status, dict(answer.headers)
        except (TimeoutError, aiohttp.ClientError):
            return None, {}

    def _pause_s(
        self,
        delivered: Delivered,
        status: int | None,
        headers: Mapping[str, str],
        now: datetime,
        since: datetime,
        chance: random.Random,
    ) -> float | None:
        """The pause before the next delivery; None if the event is accepted or given up."""
        if status is not None and 200 <= status < 300:
            return None
        tries = len(delivered.tries)
        pause_s = retry_pause_s(
            status, headers, tries=tries, target=self.target, now=now, chance=chance
        )
        if pause_s is None:
            delivered.dead_letter_reason = f"answered {status}, which is not retried"
            return None
        is_too_old = now + timedelta(seconds=pause_s) > since + timedelta(
            seconds=self.policy.max_age_s
        )
        if tries >= self.policy.max_tries or is_too_old:
            delivered.dead_letter_reason = f"answered {status} at each of {tries} tries"
            return None
        return pause_s


def retry_pause_s(
    status: int | None,
    headers: Mapping[str, str],
    *,
    tries: int,
    target: TargetKind,
    now: datetime,
    chance: random.Random,
) -> float | None:
    """The pause in seconds after a delivery that was not accepted, the `tries`-th of its event;
    None if EventBridge gives up. `status` None: there was no answer in time."""
    is_retried = status is None or status >= 500 or status in _RETRIED[target]
    asked_s = _retry_after_s(headers, now) if target == "api_destination" else None
    if not is_retried or (asked_s is not None and asked_s < 0):
        return None
    pause_s = min(_LONGEST_PAUSE_S, 2.0 ** min(tries, 10)) * chance.uniform(0.5, 1.0)
    return max(pause_s, asked_s or 0.0)


def _retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """The pause of a `Retry-After` header, which is in seconds or a date."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return (parsedate_to_datetime(text) - now).total_seconds()
    except ValueError:
        return None
