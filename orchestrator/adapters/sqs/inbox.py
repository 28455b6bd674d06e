"""The inbox port over an SQS queue, standard or FIFO."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.adapters.aws import AWS, LONGEST_POLL_S, aws_errors
from orchestrator.core.checkable import Permission
from orchestrator.core.errors import EventTooLarge, TemporaryError
from orchestrator.core.queue.inbox import Message
from orchestrator.settings import Intake

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

Client = Callable[[], Awaitable["SQSClient"]]
#: A receipt, and the future that its worker awaits.
_Deletion = tuple[str, "asyncio.Future[None]"]

#: SQS's error message with a queue's limit, 1 MiB at most (developer guide, Message quotas).
_TOO_LONG = re.compile(r"must be shorter than (\d+) bytes")
#: The maximum number of messages of one ReceiveMessage or DeleteMessageBatch (API reference).
_BATCH_LIMIT = 10
#: A message is hidden for at most 12 hours in all (API reference, ChangeMessageVisibility).
_LONGEST_HIDDEN_S = 43_200.0


class SQSInbox:
    def __init__(self, client: Client, polling: Client, *, url: str, visibility_s: float) -> None:
        """`client` and `polling` return the app's open clients; the second one's read timeout is
        long enough for long polling. `visibility_s` is the visibility timeout of received messages,
        whatever the queue's own is."""
        self._client = client
        self._polling = polling
        self._url = url
        self._deletions: list[_Deletion] = []
        self._deleting: asyncio.Task[None] | None = None
        self.in_groups = url.endswith(".fifo")
        self.visibility_s = visibility_s
        self.description = f"the SQS queue {url}"
        self.permissions = (
            Permission(
                (
                    "sqs:ChangeMessageVisibility",
                    "sqs:DeleteMessage",
                    "sqs:GetQueueAttributes",
                    "sqs:ReceiveMessage",
                    "sqs:SendMessage",
                ),
                f"arn:aws:sqs:*:*:{url.rpartition('/')[2]}",
            ),
        )

    async def send(self, *, text: str, group: str, deduplication_id: str) -> None:
        client = await self._client()
        in_order: Any = (
            {"MessageGroupId": group, "MessageDeduplicationId": deduplication_id}
            if self.in_groups
            else {}
        )
        with aws_errors("SQS SendMessage"):
            try:
                await client.send_message(QueueUrl=self._url, MessageBody=text, **in_order)
            except client.exceptions.ClientError as error:
                limit = _TOO_LONG.search(str(error))
                if limit is None:
                    raise
                raise EventTooLarge(len(text.encode()), int(limit[1])) from error

    async def receive(self, *, limit: int, wait_s: float) -> Sequence[Message]:
        client = await self._polling()
        with aws_errors("SQS ReceiveMessage"):
            answer = await client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=min(limit, _BATCH_LIMIT),
                WaitTimeSeconds=round(min(wait_s, LONGEST_POLL_S)),
                VisibilityTimeout=round(self.visibility_s),
                MessageSystemAttributeNames=[
                    "ApproximateReceiveCount",
                    "AWSTraceHeader",
                    "MessageGroupId",
                    "SentTimestamp",
                ],
            )
            return [_message(message) for message in answer.get("Messages", [])]

    async def hide(self, message: Message, *, seconds: float) -> None:
        client = await self._client()
        with aws_errors("SQS ChangeMessageVisibility"):
            await client.change_message_visibility(
                QueueUrl=self._url,
                ReceiptHandle=message.receipt,
                VisibilityTimeout=round(min(seconds, _LONGEST_HIDDEN_S)),
            )

    async def delete(self, message: Message) -> None:
        """Delete a message, together with those that others delete meanwhile.

        SQS bills each request, and a busy worker makes half as many, at best a tenth.
        """
        deleted = asyncio.get_running_loop().create_future()
        self._deletions.append((message.receipt, deleted))
        if self._deleting is None:
            self._deleting = asyncio.create_task(self._delete_all())
        await deleted

    async def _delete_all(self) -> None:
        """Delete the first message alone, and those added during a request by the next one."""
        try:
            while self._deletions:
                batch = self._deletions[:_BATCH_LIMIT]
                del self._deletions[:_BATCH_LIMIT]
                await self._delete_batch(batch)
        finally:
            self._deleting = None

    async def _delete_batch(self, batch: Sequence[_Deletion]) -> None:
        failed: Mapping[int, Exception]
        try:
            failed = await self._request_deletions([receipt for receipt, _ in batch])
        except Exception as error:  # noqa: BLE001 - raised where each of them is waited for
            failed = dict.fromkeys(range(len(batch)), error)
        for number, (_, deleted) in enumerate(batch):
            if deleted.done():
                continue  # its worker was cancelled
            if number in failed:
                deleted.set_exception(failed[number])
            else:
                deleted.set_result(None)

    async def _request_deletions(self, receipts: Sequence[str]) -> Mapping[int, Exception]:
        """Delete messages by one request; the errors of those that weren't, by their places."""
        client = await self._client()
        with aws_errors("SQS DeleteMessageBatch"):
            answer = await client.delete_message_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": receipt}
                    for number, receipt in enumerate(receipts)
                ],
            )
            return {
                int(entry["Id"]): TemporaryError(
                    f"SQS did not delete a message: {entry['Code']}: {entry.get('Message')}"
                )
                for entry in answer.get("Failed", [])
            }

    async def check(self) -> None:
        client = await self._client()
        with aws_errors("SQS GetQueueAttributes"):
            await client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])

    async def create(self) -> bool:
        """Create the queue; False if it exists.

        Raises:
            TemporaryError, PermanentError: it can't be created.
        """
        client = await self._client()
        name = self._url.rpartition("/")[2]
        with aws_errors("SQS GetQueueUrl"):
            try:
                await client.get_queue_url(QueueName=name)
            except client.exceptions.QueueDoesNotExist:
                pass
            else:
                return False
        attributes: Any = {"FifoQueue": "true"} if self.in_groups else {}
        with aws_errors("SQS CreateQueue"):
            await client.create_queue(QueueName=name, Attributes=attributes)
        return True


def _message(message: Any) -> Message:
    about = message.get("Attributes", {})
    return Message(
        id=message["MessageId"],
        text=message["Body"],
        receipt=message["ReceiptHandle"],
        group=about.get("MessageGroupId"),
        receives=int(about.get("ApproximateReceiveCount", 1)),
        trace=about.get("AWSTraceHeader"),
        sent_at=_sent_at(about.get("SentTimestamp")),
    )


def _sent_at(milliseconds: str | None) -> datetime | None:
    """When a message was sent (API reference, ReceiveMessage: milliseconds since 1970)."""
    return None if milliseconds is None else datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def open_inbox(settings: Intake, aws: AWS) -> SQSInbox | None:
    """The configured queue; None if none is."""
    if settings.queue_url is None:
        return None
    return SQSInbox(
        aws.sqs,
        aws.sqs_polling,
        url=settings.queue_url,
        visibility_s=settings.visibility_s,
    )
