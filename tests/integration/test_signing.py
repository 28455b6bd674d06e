"""A signed report is the text that JavaScript prints, and the control plane's verifier accepts
it."""

import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.adapters.webhook import open_webhook
from orchestrator.core.callback.signature import SignedRequest, sign_request, signable_text
from orchestrator.testing import ManualClock
from tests.control_plane.receiver import SECRET, ControlPlane, open_control_plane

CONTEXT = "2f7c5d0a-53a1-4c77-9a3e-1d7f5c0b9e42"
BODY: dict[str, Any] = {"initiatorId": "t-1", "type": 0, "data": {"status": 1, "resources": []}}

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
_KEYS = _TEXTS.filter(lambda key: not re.fullmatch("0|[1-9][0-9]*", key))
_INTEGERS = st.integers(-(2**53 - 1), 2**53 - 1)
#: All values that may be signed.
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | _INTEGERS | _TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner),
    max_leaves=20,
)


@pytest.fixture
async def control_plane() -> AsyncIterator[ControlPlane]:
    async with open_control_plane() as opened:
        yield opened


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Zoë 😀 漢字 \u200d",
        "\u2028\u2029\x7f\x80\ufeff\uffff",
        "".join(map(chr, range(0x20))),
        '\\ " / </script>',
        {},
        [],
        [[[]], {}, [{}]],
        {"__proto__": {"a": 1}, "constructor": None, "toString": ""},
        {"b": 1, "a": 2, "01": 3, "-1": 4, "1.5": 5, "": 6, " 1": 7},
        [2**53 - 1, -(2**53 - 1), 0, -0, 10**15],
        [True, False, None, "true", "null"],
        {"é": "e\u0301", "e\u0301": "é"},
    ],
)
async def test_javascript_prints_the_same(control_plane: ControlPlane, value: Any) -> None:
    """JavaScript prints the same text, byte for byte."""
    text = signable_text(value)
    assert await control_plane.stringify([text]) == [text]


async def test_javascript_prints_the_same_of_whatever_may_be_signed(
    control_plane: ControlPlane,
) -> None:
    """JavaScript prints the same text of all kinds of values, however nested."""
    texts: list[str] = []

    @settings(max_examples=500, deadline=None, database=None)
    @given(_VALUES)
    def collect(value: Any) -> None:
        text = signable_text(value)
        assert json.loads(text) == value
        texts.append(text)

    collect()
    assert len(texts) > 100
    assert await control_plane.stringify(texts) == texts


async def post(control_plane: ControlPlane, request: SignedRequest) -> int:
    async with open_webhook(timeout_s=30) as webhook:
        answer = await webhook.post(
            url=control_plane.url, text=request.text, headers=request.headers
        )
    return answer.status


async def test_the_verifier_accepts_what_is_signed(
    control_plane: ControlPlane, clock: ManualClock
) -> None:
    """The verifier accepts a signed report once, and then no longer expects one of the tenant."""
    await control_plane.turn_clock(clock.now())
    await control_plane.expect("t-1", context=CONTEXT)
    request = sign_request(BODY, secret=SECRET, context=CONTEXT, now=clock.now())
    assert [await post(control_plane, request) for _ in range(2)] == [204, 401]
    assert await control_plane.accepted() == [BODY]
    assert [one["reason"] for one in await control_plane.refused()] == ["not expected"]


@settings(
    max_examples=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(resources=st.lists(_VALUES, max_size=3), secret=_TEXTS, context=_TEXTS)
async def test_the_verifier_accepts_every_body_that_is_signed(
    control_plane: ControlPlane, resources: list[Any], secret: str, context: str
) -> None:
    """The verifier accepts each body under any secret and context."""
    clock = ManualClock()
    await control_plane.turn_clock(clock.now())
    await control_plane.expect("t-1", secret=secret, context=context)
    body = {**BODY, "data": {"status": 0, "resources": resources}}
    request = sign_request(body, secret=secret, context=context, now=clock.now())
    assert await post(control_plane, request) == 204


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"secret": SECRET[:-1] + "0"}, "bad signature"),
        ({"context": CONTEXT[:-1] + "3"}, "bad signature"),
        ({"ago_s": 19}, None),
        ({"ago_s": -19}, None),
        ({"ago_s": 21}, "clock"),
        ({"ago_s": -21}, "clock"),
    ],
)
async def test_the_verifier_refuses_anything_else(
    control_plane: ControlPlane, clock: ManualClock, changes: dict[str, Any], reason: str | None
) -> None:
    """The verifier refuses another secret, another context, and a time that is more than 20 s
    off."""
    await control_plane.turn_clock(clock.now())
    await control_plane.expect("t-1", context=CONTEXT)
    now = clock.now() - timedelta(seconds=changes.pop("ago_s", 0))
    signed = {"secret": SECRET, "context": CONTEXT, **changes}
    request = sign_request(BODY, now=now, **signed)
    assert await post(control_plane, request) == (401 if reason else 204)
    assert [one["reason"] for one in await control_plane.refused()] == [reason] * bool(reason)


async def test_a_body_that_was_changed_is_refused(
    control_plane: ControlPlane, clock: ManualClock
) -> None:
    """A changed body is refused, since the signature is over the text; a signed unknown type is
    422."""
    await control_plane.turn_clock(clock.now())
    await control_plane.expect("t-1", context=CONTEXT)
    request = sign_request(BODY, secret=SECRET, context=CONTEXT, now=clock.now())
    changed = attrs.evolve(request, text=request.text.replace('"status":1', '"status":0'))
    other = sign_request({**BODY, "type": 7}, secret=SECRET, context=CONTEXT, now=clock.now())
    assert [await post(control_plane, one) for one in (changed, other)] == [401, 422]


def each_bit_flipped(text: str) -> list[str]:
    """The ASCII text in all ways in which one bit differs."""
    return [
        f"{text[:at]}{chr(ord(text[at]) ^ 1 << bit)}{text[at + 1 :]}"
        for at in range(len(text))
        for bit in range(7)
    ]


async def test_no_bit_of_the_text_may_change(
    control_plane: ControlPlane, clock: ManualClock
) -> None:
    """A text with one changed bit is refused, as no JSON or for its signature."""
    await control_plane.turn_clock(clock.now())
    await control_plane.expect("t-1", context=CONTEXT)
    request = sign_request(BODY, secret=SECRET, context=CONTEXT, now=clock.now())
    changed = each_bit_flipped(request.text)
    async with open_webhook(timeout_s=30) as webhook:
        for text in changed:
            answer = await webhook.post(url=control_plane.url, text=text, headers=request.headers)
            assert answer.status in (400, 401), text
    reasons = {one["reason"] for one in await control_plane.refused()}
    assert reasons == {"no object", "not expected", "bad signature"}
    assert await post(control_plane, request) == 204


async def test_no_bit_of_the_context_may_change(
    control_plane: ControlPlane, clock: ManualClock
) -> None:
    """A context with one changed bit is refused, since it is signed though not sent."""
    await control_plane.turn_clock(clock.now())
    await control_plane.expect("t-1", context=CONTEXT)
    for context in each_bit_flipped(CONTEXT):
        request = sign_request(BODY, secret=SECRET, context=context, now=clock.now())
        assert await post(control_plane, request) == 401, context
    assert {one["reason"] for one in await control_plane.refused()} == {"bad signature"}


async def test_no_millisecond_of_the_time_may_change(
    control_plane: ControlPlane, clock: ManualClock
) -> None:
    """A time that differs by a millisecond, within the tolerance, is refused for its signature."""
    await control_plane.turn_clock(clock.now())
    await control_plane.expect("t-1", context=CONTEXT)
    request = sign_request(BODY, secret=SECRET, context=CONTEXT, now=clock.now())
    for milliseconds in (-19_000, -1, 1, 19_000):
        time = str(int(request.headers["x-timestamp"]) + milliseconds)
        changed = attrs.evolve(request, headers={**request.headers, "x-timestamp": time})
        assert await post(control_plane, changed) == 401, time
    assert {one["reason"] for one in await control_plane.refused()} == {"bad signature"}


@pytest.mark.parametrize("form", ["{}.0", "+{}", "{}e0", "-{}", "{}n", "x"])
async def test_a_time_is_a_plain_integer(
    control_plane: ControlPlane, clock: ManualClock, form: str
) -> None:
    """A signed time in any other form than an integer is refused."""
    await control_plane.turn_clock(clock.now())
    await control_plane.expect("t-1", context=CONTEXT)
    request = sign_request(BODY, secret=SECRET, context=CONTEXT, now=clock.now())
    time = form.format(request.headers["x-timestamp"])
    message = f"{request.text}{CONTEXT}{time}".encode()
    signature = hmac.new(SECRET.encode(), message, hashlib.sha256).hexdigest()
    headers = {**request.headers, "x-timestamp": time, "x-signature": signature}
    assert await post(control_plane, attrs.evolve(request, headers=headers)) == 401
    assert [one["reason"] for one in await control_plane.refused()] == ["no timestamp"]


async def test_a_signature_is_in_lowercase(control_plane: ControlPlane, clock: ManualClock) -> None:
    """A missing signature, or one in upper case, is refused."""
    await control_plane.turn_clock(clock.now())
    await control_plane.expect("t-1", context=CONTEXT)
    request = sign_request(BODY, secret=SECRET, context=CONTEXT, now=clock.now())
    for signature in (request.headers["x-signature"].upper(), ""):
        headers = {**request.headers, "x-signature": signature}
        assert await post(control_plane, attrs.evolve(request, headers=headers)) == 401
    assert {one["reason"] for one in await control_plane.refused()} == {"bad signature"}


async def test_the_clock_can_be_the_machines_own(
    control_plane: ControlPlane, clock: ManualClock
) -> None:
    """By the machine's own clock an old report is refused and a fresh one accepted."""
    await control_plane.turn_clock(clock.now())
    await control_plane.turn_clock(None)
    await control_plane.expect("t-1", context=CONTEXT)
    long_ago = clock.now() - timedelta(days=10_000)
    request = sign_request(BODY, secret=SECRET, context=CONTEXT, now=long_ago)
    assert await post(control_plane, request) == 401
    request = sign_request(BODY, secret=SECRET, context=CONTEXT, now=datetime.now(UTC))
    assert await post(control_plane, request) == 204
