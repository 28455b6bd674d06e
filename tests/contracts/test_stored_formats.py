"""What an earlier release has stored or sent is still read, and still written the same.

`tests/stored_formats.py` says what is kept of each release in `tests/data/`, and how.
"""

import base64
import itertools
import json
import zlib
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from orchestrator.adapters.dynamodb.items import build_item, read_item
from orchestrator.core.events.envelope import Delivery, parse_event
from orchestrator.core.events.event_types import Kind
from orchestrator.core.handlers.run import _traceparent
from orchestrator.core.identifiers import digest, operation_id, own_operation_id, start_key
from orchestrator.core.ledger.event_codec import decode_event
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import PayloadRecord, RunRecord, RunStatus
from orchestrator.core.queue.enqueue import _group
from orchestrator.core.queue.message_codec import pack_message, read_message
from tests.stored_formats import (
    EVENTS,
    MESSAGES,
    RECORDS,
    RELEASES,
    at,
    build,
    documents,
    hidden,
    read,
    shown,
)

of_each_release = pytest.mark.parametrize("release", RELEASES)


def default_of(field: "attrs.Attribute[Any]") -> Any:
    default: Any = field.default
    return default.factory() if isinstance(default, attrs.Factory) else default  # type: ignore[arg-type]


def as_of(value: Any, document: Any) -> Any:
    """A record as a release knew it that has written `document`: its later fields have their
    defaults."""
    if attrs.has(type(value)) and isinstance(document, dict):
        fields = [field for field in attrs.fields(type(value)) if field.name != "unknown"]
        changes = {
            field.name: as_of(getattr(value, field.name), document[field.name])
            if field.name in document
            else default_of(field)
            for field in fields
        }
        return attrs.evolve(value, **changes)
    if isinstance(value, Mapping) and isinstance(document, dict):
        return {name: as_of(one, document[name]) for name, one in value.items()}
    if isinstance(value, tuple) and isinstance(document, list):
        return tuple(as_of(one, shown) for one, shown in zip(value, document, strict=True))
    return value


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


@of_each_release
@pytest.mark.parametrize("name", RECORDS)
def test_a_stored_item_is_read(name: str, release: str) -> None:
    """Each field has what was stored, later ones their defaults, and none is left over."""
    stored = read(release, name)
    record = read_item(hidden(stored))
    data = stored["data"].get("S")
    assert record == (RECORDS[name] if data is None else as_of(RECORDS[name], data))
    assert find_unknown(record) == []


@of_each_release
@pytest.mark.parametrize("name", RECORDS)
def test_an_item_is_written_as_it_was(name: str, release: str) -> None:
    """Keys, names of fields, values, and what the indexes know of it; the number of its format is
    this release's."""
    stored = read(release, name)
    written = shown(build(RECORDS[name]))
    assert int(written.pop("format")["N"]) >= int(stored.pop("format", {"N": "1"})["N"])
    assert_kept(stored, written)


@pytest.mark.parametrize("name", RECORDS)
def test_an_item_of_a_newer_format_stays_in_it(name: str) -> None:
    """A replica of this release reads it as far as it knows it, and writes back the rest."""
    newer = {**build(RECORDS[name]), "format": {"N": "999"}, "newer": {"S": "kept"}}
    record = read_item(newer)
    assert record == RECORDS[name]
    again = build_item(record, expires_at=None)
    assert (again["format"], again["newer"]) == ({"N": "999"}, {"S": "kept"})


def test_the_stored_formats_of_this_release_are_kept() -> None:
    """A change of what is stored has files of its own, from which later releases are tested: see
    `tests/stored_formats.py`."""
    for name, document in documents().items():
        stored = read(RELEASES[-1], name)
        if name in EVENTS:
            document, stored = (unpacked(one) for one in (document, stored))
        assert document == stored, name


def unpacked(packed: Mapping[str, str]) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(packed["data"])))


@pytest.mark.parametrize(("before", "after"), list(itertools.pairwise(RELEASES)))
@pytest.mark.parametrize("name", [name for name in RECORDS if name != "payload"])
def test_the_release_before_finds_all_that_it_needs(name: str, before: str, after: str) -> None:
    """A new release only adds to what is stored: what the one before has in an item is in it."""
    older, newer = (read(release, name)["data"]["S"] for release in (before, after))
    assert older.keys() <= newer.keys()


@of_each_release
@pytest.mark.parametrize("name", EVENTS)
def test_a_packed_event_is_read(name: str, release: str) -> None:
    """A packed event is read as its run and its payload."""
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
    stored = read(release, name)
    payload = PayloadRecord(run_id=stored["run_id"], data=base64.b64decode(stored["data"]))
    assert decode_event(run, payload) == event


@of_each_release
@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_packed_as_it_was(name: str, release: str) -> None:
    """It has the same key; how well it is compressed depends on the library."""
    stored, packed = read(release, name), documents()[name]
    assert packed["run_id"] == stored["run_id"]
    assert_kept(unpacked(stored), unpacked(packed))


@of_each_release
@pytest.mark.parametrize("name", MESSAGES)
def test_a_queue_message_is_read(name: str, release: str) -> None:
    """A worker of this release takes what an earlier one has put on the queue."""
    message = read_message(json.dumps(read(release, name)), message_id="message-1")
    assert message == MESSAGES[name]


@of_each_release
@pytest.mark.parametrize("name", MESSAGES)
def test_a_queue_message_is_written_as_it_was(name: str, release: str) -> None:
    """A worker of an earlier release takes what this one puts on the queue."""
    assert_kept(read(release, name), json.loads(pack_message(MESSAGES[name])))


def test_the_values_of_stored_enums_stand() -> None:
    """The values in items, indexes and the API are unchanged."""
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


def test_the_id_of_equal_content_does_not_change() -> None:
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
