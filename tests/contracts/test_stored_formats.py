"""What an earlier release has stored or sent is still read, and still written the same.

`tests/data/` holds items of the ledger, packed events and queue messages as they were written by
the release of 2026-11-28. They are never regenerated: a new field may come beside, nothing goes.
An item's `data` is shown as the JSON that its text holds, bytes in base64.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

from orchestrator.adapters.dynamodb.items import build_item, read_item
from orchestrator.core.errors import PayloadMismatch
from orchestrator.core.events.envelope import Delivery, parse_event
from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import Kind
from orchestrator.core.handlers.run import _traceparent
from orchestrator.core.identifiers import digest, operation_id, own_operation_id, start_key
from orchestrator.core.ledger.event_codec import decode_event, encode_event
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.records import (
    Asked,
    Failure,
    Job,
    JobRecord,
    OperationRecord,
    OperationState,
    PayloadRecord,
    Record,
    RegistrationRecord,
    Report,
    RunRecord,
    RunStatus,
    SecretsRecord,
    Step,
    TenantRecord,
    Waiter,
    WebhookCredentials,
)
from orchestrator.core.queue.enqueue import _group
from orchestrator.core.queue.message_codec import (
    QueuedEvent,
    QueuedReplay,
    pack_message,
    read_message,
)

DATA = Path(__file__).parents[1] / "data"


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
#: Each with every field that it has.
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


def read(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text("ascii"))


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


def assert_kept(stored: Any, written: Any, path: str = "$") -> None:
    """Whatever is stored is written again; more may be."""
    if isinstance(stored, dict):
        assert isinstance(written, dict), path
        for name, value in stored.items():
            assert name in written, f"{path}.{name}"
            assert_kept(value, written[name], f"{path}.{name}")
    elif isinstance(stored, list):
        assert isinstance(written, list), path
        assert len(stored) == len(written), path
        for number, (one, other) in enumerate(zip(stored, written, strict=True)):
            assert_kept(one, other, f"{path}[{number}]")
    else:
        assert (type(stored), stored) == (type(written), written), path


def find_unknown(value: Any) -> list[Any]:
    """What the parts of a record have that this release doesn't know."""
    if attrs.has(type(value)):
        parts = [getattr(value, field.name) for field in attrs.fields(type(value))]
        return [*([value.unknown] if getattr(value, "unknown", None) else []), *find_unknown(parts)]
    if isinstance(value, Mapping):
        return find_unknown(list(value.values()))
    if isinstance(value, list | tuple):
        return [unknown for one in value for unknown in find_unknown(one)]
    return []


@pytest.mark.parametrize("name", RECORDS)
def test_a_stored_item_is_read(name: str) -> None:
    """Each field has what was stored, and none is left over."""
    record = read_item(hidden(read(name)))
    assert record == RECORDS[name]
    assert find_unknown(record) == []


@pytest.mark.parametrize("name", RECORDS)
def test_an_item_is_written_as_it_was(name: str) -> None:
    """Keys, names of fields, values, and what the indexes know of it."""
    record = RECORDS[name]
    item = build_item(attrs.evolve(record, version=record.version - 1), expires_at=EXPIRES)
    assert_kept(read(name), shown(item))


@pytest.mark.parametrize("name", EVENTS)
def test_a_packed_event_is_read(name: str) -> None:
    """Its run and its payload are the event again."""
    event = EVENTS[name]
    run = RECORDS["run"]
    assert isinstance(run, RunRecord)
    run = attrs.evolve(
        run,
        event_type=event.type,
        source=event.source,
        event_id=event.id,
        event_time=event.time,
        sent_at=event.sent_at,
    )
    stored = read(name)
    payload = PayloadRecord(run_id=stored["run_id"], data=base64.b64decode(stored["data"]))
    assert decode_event(run, payload) == event


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_packed_as_it_was(name: str) -> None:
    """Under the same key; how well it is compressed is the library's affair."""
    stored, payload = read(name), encode_event(EVENTS[name])
    before, now = (
        json.loads(zlib.decompress(data))
        for data in (base64.b64decode(stored["data"]), payload.data)
    )
    assert payload.run_id == stored["run_id"]
    assert_kept(before, now)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_queue_message_is_read(name: str) -> None:
    """A worker of this release takes what an earlier one has put on the queue."""
    assert read_message(json.dumps(read(name)), message_id="message-1") == MESSAGES[name]


@pytest.mark.parametrize("name", MESSAGES)
def test_a_queue_message_is_written_as_it_was(name: str) -> None:
    """A worker of an earlier release takes what this one puts on the queue."""
    assert_kept(read(name), json.loads(pack_message(MESSAGES[name])))


def test_the_values_of_stored_enums_stand() -> None:
    """Items, indexes and the API have them."""
    assert [*map(str, RunStatus)] == [
        "running", "succeeded", "failed", "retry", "duplicate", "queued",
    ]  # fmt: skip
    assert [*map(str, OperationState)] == ["open", "over", "given_back"]
    assert [*map(str, Kind)] == ["provisioning", "deployment", "deprovisioning", "clean_up"]
    assert [*map(str, TenantState)] == [
        "provisioning", "provisioned", "provision_failed", "cleaning_up", "deploying", "active",
        "deployment_failed", "deprovisioning", "deprovisioned", "deprovision_failed",
    ]  # fmt: skip


def test_digests_stand() -> None:
    """Ids in stored items, in builders' tokens and on the queue are made of these words."""
    envelope, outcome = EVENTS["packed_envelope"], EVENTS["packed_outcome"]
    assert digest("a", 1, {"b": None}) == "b1be2fbe696c6cab8d545c45c9d8e4c49ff66f0c"
    assert envelope.key == "99dc2b01597a9e71e073476f370a4210620ec56f"
    assert envelope.has_body_of("818a4c3e9b6ff7feac5e2748590d898485b8fa83")
    assert envelope.body_digest == "v20bfadc57abd91dc752150d71d6cf4056a9435f"
    assert outcome.key == "44f4c44570fd36c7709616262416c9008caa9824"
    assert outcome.body_digest == "ea5f3e9dbeb0c016842824b36ef599e8f793a1dc"
    ends = attrs.evolve(envelope, type="ends")
    assert ends.key == "a68bd7adbec76ce0a8670d74195b97c9af2b6fa7"
    operation = operation_id("t-1", Kind.PROVISIONING, "request-1")
    assert operation == "9b8120eba69d5b2f3aa3ebe85385999f16373421"
    assert own_operation_id("request-1") == "6382b18202609d1fe65cfb64568e8cabde625e6a"
    assert start_key(operation, 2) == f"{operation}-2"
    traceparent = "00-8ba9d68fe1d987c31426c70daeef207f-2d6cbdefdec98c55-01"
    assert _traceparent("0pe1-2") == traceparent


def test_the_id_of_equal_content_stands() -> None:
    """A delivery to this release is a duplicate of one to the last."""
    parsed = parse_event(
        "TENANT_PROVISIONING",
        {"tenantId": "t-1"},
        delivery=Delivery(same_content_same_event=True),
        aliases={},
        now=at(0),
        fresh_id=lambda: "fresh",
    )
    assert parsed.id == "0a3786c47510685ec96ab793b3c33324115d3ce8"
    assert parsed.key == "5b8f74850511414df79a4b9129fd6978b232144d"


def test_message_groups_stand() -> None:
    """While two releases fill one FIFO queue, requests of a tenant follow each other."""
    assert _group(EVENTS["packed_envelope"]) == "8817a1433e44b6d08c04c5524feb63d273125f1a"
    assert _group(EVENTS["packed_outcome"]) == EVENTS["packed_outcome"].key
