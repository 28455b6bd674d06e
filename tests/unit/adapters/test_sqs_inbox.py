"""Messages of SQS are deleted in batches, and each deletion has a result of its own."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest

from orchestrator.adapters.sqs.inbox import SQSInbox
from orchestrator.core.errors import TemporaryError
from orchestrator.core.queue.inbox import Message


@attrs.define
class Queue:
    """SQS's client: answers once it may, and refuses some receipts."""

    refused: Mapping[str, str] = {}
    error: Exception | None = None
    batches: list[list[str]] = attrs.field(factory=list)
    may_answer: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def delete_message_batch(self, **asked: Any) -> Mapping[str, Any]:
        entries = asked["Entries"]
        self.batches.append([entry["ReceiptHandle"] for entry in entries])
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return {
            "Failed": [
                {"Id": entry["Id"], "Code": "Invalid", "Message": self.refused[receipt]}
                for entry in entries
                if (receipt := entry["ReceiptHandle"]) in self.refused
            ]
        }


def inbox_of(queue: Queue) -> SQSInbox:
    async def client() -> Any:
        return queue

    return SQSInbox(client, client, url="https://sqs.example/1/events", visibility_s=60)


def deletions(inbox: SQSInbox, *receipts: str) -> list[asyncio.Task[None]]:
    messages = [Message(id=receipt, text="", receipt=receipt) for receipt in receipts]
    return [asyncio.create_task(inbox.delete(message)) for message in messages]


async def results(tasks: Sequence[asyncio.Task[None]]) -> list[str]:
    found = await asyncio.gather(*tasks, return_exceptions=True)
    return ["" if one is None else str(one) for one in found]


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_deletions_that_come_during_a_request_go_together() -> None:
    """Ten at most, as SQS has it; the first one waits for nothing."""
    queue = Queue()
    inbox = inbox_of(queue)
    first = deletions(inbox, "first")
    await settled()
    assert queue.batches == [["first"]]
    numbers = [str(number) for number in range(12)]
    rest = deletions(inbox, *numbers)
    await settled()
    assert queue.batches == [["first"]]
    queue.may_answer.set()
    assert await results([*first, *rest]) == [""] * 13
    assert queue.batches[1:] == [numbers[:10], numbers[10:]]
    assert await results(deletions(inbox, "later")) == [""]


async def test_a_message_that_is_not_deleted_is_named_alone() -> None:
    """The others of its batch are deleted."""
    queue = Queue(refused={"b": "it is too old"})
    queue.may_answer.set()
    shown = await results(deletions(inbox_of(queue), "a", "b", "c"))
    assert shown == ["", "SQS did not delete a message: Invalid: it is too old", ""]


async def test_a_request_that_fails_fails_each_of_its_batch() -> None:
    """Each deletion of the batch gets the error, and none after it."""
    queue = Queue(error=TemporaryError("away"))
    queue.may_answer.set()
    inbox = inbox_of(queue)
    assert await results(deletions(inbox, "a", "b")) == ["away"] * 2
    queue.error = None
    assert await results(deletions(inbox, "c")) == [""]


async def test_a_worker_that_is_cancelled_delays_no_other() -> None:
    """Its message is deleted all the same, since the request is out."""
    queue = Queue()
    inbox = inbox_of(queue)
    cancelled, other = deletions(inbox, "a", "b")
    await settled()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    queue.may_answer.set()
    await other
