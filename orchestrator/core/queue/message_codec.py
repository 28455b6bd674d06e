"""Encodes and decodes the messages of the queue: an event as received, and its identity.

EventBridge may send envelopes to the queue directly; events that the service accepted are wrapped,
so that the identity found at intake (a header, equal content) isn't lost.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from types import NoneType
from typing import Any

import attrs

from orchestrator.core.errors import BadEvent
from orchestrator.core.events.envelope import Delivery, open_named
from orchestrator.core.events.json_text import MAX_DEPTH, MAX_VALUES, parse_json

_MARK = "saas-orchestrator"
#: How many levels of nesting the service's wrapper adds, and how many values at most.
_WRAPPED_LEVELS, _WRAPPED_VALUES = 2, 10
#: The characters that are allowed in a message of SQS (API reference, SendMessage).
_LEGAL = re.compile("[\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
#: JSON's types as named in messages.
_KINDS = {
    NoneType: "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}


@attrs.frozen(kw_only=True)
class QueuedEvent:
    """An accepted event, to be handled by a worker."""

    event_type: str
    body: Any
    delivery: Delivery


@attrs.frozen(kw_only=True)
class QueuedReplay:
    """An operator's request to replay a run; `by` is the operator's name, None: unknown."""

    run_id: str
    force: bool
    by: str | None = None


def pack_message(queued: QueuedEvent | QueuedReplay) -> str:
    """The message's text."""
    match queued:
        case QueuedEvent(event_type=event_type, body=body, delivery=delivery):
            received_at = delivery.received_at
            fields: dict[str, Any] = {
                "type": event_type,
                "body": body,
                "eventId": delivery.event_id,
                "sameContent": delivery.same_content_same_event,
                "receivedAt": received_at.isoformat() if received_at else None,
            }
        case QueuedReplay(run_id=run_id, force=force, by=by):
            fields = {"replay": run_id, "force": force} | ({} if by is None else {"by": by})
    text = json.dumps({_MARK: fields}, separators=(",", ":"), ensure_ascii=False)
    # Escapes may take three times the space, so only messages with illegal characters have them.
    return text if _LEGAL.fullmatch(text) else json.dumps({_MARK: fields}, separators=(",", ":"))


def read_message(text: str, *, message_id: str) -> QueuedEvent | QueuedReplay:
    """Parse a message: one of the service, or an event in a wrapper of `core.events.wrappers`.

    An event without an id gets the message's.

    Raises:
        BadEvent: it is not an event.
    """
    try:
        parsed = parse_json(
            text.removeprefix("\ufeff"),
            max_depth=MAX_DEPTH + _WRAPPED_LEVELS,
            max_values=MAX_VALUES + _WRAPPED_VALUES,
        )
    except ValueError as error:
        raise BadEvent(f"The message {message_id} is not JSON: {error}.") from None
    fields = parsed.get(_MARK) if isinstance(parsed, dict) else None
    if not isinstance(fields, dict):
        event_type, opened = open_named(parsed)
        delivery = Delivery(fallback_id=message_id, opened=opened)
        return QueuedEvent(event_type=event_type, body=parsed, delivery=delivery)
    try:
        return _read_own(fields, message_id)
    except ValueError as error:
        raise BadEvent(f"The message {message_id} isn't one of this version's: {error}.") from None


def _read_own(fields: Mapping[str, Any], message_id: str) -> QueuedEvent | QueuedReplay:
    """Raises ValueError for what `pack_message` never writes."""
    if "replay" in fields:
        # An earlier release wrote no operator's name.
        by = _field({"by": None, **fields}, "by", str, NoneType)
        return QueuedReplay(
            run_id=_field(fields, "replay", str), force=_field(fields, "force", bool), by=by
        )
    received_at = _field(fields, "receivedAt", str, NoneType)
    return QueuedEvent(
        event_type=_field(fields, "type", str),
        body=_field(fields, "body", object),
        delivery=Delivery(
            event_id=_field(fields, "eventId", str, NoneType),
            same_content_same_event=_field(fields, "sameContent", bool),
            received_at=None if received_at is None else _read_time(received_at),
            fallback_id=message_id,
        ),
    )


def _field(fields: Mapping[str, Any], name: str, *kinds: type) -> Any:
    if name not in fields:
        raise ValueError(f"{name!r} is missing")
    if not isinstance(fields[name], kinds):
        raise ValueError(f"{name!r} is {_KINDS[type(fields[name])]}")  # noqa: TRY004 - of a text
    return fields[name]


def _read_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"'receivedAt' is {text[:50]!r}, which is no time with an offset")
