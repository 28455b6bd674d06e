"""Parses Lambda invocations from queues and formats the responses. Pure functions.

SQS and Pipes send batches (https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html).
`lambda_http.py` parses HTTP requests.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.core.events.wrappers import is_sqs_record
from orchestrator.core.queue.inbox import Message


def is_sqs_batch(event: object) -> bool:
    """Whether the invocation is a batch of messages of an SQS queue."""
    records = _records(event)
    return bool(records) and all(map(is_sqs_record, records))


def _records(event: object) -> list[Any]:
    """The records of a batch: Lambda's poller wraps them in an object, Pipes sends a bare list
    (EventBridge user guide, Pipes batching and concurrency)."""
    records = event.get("Records") if isinstance(event, Mapping) else event
    return records if isinstance(records, list) else []


def read_messages(event: object) -> list[Message]:
    """The messages of a batch; messages of a FIFO queue have a group.

    Attributes are texts. One that isn't, after a transformation in Pipes or in an invocation by
    hand, is as if it were missing: it must not fail the whole batch.
    """
    return [_read_message(record) for record in _records(event)]


def _read_message(record: Mapping[str, Any]) -> Message:
    attributes = {
        name: value for name, value in record["attributes"].items() if isinstance(value, str)
    }
    receives = attributes.get("ApproximateReceiveCount", "")
    return Message(
        id=record["messageId"],
        text=record["body"],
        receipt=record["receiptHandle"],
        group=attributes.get("MessageGroupId"),
        receives=int(receives) if receives.isdecimal() and len(receives) < 10 else 1,
        trace=attributes.get("AWSTraceHeader"),
    )


def read_invoked_type(event: object) -> str | None:
    """The type of the event if EventBridge or EventBridge Scheduler invoked the function; None for
    any other invocation."""
    named = event.get("detail-type") if isinstance(event, Mapping) else None
    return named if isinstance(named, str) else None


def write_failures(message_ids: Iterable[str]) -> dict[str, Any]:
    """The partial batch response: these messages stay in the queue."""
    return {"batchItemFailures": [{"itemIdentifier": one} for one in message_ids]}
