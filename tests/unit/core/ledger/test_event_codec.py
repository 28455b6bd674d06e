"""A stored event is read back as the very same event."""

import json
import zlib
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from orchestrator.core.events.event import Event
from orchestrator.core.ledger.event_codec import decode_event, encode_event
from orchestrator.core.ledger.records import PayloadRecord
from orchestrator.core.ledger.snapshot import Snapshot
from orchestrator.core.ledger.transitions import new_run

BODY = {"tenantId": "t-1", "note": "Grüße ☃ \ud83d", "count": 3, "price": 1.5, "list": [None, True]}


def kept(event: Event[Any]) -> Event[Any]:
    """The event, stored and read back."""
    run = new_run(event, "t-1", Snapshot(datetime(2026, 11, 20, 9, 0, tzinfo=UTC)))
    return decode_event(run, encode_event(event))


def event(raw: Any, body: Any, **changes: Any) -> Event[Any]:
    plain = Event(
        type="ORDER",
        source="shop",
        id="event-1",
        time=datetime(2026, 11, 20, 8, 30, tzinfo=UTC),
        body=body,
        raw=raw,
        payload=body,
    )
    return attrs.evolve(plain, **changes)


def text(payload: PayloadRecord) -> str:
    return zlib.decompress(payload.data).decode("utf-8", "surrogatepass")


SHAPES: dict[str, Any] = {
    "bare": BODY,
    "detail": {"detail-type": "ORDER", "detail": BODY},
    "detail.data": {"detail-type": "ORDER", "detail": {"type": "ORDER", "data": BODY}},
    "data": {"specversion": "1.0", "type": "ORDER", "data": BODY},
}


@pytest.mark.parametrize("raw", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("by_content", [False, True])
def test_an_event_comes_back_as_it_was(raw: Any, by_content: bool) -> None:
    """Type, source, id, time, body, what was received, and how its id came about."""
    for sent_as in (None, "Shop Order"):
        sent = event(raw, BODY, identified_by_content=by_content, sent_as=sent_as)
        back = kept(sent)
        assert back == sent
    assert back.key == sent.key


@pytest.mark.parametrize("raw", SHAPES.values(), ids=SHAPES.keys())
def test_the_body_is_not_kept_twice(raw: Any) -> None:
    """It lies in what was received, wherever that was."""
    packed = text(encode_event(event(raw, BODY)))
    assert packed.count("Grüße") == 1
    assert "body" not in json.loads(packed)


def test_a_body_that_was_not_received_is_kept_beside() -> None:
    """A body that only looks like a part of what was received is kept as it is."""
    sent = event({"detail": {"tenantId": "t-2"}}, BODY)
    assert kept(sent) == sent
    alike = event({"detail": dict(BODY)}, BODY)
    assert kept(alike) == alike


def test_a_payload_belongs_to_its_run_and_is_small() -> None:
    """It is found under the event's key, and compressed."""
    sent = event(BODY, BODY | {"filler": "x" * 10_000})
    payload = encode_event(sent)
    assert payload.run_id == sent.key
    assert len(payload.data) < 1000
