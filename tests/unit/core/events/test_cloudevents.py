"""CloudEvents in headers and in JSON, by the specification's own rules (1.0.2)."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.core.errors import BadEvent
from orchestrator.core.events.envelope import structured_cloudevent
from tests.unit.core.events.shapes import cloudevent, parse


def test_a_binary_cloudevent_is_percent_decoded() -> None:
    """The `ce-` headers, decoded as UTF-8, are the attributes, beside the data."""
    attributes = {
        "specversion": "1.0",
        "type": "ORDER",
        "source": "/caf%C3%A9%20bar",
        "id": "50%25%22x%22",
        "time": "2026-03-02T16:45:10Z",
    }
    event = parse(structured_cloudevent(attributes, {"n": 1}))
    assert (event.type, event.source, event.id) == ("ORDER", "/café bar", '50%"x"')
    assert event.time == datetime(2026, 3, 2, 16, 45, 10, tzinfo=UTC)
    assert event.body == {"n": 1}


def test_a_cloudevents_own_extensions_are_kept_in_raw() -> None:
    """What we do not read is still there as it was received."""
    raw = cloudevent(datacontenttype="application/json", tenantregion="north")
    assert parse(raw).raw["tenantregion"] == "north"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("/mycontext/subcontext", "/mycontext/subcontext"),
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("%22quoted%22", '"quoted"'),
        ('"a quoted string"', "a quoted string"),
        (r'"a \"quoted\" \\ string"', 'a "quoted" \\ string'),
        ('"100%25"', "100%"),
        ("100%2525", "100%25"),
        ('"', '"'),
        ("", ""),
    ],
)
def test_a_header_is_unquoted_and_then_decoded_once(header: str, value: str) -> None:
    """Quotes are removed before the value is decoded (HTTP binding, section 3.1.3.2)."""
    assert structured_cloudevent({"subject": header}, {})["subject"] == value


@pytest.mark.parametrize("value", ["x%FF", "%C3", '"%80"', "x\udcff", "%ED%A0%80"])
@pytest.mark.parametrize("name", ["id", "subject"])
def test_a_header_that_is_not_utf_8_is_refused_by_its_name(name: str, value: str) -> None:
    """Two ids that differ in such a byte alone must not become one."""
    with pytest.raises(BadEvent, match=f"The header ce-{name} isn't percent-encoded UTF-8"):
        structured_cloudevent({"specversion": "1.0", name: value}, {})


def example(**fields: Any) -> dict[str, Any]:
    """The JSON format's own example, section 3.2."""
    event = {
        "specversion": "1.0",
        "type": "com.example.someevent",
        "source": "/mycontext",
        "subject": None,
        "id": "C234-1234-1234",
        "time": "2018-04-05T17:31:00Z",
        "comexampleextension1": "value",
        "comexampleothervalue": 5,
        "datacontenttype": "application/json",
        "data": {"appinfoA": "abc", "appinfoB": 123, "appinfoC": True},
    }
    return {name: value for name, value in {**event, **fields}.items() if value is not ...}


def test_the_json_formats_example_is_read() -> None:
    """Its type, its source and id, its time, its data."""
    event = parse(example(), "com.example.someevent")
    assert (event.type, event.source, event.id) == (
        "com.example.someevent",
        "/mycontext",
        "C234-1234-1234",
    )
    assert event.time.isoformat() == "2018-04-05T17:31:00+00:00"
    assert event.body == {"appinfoA": "abc", "appinfoB": 123, "appinfoC": True}


def test_data_may_be_bytes() -> None:
    """Data in Base64 is read as JSON."""
    encoded = base64.b64encode(b'{"a": "\xc3\xa9"}').decode()
    event = parse(example(data=..., data_base64=encoded), "com.example.someevent")
    assert event.body == {"a": "é"}


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ...},
        {"id": ""},
        {"source": ...},
        {"source": ""},
        {"type": ...},
        {"specversion": "0.3"},
        {"specversion": 1.0},
        {"time": "yesterday"},
        {"data": None},
        {"data": "text"},
        {"data": [1]},
        {"data_base64": "e30="},
        {"data": ..., "data_base64": "not base64!"},
        {"data": ..., "data_base64": "bm90IGpzb24="},
        {"data": ..., "data_base64": "WzFd"},
        {"data": ..., "data_base64": "eyJhIjogIlx1ZDgwMCJ9"},
        {"data": ..., "data_base64": "eyJhIjogTmFOfQ=="},
        {"data": ..., "data_base64": base64.b64encode(b'{"a":' * 700 + b"1" + b"}" * 700).decode()},
    ],
)
def test_a_malformed_cloudevent_is_refused(fields: dict[str, Any]) -> None:
    """Required attributes are there and not empty; data is one object that can be read."""
    with pytest.raises(BadEvent):
        parse(example(**fields), "com.example.someevent")
