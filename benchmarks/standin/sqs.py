"""SQS: one standard queue, with long polls and hidden messages."""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Mapping
from typing import Any

import attrs

from benchmarks.standin.refusal import Refused

Document = Mapping[str, Any]


@attrs.define
class _Message:
    body: str
    id: str = attrs.field(factory=lambda: str(uuid.uuid4()))
    receives: int = 0
    visible_at: float = 0.0


class SQS:
    def __init__(self) -> None:
        self._visible: deque[_Message] = deque()
        self._hidden: dict[str, _Message] = {}
        self._arrived = asyncio.Event()

    @property
    def left(self) -> int:
        """Messages that were not deleted."""
        return len(self._visible) + len(self._hidden)

    def perform(self, operation: str, request: Document) -> Document | Awaitable[Document]:
        match operation:
            case "SendMessage":
                return {"MessageId": self.send(request["MessageBody"])}
            case "ReceiveMessage":
                return self._receive(request)
            case "DeleteMessageBatch":
                entries = request["Entries"]
                for entry in entries:
                    self._hidden.pop(entry["ReceiptHandle"], None)
                return {"Successful": [{"Id": entry["Id"]} for entry in entries], "Failed": []}
            case "ChangeMessageVisibility":
                message = self._hidden[request["ReceiptHandle"]]
                message.visible_at = time.monotonic() + request["VisibilityTimeout"]
                return {}
            case "GetQueueAttributes":
                return {"Attributes": {"QueueArn": "arn:aws:sqs:us-east-1:123456789012:events"}}
        raise Refused("UnknownOperationException", f"the benchmark knows no {operation}")

    def send(self, body: str) -> str:
        message = _Message(body)
        self._visible.append(message)
        self._arrived.set()
        return message.id

    async def _receive(self, request: Document) -> Document:
        until = time.monotonic() + request.get("WaitTimeSeconds", 0)
        self._show_again()
        while not self._visible and (left_s := until - time.monotonic()) > 0:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), min(left_s, 1.0))
            except TimeoutError:
                self._show_again()
        hidden_until = time.monotonic() + request.get("VisibilityTimeout", 30)
        messages = list[Document]()
        while self._visible and len(messages) < request.get("MaxNumberOfMessages", 1):
            message = self._visible.popleft()
            message.receives += 1
            message.visible_at = hidden_until
            receipt = str(uuid.uuid4())
            self._hidden[receipt] = message
            messages.append(
                {
                    "MessageId": message.id,
                    "ReceiptHandle": receipt,
                    "Body": message.body,
                    "Attributes": {"ApproximateReceiveCount": str(message.receives)},
                }
            )
        return {"Messages": messages} if messages else {}

    def _show_again(self) -> None:
        now = time.monotonic()
        for receipt in [one for one, hidden in self._hidden.items() if hidden.visible_at <= now]:
            self._visible.append(self._hidden.pop(receipt))
