"""Encodes and decodes the event that the ledger stores, compressed."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

from orchestrator.core.events.event import Event, path_to_body, value_at
from orchestrator.core.events.json_text import to_json
from orchestrator.core.ledger.records import PayloadRecord, RunRecord


def encode_event(event: Event[Mapping[str, Any]]) -> PayloadRecord:
    """Encode the event as the payload of its run."""
    path = path_to_body(event)
    fields: dict[str, Any] = {"raw": event.raw, "by_content": event.identified_by_content}
    fields |= {"ends_start": event.ends_start} if event.ends_start is not None else {}
    fields |= {"sent_as": event.sent_as} if event.sent_as is not None else {}
    fields |= {"body": event.body} if path is None else {"path": path}
    return PayloadRecord(run_id=event.key, data=_compress(to_json(fields)))


def _compress(text: bytes) -> bytes:
    """A zlib stream. Where the text fits into a window of 4 KiB a larger one would only cost: to
    allocate it takes several times as long as to compress a usual event."""
    window_bits, memory_level = (12, 5) if len(text) <= 4096 else (15, 8)
    compressor = zlib.compressobj(6, zlib.DEFLATED, window_bits, memory_level)
    return compressor.compress(text) + compressor.flush()


def decode_event(run: RunRecord, payload: PayloadRecord) -> Event[Mapping[str, Any]]:
    """Decode the event of a run."""
    fields = json.loads(zlib.decompress(payload.data).decode("utf-8", "surrogatepass"))
    raw = fields["raw"]
    body = fields["body"] if "body" in fields else value_at(raw, tuple(fields["path"]))
    return Event(
        type=run.event_type,
        source=run.source,
        id=run.event_id,
        time=run.event_time,
        sent_at=run.sent_at,
        body=body,
        raw=raw,
        payload=body,
        identified_by_content=fields["by_content"],
        ends_start=fields.get("ends_start"),
        sent_as=fields.get("sent_as"),
    )
