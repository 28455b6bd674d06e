"""Parses a JSON body, in any wrapper (`core.events.wrappers`), into an `Event`. Pure.

Binary CloudEvents are converted to structured ones first (`structured_cloudevent`), so that there
is one code path. An envelope that contradicts itself is a `BadEvent`: no run is stored, since its
event key is unknown.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import attrs

from orchestrator.core.errors import BadEvent
from orchestrator.core.events.body import (
    MAX_NAME_BYTES,
    read_registration_id,
    read_request_key,
    read_secret,
    read_tenant_id,
    read_tier,
)
from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import ENDS
from orchestrator.core.events.javascript import is_well_formed
from orchestrator.core.events.json_text import (
    MAX_DEPTH,
    find_no_number,
    has_more_values,
    is_deeper,
)
from orchestrator.core.events.wrappers import Body as Body
from orchestrator.core.events.wrappers import Opened, as_object, open_event
from orchestrator.core.identifiers import digest

_ATTRIBUTE = re.compile(r"(?!data$)[a-z0-9]+")
#: Maximum number of values in a report of how an operation ended, which may be a build's whole
#: environment: each is searched for secrets before it is stored. It is a value for every 64 bytes
#: of the largest event that EventBridge delivered until January 2026, 256 KiB.
MAX_REPORT_VALUES = 4096
_MAX_TYPE_LENGTH = 128  # EventBridge's limit for a detail-type
_LONGEST_TRACE = 512


@attrs.frozen(kw_only=True, slots=False)
class Delivery:
    """What the entry point knows about an event besides its body.

    `event_id` (a header of `events.id_headers`) overrides ids in the body.
    `same_content_same_event` identifies a body without an id by its content: right over HTTP, where
    senders retry after a lost answer, wrong for a library call. `fallback_id` is the id of a body
    without one. `received_at` is when the event was received, if that was earlier than now.
    `opened` is the body out of its wrappers, if the entry point has parsed and opened it already.
    `trace` is the sender's trace, by a header (`traceparent`, `X-Amzn-Trace-Id`).
    """

    event_id: str | None = None
    same_content_same_event: bool = False
    fallback_id: str | None = None
    received_at: datetime | None = None
    opened: Opened | None = attrs.field(default=None, eq=False)
    trace: str | None = attrs.field(default=None, eq=False)


def parse_event(
    event_type: str,
    raw: object,
    *,
    delivery: Delivery,
    aliases: Mapping[str, str],
    now: datetime,
    fresh_id: Callable[[], str],
) -> Event[Body]:
    """Parse `raw`, a JSON value, into an event; its payload is the business body, not yet a model.

    `event_type` is the type in the path, or the caller's; `fresh_id` makes an id for an event that
    has none.

    Raises:
        BadEvent: not an object, a broken envelope, a type that isn't the envelope's, a name that is
            too long, or a report of too many values.
    """
    opened = delivery.opened
    # A user's wrapper of the orchestrator may have replaced the body.
    if opened is None or opened.raw is not raw:
        if is_deeper(raw, MAX_DEPTH):
            raise BadEvent(
                f"The body is nested more than {MAX_DEPTH} levels deep: send it flatter."
            )
        if place := find_no_number(raw):
            raise BadEvent(
                f"{place} is a number that JSON doesn't have (NaN, infinite or too large): leave "
                "it out, or send null."
            )
        opened = open_event(raw)
    resolved = aliases.get(event_type, event_type)
    enveloped = opened.type or event_type
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
    # The body is counted, too, since its wrapper may contain it as text.
    counted = (raw, opened.body) if resolved in ENDS else ()
    if any(has_more_values(one, MAX_REPORT_VALUES) for one in counted):
        raise BadEvent(
            f"A {resolved} has at most {MAX_REPORT_VALUES} values, and this one has more: send "
            "less, or a resource that refers to them."
        )
    named_id = delivery.event_id or opened.id
    _check_names(named_id, opened)
    by_content = named_id is None and delivery.same_content_same_event
    event_id = named_id or (
        digest(resolved, opened.body) if by_content else delivery.fallback_id or fresh_id()
    )
    received_at = delivery.received_at or now
    return Event(
        type=resolved,
        source=opened.source,
        id=event_id,
        time=opened.time or received_at,
        body=opened.body,
        raw=as_object(raw, "The body"),
        payload=opened.body,
        identified_by_content=by_content,
        sent_as=enveloped if enveloped != resolved else None,
        sent_at=min(opened.time, received_at) if opened.time else None,
        received_at=received_at,
        trace=_read_trace(raw, delivery),
    )


def _read_trace(raw: object, delivery: Delivery) -> str | None:
    """The sender's trace: of a header, else of a CloudEvent (extension Distributed Tracing 1.0.2).
    None without one, or if it is too long."""
    trace: object = delivery.trace
    if trace is None and isinstance(raw, dict) and "specversion" in raw:
        trace = raw.get("traceparent")
    return trace if isinstance(trace, str) and len(trace) <= _LONGEST_TRACE else None


def _check_names(event_id: str | None, opened: Opened) -> None:
    """Check the size of values that are stored beside the payload, some of them in keys."""
    secret, context = read_secret(opened.body) or (None, None)
    names = {
        "id": event_id,
        "source": opened.source,
        "tenant's id": read_tenant_id(opened.body),
        "tenantRegistrationId": read_registration_id(opened.body),
        "tier": read_tier(opened.body),
        "operationId or context": read_request_key(opened.body),
        "secret": secret,
        "context": context,
    }
    for name, text in names.items():
        size = len((text or "").encode(errors="replace"))
        if size > MAX_NAME_BYTES:
            raise BadEvent(
                f"The event's {name} is {size} bytes long; at most {MAX_NAME_BYTES} are allowed."
            )


def read_event_type(raw: object) -> str:
    """The type that a body names. Raises BadEvent if it names none."""
    return open_named(raw)[0]


def open_named(raw: object) -> tuple[str, Opened]:
    """The type that a body names, and the body out of its wrappers. Raises BadEvent if it names
    none."""
    opened = open_event(raw)
    named = opened.type or opened.stated_type
    if named is None:
        raise BadEvent(
            "The event has no type: post to /events/{eventType}, or send an envelope "
            'with "detail-type" or a CloudEvent with "type".'
        )
    return named, opened


def read_event_id(raw: object) -> str | None:
    """The id in a body, None without one. Raises BadEvent for a broken envelope."""
    return open_event(raw).id


def read_names(raw: object) -> tuple[str | None, str | None]:
    """Type and id of a value that may not be a valid event, where they can be read."""
    try:
        opened = open_event(raw)
    except BadEvent:
        fields = raw if isinstance(raw, Mapping) else {}
        named = (fields.get("detail-type", fields.get("type")), fields.get("id"))
        event_type, event_id = (name if isinstance(name, str) else None for name in named)
        return event_type, event_id
    return opened.type or opened.stated_type, opened.id


def structured_cloudevent(attributes: Mapping[str, str], data: object) -> dict[str, Any]:
    """A binary CloudEvent in its structured form.

    `attributes` are the `ce-*` headers by lower-case name without the prefix, with undecoded
    values: quoted strings, percent-encoded (CloudEvents HTTP binding 1.0.2, section 3.1.3.2). A
    name that no attribute can have (specification 1.0.2, section 3.1) is ignored, so that a header
    can't change the event's structure.

    Raises:
        BadEvent: a header isn't UTF-8.
    """
    named = {name: value for name, value in attributes.items() if _ATTRIBUTE.fullmatch(name)}
    return {**{name: _decoded(name, value) for name, value in named.items()}, "data": data}


def _decoded(name: str, header: str) -> str:
    """Decode a header's value, after removing its quotes if any (RFC 9110, section 5.6.4)."""
    if len(header) >= 2 and header[0] == header[-1] == '"':
        header = re.sub(r"\\(.)", r"\1", header[1:-1])
    try:
        decoded = unquote(header, errors="strict")
    except UnicodeDecodeError:
        decoded = None
    if decoded is None or not is_well_formed(decoded):
        raise BadEvent(f"The header ce-{name} isn't percent-encoded UTF-8.")
    return decoded
