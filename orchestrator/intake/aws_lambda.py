"""What Lambda is invoked with by queues, and the answers that it wants. Pure.

SQS gives batches (https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html). `lambda_http.py`
reads HTTP requests.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.core.ports import Message


def is_sqs_batch(event: object) -> bool:
    """Whether the invocation brings messages of an SQS queue."""
    records = event.get("Records") if isinstance(event, Mapping) else None
    return (
        isinstance(records, list)
        and bool(records)
        and all(
            isinstance(record, Mapping) and record.get("eventSource") == "aws:sqs"
            for record in records
        )
    )


def read_messages(event: Mapping[str, Any]) -> list[Message]:
    """The messages of a batch; those of a FIFO queue have a group."""
    return [
        Message(
            id=record["messageId"],
            text=record["body"],
            receipt=record["receiptHandle"],
            group=record.get("attributes", {}).get("MessageGroupId"),
            receives=int(record.get("attributes", {}).get("ApproximateReceiveCount", 1)),
        )
        for record in event["Records"]
    ]


def write_failures(message_ids: Iterable[str]) -> dict[str, Any]:
    """The answer to a batch: these messages stay in the queue."""
    return {"batchItemFailures": [{"itemIdentifier": one} for one in message_ids]}
