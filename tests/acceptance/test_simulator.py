"""The simulator delivers to an app as EventBridge would, and returns the deliveries."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from orchestrator.testing import (
    SHORT_LIVED_BUS,
    EventBridgeSimulator,
    ManualClock,
    provisioning_event,
)

Answer = web.Response | None
EVENT = {"id": "e-1", "detail-type": "ORDER", "detail": {}}


class App:
    """Gives the answers in turn, and repeats the last one; None closes the connection."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.answers: list[tuple[int | None, dict[str, str]]] = [(200, {})]
        self.seen: list[tuple[float, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self._began = clock.now()

    async def handle(self, request: web.Request) -> web.Response:
        since = (self.clock.now() - self._began).total_seconds()
        self.seen.append((since, await request.json()))
        self.headers.append(dict(request.headers))
        status, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.Response(status=status, headers=headers)


@pytest.fixture
def app(clock: ManualClock) -> App:
    return App(clock)


@pytest.fixture
async def client(app: App) -> AsyncIterator[Any]:
    server = web.Application()
    server.router.add_post("/{path:.*}", app.handle)
    async with TestClient(TestServer(server, host="127.0.0.1")) as client:
        yield client


@pytest.fixture
def simulator(client: Any, clock: ManualClock) -> EventBridgeSimulator:
    return EventBridgeSimulator(client, clock, headers={"x-api-key": "k"})


async def test_an_accepted_event_is_delivered_once(
    simulator: EventBridgeSimulator, app: App
) -> None:
    """An accepted event is delivered once, as an API destination sends it."""
    (delivered,) = (await simulator.deliver([EVENT])).all
    assert (delivered.status, delivered.dead_letter_reason) == (200, None)
    assert [body for _, body in app.seen] == [EVENT]
    assert app.headers[0]["User-Agent"] == "Amazon/EventBridge/ApiDestinations"
    assert app.headers[0]["x-api-key"] == "k"


@pytest.mark.parametrize(
    ("status", "api_destination", "api_gateway"),
    [
        (400, False, False),
        (401, True, False),
        (403, False, False),
        (404, False, False),
        (407, True, False),
        (409, True, False),
        (422, False, False),
        (429, True, True),
        (500, True, True),
        (503, True, True),
        (302, False, False),
        (None, True, True),
    ],
)
@pytest.mark.parametrize("target", ["api_destination", "api_gateway"])
async def test_the_status_decides_whether_an_event_is_retried(
    simulator: EventBridgeSimulator,
    app: App,
    target: Any,
    status: int | None,
    api_destination: bool,
    api_gateway: bool,
) -> None:
    """The target's table of statuses decides whether an event is retried or goes to the dead-letter
    queue at once."""
    simulator.target = target
    app.answers = [(status, {}), (200, {})]
    deliveries = await simulator.deliver([EVENT])
    is_retried = api_destination if target == "api_destination" else api_gateway
    assert len(app.seen) == (2 if is_retried else 1)
    assert len(deliveries.dead_letters) == (0 if is_retried else 1)


@pytest.mark.parametrize("text", ["90", "Fri, 20 Nov 2026 09:01:30 GMT"])
async def test_retry_after_is_kept(simulator: EventBridgeSimulator, app: App, text: str) -> None:
    """`Retry-After` is obeyed, in seconds or as a date."""
    app.answers = [(503, {"Retry-After": text}), (200, {})]
    await simulator.deliver([EVENT])
    assert [since for since, _ in app.seen] == [0, 90]


async def test_a_negative_pause_ends_it(simulator: EventBridgeSimulator, app: App) -> None:
    """A negative `Retry-After` ends the retries, as in EventBridge."""
    app.answers = [(503, {"Retry-After": "-1"}), (200, {})]
    assert len((await simulator.deliver([EVENT])).dead_letters) == 1


async def test_an_event_is_retried_for_a_day(
    simulator: EventBridgeSimulator, app: App, clock: ManualClock
) -> None:
    """An event is retried for a day and at most 185 times, and then goes to the dead-letter
    queue."""
    app.answers = [(503, {})]
    began = clock.now()
    (dead,) = (await simulator.deliver([EVENT])).dead_letters
    assert 100 < len(dead.tries) <= 185
    assert timedelta(hours=12) < clock.now() - began <= timedelta(hours=24)
    assert "503" in (dead.dead_letter_reason or "")


async def test_a_short_lived_bus_gives_up_soon(
    simulator: EventBridgeSimulator, app: App, clock: ManualClock
) -> None:
    """A short-lived bus gives up after 5 tries within 300 s."""
    simulator.policy = SHORT_LIVED_BUS
    app.answers = [(503, {})]
    began = clock.now()
    (dead,) = (await simulator.deliver([EVENT])).dead_letters
    assert len(dead.tries) == 5
    assert clock.now() - began <= timedelta(seconds=300)


async def test_events_come_twice_and_in_disorder(simulator: EventBridgeSimulator, app: App) -> None:
    """Events are delivered twice and out of order, at the given rates."""
    simulator.duplicates, simulator.disorder_s = 0.5, 60
    events = [{**EVENT, "id": f"e-{number}"} for number in range(40)]
    await simulator.deliver(events)
    ids = [body["id"] for _, body in app.seen]
    assert 50 < len(ids) < 70
    assert set(ids) == {event["id"] for event in events}
    assert ids[: len(events)] != [event["id"] for event in events]


async def test_the_simulator_continues_meanwhile(
    simulator: EventBridgeSimulator, app: App, clock: ManualClock
) -> None:
    """The simulator calls `meanwhile` whenever time has passed."""
    moments = []

    async def note(now: Any) -> None:
        moments.append(now)

    simulator.meanwhile = note
    app.answers = [(503, {"Retry-After": "60"}), (200, {})]
    await simulator.deliver([EVENT])
    assert moments == [clock.now()]


async def test_our_service_is_met_as_it_is(
    start_service: Callable[..., Any], clock: ManualClock
) -> None:
    """The service's own client needs one line in a user's test."""
    service = await start_service()
    deliveries = await EventBridgeSimulator(service, clock).deliver([provisioning_event()])
    assert not deliveries.dead_letters
