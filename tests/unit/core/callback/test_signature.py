"""The signature, and what can't be signed since JavaScript might print it otherwise."""

import hashlib
import hmac
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from orchestrator.core.callback.signature import sign_request, signable_text

NOW = datetime(2026, 11, 20, 9, 31, 44, 123000, tzinfo=UTC)
BODY = {"initiatorId": "t-1", "type": 0, "data": {"status": 1, "resources": [], "name": "Zoë"}}


def test_the_signature_covers_body_context_and_time() -> None:
    """HMAC-SHA256 under the secret's UTF-8 bytes, in lowercase hexadecimal."""
    request = sign_request(BODY, secret="sécret", context="ctx", now=NOW)
    text = json.dumps(BODY, separators=(",", ":"), ensure_ascii=False)
    message = (text + "ctx" + "1795167104123").encode()
    assert request.text == text
    assert request.headers == {
        "Content-Type": "application/json",
        "x-timestamp": "1795167104123",
        "x-signature": hmac.new("sécret".encode(), message, hashlib.sha256).hexdigest(),
    }


def test_a_known_answer() -> None:
    """The signature is that of `openssl dgst -sha256 -hmac key` over body, context and time."""
    request = sign_request({"a": 1}, secret="key", context="c", now=NOW)
    assert request.headers["x-signature"] == (
        "f615585b1f8ac59ca2abcff7260db81000887f4454252545d99a8324a54ef863"
    )


def test_neither_secret_nor_signature_is_shown() -> None:
    """A request that is logged gives nothing away."""
    request = sign_request(BODY, secret="0123456789abcdef", context="the-context", now=NOW)
    for hidden in ("0123456789abcdef", "the-context", request.headers["x-signature"]):
        assert hidden not in repr(request)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (1.0, r"\$ is 1.0"),
        (1.5, r"\$ is 1.5"),
        (-0.0, r"\$ is -0.0"),
        (float("nan"), r"\$ is nan"),
        (1e400, r"\$ is inf"),
        (2**53, r"\$ is 9007199254740992"),
        (-(2**53), r"\$ is -9007199254740992"),
        ({"0": 1}, "key '0'"),
        ({"a": [{"12": 1}]}, r"\$.a\[0\] has the key '12'"),
        ({"4294967295": 1}, "key '4294967295'"),
        ({1: 1}, "key 1"),
        ({None: 1}, "key None"),
        ("\ud800", r"\$ has half a character"),
        ({"a\udfff": 1}, r"\$ has half a character"),
        ({"a": ["b\udc00c"]}, r"\$.a\[0\] has half a character"),
        (b"bytes", r"\$ is of type bytes"),
        ({1, 2}, r"\$ is of type set"),
        ({"at": NOW}, r"\$.at is of type datetime"),
        (Decimal(1), r"\$ is of type Decimal"),
        (object(), r"\$ is of type object"),
    ],
)
def test_a_value_that_javascript_prints_differently_is_refused(value: Any, place: str) -> None:
    """The error names the value's path."""
    with pytest.raises(ValueError, match=place):
        signable_text(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (2**53 - 1, "9007199254740991"),
        (-(2**53 - 1), "-9007199254740991"),
        ({"01": 1, "-1": 2, "1.5": 3, "": 4}, '{"01":1,"-1":2,"1.5":3,"":4}'),
        ([1, ["a", {}]], '[1,["a",{}]]'),
        ((1, 2), "[1,2]"),
        ("é\u2028\n\x00", '"é\u2028\\n\\u0000"'),
    ],
)
def test_a_value_with_one_form_is_printed(value: Any, text: str) -> None:
    """Compact, and without escapes but for control characters."""
    assert signable_text(value) == text


def test_a_body_that_cannot_be_signed_makes_no_request() -> None:
    """The error says why."""
    with pytest.raises(ValueError, match=r"\$.size is 1.5, no integer"):
        sign_request({"size": 1.5}, secret="s", context="c", now=NOW)


@pytest.mark.parametrize("which", ["secret", "context"])
def test_half_a_character_is_refused_without_being_shown(which: str) -> None:
    """The error names the place, and neither it nor what it came from has the secret."""
    signed = {"secret": "top", "context": "c", which: "hush-hush\ud800"}
    with pytest.raises(ValueError, match=f"the {which} has half a character") as caught:
        sign_request(BODY, now=NOW, **signed)
    assert "hush" not in repr(caught.value)
    assert caught.value.__context__ is None
