"""An event as the ledger keeps it: packed small, and unpacked to the very same event."""

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from orchestrator.core.events import Event
from orchestrator.core.records import PayloadRecord, RunRecord

#: Where in what was received the business body may lie; it is not kept twice.
_PATHS: tuple[tuple[str, ...], ...] = ((), ("detail",), ("detail", "data"), ("data",))


def pack_event(event: Event[Mapping[str, Any]]) -> PayloadRecord:
    """The payload of the event's run."""
    path = path_to_body(event)
    parcel: dict[str, Any] = {"raw": event.raw, "by_content": event.identified_by_content}
    parcel |= {"ends_start": event.ends_start} if event.ends_start is not None else {}
    parcel |= {"sent_as": event.sent_as} if event.sent_as is not None else {}
    parcel |= {"body": event.body} if path is None else {"path": path}
    text = json.dumps(parcel, separators=(",", ":"), ensure_ascii=False)
    return PayloadRecord(
        run_id=event.key, data=zlib.compress(text.encode("utf-8", "surrogatepass"), level=6)
    )


def unpack_event(run: RunRecord, payload: PayloadRecord) -> Event[Mapping[str, Any]]:
    """The event of a run."""
    parcel = json.loads(zlib.decompress(payload.data).decode("utf-8", "surrogatepass"))
    raw = parcel["raw"]
    body = parcel["body"] if "body" in parcel else value_at(raw, tuple(parcel["path"]))
    return Event(
        type=run.event_type,
        source=run.source,
        id=run.event_id,
        time=run.event_time,
        sent_at=run.sent_at,
        body=body,
        raw=raw,
        payload=body,
        identified_by_content=parcel["by_content"],
        ends_start=parcel.get("ends_start"),
        sent_as=parcel.get("sent_as"),
    )


def rewritten(
    event: Event[Mapping[str, Any]], change: Callable[[Any], Any]
) -> Event[Mapping[str, Any]]:
    """The event with `change` made to what was received, and so to its body."""
    path, raw = path_to_body(event), change(event.raw)
    body = change(event.body) if path is None else value_at(raw, path)
    return attrs.evolve(event, raw=raw, body=body, payload=body)


def path_to_body(event: Event[Mapping[str, Any]]) -> tuple[str, ...] | None:
    """Where in what was received the body lies; None: it is no part of that."""
    return next((path for path in _PATHS if value_at(event.raw, path) is event.body), None)


def value_at(value: Any, path: tuple[str, ...]) -> Any:
    """What lies at the path of names; None: nothing does."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
