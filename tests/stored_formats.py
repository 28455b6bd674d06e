"""The items and messages that this release stores and sends, each with all fields, as files.

`tests/data/RELEASE/` holds items of the ledger, packed events and queue messages as a release wrote
them. A release that stores something else than the one before adds its own:

    python -m tests.stored_formats 2026-11-29

Those of a release that is out are never written again. An item's `data` is shown as the JSON that
its text holds, bytes in base64.
"""

import base64
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from orchestrator.adapters.dynamodb.items import build_item
from orchestrator.core.errors import PayloadMismatch
from orchestrator.core.events.envelope import Delivery
from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.event_codec import encode_event
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.record_parts import (
    Asked,
    Failure,
    Job,
    OperationState,
    Report,
    Step,
    Waiter,
    WebhookCredentials,
)
from orchestrator.core.ledger.records import (
    JobRecord,
    OperationRecord,
    PayloadRecord,
    Record,
    RegistrationRecord,
    RunRecord,
    RunStatus,
    SecretsRecord,
    TenantRecord,
)
from orchestrator.core.queue.message_codec import QueuedEvent, QueuedReplay, pack_message

DATA = Path(__file__).parent / "data"
#: In the order of their dates.
RELEASES = sorted(folder.name for folder in DATA.iterdir())


def at(minute: int, second: int = 0, microsecond: int = 0) -> datetime:
    return datetime(2026, 11, 28, 9, minute, second, microsecond, tzinfo=UTC)


JOB = Job(
    id="basic-tenant:7f1c",
    builder="CODE_BUILD",
    job_identifier="basic-tenant",
    log_url="https://console.aws.amazon.com/logs/7f1c",
    request={"TENANT_ID": "t-1", "SIZE": 5},
)
REPORT = Report(
    url="https://control-plane.example/webhook",
    body={"tenantId": "t-1", "status": "failed"},
    tries=2,
    may_have_arrived=True,
    posting_until=at(20),
    done_at=at(21),
    trouble="It answered 503.",
)
ASKED = Asked(
    operation_id="4f0c", kind=Kind.DEPROVISIONING, times={"control-plane": at(1), "other": at(2)}
)
#: Each with all of its fields.
RECORDS: Mapping[str, Record] = {
    "run": RunRecord(
        run_id="run-1",
        request_key="request-1",
        event_type="TENANT_PROVISIONING",
        source="control-plane",
        event_id="event-1",
        event_time=at(0, 1, 250000),
        sent_at=at(0, 1),
        body_digest="b0d1",
        tenant_id="t-1",
        status=RunStatus.RETRY,
        attempt=3,
        first_seen=at(0, 2, 123456),
        started_at=at(3),
        ended_at=at(4),
        lease_until=at(5),
        due_at=at(6),
        possible_until=at(7),
        sent_to="CODE_BUILD",
        sent_job="basic-tenant",
        waits=4,
        bugs=1,
        takeovers=2,
        ends_by_records=True,
        operation_id="0pe1",
        start_number=2,
        outcome_of="0pe2",
        duplicate_of="run-0",
        steps={"reserve": Step(name="reserve", result={"id": [1, None]}, recorded_at=at(8))},
        job=JOB,
        note="Half \ud83d a character, an ü.",
        link="https://sender.example/requests/1",
        error=Failure(
            type="InvalidPayload",
            message="The event does not fit.",
            errors=(PayloadMismatch("$.tenantId", "is missing"),),
            traceback="Traceback: ...",
        ),
        version=5,
    ),
    "operation": OperationRecord(
        operation_id="0pe1",
        tenant_id="t-1",
        kind=Kind.PROVISIONING,
        request_key="request-1",
        opener="run-1",
        state=OperationState.GIVEN_BACK,
        start_number=2,
        opened_at=at(9),
        former_state=TenantState.PROVISION_FAILED,
        former_asked=ASKED,
        tier="BASIC",
        builder="CODE_BUILD",
        registration_id="registration-1",
        job=JOB,
        rebuilds=1,
        job_since=at(10),
        due_at=at(11),
        stop_reason="An operator cancelled it.",
        stops=2,
        stopped_at=at(12),
        credentials=WebhookCredentials(secret="hunter2", context="context-1", as_of=at(13)),
        told_by="run-2",
        outcome="run-3",
        ended_at=at(14),
        succeeded=False,
        reason="The build failed.",
        report=REPORT,
        owed=attrs.evolve(REPORT, tries=0),
        bugs=3,
        trouble="The builder can't be reached.",
        version=6,
    ),
    "tenant": TenantRecord(
        tenant_id="t-1",
        state=TenantState.CLEANING_UP,
        changed_at=at(15),
        operation_id="0pe1",
        tier="BASIC",
        registration_id="registration-1",
        waiting=(Waiter(run_id="run-4", kind=Kind.DEPLOYMENT),),
        asked=ASKED,
        owes="0pe3",
        version=7,
    ),
    "job": JobRecord(
        builder="CODE_BUILD",
        job_id="basic-tenant:7f1c",
        operation_id="0pe1",
        start_number=2,
        version=1,
    ),
    "registration": RegistrationRecord(
        registration_id="registration-1", tenant_id="t-1", version=1
    ),
    "secrets": SecretsRecord(
        start_key="0pe1-2",
        operation_id="0pe1",
        start_number=2,
        run_id="run-1",
        kind="SECRETS_MANAGER",
        noted_at=at(16),
        batch=2,
        names=("orchestrator/0pe1-2/1", "orchestrator/0pe1-2/2"),
        is_closed=True,
        due_at=at(17),
        version=2,
    ),
    "payload": PayloadRecord(run_id="run-1", data=b"\x00packed\xff", version=1),
}
EXPIRES = at(59)

_DETAIL = {"tenantId": "t-1", "name": "Ünïcode 😀"}
_ENVELOPE = {"detail-type": "sbt_aws_onboardingRequest", "id": "event-1", "detail": _DETAIL}
_OUTCOME = {"tenantId": "t-1", "reason": "The build failed."}


def event(raw: Any, body: Any, **fields: Any) -> Event[Mapping[str, Any]]:
    required: dict[str, Any] = {
        "type": "TENANT_PROVISIONING",
        "source": "control-plane",
        "id": "event-1",
        "time": at(0),
    }
    return Event(**{**required, **fields}, raw=raw, body=body, payload=body)


EVENTS: Mapping[str, Event[Mapping[str, Any]]] = {
    "packed_envelope": event(
        _ENVELOPE,
        _DETAIL,
        identified_by_content=True,
        sent_as="sbt_aws_onboardingRequest",
        sent_at=at(0),
    ),
    "packed_outcome": event(
        {"about": "another body"},
        _OUTCOME,
        type="TENANT_PROVISIONING_FAILURE",
        source="orchestrator",
        id="0pe1-2/1",
        ends_start="0pe1-2",
    ),
}
MESSAGES: Mapping[str, QueuedEvent | QueuedReplay] = {
    "message_event": QueuedEvent(
        event_type="TENANT_PROVISIONING",
        body=_ENVELOPE,
        delivery=Delivery(
            event_id="event-1",
            same_content_same_event=True,
            received_at=at(0, 2, 123456),
            fallback_id="message-1",
        ),
    ),
    "message_replay": QueuedReplay(run_id="run-1", force=True),
}


def read(release: str, name: str) -> Any:
    return json.loads((DATA / release / f"{name}.json").read_text("ascii"))


def build(record: Record) -> dict[str, Any]:
    """The item that this release writes for a record."""
    return build_item(attrs.evolve(record, version=record.version - 1), expires_at=EXPIRES)


def shown(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as the files show it."""
    data = item["data"]
    if "B" in data:
        return {**item, "data": {"B": base64.b64encode(data["B"]).decode()}}
    assert data["S"].isascii()
    return {**item, "data": {"S": json.loads(data["S"])}}


def hidden(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item that a file shows."""
    data = item["data"]
    if "B" in data:
        return {**item, "data": {"B": base64.b64decode(data["B"])}}
    return {**item, "data": {"S": json.dumps(data["S"])}}


def pack(event: Event[Mapping[str, Any]]) -> dict[str, str]:
    payload = encode_event(event)
    return {"run_id": payload.run_id, "data": base64.b64encode(payload.data).decode()}


def documents() -> dict[str, Any]:
    """All that this release writes, by the name of its file."""
    return {
        **{name: shown(build(record)) for name, record in RECORDS.items()},
        **{name: pack(event) for name, event in EVENTS.items()},
        **{name: json.loads(pack_message(message)) for name, message in MESSAGES.items()},
    }


def keep(release: str) -> None:
    """Write the files of a release. Raises FileExistsError if it has any."""
    folder = DATA / release
    folder.mkdir()
    for name, document in documents().items():
        text = json.dumps(document, indent=2, sort_keys=True)
        (folder / f"{name}.json").write_text(f"{text}\n", "ascii")


if __name__ == "__main__":
    keep(*sys.argv[1:])
