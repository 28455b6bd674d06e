"""Following an event to the end of its operation, on a clock that the test turns."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from orchestrator.cli.client import Client, Reply, ServiceRefusedError, open_client
from orchestrator.cli.follow import Followed, follow, watch
from orchestrator.testing import ManualClock

RUN = {
    "runId": "r",
    "status": "succeeded",
    "duplicateOf": None,
    "outcomeOf": None,
    "operationId": "o",
    "error": None,
    "note": None,
}
RETRY = {**RUN, "status": "retry", "note": "The tenant t-1 is busy."}
OPEN = {"kind": "provisioning", "state": "open", "succeeded": None, "job": None}
DONE = {**OPEN, "state": "over", "succeeded": True}
SENT = Reply(200, {}, {"success": True}, RUN)


@attrs.define
class Service:
    """Answers of `/runs/r` and of `/operations/o`; a number is an error's status."""

    runs: list[dict[str, Any] | int]
    operations: list[dict[str, Any] | int]

    def answer(self, request: web.Request) -> web.Response:
        answers = self.runs if request.path == "/runs/r" else self.operations
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, int):
            return web.json_response({"detail": f"It is {found}."}, status=found)
        return web.json_response(found)


@pytest.fixture
def service() -> Service:
    return Service([RUN], [DONE])


@pytest.fixture
async def client(service: Service) -> AsyncIterator[Client]:
    async def answer(request: web.Request) -> web.Response:
        return service.answer(request)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with (
        TestServer(app, host="127.0.0.1") as server,
        open_client(str(server.make_url("/")), headers={}) as client,
    ):
        yield client


@attrs.define
class Messages:
    """The messages of a command while it waits, with the elapsed seconds."""

    said: asyncio.Queue[tuple[str, float]] = attrs.field(factory=asyncio.Queue)

    def __call__(self, what: str, elapsed_s: float) -> None:
        self.said.put_nowait((what, elapsed_s))


async def followed(
    client: Client, clock: ManualClock, messages: Messages, **options: Any
) -> Followed:
    timeout_s = options.pop("timeout_s", 60)
    return await follow(client, SENT, timeout_s=timeout_s, clock=clock, tell=messages)


async def test_it_waits_for_the_run_then_for_the_operation(
    service: Service, client: Client
) -> None:
    """An outage in between is waited for, too; the end is the operation's."""
    service.runs, service.operations = [RETRY, 503, RUN], [404, OPEN, DONE]
    clock, messages = ManualClock(), Messages()
    following = asyncio.create_task(followed(client, clock, messages))
    for expected in (
        ("the run waits: The tenant t-1 is busy.", 0.0),
        ("waiting for the service", 2.0),
        ("provisioning: waiting for its job", 4.0),
    ):
        assert await messages.said.get() == expected
        clock.turn(2)
    ended = await following
    assert (ended.succeeded, ended.timed_out, ended.operation) == (True, False, DONE)


@pytest.mark.parametrize(
    ("run", "operation", "succeeded"),
    [
        (RUN, DONE, True),
        (RUN, 404, True),
        (RUN, {**DONE, "succeeded": False}, False),
        ({**RUN, "status": "failed"}, DONE, False),
        ({**RUN, "status": "failed"}, 404, False),
        ({**RUN, "status": "failed"}, {**OPEN, "state": "given_back"}, False),
    ],
)
async def test_it_succeeds_if_run_and_operation_did(
    service: Service, client: Client, run: dict[str, Any], operation: Any, succeeded: bool
) -> None:
    """A run that was refused fails, even if an earlier one's operation succeeded."""
    service.runs, service.operations = [run], [operation]
    ended = await followed(client, ManualClock(), Messages())
    assert (ended.succeeded, ended.timed_out) == (succeeded, False)


async def test_a_time_out_is_no_failure(service: Service, client: Client) -> None:
    """It is marked as one, and the operation is kept as it was last seen."""
    service.operations = [OPEN]
    clock, messages = ManualClock(), Messages()
    following = asyncio.create_task(followed(client, clock, messages, timeout_s=3))
    for pause in (2, 1):
        await messages.said.get()
        clock.turn(pause)
    ended = await following
    assert (ended.timed_out, ended.succeeded, ended.operation) == (True, False, OPEN)


async def test_an_error_that_stays_ends_it(service: Service, client: Client) -> None:
    """A key that may not read is no outage."""
    service.runs = [403]
    with pytest.raises(ServiceRefusedError, match="It is 403"):
        await followed(client, ManualClock(), Messages())


async def test_an_event_without_a_run_has_no_end_to_wait_for(client: Client) -> None:
    """A sweep has no run: it ended as it was answered."""
    for status, succeeded in ((200, True), (429, False)):
        sent = Reply(status, {}, {})
        ended = await follow(client, sent, timeout_s=9, clock=ManualClock(), tell=Messages())
        assert ended.succeeded is succeeded


async def test_a_view_is_shown_when_it_changes() -> None:
    """An equal view and an outage show nothing; an error that stays ends the command."""
    answers: Iterator[str | ServiceRefusedError] = iter(
        ["old", "old", ServiceRefusedError("away", 503), "new"]
    )
    looked, shown, clock = asyncio.Queue[None](), list[str](), ManualClock()

    async def look() -> str:
        looked.put_nowait(None)
        answer = next(answers, ServiceRefusedError("The scope is missing.", 403))
        if isinstance(answer, ServiceRefusedError):
            raise answer
        return answer

    watching = asyncio.create_task(watch(look, shown.append, clock=clock))
    for _ in range(4):
        await looked.get()
        clock.turn(2)
    with pytest.raises(ServiceRefusedError, match="scope"):
        await watching
    assert shown == ["old", "new"]
