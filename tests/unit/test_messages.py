"""What travels on the queue comes out as it went in, and takes no more room than it must."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.core.envelopes import Delivery
from orchestrator.core.errors import BadEvent
from orchestrator.core.messages import QueuedEvent, pack_message, read_message
from tests.wrapped import put_events_entry, sns_confirmation, sns_notification, sqs_record


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels > 1 else {}


@pytest.mark.parametrize(
    "body",
    [{"name": "租户 é"}, {"odd": "\x00 \ufffe \uffff"}, nested(100), {"text": "\u2028\n"}],
)
def test_an_event_comes_out_as_it_went_in(body: dict[str, Any]) -> None:
    """Whatever letters it has, and as deep as an event may be."""
    delivery = Delivery(event_id="e", received_at=datetime(2026, 1, 1, tzinfo=UTC), fallback_id="m")
    queued = QueuedEvent(event_type="NEWS", body=body, delivery=delivery)
    assert read_message(pack_message(queued), message_id="m") == queued


def test_a_letter_takes_no_more_room_than_in_the_body() -> None:
    """A queue counts bytes: as escapes they would be twice or three times as many."""
    body = {"name": "租" * 1000}
    text = pack_message(QueuedEvent(event_type="NEWS", body=body, delivery=Delivery()))
    assert len(text.encode()) < 3200


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    "body",
    [
        {"detail-type": "NEWS", "detail": "{}"},
        sns_notification({"detail-type": "NEWS", "detail": {}}),
        sns_notification({"type": "NEWS", "data": {}}),
        sqs_record(sns_notification({"detail-type": "NEWS", "detail": {}})),
        put_events_entry("NEWS", {}),
    ],
)
def test_an_event_may_be_wrapped(body: dict[str, Any], mark: str) -> None:
    """By whoever put it there; it is kept as it came."""
    queued = read_message(mark + json.dumps(body), message_id="m")
    assert queued == QueuedEvent(event_type="NEWS", body=body, delivery=Delivery(fallback_id="m"))


@pytest.mark.parametrize("body", [sns_notification({"n": 1}), sns_confirmation(), {}])
def test_what_names_no_type_is_no_event(body: dict[str, Any]) -> None:
    """A queue has no path that could name it."""
    with pytest.raises(BadEvent):
        read_message(json.dumps(body), message_id="m")


@pytest.mark.parametrize("text", ["{", "[NaN]", '["\\ud800"]', '{"a": Infinity}', "[" * 5000])
def test_what_is_no_json_is_no_event(text: str) -> None:
    """NaN is Python's, not JSON's."""
    with pytest.raises(BadEvent, match="The message m is not JSON"):
        read_message(text, message_id="m")
