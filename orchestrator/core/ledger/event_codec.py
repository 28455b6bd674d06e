"""An event as the ledger keeps it: packed small, and unpacked to the very same event."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

from orchestrator.core.events.event import Event, path_to_body, value_at
from orchestrator.core.ledger.records import PayloadRecord, RunRecord


def encode_event(event: Event[Mapping[str, Any]]) -> PayloadRecord:
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


def decode_event(run: RunRecord, payload: PayloadRecord) -> Event[Mapping[str, Any]]:
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
