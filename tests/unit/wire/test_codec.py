"""JSON text to values and back."""

import pytest

from orchestrator.core.errors import BadEvent
from orchestrator.wire.codec import decode_json, encode_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": [1, 1.5, true, null, "\\u00e9\xc3\xa9"]}', {"a": [1, 1.5, True, None, "éé"]}),
        (b" [] ", []),
        (b"7", 7),
    ],
)
def test_json_is_decoded(text: bytes, value: object) -> None:
    """Any JSON value is one, in UTF-8."""
    assert decode_json(text) == value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "The body is empty"),
        (b" \r\n", "The body is empty"),
        (b"{", "The body is not JSON: .+"),
        (b"{'a': 1}", "The body is not JSON"),
        (b'{"a": 1} x', "The body is not JSON"),
        (b'{"a": NaN}', "The body is not JSON"),
        (b'{"a": 1,}', "The body is not JSON"),
        (b'{"a": "\xff"}', "The body is not JSON"),
        (b'{"a": "\n"}', "The body is not JSON"),
        (b"a=1&b=2", "The body is not JSON"),
        (b"[" * 10_000, "nested more than 100 levels deep"),
        (b'{"a":' * 10_000, "nested more than 100 levels deep"),
        (b"[" * 100_000, "more than 16384 values"),
        (b'{"a":' * 100_000, "more than 16384 values"),
    ],
)
def test_a_body_that_is_not_json_is_a_bad_event(text: bytes, sentence: str) -> None:
    """The refusal says what is wrong, and nothing that a sender writes breaks the decoder."""
    with pytest.raises(BadEvent, match=sentence):
        decode_json(text)


def test_json_is_encoded_compactly() -> None:
    """Text without spaces, in UTF-8, which decodes to the same value."""
    value = {"a": [1, None], "é": True}
    assert encode_json(value) == '{"a":[1,null],"é":true}'.encode()
    assert decode_json(encode_json(value)) == value
