"""Unwraps events from the envelopes of senders and transports. Pure.

    EventBridge envelope   {"detail-type", "detail", "source", "id", "time", ...}
    CloudEvent             {"specversion", "type", "source", "id", "data", ...}
    PutEvents entry        {"DetailType", "Detail", "Source", ...}, alone or in {"Entries": [...]}
    SNS notification       {"Type": "Notification", "TopicArn", "MessageId", "Message", ...}
    SQS record             {"messageId", "body", "eventSource": "aws:sqs", ...}, as Pipes sends it
    typed                  {"type", "data"} and nothing else

The first three name the event's type; SNS and SQS only transport it. Nested wrappers are unwrapped
in turn, with one exception: once a type is known, a wrapper that names another type, or none, is
business content. An audit event that quotes a request must not make that request.
"""

import base64
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

import attrs

from orchestrator.core.errors import BadEvent, UnconfirmedSubscription
from orchestrator.core.events.json_text import parse_json
from orchestrator.core.events.timestamps import parse_time
from orchestrator.core.evolve import evolve
from orchestrator.core.texts import shorten

Body = Mapping[str, Any]

_SNS_ADDRESS = re.compile(r"https://sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[!-~]{1,1000}")
#: The maximum number of nested wrappers: a forwarding loop adds one each time.
MAX_WRAPPERS = 4


@attrs.frozen(kw_only=True, slots=False)
class Opened:
    """An unwrapped event: its attributes, the innermost wrapper's first, and its body.

    `type` is an envelope's, `stated_type` a typed body's own, which may be any word of the sender.
    """

    type: str | None = None
    stated_type: str | None = None
    source: str = ""
    id: str | None = None
    time: datetime | None = None
    body: Body
    #: The value that was opened.
    raw: object = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class _Wrapper:
    """A row of the table: how a wrapper is recognized and unwrapped, and its field for the event's
    type; None for a wrapper that only transports an event."""

    fits: Callable[[Body], bool]
    open: Callable[[Body], Opened]
    type_field: str | None = None


def open_event(raw: object) -> Opened:
    """Unwrap `raw`, a parsed JSON value.

    Raises:
        BadEvent: not an object, a broken wrapper, or more than `MAX_WRAPPERS`.
        UnconfirmedSubscription: SNS requests a confirmation that only an operator may give.
    """
    opened = Opened(body=as_object(raw, "The body"), raw=raw)
    for _ in range(MAX_WRAPPERS + 1):
        wrapper = _find_wrapper(opened)
        if wrapper is None:
            return _open_typed(opened)
        inner = wrapper.open(opened.body)
        opened = Opened(
            type=inner.type or opened.type,
            source=inner.source or opened.source,
            id=inner.id or opened.id,
            time=inner.time or opened.time,
            body=inner.body,
            raw=raw,
        )
    raise BadEvent(
        f"The event lies in more than {MAX_WRAPPERS} wrappers, one in another: send it in one."
    )


def _find_wrapper(opened: Opened) -> _Wrapper | None:
    fitting = next((wrapper for wrapper in _WRAPPERS if wrapper.fits(opened.body)), None)
    if fitting is None or opened.type is None:
        return fitting
    is_same = fitting.type_field and opened.body.get(fitting.type_field) == opened.type
    return fitting if is_same else None


def _open_typed(opened: Opened) -> Opened:
    if opened.type is not None or not _is_typed(opened.body):
        return opened
    return evolve(opened, stated_type=opened.body["type"], body=opened.body["data"])


def is_sqs_record(value: object) -> bool:
    """Whether it is a message of SQS, as Lambda's poller and Pipes send it (Lambda developer guide,
    Using Lambda with Amazon SQS; EventBridge user guide, SQS as a source in Pipes)."""
    return (
        isinstance(value, Mapping)
        and value.get("eventSource") == "aws:sqs"
        and isinstance(value.get("attributes"), Mapping)
        and _has_texts(value, "messageId", "receiptHandle", "body")
    )


def as_object(value: object, what: str) -> Body:
    """`value` if it is an object; else raises BadEvent, which names it as `what`."""
    if not isinstance(value, Mapping):
        raise BadEvent(f"{what} must be a JSON object, not {_json_name(value)}.")
    return value


def _object_or_text(value: object, what: str) -> Body:
    """An object, or the object in a JSON text."""
    if not isinstance(value, str):
        return as_object(value, what)
    try:
        held = parse_json(value)
    except ValueError as error:
        raise BadEvent(
            f"{what} must be a JSON object, not a string that isn't JSON ({error})."
        ) from None
    if not isinstance(held, Mapping):
        raise BadEvent(f"{what} must be a JSON object, not a string that holds another value.")
    return held


def _open_envelope(envelope: Body) -> Opened:
    return Opened(
        type=_text(envelope, "detail-type", required=True),
        source=_text(envelope, "source") or "",
        id=_text(envelope, "id"),
        time=_time(envelope, "time"),
        body=_detail(envelope["detail"], '"detail" of the envelope'),
    )


def _open_entry(entry: Body) -> Opened:
    return Opened(
        type=_text(entry, "DetailType", required=True),
        source=_text(entry, "Source") or "",
        time=_time(entry, "Time"),
        body=_detail(entry["Detail"], '"Detail" of the PutEvents entry'),
    )


def _detail(value: object, what: str) -> Body:
    """The business body in a detail, which EventBridge Scheduler sends as text (`"{}"`)."""
    detail = _object_or_text(value, what)
    return detail["data"] if _is_typed(detail) else detail


def _open_entries(request: Body) -> Opened:
    entries = request["Entries"]
    if len(entries) != 1:
        raise BadEvent(f'"Entries" has {len(entries)} events: send each by itself.')
    return Opened(body=entries[0])


def _open_cloudevent(event: Body) -> Opened:
    if event["specversion"] != "1.0":
        raise BadEvent(
            f'The CloudEvent has "specversion" {event["specversion"]!r}; "1.0" is understood.'
        )
    return Opened(
        type=_text(event, "type", required=True),
        source=_text(event, "source", required=True) or "",
        id=_text(event, "id", required=True),
        time=_time(event, "time"),
        body=as_object(_cloudevent_data(event), '"data" of the CloudEvent'),
    )


def _cloudevent_data(event: Body) -> object:
    """The event's data; bytes are in `data_base64` (CloudEvents JSON format 1.0.2, section 3.1)."""
    encoded = event.get("data_base64")
    if encoded is None:
        # `data` is optional (CloudEvents 1.0.2, section 3.1).
        return event.get("data", {})
    if event.get("data") is not None:
        raise BadEvent('The CloudEvent has "data" and "data_base64": send one of them.')
    try:
        return parse_json(base64.b64decode(str(encoded), validate=True))
    except ValueError:
        raise BadEvent('"data_base64" of the CloudEvent is no JSON in Base64.') from None


def _open_notification(notification: Body) -> Opened:
    """Unwrap a notification, whose id is the same in each retry (SNS developer guide, HTTP/HTTPS
    notification JSON)."""
    return Opened(
        id=notification["MessageId"] or None,
        body=_object_or_text(notification["Message"], '"Message" of the SNS notification'),
    )


def _refuse_confirmation(message: Body) -> NoReturn:
    """Refuse a confirmation request: only an operator may confirm, the URL is never fetched."""
    address, topic = message["SubscribeURL"], shorten(message["TopicArn"])
    place = address if _SNS_ADDRESS.fullmatch(address) else "its SubscribeURL, if you trust it"
    if message["Type"] == "SubscriptionConfirmation":
        raise UnconfirmedSubscription(
            f"SNS asks whether the topic {topic!r} may send events here: to confirm it, open "
            f"{place}"
        )
    raise UnconfirmedSubscription(
        f"SNS says that the topic {topic!r} sends no more events here: to undo that, open {place}"
    )


def _open_record(record: Body) -> Opened:
    return Opened(
        id=record["messageId"] or None,
        body=_object_or_text(record["body"], '"body" of the SQS record'),
    )


def _is_notification(body: Body) -> bool:
    return body.get("Type") == "Notification" and _has_texts(
        body, "TopicArn", "MessageId", "Message"
    )


def _is_confirmation(body: Body) -> bool:
    return body.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation") and (
        _has_texts(body, "TopicArn", "MessageId", "Token", "SubscribeURL")
    )


def _is_entry(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and _has_texts(value, "Source", "DetailType")
        and isinstance(value.get("Detail"), str | Mapping)
    )


def _are_entries(body: Body) -> bool:
    entries = body.get("Entries")
    return isinstance(entries, list) and bool(entries) and all(map(_is_entry, entries))


#: In order of precedence: the first that matches is unwrapped.
_WRAPPERS = (
    _Wrapper(
        fits=lambda body: "detail-type" in body and "detail" in body,
        open=_open_envelope,
        type_field="detail-type",
    ),
    _Wrapper(fits=lambda body: "specversion" in body, open=_open_cloudevent, type_field="type"),
    _Wrapper(fits=_is_entry, open=_open_entry, type_field="DetailType"),
    _Wrapper(fits=_are_entries, open=_open_entries),
    _Wrapper(fits=_is_notification, open=_open_notification),
    _Wrapper(fits=_is_confirmation, open=_refuse_confirmation),
    _Wrapper(fits=is_sqs_record, open=_open_record),
)


def _is_typed(body: object) -> bool:
    return (
        isinstance(body, Mapping)
        and len(body) == 2
        and set(body) == {"type", "data"}
        and isinstance(body["type"], str)
        and isinstance(body["data"], Mapping)
    )


def _has_texts(body: Body, *names: str) -> bool:
    return all(isinstance(body.get(name), str) for name in names)


def _text(envelope: Body, name: str, *, required: bool = False) -> str | None:
    value = envelope.get(name)
    if isinstance(value, str) and value:
        return value
    if value is None and not required:
        return None
    raise BadEvent(
        f'"{name}" of the envelope must be a string that is not empty, not {_json_name(value)}.'
    )


def _time(envelope: Body, name: str) -> datetime | None:
    text = _text(envelope, name)
    if text is None:
        return None
    try:
        time = parse_time(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise BadEvent(f'"{name}" of the envelope is {text!r}, which is not RFC 3339.') from None


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
