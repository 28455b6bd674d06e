"""The inbox port over an SQS queue, standard or FIFO."""

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.adapters.aws import AWS, LONGEST_POLL_S, aws_errors
from orchestrator.core.checkable import Permission
from orchestrator.core.errors import EventTooLarge
from orchestrator.core.queue.inbox import Message
from orchestrator.settings import Intake

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

Client = Callable[[], Awaitable["SQSClient"]]

#: SQS's error message with a queue's limit, 1 MiB at most (developer guide, Message quotas).
_TOO_LONG = re.compile(r"must be shorter than (\d+) bytes")
#: The maximum number of messages of one ReceiveMessage (API reference).
_RECEIVE_LIMIT = 10
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
                MaxNumberOfMessages=min(limit, _RECEIVE_LIMIT),
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
        client = await self._client()
        with aws_errors("SQS DeleteMessage"):
            await client.delete_message(QueueUrl=self._url, ReceiptHandle=message.receipt)

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
