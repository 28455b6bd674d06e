"""How the tests of the Lambda function invoke it, in each format of an event."""

import json
from functools import partial
from typing import Any

import pytest

from orchestrator.lambda_handler import LambdaService
from orchestrator.testing import envelope
from tests.acceptance.ways import (
    Answer,
    Document,
    MakeEvent,
    alb_event,
    function_url_event,
    http_api_event,
    read_lambda_answer,
    rest_api_event,
)

JSON = {"Content-Type": "application/json"}
MINE = json.dumps(envelope("MY_EVENT", {"a": 1})).encode()
Record = dict[str, Any]
RUN = r"/runs/[0-9a-f]{40}"

any_format = pytest.mark.parametrize(
    "make_event",
    [
        pytest.param(rest_api_event, id="REST API"),
        pytest.param(http_api_event, id="HTTP API"),
        pytest.param(function_url_event, id="function URL"),
        pytest.param(alb_event, id="ALB"),
        pytest.param(partial(alb_event, multi_value=True), id="ALB, multi-value headers"),
    ],
)
with_stages = pytest.mark.parametrize(
    "make_event",
    [pytest.param(rest_api_event, id="REST API"), pytest.param(http_api_event, id="HTTP API")],
)


def ask(service: LambdaService, event: Document) -> Answer:
    """Invoke the function."""
    return read_lambda_answer(service.handle(event, remaining_s=30), event)


def post(make_event: MakeEvent, path: str = "/events", body: bytes = MINE, **more: Any) -> Document:
    headers = {**JSON, **more.pop("headers", {})}
    return make_event("POST", path, headers=headers, body=body, **more)


def record(number: int, *, body: str | None = None, group: str | None = None) -> Record:
    """A message as Lambda passes it on; `group` makes it one of a FIFO queue."""
    event = envelope("ORDER", {"number": number}, event_id=f"event-{number}")
    attributes = {
        "ApproximateReceiveCount": "1",
        "SentTimestamp": "1545082649183",
        "SenderId": "AIDAIENQZJOLO23YVJ4VO",
        "ApproximateFirstReceiveTimestamp": "1545082649185",
    }
    if group is not None:
        attributes |= {
            "SequenceNumber": "18849496460467696128",
            "MessageGroupId": group,
            "MessageDeduplicationId": str(number),
        }
    suffix = "" if group is None else ".fifo"
    return {
        "messageId": f"059f36b4-87a3-44ab-83d2-{number:012}",
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
        "body": json.dumps(event) if body is None else body,
        "attributes": attributes,
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:us-east-2:123456789012:my-queue{suffix}",
        "awsRegion": "us-east-2",
    }
