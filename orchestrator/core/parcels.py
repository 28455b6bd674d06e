"""An event as the ledger keeps it: packed small, and unpacked to the very same event."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

from orchestrator.core.events import Event
from orchestrator.core.records import PayloadRecord, RunRecord

#: Where in what was received the business body may lie; it is not kept twice.
_PATHS: tuple[tuple[str, ...], ...] = ((), ("detail",), ("detail", "data"), ("data",))


def pack_event(event: Event[Mapping[str, Any]]) -> PayloadRecord:
    """The payload of the event's run."""
    path = next((path for path in _PATHS if _at(event.raw, path) is event.body), None)
    parcel: dict[str, Any] = {"raw": event.raw, "by_content": event.identified_by_content}
    parcel |= {"body": event.body} if path is None else {"path": path}
    text = json.dumps(parcel, separators=(",", ":"), ensure_ascii=False)
    return PayloadRecord(
        run_id=event.key, data=zlib.compress(text.encode("utf-8", "surrogatepass"), level=6)
    )


def unpack_event(run: RunRecord, payload: PayloadRecord) -> Event[Mapping[str, Any]]:
    """The event of a run."""
    parcel = json.loads(zlib.decompress(payload.data).decode("utf-8", "surrogatepass"))
    raw = parcel["raw"]
    body = parcel["body"] if "body" in parcel else _at(raw, tuple(parcel["path"]))
    return Event(
        type=run.event_type,
        source=run.source,
        id=run.event_id,
        time=run.event_time,
        body=body,
        raw=raw,
        payload=body,
        identified_by_content=parcel["by_content"],
    )


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
