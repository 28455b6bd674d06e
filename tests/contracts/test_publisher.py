"""Publishers, EventBridge's against a bus that takes and refuses entries as the test says."""

import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from aiobotocore.config import AioConfig
from aiohttp import web
from aiohttp.test_utils import TestServer

from orchestrator import PermanentError, TemporaryError
from orchestrator.adapters.eventbridge.publisher import EventBridgePublisher, NoPublisher
from tests.aws import aws_session

Entry = dict[str, Any]


@attrs.define
class Bus:
    """EventBridge's PutEvents in JSON 1.1: refuses as many entries as it has codes for."""

    refusals: deque[str] = attrs.field(factory=deque)
    error: tuple[int, str] | None = None
    calls: list[list[Entry]] = attrs.field(factory=list)
    taken: list[Entry] = attrs.field(factory=list)

    async def handle_request(self, request: web.Request) -> web.Response:
        assert request.headers["X-Amz-Target"] == "AWSEvents.PutEvents"
        entries = (await request.json())["Entries"]
        self.calls.append(entries)
        if self.error is not None:
            status, code = self.error
            return self._answer({"__type": code, "message": "not today"}, status)
        results = [self._put(entry) for entry in entries]
        failed = sum("ErrorCode" in result for result in results)
        return self._answer({"FailedEntryCount": failed, "Entries": results}, 200)

    def _put(self, entry: Entry) -> Entry:
        if self.refusals:
            return {"ErrorCode": self.refusals.popleft(), "ErrorMessage": "not today"}
        self.taken.append(entry)
        return {"EventId": f"event-{len(self.taken)}"}

    def _answer(self, document: Entry, status: int) -> web.Response:
        text = json.dumps(document)
        return web.Response(text=text, status=status, content_type="application/x-amz-json-1.1")


@pytest.fixture
async def bus() -> Bus:
    return Bus()


@pytest.fixture
async def publisher(bus: Bus) -> AsyncIterator[EventBridgePublisher]:
    app = web.Application()
    app.router.add_post("/", bus.handle_request)
    session = aws_session()
    async with TestServer(app) as server:
        url, once = str(server.make_url("/")), AioConfig(retries={"total_max_attempts": 1})
        async with session.client("events", endpoint_url=url, config=once) as client:

            async def opened() -> Any:
                return client

            yield EventBridgePublisher(opened, bus="saas-bus", source="orchestrator.tests")


async def publish(publisher: EventBridgePublisher) -> str:
    return await publisher.publish(event_type="NEWS", detail={"name": "Bjørn", "nested": {"a": 1}})


async def test_an_event_is_put_on_the_bus(publisher: EventBridgePublisher, bus: Bus) -> None:
    """Bus, source, type and detail are as requested; the id is the bus's."""
    assert await publish(publisher) == "event-1"
    (entry,) = bus.taken
    assert json.loads(entry.pop("Detail")) == {"name": "Bjørn", "nested": {"a": 1}}
    assert entry == {
        "EventBusName": "saas-bus",
        "Source": "orchestrator.tests",
        "DetailType": "NEWS",
    }


async def test_an_event_may_name_another_source(publisher: EventBridgePublisher, bus: Bus) -> None:
    """The named source takes the place of the publisher's own."""
    await publisher.publish(event_type="NEWS", detail={}, source="another")
    assert [entry["Source"] for entry in bus.taken] == ["another"]


@pytest.mark.parametrize("code", ["ThrottlingException", "InternalFailure", "SomethingNew"])
async def test_an_entry_that_failed_is_sent_again(
    publisher: EventBridgePublisher, bus: Bus, code: str
) -> None:
    """The same entry, and the id is that of the one that was accepted."""
    bus.refusals.append(code)
    assert await publish(publisher) == "event-1"
    first, second = bus.calls
    assert first == second
    assert len(bus.taken) == 1


async def test_an_entry_that_keeps_failing_is_worth_another_attempt(
    publisher: EventBridgePublisher, bus: Bus
) -> None:
    """Two failures are a temporary error that quotes the bus, though it answered 200."""
    bus.refusals.extend(["ThrottlingException", "InternalFailure"])
    with pytest.raises(TemporaryError, match=r"NEWS.*InternalFailure.*not today"):
        await publish(publisher)
    assert (len(bus.calls), bus.taken) == (2, [])


@pytest.mark.parametrize("code", ["MalformedDetail", "InvalidArgument"])
async def test_an_entry_refused_for_what_it_is_is_not_sent_again(
    publisher: EventBridgePublisher, bus: Bus, code: str
) -> None:
    """Such a refusal is a permanent error that quotes the bus."""
    bus.refusals.append(code)
    with pytest.raises(PermanentError, match=rf"NEWS.*{code}.*not today"):
        await publish(publisher)
    assert len(bus.calls) == 1


@pytest.mark.parametrize("code", ["MalformedDetail", "InvalidArgument"])
async def test_a_second_answer_may_be_final_too(
    publisher: EventBridgePublisher, bus: Bus, code: str
) -> None:
    """The answer to the retry counts like the answer to the first try."""
    bus.refusals.extend(["ThrottlingException", code])
    with pytest.raises(PermanentError, match=code):
        await publish(publisher)


@pytest.mark.parametrize(
    ("status", "code", "raised"),
    [
        (400, "AccessDeniedException", TemporaryError),
        (400, "ResourceNotFoundException", TemporaryError),
        (400, "ThrottlingException", TemporaryError),
        (500, "InternalException", TemporaryError),
        (400, "ValidationException", PermanentError),
    ],
)
async def test_a_call_that_is_refused_becomes_one_of_our_errors(
    publisher: EventBridgePublisher, bus: Bus, status: int, code: str, raised: type[Exception]
) -> None:
    """Only a refusal of the content is permanent: permissions and buses can be fixed."""
    bus.error = (status, code)
    with pytest.raises(raised, match=rf"PutEvents.*{code}"):
        await publish(publisher)


async def test_without_a_bus_nothing_is_published() -> None:
    """A temporary error that names the type and the setting."""
    with pytest.raises(TemporaryError, match=r"NEWS.*events\.bus"):
        await NoPublisher().publish(event_type="NEWS", detail={})
