"""The same event twice, over HTTP: recognized by its key, by a header, by its content."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientResponse

from orchestrator import Event, Extension, HandlerRegistry, Run
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.answers import only_build, read_problem, read_run, read_success
from tests.conftest import Client, StartService

DEDUPE_WINDOW_S = 25 * 3600
PATH = "/events/MY_EVENT"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def handled() -> list[int]:
    """The attempts that reached the handler of `counting`."""
    return []


@pytest.fixture
async def counting(start_service: StartService, handled: list[int]) -> Client:
    """The service with a handler of MY_EVENT that records each attempt."""
    registry = HandlerRegistry()

    @registry.on("MY_EVENT")
    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        handled.append(run.attempt)

    return await start_service(extension=Extension(registry=registry))


def is_replay(answer: ClientResponse) -> bool:
    """Whether the answer is marked as that of an earlier delivery."""
    return answer.headers.get("Idempotent-Replayed") == "true"


async def test_a_redelivery_starts_no_second_build(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """The same type, source and id are a duplicate: 200, marked as a replay, with the first run's
    address."""
    event = provisioning_event()
    first = await service.post("/events", json=event)
    again = await service.post("/events/TENANT_PROVISIONING", json=event)
    assert await read_success(again) == await read_success(first)
    assert (is_replay(first), is_replay(again)) == (False, True)
    assert "Idempotent-Replayed" not in first.headers
    assert only_build(codebuild)
    assert len(codebuild.calls) == 1


async def test_an_envelope_with_another_time_is_still_the_same_event(
    counting: Client, handled: list[int]
) -> None:
    """Only type, source, id and business body make the event."""
    event = envelope("MY_EVENT", {"a": 1})
    first = await read_success(await counting.post("/events", json=event))
    later = {**event, "time": "2026-11-21T00:00:00Z", "region": "eu-west-1"}
    assert await read_success(await counting.post("/events", json=later)) == first
    assert handled == [1]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"id": "event-2"}, "id"),
        ({"source": "elsewhere"}, "source"),
    ],
)
async def test_another_id_or_source_is_another_event(
    counting: Client, handled: list[int], change: dict[str, str], what: str
) -> None:
    """The same body under another id, or from another source, is handled anew."""
    event = envelope("MY_EVENT", {"a": 1})
    first = await counting.post("/events", json=event)
    other = await counting.post("/events", json={**event, **change})
    assert await read_success(other) != await read_success(first), what
    assert not is_replay(other)
    assert handled == [1, 1]


async def test_the_idempotency_key_outranks_the_envelopes_id(
    counting: Client, handled: list[int]
) -> None:
    """Two envelopes with one `Idempotency-Key` are one event; with two keys they are two."""
    answers = [
        await counting.post(
            "/events",
            json=envelope("MY_EVENT", {"a": 1}, event_id=event_id),
            headers={"Idempotency-Key": key},
        )
        for event_id, key in (("event-1", "k-1"), ("event-2", "k-1"), ("event-2", "k-2"))
    ]
    runs = [await read_success(answer) for answer in answers]
    assert [is_replay(answer) for answer in answers] == [False, True, False]
    assert runs[0] == runs[1] != runs[2]
    assert handled == [1, 1]


async def test_the_idempotency_key_works_for_a_bare_body(
    counting: Client, handled: list[int]
) -> None:
    """Equal bodies with different keys are different events."""
    for key in ("k-1", "k-2", "k-1"):
        headers = {"Idempotency-Key": key}
        await read_success(await counting.post(PATH, json={"a": 1}, headers=headers))
    assert handled == [1, 1]


async def test_equal_bodies_without_an_id_are_one_event(
    counting: Client, handled: list[int]
) -> None:
    """Without any id the content decides, whatever the order of its keys."""
    first = await counting.post(PATH, json={"a": 1, "b": [2]})
    again = await counting.post(PATH, data=b'{ "b": [2], "a": 1 }', headers=JSON)
    other = await counting.post(PATH, json={"a": 1, "b": [3]})
    assert await read_success(again) == await read_success(first)
    assert is_replay(again)
    assert await read_success(other) != await read_success(first)
    assert handled == [1, 1]


@pytest.mark.parametrize(
    ("pause_s", "attempts"), [(DEDUPE_WINDOW_S - 1, [1]), (DEDUPE_WINDOW_S, [1, 2])]
)
async def test_equal_content_is_one_event_for_25_hours(
    counting: Client, clock: ManualClock, handled: list[int], pause_s: float, attempts: list[int]
) -> None:
    """After the window the same content is handled again, as the next attempt of its run."""
    first = await read_success(await counting.post(PATH, json={"a": 1}))
    clock.turn(pause_s)
    answer = await counting.post(PATH, json={"a": 1})
    assert await read_success(answer) == first
    assert handled == attempts
    assert is_replay(answer) is (len(attempts) == 1)


async def test_an_event_with_an_id_is_known_forever(
    counting: Client, clock: ManualClock, handled: list[int]
) -> None:
    """An event with an id is a duplicate whenever it is sent again; only content has a window."""
    event = envelope("MY_EVENT", {"a": 1})
    await read_success(await counting.post("/events", json=event))
    clock.turn(10 * DEDUPE_WINDOW_S)
    assert is_replay(await counting.post("/events", json=event))
    assert handled == [1]


async def test_the_same_id_with_another_body_is_refused(
    counting: Client, handled: list[int]
) -> None:
    """The same id with another body is a 422 with the first run's address, and that run is
    unchanged."""
    first = await read_success(await counting.post("/events", json=envelope("MY_EVENT", {"a": 1})))
    before = await read_run(counting, first)
    answer = await counting.post("/events", json=envelope("MY_EVENT", {"a": 2}))
    problem = await read_problem(answer, 422)
    assert problem["instance"] == first
    assert "event-1" in problem["detail"]
    assert await read_run(counting, first) == before
    assert handled == [1]


async def test_a_duplicate_of_an_event_in_progress_is_503(
    start_service: StartService,
) -> None:
    """A duplicate is 503 with `Retry-After` while the first delivery is in progress, and a replay
    of it afterwards."""
    registry = HandlerRegistry()
    entered, release = asyncio.Event(), asyncio.Event()

    @registry.on("MY_EVENT")
    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        entered.set()
        await release.wait()

    service = await start_service(extension=Extension(registry=registry))
    event = envelope("MY_EVENT", {"a": 1})
    first = asyncio.create_task(deliver(service, event))
    await entered.wait()
    async with asyncio.timeout(5):
        problem = await read_problem(await deliver(service, event), 503)
    assert (await read_run(service, problem["instance"]))["status"] == "running"

    release.set()
    run = await read_success(await first)
    assert problem["instance"] == run
    again = await deliver(service, event)
    assert await read_success(again) == run
    assert is_replay(again)
    assert (await read_run(service, run))["attempt"] == 1


async def deliver(service: Client, event: dict[str, Any]) -> ClientResponse:
    """Post an envelope."""
    return await service.post("/events", json=event)
