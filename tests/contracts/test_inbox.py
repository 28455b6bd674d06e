"""What every inbox does: one suite for the port, run against each implementation."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest

from orchestrator.adapters.aws import AWS, open_aws
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.memory.inbox import InMemoryInbox
from orchestrator.adapters.sqs.inbox import SQSInbox
from orchestrator.core.errors import EventTooLarge, TemporaryError
from orchestrator.core.queue.inbox import Inbox, Message
from orchestrator.embedded import EmbeddedAWS, open_embedded_aws

KINDS = ("memory", "memory in groups", "SQS", "SQS FIFO")


@attrs.frozen
class Bench:
    inbox: Inbox
    in_groups: bool

    async def send(self, text: str, *, group: str = "g", key: str | None = None) -> None:
        await self.inbox.send(text=text, group=group, deduplication_id=key or text)

    async def receive(self, *, limit: int = 10) -> list[Message]:
        return list(await self.inbox.receive(limit=limit, wait_s=0))

    async def receive_all(self, count: int) -> list[Message]:
        """So many messages; a queue may give them one by one."""
        found: list[Message] = []
        for _ in range(100):
            found += await self.receive()
            if len(found) >= count:
                break
        return found


@pytest.fixture
async def aws(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[AWS, EmbeddedAWS]]:
    async with open_embedded_aws() as embedded:
        for name, value in embedded.environment().items():
            monkeypatch.setenv(name, value)
        async with open_aws(
            dynamodb_region=None, events_region=None, connect_timeout_s=30, read_timeout_s=30
        ) as opened:
            yield opened, embedded


def sqs_inbox(aws: tuple[AWS, EmbeddedAWS], name: str) -> SQSInbox:
    opened, embedded = aws
    url = f"{embedded.endpoint_url}/123456789012/{name}"
    return SQSInbox(opened.sqs, opened.sqs_polling, url=url, visibility_s=60)


@pytest.fixture(params=KINDS)
async def bench(request: pytest.FixtureRequest, aws: tuple[AWS, EmbeddedAWS]) -> Bench:
    kind, in_groups = request.param, "groups" in request.param or "FIFO" in request.param
    if kind.startswith("memory"):
        return Bench(InMemoryInbox(SystemClock(), in_groups=in_groups), in_groups)
    inbox = sqs_inbox(aws, f"events{'.fifo' if in_groups else ''}")
    assert await inbox.create()
    return Bench(inbox, in_groups)


async def test_a_message_that_is_sent_is_received(bench: Bench) -> None:
    """Its text to the letter, under an id, for the first time."""
    text = 'Zoë 😀 {"a": "b"}'
    await bench.send(text, group="g-1")
    (message,) = await bench.receive_all(1)
    assert (message.text, message.receives) == (text, 1)
    assert message.id
    assert message.group == ("g-1" if bench.in_groups else None)


async def test_an_empty_queue_gives_nothing(bench: Bench) -> None:
    """It doesn't wait if `wait_s` is 0."""
    assert await bench.receive() == []


async def test_a_received_message_is_invisible(bench: Bench) -> None:
    """It stays invisible until it is deleted, or made visible again."""
    await bench.send("a")
    (message,) = await bench.receive_all(1)
    assert await bench.receive() == []
    await bench.inbox.hide(message, seconds=0)
    (again,) = await bench.receive_all(1)
    assert (again.id, again.text, again.receives) == (message.id, "a", 2)


async def test_a_deleted_message_is_not_received_again(bench: Bench) -> None:
    """Deleting it twice is no error."""
    await bench.send("a")
    (message,) = await bench.receive_all(1)
    await bench.inbox.delete(message)
    await bench.inbox.delete(message)
    assert await bench.receive() == []


async def test_no_more_than_the_limit_are_received(bench: Bench) -> None:
    """At most ten messages are received at once."""
    for number in range(12):
        await bench.send(f"m-{number}", group=f"g-{number}")
    assert len(await bench.receive(limit=3)) <= 3
    assert len(await bench.receive(limit=50)) <= 10


async def test_a_group_comes_in_turn(bench: Bench) -> None:
    """The next message of a group is received once the one before is deleted."""
    for group in ("a", "b"):
        for number in range(2):
            await bench.send(f"{group}-{number}", group=group)
    if not bench.in_groups:
        assert len(await bench.receive_all(4)) == 4
        return
    first = await bench.receive(limit=1)
    assert [one.text for one in first] == ["a-0"]
    rest = [one.text for one in await bench.receive_all(2)]
    assert "a-1" not in rest
    await bench.inbox.delete(first[0])
    later = [one.text for one in await bench.receive_all(1)]
    assert "a-1" in [*rest, *later]


async def test_the_same_message_twice(bench: Bench) -> None:
    """A queue of groups knows it by its deduplication id."""
    for _ in range(2):
        await bench.send("a", key="k")
    received = await bench.receive_all(1 if bench.in_groups else 2)
    assert len(received) == (1 if bench.in_groups else 2)


async def test_a_poll_is_answered_when_something_comes(bench: Bench) -> None:
    """A poll waits until a message comes, and no longer."""
    poll = asyncio.create_task(bench.inbox.receive(limit=10, wait_s=20))
    await asyncio.sleep(0)
    await bench.send("a")
    async with asyncio.timeout(15):
        assert [message.text for message in await poll] == ["a"]


async def test_a_queue_that_is_there_passes_its_check(bench: Bench) -> None:
    """Nothing is raised."""
    await bench.inbox.check()


async def test_a_queue_is_made_once(aws: tuple[AWS, EmbeddedAWS]) -> None:
    """A second creation answers that the queue was there."""
    for name in ("events", "events.fifo"):
        inbox = sqs_inbox(aws, name)
        assert [await inbox.create(), await inbox.create()] == [True, False]


async def test_a_missing_queue_is_temporary(aws: tuple[AWS, EmbeddedAWS]) -> None:
    """An operator may yet create it: no event is given up for it."""
    inbox = sqs_inbox(aws, "missing")
    message = Message(id="1", text="", receipt="r")
    calls: list[Any] = [
        lambda: inbox.check(),
        lambda: inbox.send(text="a", group="g", deduplication_id="a"),
        lambda: inbox.receive(limit=1, wait_s=0),
        lambda: inbox.hide(message, seconds=1),
        lambda: inbox.delete(message),
    ]
    for call in calls:
        with pytest.raises(TemporaryError, match=r"QueueDoesNotExist|NonExistentQueue"):
            await call()


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_message_that_is_too_large_is_a_permanent_error(
    aws: tuple[AWS, EmbeddedAWS],
) -> None:
    """It is refused by the queue's own limit, and is no outage."""
    inbox = sqs_inbox(aws, "small")
    await inbox.create()
    with pytest.raises(EventTooLarge, match="1100000 bytes as stored, at most 1048576"):
        await inbox.send(text="x" * 1_100_000, group="g", deduplication_id="1")
