"""The wrappers that AWS puts around an event, with all of their fields.

After AWS's documentation: SNS developer guide, "HTTP/HTTPS notification JSON format" and
"subscription confirmation JSON format"; EventBridge user guide, "SQS as a source in EventBridge
Pipes"; EventBridge API reference, PutEvents.
"""

import json
from typing import Any

Document = dict[str, Any]

TOPIC = "arn:aws:sns:us-west-2:123456789012:tenant-events"
SUBSCRIBE_URL = (
    "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription"
    f"&TopicArn={TOPIC}&Token=2336412f37fb687f5d51e6e2425dacbbffff"
)


def as_text(event: object) -> str:
    return event if isinstance(event, str) else json.dumps(event)


def sns_notification(message: object, **fields: Any) -> Document:
    """The notification that a topic posts, or puts into a queue without raw message delivery."""
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Subject": "A tenant",
        "Message": as_text(message),
        "Timestamp": "2026-03-02T16:45:10.242Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLEw6JRN==",
        "SigningCertURL": "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-x.pem",
        "UnsubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=Unsubscribe",
        **fields,
    }


def sns_confirmation(kind: str = "SubscriptionConfirmation", **fields: Any) -> Document:
    """The request for confirmation that a topic sends first, or the notice that it stops."""
    return {
        "Type": kind,
        "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "Token": "2336412f37fb687f5d51e6e2425dacbbffff",
        "TopicArn": TOPIC,
        "Message": "You have chosen to subscribe to the topic.",
        "SubscribeURL": SUBSCRIBE_URL,
        "Timestamp": "2026-03-02T16:45:10.242Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLEpH+DcEwjAPg8O9mY8dReBSwksf==",
        "SigningCertURL": "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-x.pem",
        **fields,
    }


def sqs_record(body: object, **fields: Any) -> Document:
    """A message of a queue, as Lambda's poller and Pipes pass it on."""
    return {
        "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
        "body": as_text(body),
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1545082649183",
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": "1545082649185",
        },
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
        "awsRegion": "us-east-2",
        **fields,
    }


def put_events_entry(event_type: str, detail: object, **fields: Any) -> Document:
    """One entry of a PutEvents request."""
    return {
        "Source": "shop",
        "DetailType": event_type,
        "Detail": as_text(detail),
        "Time": "2026-03-02T16:45:10Z",
        "EventBusName": "tenant-events",
        "Resources": [],
        **fields,
    }
