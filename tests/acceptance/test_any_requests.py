"""Any request has a documented answer, with a key or not, whatever its parts.

`SOAK=20` sends 20 times as many.
"""

import base64
import gzip
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orchestrator import Settings
from orchestrator.intake.lambda_http import NotAnHTTPEventError
from orchestrator.lambda_handler import LambdaService
from orchestrator.settings import ApiKey, Auth
from orchestrator.testing import envelope, provisioning_event
from tests.acceptance.lambda_functions import record
from tests.acceptance.served import app_of, open_server
from tests.lambda_events import FORMATS, JSON, places

KEY = "key-1"
ANSWERS = {200, 202, 400, 401, 403, 404, 405, 413, 415, 422, 503}
many = hypothesis_settings(
    deadline=None,
    max_examples=150 * int(os.environ.get("SOAK", "1")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

#: The headers that any layer between sender and handler reads, except those of the connection.
NAMES = st.sampled_from(
    "Idempotency-Key webhook-id Content-Type Content-Encoding Accept Accept-Encoding Origin "
    "X-Forwarded-Prefix X-Forwarded-For X-Forwarded-Proto Forwarded traceparent tracestate baggage "
    "X-Amzn-Trace-Id x-amz-sns-message-type x-api-key Authorization Cookie Range If-None-Match "
    "Sec-Fetch-Site ce-specversion ce-type ce-source ce-id ce-time ce-data ce-tenantid".split()
)
VALUES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30) | st.sampled_from(
    [
        *("application/json", "text/plain; charset=utf-16", "application/cloudevents+json"),
        *("application/json; charset=none", "gzip", "deflate", "br, gzip", "identity", "*"),
        *("1.0", "ORDER", "%", "%ff", "%ed%a0%80", '"a\\', '"', "../..", "/a/../b", "//", "{}"),
        *("00-" + "a" * 32 + "-" + "b" * 16 + "-01", "Root=1-2-3", "Notification", KEY),
        *("x" * 513, "x" * 5000, "bytes=0-", "cross-site", "Bearer a.b.c", "Basic !", "\xff"),
    ]
)
HEADERS = st.dictionaries(NAMES, VALUES, max_size=4)
SEGMENTS = st.sampled_from(
    " a .. . %2F %00 %ff %zz %7B events runs tenants replay cancel TENANT_PROVISIONING healthz "
    "metrics openapi.json docs {runId}".split(" ")
)
PATHS = st.lists(SEGMENTS, max_size=4).map(lambda segments: f"/{'/'.join(segments)}")
QUERIES = st.dictionaries(
    st.sampled_from(["limit", "cursor", "status", "state", "tenantId", "eventType", "%00", "a[]"]),
    st.sampled_from(["1", "0", "-1", "9" * 400, "null", "%", "%ff", "e30", "running", "a%20b", ""]),
    max_size=3,
).map(lambda query: "&".join(f"{name}={value}" for name, value in query.items()))
BODIES = st.one_of(
    st.just(b""),
    st.binary(max_size=30),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [
            json.dumps(provisioning_event()).encode(),
            json.dumps(envelope("ORDER", {})).encode(),
            gzip.compress(json.dumps(envelope("ORDER", {})).encode()),
            b'{"force": true}',
        ]
    ),
)
METHODS = st.sampled_from(["GET", "POST", "POST", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"])


@pytest.fixture
def guarded(settings: Settings) -> Settings:
    return attrs.evolve(settings, auth=Auth(methods=("api_key",), api_key=ApiKey(keys=(KEY,))))


def with_key(headers: Mapping[str, str], has_key: bool) -> Mapping[str, str]:
    return {**headers, "x-api-key": KEY} if has_key else headers


@pytest.fixture
def post(guarded: Settings) -> Iterator[Callable[..., Any]]:
    with open_server(guarded) as server:
        yield server.send_raw


@many
@given(METHODS, PATHS, QUERIES, HEADERS, BODIES, st.booleans())
def test_any_request_has_a_documented_answer(
    post: Callable[..., Any],
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    has_key: bool,
) -> None:
    """Over HTTP no request is a 500, and nothing is read or done without a key."""
    status, given_headers, text = post(method, f"{path}?{query}", body, with_key(headers, has_key))
    assert status in ANSWERS, (status, text)
    if status >= 400 and text:
        assert given_headers["Content-Type"].startswith("application/problem+json")
        assert json.loads(text)["status"] == status
    has_own = headers.get("x-api-key") == KEY
    if not has_key and not has_own and path.startswith(("/events", "/runs", "/tenants")):
        assert status in (400, 401, 403, 404, 405), path


@pytest.fixture
def function(guarded: Settings) -> Iterator[LambdaService]:
    service = LambdaService(app_of(guarded))
    yield service
    service.close()


@st.composite
def invocations(draw: st.DrawFn) -> Any:
    """A request in any format, or a batch of messages, perhaps with a part that is replaced."""
    if draw(st.booleans()):
        make_event = draw(st.sampled_from(list(FORMATS.values())))
        event = make_event(
            draw(METHODS),
            f"{draw(PATHS)}?{draw(QUERIES)}",
            headers=with_key(draw(HEADERS), draw(st.booleans())),
            body=draw(BODIES),
        )
    else:
        texts = st.none() | JSON.map(json.dumps) | st.text(max_size=20)
        event = {"Records": [record(number, body=draw(texts)) for number in range(2)]}
    found = list(places(event))
    if draw(st.booleans()) and found:
        *way, last = draw(st.sampled_from(found))
        parent = event
        for key in way:
            parent = parent[key]
        parent[last] = draw(JSON)
    return event


@many
@given(invocations())
def test_any_invocation_has_an_answer(function: LambdaService, event: Any) -> None:
    """Each invocation is answered as a request or as a batch of SQS, or refused as neither; none is
    a 500."""
    try:
        answer = function.handle(event, remaining_s=30)
    except NotAnHTTPEventError:
        return
    if "batchItemFailures" in answer:
        assert len(answer["batchItemFailures"]) <= len(event["Records"])
        return
    if answer.keys() == {"success"}:
        return
    assert answer["statusCode"] in ANSWERS, answer
    body = base64.b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"]
    if answer["statusCode"] >= 400 and body:
        assert json.loads(body)["status"] == answer["statusCode"]
