"""Parses the HTTP requests that a Lambda function is invoked with, and formats the responses. Pure.

| format | sent by |
| --- | --- |
| 1.0 | API Gateway: REST APIs, HTTP APIs configured for it |
| 2.0 | API Gateway: HTTP APIs; function URLs |
| ALB | an Application Load Balancer, with or without multi-value headers |

API Gateway developer guide, "Create AWS Lambda proxy integrations for HTTP APIs" and "Lambda proxy
integrations in API Gateway" (REST); Elastic Load Balancing user guide for Application Load
Balancers, "Use Lambda functions as targets".
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from http.client import responses
from typing import Any
from urllib.parse import quote, unquote, urlencode

import attrs

from orchestrator.core.urls import encoded_path
from orchestrator.intake.auth import CALLER_HEADER
from orchestrator.intake.links import PREFIX_HEADER
from orchestrator.settings import PLAIN_PATH

#: Hop-by-hop headers (RFC 9110, section 7.6.1); the content length is computed again.
_OF_THE_CONNECTION = {"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"}
#: The prefix and the caller are read from API Gateway's event; a sender's header must not set them.
_NOT_FORWARDED = _OF_THE_CONNECTION | {PREFIX_HEADER.lower(), CALLER_HEADER.lower()}
_TEXT_TYPES = ("text/", "application/json", "application/problem+json", "application/javascript")
#: RFC 9110, section 5.6.2: methods and names of headers.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: All control characters except the tab (RFC 9110, section 5.5), and lone surrogates.
_FORBIDDEN_IN_HEADERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_ARN = re.compile(r"arn:[\x21-\x7e]{1,2048}")
_PARAMETER = re.compile(r"\{([^{}+]+)\+?\}")
#: Keys of an authorizer request, which resembles an HTTP request and must not be handled as one.
_OF_AUTHORIZERS = ("methodArn", "routeArn")
_SHOWN_KEYS, _SHOWN_CHARACTERS = 12, 40

Pairs = list[tuple[str, str]]


class NotAnHTTPEventError(Exception):
    """The invocation is not a supported HTTP request."""


class BadRequestError(Exception):
    """The invocation is an HTTP request with a part that can't be parsed; the message names it."""


class Format(Enum):
    """The format of a request and of its response."""

    API_GATEWAY_1 = "1.0"
    API_GATEWAY_2 = "2.0"
    ALB = "ALB"
    ALB_MULTI_VALUE = "ALB, multi-value headers"


@attrs.frozen(kw_only=True)
class HTTPRequest:
    """One request; `path` and `query` are percent-encoded."""

    method: str
    path: str
    query: str
    headers: Pairs
    body: bytes


@attrs.frozen(kw_only=True)
class HTTPAnswer:
    status: int
    headers: Pairs
    body: bytes


def find_format(event: object) -> Format:
    """The format of the HTTP request in an invocation.

    Raises:
        NotAnHTTPEventError: the invocation is not an HTTP request.
    """
    if isinstance(event, Mapping) and not any(key in event for key in _OF_AUTHORIZERS):
        context = event.get("requestContext")
        context = context if isinstance(context, Mapping) else {}
        if isinstance(context.get("http"), Mapping) and "rawPath" in event:
            return Format.API_GATEWAY_2
        if isinstance(event.get("httpMethod"), str) and "path" in event:
            if "elb" not in context:
                return Format.API_GATEWAY_1
            is_multi = event.get("multiValueHeaders") is not None
            return Format.ALB_MULTI_VALUE if is_multi else Format.ALB
    raise NotAnHTTPEventError(
        "The invocation is neither an SQS batch nor an HTTP request of API Gateway or a function "
        "URL, in format 1.0 or 2.0, or of an Application Load Balancer (connect EventBridge to the "
        f"function through SQS or API Gateway): {_described(event)}."
    )


def find_path(event: Mapping[str, Any]) -> str:
    """The percent-encoded path of a request; `/` if it has none."""
    path = event.get("rawPath", event.get("path"))
    return encoded_path(path) if isinstance(path, str) else "/"


def read_request(event: Mapping[str, Any], written: Format) -> HTTPRequest:
    """Parse the request of an invocation in the format `written`.

    Raises:
        BadRequestError: a part of it can't be parsed.
    """
    context = _mapping(event.get("requestContext"), "requestContext")
    if written is Format.API_GATEWAY_2:
        return _read_v2(event, context)
    if written is Format.API_GATEWAY_1:
        return _read_v1(event, context)
    return _read_alb(event)


def write_answer(answer: HTTPAnswer, written: Format) -> dict[str, Any]:
    """Format the response to a request of the format `written`."""
    headers = _forwarded(answer.headers)
    body, is_encoded = _written_body(answer)
    common = {"statusCode": answer.status, "body": body, "isBase64Encoded": is_encoded}
    match written:
        case Format.API_GATEWAY_1:
            return {**common, "multiValueHeaders": _gathered(headers)}
        case Format.API_GATEWAY_2:
            cookies = [value for name, value in headers if name.lower() == "set-cookie"]
            others = [pair for pair in headers if pair[0].lower() != "set-cookie"]
            return {
                **common,
                "headers": _joined(others),
                **({"cookies": cookies} if cookies else {}),
            }
        case Format.ALB:
            return {**common, **_described_status(answer), "headers": _joined(headers)}
        case Format.ALB_MULTI_VALUE:
            return {**common, **_described_status(answer), "multiValueHeaders": _gathered(headers)}


def _read_v1(event: Mapping[str, Any], context: Mapping[str, Any]) -> HTTPRequest:
    path = _path(event["path"])
    address = _path(context.get("path") or path)
    resource = _resource(event.get("resource"), event.get("pathParameters"))
    # A REST API's path has no stage, unless a mapping left it in; requestContext's path is the
    # one that the sender requested. An HTTP API in format 1.0 leaves the stage in both.
    before, prefix = _before(path, resource), _before(address, resource)
    if before is None or prefix is None:
        prefix = _stage(context, address)
        before = prefix if path == address else ""
    query = event.get("multiValueQueryStringParameters") or event.get("queryStringParameters")
    return HTTPRequest(
        method=_method(event["httpMethod"]),
        path=encoded_path(_without(before, path)),
        # API Gateway has decoded the query.
        query=urlencode(_pairs(query, "query"), encoding="utf-8", errors="replace"),
        headers=[
            *_headers(event),
            *_prefix_header(prefix),
            *_caller(_at(context, "identity", "userArn")),
        ],
        body=_body(event),
    )


def _read_v2(event: Mapping[str, Any], context: Mapping[str, Any]) -> HTTPRequest:
    path = _path(event["rawPath"])
    _, _, resource = _optional_text(event.get("routeKey"), "routeKey").partition(" ")
    before = _before(path, _resource(resource, event.get("pathParameters")))
    if before is None:
        before = _stage(context, path)
    # With a custom domain the URL has no stage, and rawPath has no mapping key.
    domain = _optional_text(context.get("domainName"), "domainName")
    prefix = before if ".execute-api." in domain else ""
    cookies = [_text(cookie, "cookies") for cookie in _list(event.get("cookies"), "cookies")]
    cookie = _header_pairs({"cookie": "; ".join(cookies)} if cookies else {})
    return HTTPRequest(
        method=_method(context["http"].get("method")),
        path=encoded_path(_without(before, path)),
        query=_cleaned_query(_optional_text(event.get("rawQueryString"), "rawQueryString")),
        headers=[
            *_headers(event),
            *cookie,
            *_prefix_header(prefix),
            *_caller(_at(context, "authorizer", "iam", "userArn")),
        ],
        body=_body(event),
    )


def _read_alb(event: Mapping[str, Any]) -> HTTPRequest:
    query = event.get("multiValueQueryStringParameters") or event.get("queryStringParameters")
    return HTTPRequest(
        method=_method(event["httpMethod"]),
        path=encoded_path(_path(event["path"])),
        # "If the query parameters are URL-encoded, the load balancer does not decode them."
        query=_cleaned_query("&".join(f"{name}={value}" for name, value in _pairs(query, "query"))),
        headers=_headers(event),
        body=_body(event),
    )


def _resource(template: object, parameters: object) -> str | None:
    """The requested path below the API's root; None if the event doesn't contain it.

    `template` is a route such as `/events/{proxy+}`.
    """
    given = parameters if isinstance(parameters, Mapping) else {}
    if not isinstance(template, str) or not template.startswith("/"):
        return None
    names = _PARAMETER.findall(template)
    if not all(isinstance(given.get(name), str) for name in names):
        return None
    return _PARAMETER.sub(lambda found: given[found[1]], template)


def _before(path: str, resource: str | None) -> str | None:
    """The stage or base path that precedes the resource; None if it can't be derived.

    Both are compared decoded: API Gateway decodes only some of them.
    """
    if resource is None:
        return None
    whole, end = (unquote(one).rstrip("/") for one in (path, resource))
    prefix = whole[: len(whole) - len(end)]
    return prefix if whole == prefix + end and path.startswith(prefix) else None


def _stage(context: Mapping[str, Any], path: str) -> str:
    """The stage if the path begins with it, else empty; never `$default`."""
    prefix = f"/{context.get('stage')}"
    return prefix if path == prefix or path.startswith(f"{prefix}/") else ""


def _without(prefix: str, path: str) -> str:
    is_below = path == prefix or path.startswith(f"{prefix}/")
    return (path.removeprefix(prefix) if is_below else path) or "/"


def _at(value: object, *names: str) -> object:
    """What is at a path of names; None if it isn't there."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _caller(arn: object) -> Pairs:
    """The caller whom API Gateway or a function URL has authenticated by IAM.

    API Gateway developer guide, "$context variables" (`identity.userArn`) and "Create AWS Lambda
    proxy integrations for HTTP APIs" (`authorizer.iam.userArn`).
    """
    return [(CALLER_HEADER, arn)] if isinstance(arn, str) and _ARN.fullmatch(arn) else []


def _prefix_header(prefix: str) -> Pairs:
    return [(PREFIX_HEADER, prefix)] if PLAIN_PATH.fullmatch(prefix) else []


def _path(value: object) -> str:
    path = _text(value, "path") or "/"
    if not path.startswith("/"):
        raise BadRequestError("The event's path does not begin with a slash.")
    return path


def _cleaned_query(query: str) -> str:
    """An encoded query without characters that are invalid in a request line."""
    return quote(query, safe="/%:@!$&'()*+,;=~?[]|", errors="replace")


def _method(value: object) -> str:
    method = _text(value, "method")
    if not _TOKEN.fullmatch(method):
        raise BadRequestError("The event's method is no HTTP method.")
    return method


def _headers(event: Mapping[str, Any]) -> Pairs:
    return _header_pairs(event.get("multiValueHeaders") or event.get("headers"))


def _header_pairs(value: object) -> Pairs:
    pairs = _forwarded(_pairs(value, "headers"))
    for name, text in pairs:
        if not _TOKEN.fullmatch(name) or _FORBIDDEN_IN_HEADERS.search(text):
            raise BadRequestError("The event's headers have a name or a value that HTTP forbids.")
    return pairs


def _body(event: Mapping[str, Any]) -> bytes:
    text = _optional_text(event.get("body"), "body")
    try:
        if event.get("isBase64Encoded"):
            return base64.b64decode(text, validate=True)
        return text.encode()
    except (binascii.Error, ValueError):
        expected = "base64, as isBase64Encoded says" if event.get("isBase64Encoded") else "Unicode"
        raise BadRequestError(f"The event's body is not {expected}.") from None


def _pairs(value: object, name: str) -> Pairs:
    """Names and values of a map whose values are strings or lists of strings."""
    return [
        (key, _text(one, name))
        for key, values in _mapping(value, name).items()
        for one in (values if isinstance(values, list) else [values])
    ]


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadRequestError(f"The event's {name} is {_kind(value)} and must be an object.")
    return value


def _list(value: object, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRequestError(f"The event's {name} is {_kind(value)} and must be a list.")
    return value


def _optional_text(value: object, name: str) -> str:
    return "" if value is None else _text(value, name)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise BadRequestError(f"The event's {name} has {_kind(value)} where text must be.")
    return value


def _described(event: object) -> str:
    if not isinstance(event, Mapping):
        return f"it is {_kind(event)}"
    keys = [ascii(key)[1:-1][:_SHOWN_CHARACTERS] for key in sorted(map(str, event))]
    more = ["…"] if len(keys) > _SHOWN_KEYS else []
    return f"its keys are {', '.join([*keys[:_SHOWN_KEYS], *more]) or 'none'}"


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case Mapping():
            return "an object"
    return "a list"


def _written_body(answer: HTTPAnswer) -> tuple[str, bool]:
    """The body as text, or in base64 (True) if it is not text."""
    named = {name.lower(): value for name, value in answer.headers}
    if named.get("content-type", "").startswith(_TEXT_TYPES) and "content-encoding" not in named:
        try:
            return answer.body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(answer.body).decode(), True


def _described_status(answer: HTTPAnswer) -> dict[str, str]:
    return {"statusDescription": f"{answer.status} {responses.get(answer.status, 'Unknown')}"}


def _forwarded(headers: Iterable[tuple[str, str]]) -> Pairs:
    return [(name, value) for name, value in headers if name.lower() not in _NOT_FORWARDED]


def _gathered(headers: Pairs) -> dict[str, list[str]]:
    gathered: dict[str, list[str]] = {}
    for name, value in headers:
        gathered.setdefault(name, []).append(value)
    return gathered


def _joined(headers: Pairs) -> dict[str, str]:
    """One value for each name; the last cookie, since cookies can't be joined (RFC 6265, section
    3)."""
    return {
        name: values[-1] if name.lower() == "set-cookie" else ", ".join(values)
        for name, values in _gathered(headers).items()
    }
