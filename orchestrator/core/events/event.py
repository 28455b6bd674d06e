"""The event: its key, and what all its deliveries have in common."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

import attrs

from orchestrator.core.events.json_text import to_sorted_json
from orchestrator.core.evolve import evolve
from orchestrator.core.identifiers import digest

#: What sets the keys of our own outcomes apart from those of all other events.
_ENDS = "ends"
#: How the digest of a body is made; those of earlier releases are hexadecimal throughout.
_DIGEST_VERSION = "v2"
#: The source of the events that we make ourselves.
OWN_SOURCE = "orchestrator"
Payload = TypeVar("Payload", covariant=True)


@attrs.frozen(kw_only=True)
class Event(Generic[Payload]):
    """One message, as a handler sees it.

    Two deliveries with one `key` (type, source and id) are the same event. `payload` is
    the handler's model, `body` the business body with every unknown field, `raw` what
    was received. `time` is the event's own, or that of its receipt; `sent_at` is the event's own,
    at the latest that of its receipt, and None where the event names none. `received_at` is None
    for an event that was kept, or made here. `ends_start` is the start key of what an event of
    our own ends. There is one such event for each start, or for each job where that was built
    again, whoever noticed the end and whatever he knew of it: by its `id`. `sent_as` is what its
    sender calls the type, where that is an alias of it.
    """

    type: str
    source: str
    id: str
    time: datetime
    body: Mapping[str, Any]
    raw: Mapping[str, Any]
    payload: Payload
    #: The id was made from the content, so it holds for `events.dedupe_window_s` alone.
    identified_by_content: bool = False
    ends_start: str | None = None
    sent_as: str | None = None
    sent_at: datetime | None = None
    received_at: datetime | None = attrs.field(default=None, eq=False)

    @cached_property
    def key(self) -> str:
        """The event key: 40 hexadecimal characters, the same for each delivery.

        That of an event of the service's own is one that no other event can have.
        """
        if self.ends_start is not None:
            return own_outcome_key(self.type, self.id)
        # An event of a type by this name would have the key of what it says that it ends.
        apart = ("event",) if self.type == _ENDS else ()
        return digest(*apart, self.type, self.source, self.id)

    @cached_property
    def body_digest(self) -> str:
        """What the run stores of the body, to recognize another one under its key."""
        if self.ends_start is not None:
            return digest(self.ends_start)
        return _DIGEST_VERSION + hashlib.sha256(to_sorted_json(self.body)).hexdigest()[:38]

    def has_body_of(self, stored: str) -> bool:
        """Whether `stored` is the digest of the event's body, by this release or an earlier one."""
        if self.ends_start is None and not stored.startswith(_DIGEST_VERSION):
            return stored == digest(self.body)
        return stored == self.body_digest


def own_outcome_key(event_type: str, outcome_id: str) -> str:
    """The event key of an outcome of our own, which is known by the start that it ends, and by
    how often its job was built again."""
    return digest(_ENDS, event_type, outcome_id)


#: Where in what was received the business body may lie; it is not kept twice.
_PATHS: tuple[tuple[str, ...], ...] = ((), ("detail",), ("detail", "data"), ("data",))


def rewritten(
    event: Event[Mapping[str, Any]], change: Callable[[Any], Any]
) -> Event[Mapping[str, Any]]:
    """The event with `change` made to what was received, and so to its body."""
    path, raw = path_to_body(event), change(event.raw)
    body = change(event.body) if path is None else value_at(raw, path)
    return evolve(event, raw=raw, body=body, payload=body)


def path_to_body(event: Event[Mapping[str, Any]]) -> tuple[str, ...] | None:
    """Where in what was received the body lies; None: it is no part of that."""
    return next((path for path in _PATHS if value_at(event.raw, path) is event.body), None)


def value_at(value: Any, path: tuple[str, ...]) -> Any:
    """What lies at the path of names; None: nothing does."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
