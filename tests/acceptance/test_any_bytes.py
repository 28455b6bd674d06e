"""Parsers read any bytes and shapes, or refuse them with a reason, and do nothing else.

`SOAK=20` tries 20 times as many.
"""

import contextlib
import json
import os
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.errors import BadEvent
from orchestrator.core.events.envelope import (
    Delivery,
    parse_event,
    read_event_id,
    read_event_type,
    structured_cloudevent,
)
from orchestrator.core.events.wrappers import MAX_WRAPPERS, open_event
from orchestrator.core.queue.message_codec import read_message
from orchestrator.wire.codec import decode_json
from tests.wrapped import put_events_entry, sns_confirmation, sns_notification, sqs_record

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
few = settings(max_examples=200 * int(os.environ.get("SOAK", "1")), deadline=None)

TEXTS = st.text(st.characters(), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | TEXTS
    | st.sampled_from(["{}", "[1]", "{", "1.0", "aws:sqs", "Notification", "2026-03-02t16:45:60z"])
)
#: The names that a parser reads.
NAMES = st.sampled_from(
    "detail-type detail source id time specversion type data data_base64 Type TopicArn MessageId "
    "Message SubscribeURL Token messageId receiptHandle body attributes eventSource Source "
    "DetailType Detail Time Entries tenantId tenant tier plan context saas-orchestrator "
    "replay force eventId sameContent receivedAt".split()
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXTS, inner, max_size=6),
    max_leaves=12,
)


def _wrap(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A valid wrapper around any value, with one field of it changed."""
    whole = st.one_of(
        inner.map(lambda event: {"detail-type": "ORDER", "detail": event, "id": "1"}),
        inner.map(
            lambda event: {
                "specversion": "1.0",
                "type": "ORDER",
                "source": "s",
                "id": "1",
                "data": event,
            }
        ),
        inner.map(sns_notification),
        inner.map(sqs_record),
        inner.map(lambda event: put_events_entry("ORDER", event)),
        inner.map(lambda event: {"Entries": [put_events_entry("ORDER", event)]}),
        st.just(sns_confirmation()),
    )
    changed = st.tuples(whole, NAMES, SCALARS).map(lambda made: {**made[0], made[1]: made[2]})
    return whole | changed


SHAPES = st.recursive(JSON, _wrap, max_leaves=8)


def read_all(raw: object) -> None:
    """Call each parser of a JSON value, as the entry points do."""
    for read in (open_event, read_event_type, read_event_id):
        with contextlib.suppress(BadEvent):
            read(raw)
    try:
        event = parse_event(
            "ORDER",
            raw,
            delivery=Delivery(same_content_same_event=True),
            aliases={},
            now=NOW,
            fresh_id=lambda: "f",
        )
    except BadEvent:
        return
    assert (event.type, event.raw) == ("ORDER", raw)
    assert len(event.key) == len(event.body_digest) == 40


@few
@given(SHAPES)
def test_any_shape_is_an_event_or_a_bad_one(raw: object) -> None:
    """Any value in any wrapper, whole or with a field of another type, is an event or refused."""
    read_all(raw)


@few
@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_event_or_a_bad_one(text: bytes) -> None:
    """Any bytes, as a body over HTTP or a file of `send` and `explain`, are an event or refused."""
    try:
        raw = decode_json(text)
    except BadEvent:
        return
    read_all(raw)


@few
@given(TEXTS | SHAPES.map(json.dumps))
def test_any_text_is_a_message_or_a_bad_one(text: str) -> None:
    """Any text is a message, of the service or of another sender, or refused."""
    with contextlib.suppress(BadEvent):
        read_message(text, message_id="m")


@few
@given(
    st.dictionaries(
        st.sampled_from(["specversion", "type", "source", "id", "time", "data_base64"]) | TEXTS,
        st.text(max_size=12) | st.from_regex(r"(%[0-9A-Fa-f]{2}|x|\"|\\){0,6}", fullmatch=True),
        max_size=6,
    ),
    JSON,
)
def test_any_headers_are_a_cloudevent_or_a_bad_one(headers: dict[str, str], data: object) -> None:
    """Any headers, with unclosed quotes and escapes too, are a CloudEvent or refused."""
    try:
        raw = structured_cloudevent(headers, data)
    except BadEvent:
        return
    read_all(raw)


@few
@given(st.integers(0, 12), st.data())
def test_wrappers_end(levels: int, data: st.DataObject) -> None:
    """Any number of wrappers of any kind is unwrapped or refused."""
    raw = {"n": 1}
    for _ in range(levels):
        raw = sns_notification(raw) if data.draw(st.booleans()) else sqs_record(raw)
    try:
        opened = open_event(raw)
    except BadEvent:
        assert levels > MAX_WRAPPERS
    else:
        assert opened.body == {"n": 1}
