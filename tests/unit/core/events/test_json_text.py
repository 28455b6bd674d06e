"""The one reader of JSON texts: what it reads, and what it refuses wherever a text comes from."""

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.errors import BadEvent
from orchestrator.core.events.body import read_object
from orchestrator.core.events.envelope import Delivery, parse_event
from orchestrator.core.events.json_text import MAX_DEPTH, MAX_VALUES, is_deeper, parse_json
from orchestrator.core.queue.message_codec import read_message
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.wire.codec import decode_json

#: Objects that no reader may open, by what is wrong with them.
REFUSED = {
    "NaN": '{"a": NaN}',
    "Infinity": '{"a": [-Infinity]}',
    "a float beyond a double": '{"a": 1e400}',
    "a negative one": '{"a": -1.5E309}',
    "an integer beyond a double": '{"a": ' + "9" * 309 + "}",
    "an integer of 10,000 digits": '{"a": ' + "1" * 10_000 + "}",
    "an integer of 1,000,000 digits": '{"a": -' + "1" * 1_000_000 + "}",
    "half a surrogate pair": '{"a": "\\ud83d"}',
    "its other half, as a name": '{"\\uDE00": 1}',
    "a name twice": '{"a": 1, "b": {"c": 1, "c": 2}}',
    "600 lists": '{"a": ' + "[" * 600 + "]" * 600 + "}",
    "600 objects": '{"a":' * 600 + "1" + "}" * 600,
    "100,000 lists": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "100,000 objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "101 levels": '{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1),
    "too many values": '{"a": [' + "0," * (MAX_VALUES + 20) + "0]}",
    "too many names": "{" + ",".join(f'"{n}": {{}}' for n in range(MAX_VALUES)) + "}",
    "a million texts": '{"a": [' + '"",' * 999_999 + '""]}',
    "a million commas": '{"a": ' + "," * 1_000_000 + "}",
    "a million opening brackets": '{"a": ' + "[" * 1_000_000 + "}",
    "a million closing brackets": '{"a": [' + "]" * 1_000_000 + "}",
    "cut short": '{"a": "b',
    "more than one": '{"a": 1} {}',
    "a comment": '{"a": 1} // b',
    "an escape that is none": '{"a": "\\x41"}',
    "a line break within a text": '{"a": "\n"}',
}


def read_as_body(text: str) -> Any:
    return decode_json(text.encode())


def read_as_message(text: str) -> Any:
    wrapper = (
        '{"saas-orchestrator": {"type": "NEWS", "body": %s, "eventId": null, "sameContent": false, '
        '"receivedAt": null}}'
    )
    return read_message(wrapper % text, message_id="m")


def read_as_data(text: str) -> Any:
    event = {
        "specversion": "1.0",
        "type": "NEWS",
        "source": "s",
        "id": "1",
        "data_base64": base64.b64encode(text.encode()).decode(),
    }
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return parse_event("NEWS", event, delivery=Delivery(), aliases={}, now=now, fresh_id=str)


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("read", [read_as_body, read_as_message, read_as_data])
def test_all_readers_of_json_refuse_alike(read: Any, text: str) -> None:
    """A body, a queue message and Base64 data are refused, by a sentence of a bounded length."""
    with pytest.raises(BadEvent) as refused:
        read(text)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_a_field_that_can_not_be_read_is_text(text: str) -> None:
    """It is no object, and nothing is masked in it unless it names a secret."""
    assert read_object(text) == {}
    assert Redactor().redact(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e308", 1e308),
        ("1" * 308, int("1" * 308)),
        ("-0", 0),
        ('"\\ud83d\\ude00"', "😀"),
        ('"\\\\ud83d"', "\\ud83d"),
        ('\ufeff{"a": 1}', {"a": 1}),
        ('{"a": {"a": 1}}', {"a": {"a": 1}}),
        ("[" + "0," * (MAX_VALUES - 2) + "0]", [0] * (MAX_VALUES - 1)),
        ('[{"a": "b"}' + ',""' * (MAX_VALUES - 3) + "]", [{"a": "b"}, *[""] * (MAX_VALUES - 3)]),
        (json.dumps([",[{" * MAX_VALUES] * 2), [",[{" * MAX_VALUES] * 2),
        (json.dumps(['\\"[', "[\\", '"', "]"] * 101), ['\\"[', "[\\", '"', "]"] * 101),
        ("1.5e300", 1.5e300),
        ("2.5E-3", 0.0025),
        ("0." + "1" * 400, 0.1111111111111111),
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)),
    ],
)
def test_json_is_read(text: str, value: object) -> None:
    """Text and bytes are read; a byte order mark before them is skipped."""
    assert parse_json(text) == value
    assert parse_json(text.encode()) == value


def test_one_value_more_is_refused() -> None:
    """One value more than allowed is refused, with the number that is allowed."""
    with pytest.raises(ValueError, match=f"it has more than {MAX_VALUES} values"):
        parse_json("[" + "0," * (MAX_VALUES - 1) + "0]")


@pytest.mark.parametrize("text", [b'"\xff"', b'"\xed\xa0\x80"', '"x"'.encode("utf-16"), '"\ud83d"'])
def test_bytes_that_are_not_utf_8_are_no_json(text: str | bytes) -> None:
    """Bytes that aren't UTF-8, and lone surrogates, are refused (RFC 8259, section 8.1)."""
    with pytest.raises(ValueError, match=r"UTF-8|surrogate"):
        parse_json(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
)


@given(JSON)
def test_printed_json_is_read(value: object) -> None:
    """Any value that was printed as JSON is read as it was."""
    assert parse_json(json.dumps(value)) == value
    assert decode_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.text() | st.binary())
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    """A text that can't be read is refused with one kind of error."""
    with suppress(ValueError):
        parse_json(text)


def count(value: Any) -> int:
    """The values in a value, itself included, and one more for each that is an empty container."""
    match value:
        case dict():
            return 1 + sum(map(count, value.values())) + (not value)
        case list():
            return 1 + sum(map(count, value)) + (not value)
    return 1


@given(
    st.recursive(
        st.sampled_from([0, "", "[", "]", "{", "\\", '"', '\\"', '",[', "\\\\"]),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(['"', "\\", "[", ",", "a"]), inner, max_size=4)
        ),
        max_leaves=30,
    ),
    st.integers(1, 8),
    st.integers(1, 40),
)
def test_levels_and_values_are_counted_before_parsing(value: Any, levels: int, values: int) -> None:
    """Strings with brackets don't count; an empty container may count as two values."""
    text = json.dumps(value)
    try:
        assert parse_json(text, max_depth=levels, max_values=values) == value
    except ValueError:
        assert is_deeper(value, levels) or count(value) > values
    else:
        assert not is_deeper(value, levels)


def test_depth_counts_containers() -> None:
    """Lists and objects are levels; a value without any is at level 0."""
    assert not is_deeper("x", 0)
    assert is_deeper([], 0)
    assert not is_deeper([1, {}], 2)
    assert is_deeper([1, {"a": []}], 2)


def test_a_value_that_contains_itself_is_too_deep_at_once() -> None:
    """A library's caller may pass one, even more than once in itself."""
    itself: list[object] = []
    itself += [itself, itself]
    assert is_deeper({"a": itself}, MAX_DEPTH)
