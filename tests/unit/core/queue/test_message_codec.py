"""What travels on the queue comes out as it went in, and takes no more room than it must."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.errors import BadEvent
from orchestrator.core.events.envelope import Delivery
from orchestrator.core.queue.message_codec import (
    QueuedEvent,
    QueuedReplay,
    pack_message,
    read_message,
)
from tests.wrapped import put_events_entry, sns_confirmation, sns_notification, sqs_record


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels > 1 else {}


@pytest.mark.parametrize(
    "body",
    [{"name": "租户 é"}, {"odd": "\x00 \ufffe \uffff"}, nested(100), {"text": "\u2028\n"}],
)
def test_an_event_comes_out_as_it_went_in(body: dict[str, Any]) -> None:
    """A body with any letters, and as deep as an event may be, is read as it was."""
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
    """It is kept as it came, whichever sender put it there."""
    queued = read_message(mark + json.dumps(body), message_id="m")
    assert queued == QueuedEvent(event_type="NEWS", body=body, delivery=Delivery(fallback_id="m"))


@pytest.mark.parametrize("body", [sns_notification({"n": 1}), sns_confirmation(), {}])
def test_a_message_that_names_no_type_is_no_event(body: dict[str, Any]) -> None:
    """A message without a type is refused, since a queue has no path that could name it."""
    with pytest.raises(BadEvent):
        read_message(json.dumps(body), message_id="m")


@pytest.mark.parametrize("text", ["{", "[NaN]", '["\\ud800"]', '{"a": Infinity}', "[" * 5000])
def test_a_message_that_is_no_json_is_no_event(text: str) -> None:
    """A message that is no JSON is refused, also with NaN, which only Python reads."""
    with pytest.raises(BadEvent, match="The message m is not JSON"):
        read_message(text, message_id="m")


FIELDS: dict[str, Any] = {
    "type": "NEWS",
    "body": {},
    "eventId": None,
    "sameContent": True,
    "receivedAt": None,
}


def packed(fields: Any) -> str:
    return json.dumps({"saas-orchestrator": fields})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"eventId": {}}, "'eventId' is an object"),
        ({"eventId": 5}, "'eventId' is a number"),
        ({"receivedAt": 5}, "'receivedAt' is a number"),
        ({"receivedAt": "soon"}, "'receivedAt' is 'soon', which is no time with an offset"),
        ({"receivedAt": ""}, "'receivedAt' is ''"),
        ({"receivedAt": "2026-01-01T00:00:00"}, "which is no time with an offset"),
        ({"receivedAt": "0001-01-01T00:00:00+14:00"}, "which is no time with an offset"),
        ({"type": None}, "'type' is null"),
        ({"type": ["NEWS"]}, "'type' is a list"),
        ({"sameContent": "x"}, "'sameContent' is a text"),
        ({"sameContent": 1}, "'sameContent' is a number"),
        ({"replay": {}, "force": True}, "'replay' is an object"),
        ({"replay": None, "force": True}, "'replay' is null"),
        ({"replay": "r", "force": "no"}, "'force' is a text"),
        ({"replay": "r"}, "'force' is missing"),
        ({"replay": "r", "force": True, "by": 5}, "'by' is a number"),
    ],
)
def test_a_message_of_another_shape_is_no_event(changes: dict[str, Any], reason: str) -> None:
    """It says so in a sentence, and nothing of it is taken for something else."""
    with pytest.raises(BadEvent, match=re.escape(reason)):
        read_message(packed({**FIELDS, **changes}), message_id="m")


@pytest.mark.parametrize("name", FIELDS)
def test_a_message_without_a_field_is_no_event(name: str) -> None:
    """A message without one of the fields, which are always written, is refused."""
    fields = {field: value for field, value in FIELDS.items() if field != name}
    with pytest.raises(
        BadEvent, match=f"The message m isn't one of this version's: '{name}' is mi"
    ):
        read_message(packed(fields), message_id="m")


@pytest.mark.parametrize("told", [None, 5, "x", [], [FIELDS]])
def test_a_mark_without_fields_is_none_of_ours(told: Any) -> None:
    """It is read as an event without a mark, and refused since it names no type."""
    with pytest.raises(BadEvent, match="The event has no type"):
        read_message(packed(told), message_id="m")


def test_a_time_is_in_utc() -> None:
    """A time with another offset is read as UTC."""
    read = read_message(
        packed({**FIELDS, "receivedAt": "2026-01-01T02:00:00+02:00"}), message_id="m"
    )
    assert isinstance(read, QueuedEvent)
    assert read.delivery.received_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_replay_comes_out_as_it_went_in() -> None:
    """It has its run and the name of the operator; an earlier release names none."""
    for by in (None, "maria.k"):
        replay = QueuedReplay(run_id="r", force=False, by=by)
        assert read_message(pack_message(replay), message_id="m") == replay
    message = packed({"replay": "r", "force": True})
    assert read_message(message, message_id="m") == QueuedReplay(run_id="r", force=True)


MARKED: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from([*FIELDS, "replay", "force", "by"]),
    st.none() | st.booleans() | st.integers() | st.text() | st.just([]) | st.just({}),
)


@given(MARKED.map(packed) | st.text())
def test_any_message_is_read_or_no_event(text: str) -> None:
    """Whatever is read has fields of their kinds."""
    try:
        read = read_message(text, message_id="m")
    except BadEvent:
        return
    match read:
        case QueuedReplay(run_id=str(), force=bool()):
            pass
        case QueuedEvent(event_type=str(), delivery=delivery):
            assert isinstance(delivery.event_id, str | None)
            assert isinstance(delivery.same_content_same_event, bool)
            assert delivery.received_at is None or delivery.received_at.tzinfo
        case _:
            raise AssertionError(read)
