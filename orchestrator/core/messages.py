"""What travels on the queue: an event as it was received, and how it was told apart.

EventBridge may put envelopes there itself; ours are wrapped, so that the identity that the
way in has worked out (a header, equal content) isn't lost.
"""

import json
import re
from datetime import datetime
from typing import Any

import attrs

from orchestrator.core.envelopes import Delivery, read_event_type
from orchestrator.core.errors import BadEvent
from orchestrator.core.json_text import MAX_DEPTH, parse_json

_MARK = "saas-orchestrator"
#: How many levels our wrapper adds.
_WRAPPED = 2
#: What a message of SQS may consist of (API reference, SendMessage).
_LEGAL = re.compile("[\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")


@attrs.frozen(kw_only=True)
class QueuedEvent:
    """An event that was accepted, to be handled by whoever takes it off the queue."""

    event_type: str
    body: Any
    delivery: Delivery


@attrs.frozen(kw_only=True)
class QueuedReplay:
    """An operator's wish to have a run handled again."""

    run_id: str
    force: bool


def pack_message(queued: QueuedEvent | QueuedReplay) -> str:
    """The message's text."""
    match queued:
        case QueuedEvent(event_type=event_type, body=body, delivery=delivery):
            received_at = delivery.received_at
            told: dict[str, Any] = {
                "type": event_type,
                "body": body,
                "eventId": delivery.event_id,
                "sameContent": delivery.same_content_same_event,
                "receivedAt": received_at.isoformat() if received_at else None,
            }
        case QueuedReplay(run_id=run_id, force=force):
            told = {"replay": run_id, "force": force}
    text = json.dumps({_MARK: told}, separators=(",", ":"), ensure_ascii=False)
    # As an escape a letter may take three times its room; what a message can't have is one.
    return text if _LEGAL.fullmatch(text) else json.dumps({_MARK: told}, separators=(",", ":"))


def read_message(text: str, *, message_id: str) -> QueuedEvent | QueuedReplay:
    """What a message asks for: ours, or an event in a wrapper of `core.wrappers`.

    One that gives itself no id is known by the message's.

    Raises:
        BadEvent: it is no event.
    """
    try:
        parsed = parse_json(text.removeprefix("\ufeff"), max_depth=MAX_DEPTH + _WRAPPED)
    except ValueError as error:
        raise BadEvent(f"The message {message_id} is not JSON: {error}.") from None
    told = parsed.get(_MARK) if isinstance(parsed, dict) else None
    if not isinstance(told, dict):
        delivery = Delivery(fallback_id=message_id)
        return QueuedEvent(event_type=read_event_type(parsed), body=parsed, delivery=delivery)
    try:
        if "replay" in told:
            return QueuedReplay(run_id=str(told["replay"]), force=bool(told["force"]))
        received_at = told["receivedAt"]
        return QueuedEvent(
            event_type=str(told["type"]),
            body=told["body"],
            delivery=Delivery(
                event_id=told["eventId"],
                same_content_same_event=bool(told["sameContent"]),
                received_at=datetime.fromisoformat(received_at) if received_at else None,
                fallback_id=message_id,
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadEvent(
            f"The message {message_id} isn't one of this version's: {error!r}."
        ) from None
