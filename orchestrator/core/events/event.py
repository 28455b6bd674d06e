"""The event and its key, the same for all its deliveries."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

import attrs

from orchestrator.core.events.json_text import to_sorted_json
from orchestrator.core.evolve import evolve
from orchestrator.core.identifiers import digest

#: Distinguishes the keys of the service's own outcomes from those of all other events.
_ENDS = "ends"
#: The prefix of a body's digest: the version of its algorithm. Those of earlier releases have no
#: prefix: they are hexadecimal digits only.
_DIGEST_VERSION = "v2"
#: The source of the service's own events.
OWN_SOURCE = "orchestrator"
Payload = TypeVar("Payload", covariant=True)


@attrs.frozen(kw_only=True, slots=False)
class Event(Generic[Payload]):
    """One message, as a handler sees it.

    Two deliveries with one `key` (type, source and id) are the same event. `payload` is the
    handler's model, `body` the business body with all unknown fields, `raw` the JSON as received.
    `time` is the event's own, or that of its receipt; `sent_at` is the event's own, at the latest
    that of its receipt, and None if the event has none. `received_at` is None for an event that was
    stored, or made by the service. `ends_start` is the start key that an event of the service's own
    ends. By its `id` there is one such event for each start, or for each job of a start that was
    rebuilt, whatever detected the end. `sent_as` is the sender's name of the type, if that is an
    alias. `trace` is the sender's trace, as `traceparent` or `X-Amzn-Trace-Id` has it; an event
    that was stored has none.
    """

    type: str
    source: str
    id: str
    time: datetime
    body: Mapping[str, Any]
    raw: Mapping[str, Any]
    payload: Payload
    #: The id is derived from the content, so it is valid for `events.dedupe_window_s` only.
    identified_by_content: bool = False
    ends_start: str | None = None
    sent_as: str | None = None
    sent_at: datetime | None = None
    received_at: datetime | None = attrs.field(default=None, eq=False)
    trace: str | None = attrs.field(default=None, eq=False)

    @cached_property
    def key(self) -> str:
        """The event key: 40 hexadecimal characters, the same for each delivery.

        No other event can have the key of one of the service's own.
        """
        if self.ends_start is not None:
            return own_outcome_key(self.type, self.id)
        # An event whose type is this word could otherwise have the key of an own outcome.
        apart = ("event",) if self.type == _ENDS else ()
        return digest(*apart, self.type, self.source, self.id)

    @cached_property
    def body_digest(self) -> str:
        """The digest by which the bodies of two deliveries are compared; stored with the run."""
        if self.ends_start is not None:
            return digest(self.ends_start)
        return _DIGEST_VERSION + hashlib.sha256(to_sorted_json(self.body)).hexdigest()[:38]

    def has_body_of(self, stored: str) -> bool:
        """Whether `stored` is the digest of the event's body, by this release or an earlier one."""
        if self.ends_start is None and not stored.startswith(_DIGEST_VERSION):
            return stored == digest(self.body)
        return stored == self.body_digest


def own_outcome_key(event_type: str, outcome_id: str) -> str:
    """The event key of an outcome of the service's own: of the start that it ends, and the count of
    its job's rebuilds."""
    return digest(_ENDS, event_type, outcome_id)


#: The paths of the business body in the received JSON, so that it isn't stored twice.
_PATHS: tuple[tuple[str, ...], ...] = ((), ("detail",), ("detail", "data"), ("data",))


def rewritten(
    event: Event[Mapping[str, Any]], change: Callable[[Any], Any]
) -> Event[Mapping[str, Any]]:
    """The event with `change` applied to the received JSON, and so to its body."""
    path, raw = path_to_body(event), change(event.raw)
    body = change(event.body) if path is None else value_at(raw, path)
    return evolve(event, raw=raw, body=body, payload=body)


def path_to_body(event: Event[Mapping[str, Any]]) -> tuple[str, ...] | None:
    """The path of the body in the received JSON; None if it isn't part of it."""
    return next((path for path in _PATHS if value_at(event.raw, path) is event.body), None)


def value_at(value: Any, path: tuple[str, ...]) -> Any:
    """The value at a path of names; None if there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
