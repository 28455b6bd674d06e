"""From a body to an event: every shape that senders use, and every way to get one wrong."""

import base64
import json
import re
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from orchestrator.core.errors import BadEvent
from orchestrator.core.events.envelope import (
    MAX_REPORT_VALUES,
    Delivery,
    parse_event,
    read_event_type,
)
from orchestrator.core.events.event import own_outcome_key
from orchestrator.core.events.wrappers import open_event
from tests.unit.core.events.shapes import NOW, OVER_HTTP, cloudevent, envelope, parse, sample


@pytest.mark.parametrize(
    "raw",
    [
        {"n": 1},
        {"type": "ORDER", "data": {"n": 1}},
        envelope(),
        envelope(detail={"type": "ORDER", "data": {"n": 1}}),
        cloudevent(),
    ],
    ids=["bare", "typed", "envelope", "envelope with typed detail", "CloudEvent"],
)
def test_every_shape_leads_to_the_same_business_body(raw: dict[str, Any]) -> None:
    """Whatever is wrapped around it, the body and the untouched payload are the sender's facts."""
    event = parse(raw)
    assert event.type == "ORDER"
    assert event.body == event.payload == {"n": 1}
    assert event.raw == raw


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (float("nan"), "$.n"),
        ([1, {"m": -float("inf")}], "$.n[1].m"),
        ((10**400,), "$.n[0]"),
        (True, None),
        (10**300, None),
    ],
)
def test_a_number_that_json_lacks_is_refused(value: object, path: str | None) -> None:
    """A caller of the library may pass one; it would be stored as null."""
    if path is None:
        assert parse({"n": value}).body == {"n": value}
        return
    with pytest.raises(BadEvent, match=re.escape(f"{path} is a number that JSON doesn't have")):
        parse({"n": value})


@pytest.mark.parametrize(
    "body",
    [
        {"type": "gift", "data": {"n": 1}, "note": "more"},
        {"type": "gift", "data": "text"},
        {"type": 7, "data": {"n": 1}},
        {"type": "gift"},
        {"data": {"n": 1}},
        {"detail-type": "gift"},
        {"detail": {"n": 1}},
        {},
    ],
)
def test_a_body_that_only_resembles_a_shape_is_its_own_business_body(body: dict[str, Any]) -> None:
    """A wrapper is opened only if it is one exactly, in an envelope's detail as on its own."""
    assert parse(body).body == body
    assert parse(envelope(detail=body)).body == body


def test_a_provisioning_request_keeps_every_field_that_we_do_not_know() -> None:
    """Type, source, id and time come from the envelope, the body is the detail untouched."""
    raw = sample("tenant_provisioning")
    event = parse(raw, "TENANT_PROVISIONING")
    assert event.source == "TenantManagementService"
    assert event.id == "3d5a9c74-8a0e-4d0f-b6f2-51c7e2a4d8b0"
    assert event.time == datetime(2026, 3, 2, 16, 45, 10, tzinfo=UTC)
    assert event.body == raw["detail"]


def test_a_build_report_is_read_as_the_environment_that_the_build_sent() -> None:
    """A self-report's detail is the build's variables as they are."""
    raw = sample("build_self_report")
    event = parse(raw, "TENANT_PROVISIONING_SUCCESS")
    assert event.source == "saas.tenant.provisioning.codebuild"
    assert event.body == raw["detail"]


@pytest.mark.parametrize("path", ["CodeBuild Build State Change", "BUILD_STATE_CHANGE"])
def test_a_foreign_name_is_the_type_that_it_is_an_alias_of(path: str) -> None:
    """Path and envelope may each use the alias or our name; the event has our name."""
    event = parse(sample("codebuild_build_state_change"), path)
    assert event.type == "BUILD_STATE_CHANGE"
    assert event.body["build-status"] == "FAILED"


@pytest.mark.parametrize(
    "raw", [envelope(**{"detail-type": "Tenant Ordered"}), cloudevent(type="Tenant Ordered")]
)
def test_an_alias_does_not_change_the_event_key(raw: dict[str, Any]) -> None:
    """The same event under the alias and under our name is one event."""
    named = {**raw, ("type" if "type" in raw else "detail-type"): "ORDER"}
    identified = Delivery(event_id="one")
    assert parse(raw, delivery=identified).key == parse(named, delivery=identified).key


@pytest.mark.parametrize(
    "raw",
    [
        envelope(**{"detail-type": "INVOICE"}),
        envelope(**{"detail-type": "INVOICE", "detail": {"type": "ORDER", "data": {}}}),
        cloudevent(type="INVOICE"),
    ],
)
def test_an_envelope_of_another_type_is_refused_with_both_names(raw: dict[str, Any]) -> None:
    """A path and an envelope that disagree name no event."""
    with pytest.raises(BadEvent, match=r"path says 'ORDER' .* envelope says 'INVOICE'"):
        parse(raw)


def test_the_type_field_of_a_bare_body_does_not_contradict_the_path() -> None:
    """`type` beside `data` may be the sender's own word; the path decides."""
    event = parse({"type": "premium", "data": {"n": 1}})
    assert event.type == "ORDER"
    assert event.body == {"n": 1}


@pytest.mark.parametrize(
    ("raw", "event_id", "expected"),
    [
        (envelope(id="env-1"), None, "env-1"),
        (cloudevent(), None, "ce-1"),
        (envelope(id="env-1"), "key-1", "key-1"),
        (cloudevent(), "key-1", "key-1"),
        ({"n": 1}, "key-1", "key-1"),
        ({"n": 1, "id": "mine"}, None, "fresh"),
        (envelope(), None, "fresh"),
        ({"type": "ORDER", "data": {"n": 1}}, None, "fresh"),
    ],
)
def test_the_id_is_the_first_that_exists(
    raw: dict[str, Any], event_id: str | None, expected: str
) -> None:
    """The delivery's id outranks the envelope's; the business body's own id means nothing."""
    event = parse(raw, delivery=Delivery(event_id=event_id))
    assert event.id == expected
    assert event.identified_by_content is False


def test_an_event_without_an_id_is_identified_by_content_if_its_entry_point_allows() -> None:
    """Type and business body make the id, whatever their order or wrapper."""
    first = parse({"a": 1, "b": [True, None]})
    assert first.identified_by_content is True
    assert first.id != "fresh"
    assert first.key == parse({"b": [True, None], "a": 1}, fresh_id="other").key
    assert first.key == parse({"type": "ORDER", "data": {"a": 1, "b": [True, None]}}).key


@pytest.mark.parametrize("other", [{"n": 2}, {"n": "1"}, {"n": True}, {"n": [1]}, {"N": 1}, {}])
def test_other_content_is_another_event(other: dict[str, Any]) -> None:
    """The content identity distinguishes values by kind, too."""
    assert parse({"n": 1}).key != parse(other).key


def test_the_same_content_under_another_type_is_another_event() -> None:
    """The content identity holds within one type."""
    assert parse({"n": 1}).id != parse({"n": 1}, "INVOICE").id


@pytest.mark.parametrize(
    ("raw", "event_id", "expected"),
    [(envelope(id="env-1"), None, "env-1"), (cloudevent(), None, "ce-1"), ({}, "key-1", "key-1")],
)
def test_a_named_id_outranks_the_content(
    raw: dict[str, Any], event_id: str | None, expected: str
) -> None:
    """An id that was given holds forever, not for the window alone."""
    event = parse(raw, delivery=Delivery(event_id=event_id, same_content_same_event=True))
    assert event.id == expected
    assert event.identified_by_content is False


@pytest.mark.parametrize(
    ("raw", "source"),
    [
        (envelope(source="shop.eu"), "shop.eu"),
        (envelope(), ""),
        (envelope(source=None), ""),
        (cloudevent(), "/shop"),
        ({"source": "not mine"}, ""),
    ],
)
def test_the_source_comes_from_the_envelope(raw: dict[str, Any], source: str) -> None:
    """An envelope's or CloudEvent's source is the event's; without one it is empty."""
    assert parse(raw).source == source


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-03-02T16:45:10Z", datetime(2026, 3, 2, 16, 45, 10, tzinfo=UTC)),
        ("2026-03-02T16:45:10+02:00", datetime(2026, 3, 2, 14, 45, 10, tzinfo=UTC)),
        ("2026-03-02T16:45:10.250Z", datetime(2026, 3, 2, 16, 45, 10, 250_000, tzinfo=UTC)),
        ("2026-03-02T16:45:10", datetime(2026, 3, 2, 16, 45, 10, tzinfo=UTC)),
        ("2026-03-02t16:45:10z", datetime(2026, 3, 2, 16, 45, 10, tzinfo=UTC)),
        ("2026-03-02t16:45:10.5+02:00", datetime(2026, 3, 2, 14, 45, 10, 500_000, tzinfo=UTC)),
        ("2026-06-30T23:59:60Z", datetime(2026, 6, 30, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("2026-06-30T15:59:60.7-08:00", datetime(2026, 6, 30, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("shape", [envelope, cloudevent])
def test_the_time_is_the_envelopes_in_utc(shape: Any, text: str, time: datetime) -> None:
    """Any offset is turned into UTC, and a time without one is taken for UTC."""
    parsed = parse(shape(time=text)).time
    assert parsed == time
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize("raw", [{"time": "2020-01-01T00:00:00Z"}, envelope(), cloudevent()])
def test_without_a_time_it_is_now(raw: dict[str, Any]) -> None:
    """A bare body's own `time` is business, and no time at all is the time of arrival."""
    assert parse(raw).time == NOW


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ([], "body must be a JSON object, not a list"),
        ("text", "body must be a JSON object, not a string"),
        (None, "body must be a JSON object, not nothing"),
        (True, "body must be a JSON object, not a boolean"),
        (1.5, "body must be a JSON object, not a number"),
        (envelope(detail="text"), '"detail" of the envelope must be a JSON object, not a string'),
        (envelope(detail=None), '"detail" of the envelope must be a JSON object, not nothing'),
        (envelope(**{"detail-type": 5}), '"detail-type" .* string .* not a number'),
        (envelope(**{"detail-type": ""}), '"detail-type" .* not an empty string'),
        (envelope(**{"detail-type": None}), '"detail-type" .* not nothing'),
        (envelope(id=7), '"id" of the envelope must be a string .* not a number'),
        (envelope(id=""), '"id" .* not an empty string'),
        (envelope(source=["x"]), '"source" .* not a list'),
        (envelope(time="yesterday"), "\"time\" .* 'yesterday', which is not RFC 3339"),
        (envelope(time=1_700_000_000), '"time" .* not a number'),
        (cloudevent(specversion="0.3"), '"specversion" \'0.3\'; "1.0" is understood'),
        (cloudevent(type=None), '"type" .* not nothing'),
        (cloudevent(source=None), '"source" .* not nothing'),
        (cloudevent(id=None), '"id" .* not nothing'),
        (cloudevent(id={}), '"id" .* not an object'),
        (cloudevent(data=[1]), '"data" of the CloudEvent must be a JSON object, not a list'),
        (cloudevent(data=None), '"data" of the CloudEvent must be a JSON object, not nothing'),
        (cloudevent(time="12:00"), "which is not RFC 3339"),
        (cloudevent(time="2026-06-30T23:59:61Z"), "which is not RFC 3339"),
        (cloudevent(time="2026-06-30T23:60:00Z"), "which is not RFC 3339"),
    ],
)
def test_a_broken_body_is_refused_with_what_is_wrong(raw: object, sentence: str) -> None:
    """What can't be distinguished from another event is a BadEvent that names the field."""
    with pytest.raises(BadEvent, match=sentence):
        parse(raw)


def test_a_type_is_at_most_as_long_as_eventbridge_allows() -> None:
    """128 characters are a type, 129 are not; counted after aliases."""
    assert parse({}, "T" * 128).type == "T" * 128
    with pytest.raises(BadEvent, match=r"129 characters long; at most 128"):
        parse({}, "T" * 129)
    long = "x" * 200
    event = parse_event(
        long, {}, delivery=OVER_HTTP, aliases={long: "T"}, now=NOW, fresh_id=lambda: "f"
    )
    assert event.type == "T"


@pytest.mark.parametrize(
    ("raw", "event_type"),
    [
        (envelope(), "ORDER"),
        (cloudevent(type="INVOICE"), "INVOICE"),
        ({"type": "ORDER", "data": {}}, "ORDER"),
        (envelope(detail={"type": "inner", "data": {}}), "ORDER"),
    ],
)
def test_a_body_can_name_its_own_type(raw: dict[str, Any], event_type: str) -> None:
    """Envelope, CloudEvent and typed body say of what type they are."""
    assert read_event_type(raw) == event_type


@pytest.mark.parametrize("raw", [{"n": 1}, {"type": "ORDER"}, {"type": "x", "data": {}, "z": 1}])
def test_the_refusal_of_a_body_without_a_type_says_how_to_give_one(raw: dict[str, Any]) -> None:
    """Without a path the body must name the type, and the refusal says where."""
    with pytest.raises(BadEvent, match="detail-type"):
        read_event_type(raw)


def test_the_event_key_is_type_source_and_id() -> None:
    """Two deliveries are the same event if these three are equal, whatever else differs."""
    first = parse(envelope(source="shop", id="1", time="2026-03-02T16:45:10Z"))
    assert first.key == parse(envelope(source="shop", id="1", detail={"n": 2})).key
    assert first.key != parse(envelope(source="shop", id="2")).key
    assert first.key != parse(envelope(source="mart", id="1")).key
    assert first.key != parse({**envelope(source="shop", id="1"), "detail-type": "B"}, "B").key


def test_the_parts_of_an_event_key_cannot_run_into_each_other() -> None:
    """Source `ab` with id `c` is not source `a` with id `bc`."""
    assert parse(envelope(source="ab", id="c")).key != parse(envelope(source="a", id="bc")).key


def test_an_event_key_fits_into_urls_and_keys() -> None:
    """An event key has 40 hexadecimal characters, for any id."""
    key = parse(envelope(id="ü/\ud83d\ude00" * 50)).key
    assert len(key) == 40
    int(key, 16)


def test_a_deeply_nested_body_is_refused() -> None:
    """A body of more than 100 levels is refused before anything recurses into it."""
    body: dict[str, Any] = {}
    for _ in range(200):
        body = {"in": body}
    with pytest.raises(BadEvent, match="nested more than 100 levels"):
        parse(body)


def test_a_time_before_all_times_is_refused() -> None:
    """A time that has no place in UTC is a broken envelope."""
    with pytest.raises(BadEvent, match="RFC 3339"):
        parse({"detail-type": "ORDER", "detail": {}, "time": "0001-01-01T00:00:00+05:00"})


def test_the_schedulers_default_message_is_an_event() -> None:
    """Its detail is the text of an object, and counts as that object."""
    raw = sample("scheduler_default")
    event = parse(raw, "Scheduled Event")
    assert (event.source, event.body, event.raw) == ("aws.scheduler", {}, raw)


def test_a_detail_as_text_is_the_same_content() -> None:
    """What is compared is the object, however it came."""
    as_object, as_text = parse(envelope()), parse(envelope(detail='{ "n": 1 }'))
    assert as_text.body == {"n": 1}
    assert (as_text.key, as_text.body_digest) == (as_object.key, as_object.body_digest)


def test_no_event_has_the_key_of_an_outcome_of_ours() -> None:
    """A sender that knows a start key could otherwise have its end taken for a duplicate."""
    forged = {"detail-type": "ends", "source": "TENANT_PROVISIONING_SUCCESS", "detail": {}}
    event = parse({**forged, "id": "start-1"}, event_type="ends")
    assert event.key != own_outcome_key("TENANT_PROVISIONING_SUCCESS", "start-1")


@pytest.mark.parametrize(
    ("time", "sent_at"),
    [
        ("2026-03-02T08:00:00Z", "2026-03-02T08:00:00+00:00"),
        ("2096-01-01T00:00:00Z", NOW.isoformat()),
        (None, None),
    ],
)
def test_an_event_was_sent_at_the_latest_when_it_came(
    time: str | None, sent_at: str | None
) -> None:
    """A time in the future counts as that of the receipt; none is none."""
    event = parse(envelope(time=time) if time else envelope())
    assert (event.sent_at.isoformat() if event.sent_at else None) == sent_at
    assert event.received_at == NOW


@pytest.mark.parametrize(
    ("event_type", "raw", "sent_as"),
    [
        ("Tenant Ordered", {"n": 1}, "Tenant Ordered"),
        ("ORDER", envelope(**{"detail-type": "Tenant Ordered"}), "Tenant Ordered"),
        ("Tenant Ordered", envelope(), None),
        ("Tenant Ordered", {"type": "Tenant Ordered", "data": {"n": 1}}, "Tenant Ordered"),
        ("ORDER", {"n": 1}, None),
    ],
)
def test_the_senders_name_of_an_event_is_kept(
    event_type: str, raw: object, sent_as: str | None
) -> None:
    """The envelope's name for it, else the path's, if that is an alias."""
    event = parse(raw, event_type)
    assert (event.type, event.sent_as) == ("ORDER", sent_as)


def test_a_registration_must_fit_into_a_key() -> None:
    """A registration of 512 bytes is accepted, one of 513 bytes refused."""
    parse({"tenantRegistrationId": "r" * 512})
    with pytest.raises(BadEvent, match="tenantRegistrationId is 513 bytes long"):
        parse({"tenantRegistrationId": "r" * 513})


def test_a_body_that_was_opened_is_not_opened_again() -> None:
    """What the entry point has read of the very same body counts."""
    raw = {"detail-type": "ORDER", "detail": {"n": 1}}
    opened = attrs.evolve(open_event(raw), source="read by the entry point")
    event = parse(raw, delivery=Delivery(opened=opened))
    assert (event.source, event.body) == ("read by the entry point", {"n": 1})


def test_a_body_that_was_replaced_is_opened() -> None:
    """A wrapper of the orchestrator may pass another body under the same delivery."""
    opened = open_event({"detail-type": "ORDER", "source": "a", "detail": {"n": 1}})
    event = parse(
        {"detail-type": "ORDER", "source": "b", "detail": {"n": 2}},
        delivery=Delivery(opened=opened),
    )
    assert (event.source, event.body) == ("b", {"n": 2})


def test_a_fresh_id_is_made_where_there_is_no_other() -> None:
    """No id is made for an event that has one."""

    def none_needed() -> str:
        raise AssertionError

    raw = {"detail-type": "ORDER", "id": "a", "detail": {}}
    for body, delivery in ((raw, Delivery()), ({}, OVER_HTTP), ({}, Delivery(fallback_id="m"))):
        parse_event("ORDER", body, delivery=delivery, aliases={}, now=NOW, fresh_id=none_needed)


def test_a_report_of_too_many_values_is_no_event() -> None:
    """Each is looked at for secrets; any other event may have as many as a body."""
    raw = {"resources": [{"n": number} for number in range(MAX_REPORT_VALUES // 2)]}
    with pytest.raises(BadEvent, match="has at most 4096 values, and this one has more"):
        parse(raw, "TENANT_PROVISIONING_SUCCESS")
    assert parse(raw, "TENANT_PROVISIONING").body == raw
    raw["resources"].pop()
    assert parse(raw, "TENANT_PROVISIONING_SUCCESS").body == raw


@pytest.mark.parametrize("wrapper", ["text", "SNS", "Base64"])
def test_a_wrapped_report_of_too_many_values_is_no_event(wrapper: str) -> None:
    """A wrapper that carries its body as text counts as few values."""
    report = "TENANT_PROVISIONING_SUCCESS"
    body = {"resources": [{"n": number} for number in range(MAX_REPORT_VALUES // 2)]}
    detail = json.dumps(body)
    event = {"detail-type": report, "source": "s", "id": "a", "detail": detail}
    wrapped = {
        "text": event,
        "SNS": {
            "Type": "Notification",
            "TopicArn": "arn:aws:sns:a",
            "MessageId": "m",
            "Message": json.dumps({**event, "detail": body}),
        },
        "Base64": {
            "specversion": "1.0",
            "type": report,
            "source": "s",
            "id": "a",
            "data_base64": base64.b64encode(detail.encode()).decode(),
        },
    }[wrapper]
    with pytest.raises(BadEvent, match="has at most 4096 values, and this one has more"):
        parse(wrapped, report)
