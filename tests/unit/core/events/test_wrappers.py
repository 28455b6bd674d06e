"""What senders and transports put around an event is taken off, and nothing that isn't one is."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.core.errors import BadEvent, UnconfirmedSubscription
from orchestrator.core.events.wrappers import Opened, is_sqs_record, open_event
from tests.wrapped import (
    SUBSCRIBE_URL,
    put_events_entry,
    sns_confirmation,
    sns_notification,
    sqs_record,
)

BODY = {"tenantId": "t-1"}
TIME = datetime(2026, 3, 2, 16, 45, 10, tzinfo=UTC)
SNS_ID = "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324"
SQS_ID = "059f36b4-87a3-44ab-83d2-661975830a7d"


def envelope(detail: object = BODY, **fields: Any) -> dict[str, Any]:
    named = {"detail-type": "ORDER", "source": "shop", "id": "env-1"}
    return {**named, "time": "2026-03-02T16:45:10Z", "detail": detail, **fields}


def cloudevent(data: object = BODY, **fields: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": "ORDER",
        "source": "shop",
        "id": "env-1",
        "time": "2026-03-02T16:45:10Z",
        "data": data,
        **fields,
    }


NAMED = Opened(type="ORDER", source="shop", id="env-1", time=TIME, body=BODY)


@pytest.mark.parametrize(
    "raw",
    [
        envelope(),
        envelope(json.dumps(BODY)),
        envelope({"type": "ORDER", "data": BODY}),
        envelope(json.dumps({"type": "x", "data": BODY})),
        cloudevent(),
        sns_notification(envelope()),
        sns_notification(envelope(json.dumps(BODY))),
        sns_notification(cloudevent()),
        sqs_record(envelope()),
        sqs_record(cloudevent()),
        sqs_record(sns_notification(envelope())),
        envelope(envelope(), id="outer", source="outer", time="2026-03-02T17:00:00Z"),
        envelope(json.dumps(envelope()), id="outer", source="outer"),
        envelope(cloudevent(), id="outer"),
        envelope(put_events_entry("ORDER", BODY), source="outer"),
        put_events_entry("ORDER", envelope(), Source="outer"),
        {"Entries": [put_events_entry("ORDER", envelope())]},
        sqs_record(sns_notification(envelope(envelope()))),
    ],
)
def test_the_innermost_wrapper_identifies_the_event(raw: dict[str, Any]) -> None:
    """Whatever carried it, type, source, id, time and body are those that its sender wrote."""
    assert open_event(raw) == NAMED


@pytest.mark.parametrize(
    ("raw", "opened"),
    [
        (BODY, Opened(body=BODY)),
        ({"type": "ORDER", "data": BODY}, Opened(stated_type="ORDER", body=BODY)),
        (sns_notification(BODY), Opened(id=SNS_ID, body=BODY)),
        (sqs_record(BODY), Opened(id=SQS_ID, body=BODY)),
        (sqs_record(sns_notification(BODY)), Opened(id=SNS_ID, body=BODY)),
        (
            sns_notification({"type": "ORDER", "data": BODY}),
            Opened(id=SNS_ID, stated_type="ORDER", body=BODY),
        ),
        (
            put_events_entry("ORDER", BODY),
            Opened(type="ORDER", source="shop", time=TIME, body=BODY),
        ),
        (
            {"Entries": [put_events_entry("ORDER", BODY, Detail=BODY)], "EndpointId": "e"},
            Opened(type="ORDER", source="shop", time=TIME, body=BODY),
        ),
        (
            sns_notification({"detail-type": "ORDER", "detail": BODY}),
            Opened(type="ORDER", id=SNS_ID, body=BODY),
        ),
    ],
)
def test_an_event_without_an_id_gets_the_transports_message_id(
    raw: dict[str, Any], opened: Opened
) -> None:
    """The message's id is the event's, so that a message that is delivered twice is one event."""
    assert open_event(raw) == opened


def without(raw: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if name not in names}


NOTIFICATION, RECORD = sns_notification(BODY), sqs_record(BODY)
ENTRY, CONFIRMATION = put_events_entry("ORDER", BODY), sns_confirmation()


@pytest.mark.parametrize(
    "body",
    [
        *(without(NOTIFICATION, name) for name in ("Type", "TopicArn", "MessageId", "Message")),
        {**NOTIFICATION, "Type": "notification"},
        {**NOTIFICATION, "Message": {"tenantId": "t-1"}},
        *(without(CONFIRMATION, name) for name in ("TopicArn", "Token", "SubscribeURL")),
        *(
            without(RECORD, name)
            for name in ("messageId", "receiptHandle", "body", "eventSource", "attributes")
        ),
        {**RECORD, "eventSource": "aws:kinesis"},
        {**RECORD, "body": BODY},
        *(without(ENTRY, name) for name in ("Source", "DetailType", "Detail")),
        {**ENTRY, "Detail": 7},
        {"Entries": []},
        {"Entries": [BODY]},
        {"Entries": [ENTRY, BODY]},
        {"Entries": ENTRY},
        {"detail-type": "ORDER"},
    ],
)
@pytest.mark.parametrize("carried", [False, True])
def test_a_body_that_resembles_a_wrapper_is_not_unwrapped(
    body: dict[str, Any], carried: bool
) -> None:
    """A wrapper has all the fields that it is recognized by."""
    assert open_event(envelope(body) if carried else body).body == body


@pytest.mark.parametrize(
    "body",
    [
        envelope(**{"detail-type": "INVOICE"}),
        envelope(**{"detail-type": 5}),
        cloudevent(type="INVOICE"),
        {"specversion": "2.0"},
        put_events_entry("INVOICE", BODY),
        {"Entries": [put_events_entry("ORDER", BODY)]},
        sns_notification("text"),
        sns_confirmation(),
        sqs_record(envelope()),
    ],
)
@pytest.mark.parametrize("wrap", [envelope, cloudevent])
def test_a_quoted_event_is_not_unwrapped(wrap: Any, body: dict[str, Any]) -> None:
    """Once a type is named, only a wrapper that names the same one is another layer of it: an audit
    event must not become the request that it quotes."""
    opened = open_event(wrap(body))
    assert (opened.type, opened.id, opened.body) == ("ORDER", "env-1", body)


def nested(levels: int) -> dict[str, Any]:
    event = envelope()
    for _ in range(levels - 1):
        event = envelope(event)
    return event


def test_a_few_wrappers_are_opened() -> None:
    """Four in all, in whichever way; what lies in more is no event."""
    assert open_event(nested(4)) == NAMED
    assert open_event(sqs_record(sns_notification(nested(2)))) == NAMED
    for raw in (nested(5), sqs_record(sns_notification(nested(3))), nested(90)):
        with pytest.raises(BadEvent, match="more than 4 wrappers"):
            open_event(raw)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (sns_notification("A tenant came."), '"Message" of the SNS notification must be a JSON'),
        (sns_notification("[1]"), '"Message" .* a string that holds another value'),
        (sns_notification(""), '"Message" .* JSON object'),
        (sqs_record("A tenant came."), '"body" of the SQS record must be a JSON object'),
        (put_events_entry("ORDER", "text"), '"Detail" of the PutEvents entry must be a JSON'),
        (put_events_entry("", BODY), '"DetailType" .* not an empty string'),
        (put_events_entry("ORDER", BODY, Time="noon"), '"Time" .* RFC 3339'),
        ({"Entries": [ENTRY, ENTRY]}, '"Entries" has 2 events: send each by itself'),
        (envelope("text"), '"detail" of the envelope must be a JSON object, not a string'),
        (envelope('"{}"'), '"detail" of the envelope must be a JSON object, not a string'),
        (envelope('{"a": NaN}'), '"detail" .* JSON object'),
        (envelope('{"a":' * 101 + "1" + "}" * 101), '"detail" .* nested more than 100 levels'),
        (sns_notification(envelope(id=7)), '"id" of the envelope'),
    ],
)
def test_a_broken_wrapper_is_no_event(raw: dict[str, Any], sentence: str) -> None:
    """A wrapper that can't be read is refused, with the field's name."""
    with pytest.raises(BadEvent, match=sentence):
        open_event(raw)


def test_a_byte_order_mark_before_a_wrapped_event_is_skipped() -> None:
    """A byte order mark before a wrapped event is skipped, as before any other text."""
    assert open_event(sns_notification(f"\ufeff{json.dumps(envelope())}")) == NAMED


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("SubscriptionConfirmation", "asks whether the topic .* may send events here"),
        ("UnsubscribeConfirmation", "sends no more events here"),
    ],
)
def test_the_refusal_of_a_subscription_says_what_to_do(kind: str, said: str) -> None:
    """An operator opens the address: only they know whose topics are theirs."""
    with pytest.raises(UnconfirmedSubscription, match=said) as refused:
        open_event(sns_confirmation(kind))
    assert str(refused.value).endswith(f"open {SUBSCRIBE_URL}")


@pytest.mark.parametrize(
    "address",
    [
        "https://sns.us-west-2.amazonaws.com.evil.example/?Token=x",
        "http://sns.us-west-2.amazonaws.com/?Token=x",
        "https://sns.us-west-2.amazonaws.com/?Token=x\nfaked line",
        "javascript:alert(1)",
    ],
)
def test_an_address_that_is_not_of_sns_is_not_passed_on(address: str) -> None:
    """Any sender may have made it up, and an operator is asked to open it."""
    with pytest.raises(UnconfirmedSubscription) as refused:
        open_event(sns_confirmation(SubscribeURL=address))
    assert address not in str(refused.value)


def test_a_record_is_known_by_all_that_a_batch_is_read_by() -> None:
    """What passes can be taken for a message of the queue."""
    assert is_sqs_record(RECORD)
    assert not is_sqs_record([RECORD])
    assert not is_sqs_record(None)
