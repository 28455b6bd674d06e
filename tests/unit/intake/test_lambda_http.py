"""Requests as Lambda gets them: which format it is, what is read, what is refused by a sentence."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from orchestrator.intake.aws_lambda import is_sqs_batch
from orchestrator.intake.lambda_http import (
    BadRequestError,
    Format,
    HTTPAnswer,
    HTTPRequest,
    NotAnHTTPEventError,
    find_format,
    find_path,
    read_request,
    write_answer,
)
from orchestrator.testing import envelope
from tests.acceptance.ways import (
    Document,
    alb_event,
    function_url_event,
    http_api_event,
    rest_api_event,
)
from tests.lambda_events import (
    ALB_MULTI,
    BEDROCK_AGENT,
    FORMATS,
    HEALTH_CHECK,
    HTTP_API_AUTHORIZER,
    JSON,
    REQUEST_AUTHORIZER,
    SQS_AND_OTHER,
    TOKEN_AUTHORIZER,
    WEBSOCKET,
    mutated,
)

PREFIX = "X-Forwarded-Prefix"


def read(event: Document) -> HTTPRequest:
    return read_request(event, find_format(event))


def prefix_of(request: HTTPRequest) -> str:
    return dict(request.headers).get(PREFIX, "")


def changed(event: Document, context: Document | None = None, **parts: Any) -> Document:
    """The event with other parts, and other parts of its request context."""
    return {**event, **parts, "requestContext": {**event["requestContext"], **(context or {})}}


# Which format it is


@pytest.mark.parametrize(
    ("event", "written"),
    [
        pytest.param(rest_api_event("GET", "/"), Format.API_GATEWAY_1, id="REST API"),
        pytest.param(
            {"version": "1.0", **rest_api_event("GET", "/")},
            Format.API_GATEWAY_1,
            id="HTTP API, format 1.0",
        ),
        pytest.param(http_api_event("GET", "/"), Format.API_GATEWAY_2, id="HTTP API"),
        pytest.param(function_url_event("GET", "/"), Format.API_GATEWAY_2, id="function URL"),
        pytest.param(alb_event("GET", "/"), Format.ALB, id="ALB"),
        pytest.param(ALB_MULTI("GET", "/"), Format.ALB_MULTI_VALUE, id="ALB, multi-value headers"),
        pytest.param(HEALTH_CHECK, Format.ALB, id="ALB's health check"),
    ],
)
def test_a_format_is_known_by_its_parts(event: Document, written: Format) -> None:
    """Each sender's events have something that no other's have."""
    assert find_format(event) is written


@pytest.mark.parametrize(
    ("event", "said"),
    [
        pytest.param(None, "it is null", id="null"),
        pytest.param(5, "it is a number", id="number"),
        pytest.param(True, "it is true or false", id="boolean"),
        pytest.param("hello", "it is a text", id="text"),
        pytest.param([], "it is a list", id="list"),
        pytest.param([1, {"a": 2}], "it is a list", id="list of anything"),
        pytest.param({}, "its keys are none", id="empty"),
        pytest.param(TOKEN_AUTHORIZER, "methodArn", id="authorizer of a token"),
        pytest.param(REQUEST_AUTHORIZER, "methodArn", id="authorizer of a REST API's request"),
        pytest.param(HTTP_API_AUTHORIZER, "identitySource", id="authorizer of an HTTP API"),
        pytest.param(BEDROCK_AGENT, "apiPath", id="agent of Bedrock"),
        pytest.param(WEBSOCKET, "requestContext", id="WebSocket"),
        pytest.param(SQS_AND_OTHER, "Records", id="records of two sources"),
        pytest.param({"Records": [1, None]}, "Records", id="records of nothing"),
        pytest.param({"Records": {"a": 1}}, "Records", id="records that are no list"),
        pytest.param(envelope("ORDER", {}), "detail-type", id="EventBridge"),
        pytest.param({"requestContext": {"http": 1}, "rawPath": "/"}, "rawPath", id="no context"),
        pytest.param({"requestContext": [], "httpMethod": "GET"}, "httpMethod", id="no path"),
    ],
)
def test_an_unknown_invocation_is_refused_by_a_sentence(event: Any, said: str) -> None:
    """It has the known shapes, what to do about EventBridge, and what came."""
    assert not is_sqs_batch(event)
    with pytest.raises(NotAnHTTPEventError) as refused:
        find_format(event)
    sentence = str(refused.value)
    assert said in sentence
    assert "through SQS or API Gateway" in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_a_refusal_quotes_little() -> None:
    """It has a few names of keys, short ones and on one line."""
    event = {f"key {number}": "s3cret" for number in range(1000)} | {"a\n" * 1000: 1}
    with pytest.raises(NotAnHTTPEventError) as refused:
        find_format(event)
    assert len(str(refused.value)) < 800
    assert "s3cret" not in str(refused.value)
    assert "\n" not in str(refused.value)


# What is read


@pytest.mark.parametrize("make_event", [alb_event, ALB_MULTI], ids=["single", "multi-value"])
def test_an_alb_s_query_is_decoded_once(make_event: Callable[..., Document]) -> None:
    """It comes as it was sent, and is passed on so."""
    query = "name=a%26b%20%C3%B6&cursor=eyJh%2Bb%3D%3D&space=a+b&empty="
    assert read(make_event("GET", f"/runs?{query}")).query == query


def test_each_of_an_alb_s_repeated_parameters_is_kept() -> None:
    """All are kept with multi-value headers on; without, a load balancer sends only the last."""
    assert read(ALB_MULTI("GET", "/runs?tag=1&tag=2")).query == "tag=1&tag=2"


def test_a_rest_api_s_query_is_encoded_again() -> None:
    """The query that API Gateway has decoded is encoded again."""
    assert read(rest_api_event("GET", "/runs?name=a%26b%2Bc")).query == "name=a%26b%2Bc"


@pytest.mark.parametrize(
    "query",
    ["a b", "a\r\nX-Injected: 1", "a#b", "ö", "\ud800"],
    ids=["space", "line", "#", "ö", "?"],
)
def test_a_query_fits_into_the_first_line(query: str) -> None:
    """A query is escaped, whatever a hand-made event has for an encoded one."""
    event = http_api_event("GET", "/runs") | {"rawQueryString": query}
    assert read(event).query.isascii()
    assert not set(read(event).query) & set(" \r\n#")


@pytest.mark.parametrize("written", ["headers", "multiValueHeaders"])
def test_headers_may_be_null(written: str) -> None:
    """Null headers are none, as the test console of API Gateway sends them."""
    event = rest_api_event("GET", "/ping") | {"headers": None, "multiValueHeaders": None}
    assert read(event).headers == []


# What stands before the path

REST = rest_api_event("POST", "/events")


@pytest.mark.parametrize(
    ("event", "path", "prefix"),
    [
        # REST APIs. What each kind of address gives was looked up in LocalStack's pull request
        # 12296, which compared with AWS.
        pytest.param(
            changed(REST, {"path": "/prod/events", "stage": "prod"}), "/events", "/prod", id="stage"
        ),
        pytest.param(
            changed(REST, {"path": "/events/events", "stage": "events"}),
            "/events",
            "/events",
            id="stage named like the route",
        ),
        pytest.param(
            changed(REST, {"path": "/events", "stage": "events"}),
            "/events",
            "",
            id="own domain, stage named like the route",
        ),
        pytest.param(
            changed(REST, {"path": "/tenants-api/events"}, path="/tenants-api/events"),
            "/events",
            "/tenants-api",
            id="base path mapping",
        ),
        pytest.param(
            changed(REST, {"path": "/runs/events"}, path="/runs/events"),
            "/events",
            "/runs",
            id="base path mapping named like a route",
        ),
        pytest.param(
            changed(REST, {"path": "/a/v1/events"}, path="/a/v1/events"),
            "/events",
            "/a/v1",
            id="base path mapping of two levels",
        ),
        pytest.param(
            changed(REST, {"path": "/a/prod/events", "stage": "prod"}, path="/a/prod/events"),
            "/events",
            "/a/prod",
            id="base path mapping without a stage",
        ),
        pytest.param(
            changed(
                REST,
                {"path": "/base/events/A%20B"},
                path="/base/events/A%20B",
                resource="/events/{type+}",
                pathParameters={"type": "A B"},
            ),
            "/events/A%20B",
            "/base",
            id="a route of events alone, decoded parameters",
        ),
        pytest.param(
            changed(REST, {"path": "/base"}, path="/base", resource="/", pathParameters=None),
            "/",
            "/base",
            id="the root below a base path",
        ),
        pytest.param(
            changed(REST, {"path": "/base/"}, path="/base/", resource="/", pathParameters=None),
            "/",
            "/base",
            id="the root with a slash",
        ),
        pytest.param(
            changed(
                REST,
                {"path": "/prod/saas/events"},
                path="/saas/events",
                resource="/saas/{proxy+}",
            ),
            "/saas/events",
            "/prod",
            id="a resource of a larger API is left to http.base_path",
        ),
        pytest.param(
            changed(
                REST,
                {"path": "/prod/path/to"},
                path="/path/to",
                pathParameters={"proxy": "/path/to"},
            ),
            "/path/to",
            "/prod",
            id="the console's sample, whose parameter has a slash",
        ),
        pytest.param(
            changed(
                REST,
                {"path": "/dev/events", "stage": "dev"},
                path="/dev/events",
                resource="$default",
            ),
            "/events",
            "/dev",
            id="an HTTP API's format 1.0 on the route $default",
        ),
        pytest.param(
            changed(REST, {"path": "/events/events", "stage": "events"}, resource=None),
            "/events",
            "/events",
            id="stage named like the route, and no resource told",
        ),
        pytest.param(
            changed(REST, {"path": "/prod/\ud800"}, path="/\ud800", resource=None),
            "/%3F",
            "/prod",
            id="a path that isn't Unicode",
        ),
        pytest.param(
            changed(REST, {"path": "/a\r\nX: 1/events"}, path="/a\r\nX: 1/events"),
            "/events",
            "",
            id="no header of the sender's",
        ),
        # HTTP APIs.
        pytest.param(
            http_api_event("POST", "/events", stage="events"),
            "/events",
            "/events",
            id="HTTP API, stage named like the route",
        ),
        pytest.param(
            changed(http_api_event("POST", "/events"), {"stage": "events"}),
            "/events",
            "",
            id="HTTP API's own domain, stage named like the route, not in the path",
        ),
        pytest.param(
            changed(http_api_event("POST", "/events"), {"stage": "prod"}, rawPath="/prod/events"),
            "/events",
            "",
            id="HTTP API's own domain, stage in the path and not in the address",
        ),
        pytest.param(
            changed(
                http_api_event("POST", "/events", stage="prod"),
                {},
                routeKey="$default",
                pathParameters=None,
            ),
            "/events",
            "/prod",
            id="HTTP API, route $default",
        ),
        pytest.param(alb_event("POST", "/saas/events"), "/saas/events", "", id="ALB"),
    ],
)
def test_a_prefix_of_the_path_is_removed(event: Document, path: str, prefix: str) -> None:
    """A stage or a mapping's base path is removed, and named if the address has it."""
    request = read(event)
    assert (request.path, prefix_of(request)) == (path, prefix)


# What is refused

BAD_PARTS: dict[str, Document] = {
    "not base64": {"body": "a", "isBase64Encoded": True},
    "not even ASCII": {"body": "ö", "isBase64Encoded": True},
    "base64 with a space": {"body": "YQ = =", "isBase64Encoded": True},
    "a body that is an object": {"body": {"a": 1}},
    "a body that is a number": {"body": 5},
    "a body that isn't Unicode": {"body": "\ud800"},
    "headers that are a list": {"headers": [], "multiValueHeaders": ["a"]},
    "headers that are numbers": {"headers": {"a": 1}, "multiValueHeaders": {"a": [1]}},
    "headers that are null": {"headers": {"a": None}, "multiValueHeaders": {"a": [None]}},
    "a header with a line": {"headers": {"a": "1\r\nb: 2"}, "multiValueHeaders": {"a": ["1\n"]}},
    "a header without a name": {"headers": {"": "1"}, "multiValueHeaders": {"": ["1"]}},
    "a name with a space": {"headers": {"a b": "1"}, "multiValueHeaders": {"a b": ["1"]}},
    "a path without a slash": {"path": "@evil.example/", "rawPath": "@evil.example/"},
    "a path that is a number": {"path": 5, "rawPath": 5},
    "a query that is a list": {
        "queryStringParameters": ["a"],
        "multiValueQueryStringParameters": ["a"],
        "rawQueryString": ["a"],
    },
}


@pytest.mark.parametrize("parts", BAD_PARTS.values(), ids=BAD_PARTS)
@pytest.mark.parametrize("make_event", FORMATS.values(), ids=FORMATS)
def test_a_part_that_cannot_be_read_is_named(
    make_event: Callable[..., Document], parts: Document
) -> None:
    """The refusal is one sentence, without what the part has."""
    event = make_event("POST", "/events")
    if make_event is alb_event:
        parts = {name: part for name, part in parts.items() if not name.startswith("multi")}
    with pytest.raises(BadRequestError, match=r"^The event's [^\n]*\.$") as refused:
        read(event | parts)
    assert "evil" not in str(refused.value)
    assert find_path(event | parts).__class__ is str


@pytest.mark.parametrize("method", [5, None, "", "GET /x HTTP/1.1\r\nX: 1", "GÉT"])
def test_an_invalid_http_method_is_refused(method: object) -> None:
    """Nothing else than a method gets into the request's first line."""
    event = http_api_event("GET", "/")
    event["requestContext"]["http"]["method"] = method
    with pytest.raises(BadRequestError, match="method"):
        read(event)


@given(event=mutated() | JSON)
def test_anything_is_read_or_refused(event: Any) -> None:
    """There is a request that aiohttp can send, or a refusal; never another exception."""
    is_sqs_batch(event)
    try:
        request = read(event)
    except (NotAnHTTPEventError, BadRequestError):
        return
    assert request.path.startswith("/")
    assert (request.path + request.query + request.method).isascii()


# The answer

JSON_TYPE = ("Content-Type", "application/json; charset=utf-8")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            Format.API_GATEWAY_1,
            {"multiValueHeaders": {JSON_TYPE[0]: [JSON_TYPE[1]], "X-Tag": ["a", "b"],
                                   "Set-Cookie": ["a=1", "b=2"]}},
        ),
        (
            Format.API_GATEWAY_2,
            {"headers": {JSON_TYPE[0]: JSON_TYPE[1], "X-Tag": "a, b"}, "cookies": ["a=1", "b=2"]},
        ),
        (
            Format.ALB_MULTI_VALUE,
            {"statusDescription": "503 Service Unavailable",
             "multiValueHeaders": {JSON_TYPE[0]: [JSON_TYPE[1]], "X-Tag": ["a", "b"],
                                   "Set-Cookie": ["a=1", "b=2"]}},
        ),
        (
            Format.ALB,
            {"statusDescription": "503 Service Unavailable",
             "headers": {JSON_TYPE[0]: JSON_TYPE[1], "X-Tag": "a, b", "Set-Cookie": "b=2"}},
        ),
    ],
    ids=lambda value: value.value if isinstance(value, Format) else "",
)  # fmt: skip
def test_an_answer_is_written_as_its_format_wants_it(written: Format, expected: Document) -> None:
    """Headers where they are read, cookies apart in 2.0, and an ALB's status in words."""
    headers = [JSON_TYPE, ("X-Tag", "a"), ("X-Tag", "b"), ("Content-Length", "2")]
    cookies = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    answer = HTTPAnswer(status=503, headers=[*headers, *cookies], body=b"{}")
    common = {"statusCode": 503, "body": "{}", "isBase64Encoded": False}
    assert write_answer(answer, written) == {**common, **expected}
    json.dumps(write_answer(answer, written))


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b"\x1f\x8b", [JSON_TYPE, ("Content-Encoding", "gzip")], id="compressed"),
        pytest.param(b"\xff", [("Content-Type", "text/plain")], id="not UTF-8"),
        pytest.param(b"\x89PNG", [("Content-Type", "image/png")], id="an image"),
        pytest.param(b"text", [], id="of no type"),
    ],
)
def test_a_binary_answer_is_written_in_base64(body: bytes, headers: list[tuple[str, str]]) -> None:
    """What may not be text is written byte for byte, whatever its type says."""
    answer = write_answer(HTTPAnswer(status=200, headers=headers, body=body), Format.ALB)
    assert answer["isBase64Encoded"] is True
    assert base64.b64decode(answer["body"]) == body


def test_a_status_without_a_phrase_is_described_too() -> None:
    """A route of the user's may answer with any."""
    answer = write_answer(HTTPAnswer(status=299, headers=[], body=b""), Format.ALB)
    assert answer["statusDescription"] == "299 Unknown"
