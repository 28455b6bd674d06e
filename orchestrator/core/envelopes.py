"""From a JSON body to an `Event`, for every shape that senders use. Pure.

    EventBridge envelope   {"detail-type", "detail", "source", "id", "time", ...}
    CloudEvent             {"specversion", "type", "source", "id", "data", ...}
    typed                  {"type", "data"} and nothing else
    bare                   the business body itself

Binary CloudEvents become structured ones first (`structured_cloudevent`), so that
there is one way through. An envelope that contradicts itself is a `BadEvent`: nothing
of it is kept, since nobody could say which event it is.
"""

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import attrs

from orchestrator.core.errors import BadEvent
from orchestrator.core.events import Event, digest
from orchestrator.core.json_text import MAX_DEPTH, is_deeper, parse_json
from orchestrator.core.payloads import read_request_key, read_secret, read_tenant_id, read_tier

Body = Mapping[str, Any]

_MAX_TYPE_LENGTH = 128  # EventBridge's limit for a detail-type
_MAX_NAME_BYTES = 512  # DynamoDB's sort keys have at most 1 KB (developer guide, Constraints)


@attrs.frozen(kw_only=True)
class Delivery:
    """What the way in knows about an event besides its body.

    `event_id` outranks every id in the body (the `Idempotency-Key` header).
    `same_content_same_event` makes a body without any id its own identity: right over
    HTTP, where a sender repeats what got no answer, wrong for a library call.
    `fallback_id` is the id of a body that has none otherwise. `received_at` is when it came
    in, where that was earlier than it is read.
    """

    event_id: str | None = None
    same_content_same_event: bool = False
    fallback_id: str | None = None
    received_at: datetime | None = None


@attrs.frozen(kw_only=True)
class _Opened:
    """An envelope, opened: what it says of the event, where it says so."""

    type: str | None = None
    source: str = ""
    id: str | None = None
    time: datetime | None = None
    body: Body


def parse_event(
    event_type: str,
    raw: object,
    *,
    delivery: Delivery,
    aliases: Mapping[str, str],
    now: datetime,
    fresh_id: str,
) -> Event[Body]:
    """Read `raw`, a parsed JSON value, as an event; its payload is the business body still.

    `event_type` is what the path or the caller said.

    Raises:
        BadEvent: not an object, a broken envelope, a type that isn't the envelope's, or a name
            that is too long.
    """
    if is_deeper(raw, MAX_DEPTH):
        raise BadEvent(f"The body is nested more than {MAX_DEPTH} levels deep: send it flatter.")
    opened = _open(raw)
    resolved = aliases.get(event_type, event_type)
    enveloped = opened.type if opened.type and not _is_typed(raw) else event_type
    if aliases.get(enveloped, enveloped) != resolved:
        raise BadEvent(
            f"The path says {event_type!r} and the envelope says {enveloped!r}: "
            "send one event under one type."
        )
    if len(resolved) > _MAX_TYPE_LENGTH:
        raise BadEvent(
            f"The event type is {len(resolved)} characters long; at most {_MAX_TYPE_LENGTH} "
            "are allowed."
        )
    named_id = delivery.event_id or opened.id
    _check_names(named_id, opened)
    by_content = named_id is None and delivery.same_content_same_event
    other_id = digest(resolved, opened.body) if by_content else delivery.fallback_id or fresh_id
    received_at = delivery.received_at or now
    return Event(
        type=resolved,
        source=opened.source,
        id=named_id or other_id,
        time=opened.time or received_at,
        body=opened.body,
        raw=_object(raw, "The body"),
        payload=opened.body,
        identified_by_content=by_content,
        sent_at=min(opened.time, received_at) if opened.time else None,
        received_at=received_at,
    )


def _check_names(event_id: str | None, opened: _Opened) -> None:
    """What the ledger keeps by itself, beside the payload and in keys, must fit there."""
    secret, context = read_secret(opened.body) or (None, None)
    names = {
        "id": event_id,
        "source": opened.source,
        "tenant's id": read_tenant_id(opened.body),
        "tier": read_tier(opened.body),
        "operationId or context": read_request_key(opened.body),
        "secret": secret,
        "context": context,
    }
    for name, text in names.items():
        size = len((text or "").encode(errors="replace"))
        if size > _MAX_NAME_BYTES:
            raise BadEvent(
                f"The event's {name} is {size} bytes long; at most {_MAX_NAME_BYTES} are allowed."
            )


def read_event_type(raw: object) -> str:
    """The type that a body names by itself. Raises BadEvent if it names none."""
    named = _open(raw).type
    if named is None:
        raise BadEvent(
            "The event has no type: post to /events/{eventType}, or send an envelope "
            'with "detail-type" or a CloudEvent with "type".'
        )
    return named


def read_event_id(raw: object) -> str | None:
    """The id that a body gives itself, None without one. Raises BadEvent for a broken envelope."""
    return _open(raw).id


def structured_cloudevent(attributes: Mapping[str, str], data: object) -> dict[str, Any]:
    """A binary CloudEvent in its structured form.

    `attributes` are the `ce-*` headers by lower-case name without the prefix, as they stand in
    the request: perhaps a quoted string, and percent-encoded then (CloudEvents HTTP binding
    1.0.2, section 3.1.3.2).
    """
    return {**{name: _decoded(value) for name, value in attributes.items()}, "data": data}


def _decoded(header: str) -> str:
    """A header's value: out of its quotes first, where it has some (RFC 9110, section 5.6.4)."""
    if len(header) >= 2 and header[0] == header[-1] == '"':
        header = re.sub(r"\\(.)", r"\1", header[1:-1])
    return unquote(header)


def _open(raw: object) -> _Opened:
    body = _object(raw, "The body")
    if "detail-type" in body and "detail" in body:
        return _open_envelope(body)
    if "specversion" in body:
        return _open_cloudevent(body)
    if _is_typed(body):
        return _Opened(type=body["type"], body=body["data"])
    return _Opened(body=body)


def _open_envelope(envelope: Body) -> _Opened:
    detail = _object(envelope["detail"], '"detail" of the envelope')
    return _Opened(
        type=_text(envelope, "detail-type", required=True),
        source=_text(envelope, "source") or "",
        id=_text(envelope, "id"),
        time=_time(envelope),
        body=detail["data"] if _is_typed(detail) else detail,
    )


def _open_cloudevent(event: Body) -> _Opened:
    if event["specversion"] != "1.0":
        raise BadEvent(
            f'The CloudEvent has "specversion" {event["specversion"]!r}; "1.0" is understood.'
        )
    return _Opened(
        type=_text(event, "type", required=True),
        source=_text(event, "source", required=True) or "",
        id=_text(event, "id", required=True),
        time=_time(event),
        body=_object(_cloudevent_data(event), '"data" of the CloudEvent'),
    )


def _cloudevent_data(event: Body) -> object:
    """Its data; bytes stand in `data_base64` (CloudEvents JSON format 1.0.2, section 3.1)."""
    encoded = event.get("data_base64")
    if encoded is None:
        return event.get("data")
    if event.get("data") is not None:
        raise BadEvent('The CloudEvent has "data" and "data_base64": send one of them.')
    try:
        return parse_json(base64.b64decode(str(encoded), validate=True))
    except ValueError:
        raise BadEvent('"data_base64" of the CloudEvent is no JSON in Base64.') from None


def _is_typed(body: object) -> bool:
    return (
        isinstance(body, Mapping)
        and set(body) == {"type", "data"}
        and isinstance(body["type"], str)
        and isinstance(body["data"], Mapping)
    )


def _object(value: object, what: str) -> Body:
    if not isinstance(value, Mapping):
        raise BadEvent(f"{what} must be a JSON object, not {_json_name(value)}.")
    return value


def _text(envelope: Body, name: str, *, required: bool = False) -> str | None:
    value = envelope.get(name)
    if isinstance(value, str) and value:
        return value
    if value is None and not required:
        return None
    raise BadEvent(
        f'"{name}" of the envelope must be a string that is not empty, not {_json_name(value)}.'
    )


def _time(envelope: Body) -> datetime | None:
    text = _text(envelope, "time")
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise BadEvent(f'"time" of the envelope is {text!r}, which is not RFC 3339.') from None


def _json_name(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "a boolean"
        case str():
            return "a string" if value else "an empty string"
        case int() | float():
            return "a number"
        case list():
            return "a list"
    return "an object"
