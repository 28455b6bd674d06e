"""HTTP requests as a Lambda function gets them, and the answers that their senders want. Pure.

| format | comes from |
| --- | --- |
| 1.0 | API Gateway: REST APIs, HTTP APIs if told so |
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

from orchestrator.intake.links import PREFIX_HEADER
from orchestrator.settings import PLAIN_PATH

#: They belong to one connection (RFC 9110, section 7.6.1); the length is counted anew.
_OF_THE_CONNECTION = {"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"}
#: A prefix is what API Gateway says of itself, never what a sender says.
_NOT_FORWARDED = _OF_THE_CONNECTION | {PREFIX_HEADER.lower()}
_TEXT_TYPES = ("text/", "application/json", "application/problem+json", "application/javascript")
#: RFC 9110, section 5.6.2: methods and names of headers.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: All control characters but the tab (RFC 9110, section 5.5), and half characters.
_FORBIDDEN_IN_HEADERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_PARAMETER = re.compile(r"\{([^{}+]+)\+?\}")
#: A Lambda authorizer is asked about a request, in much the same words, and must not handle it.
_OF_AUTHORIZERS = ("methodArn", "routeArn")
_SHOWN_KEYS, _SHOWN_CHARACTERS = 12, 40

Pairs = list[tuple[str, str]]


class NotAnHTTPEventError(Exception):
    """The function was invoked with something that isn't a request."""


class BadRequestError(Exception):
    """The invocation is a request, of which a part can't be read; one sentence says which."""


class Format(Enum):
    """How a request is written, and its answer."""

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
    """The format of a request, whatever an invocation may bring.

    Raises:
        NotAnHTTPEventError: it is no request.
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
        "The invocation is no batch of SQS and no HTTP request of API Gateway or a function URL, "
        "in format 1.0 or 2.0, or of an Application Load Balancer (EventBridge reaches the "
        f"function by way of SQS or API Gateway): {_described(event)}."
    )


def find_path(event: Mapping[str, Any]) -> str:
    """The path that a request names, percent-encoded; `/` if it names none."""
    path = event.get("rawPath", event.get("path"))
    return _encoded(path) if isinstance(path, str) else "/"


def read_request(event: Mapping[str, Any], written: Format) -> HTTPRequest:
    """The request in an event of the format `written`.

    Raises:
        BadRequestError: a part of it can't be read.
    """
    context = _mapping(event.get("requestContext"), "requestContext")
    if written is Format.API_GATEWAY_2:
        return _read_v2(event, context)
    if written is Format.API_GATEWAY_1:
        return _read_v1(event, context)
    return _read_alb(event)


def write_answer(answer: HTTPAnswer, written: Format) -> dict[str, Any]:
    """The answer, for a request of the format `written`."""
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
    # A REST API's path is without the stage, unless a mapping left it in; requestContext's is
    # what the sender asked for. An HTTP API that speaks format 1.0 leaves the stage in both.
    before, told = _before(path, resource), _before(address, resource)
    if before is None or told is None:
        told = _stage(context, address)
        before = told if path == address else ""
    query = event.get("multiValueQueryStringParameters") or event.get("queryStringParameters")
    return HTTPRequest(
        method=_method(event["httpMethod"]),
        path=_encoded(_without(before, path)),
        # API Gateway has decoded it.
        query=urlencode(_pairs(query, "query"), encoding="utf-8", errors="replace"),
        headers=[*_headers(event), *_told(told)],
        body=_body(event),
    )


def _read_v2(event: Mapping[str, Any], context: Mapping[str, Any]) -> HTTPRequest:
    path = _path(event["rawPath"])
    _, _, resource = _optional_text(event.get("routeKey"), "routeKey").partition(" ")
    prefix = _before(path, _resource(resource, event.get("pathParameters")))
    if prefix is None:
        prefix = _stage(context, path)
    # Behind a domain of one's own the address has no stage, and rawPath has no mapping's key.
    domain = _optional_text(context.get("domainName"), "domainName")
    told = prefix if ".execute-api." in domain else ""
    cookies = [_text(cookie, "cookies") for cookie in _list(event.get("cookies"), "cookies")]
    cookie = _header_pairs({"cookie": "; ".join(cookies)} if cookies else {})
    return HTTPRequest(
        method=_method(context["http"].get("method")),
        path=_encoded(_without(prefix, path)),
        query=_cleaned_query(_optional_text(event.get("rawQueryString"), "rawQueryString")),
        headers=[*_headers(event), *cookie, *_told(told)],
        body=_body(event),
    )


def _read_alb(event: Mapping[str, Any]) -> HTTPRequest:
    query = event.get("multiValueQueryStringParameters") or event.get("queryStringParameters")
    return HTTPRequest(
        method=_method(event["httpMethod"]),
        path=_encoded(_path(event["path"])),
        # "If the query parameters are URL-encoded, the load balancer does not decode them."
        query=_cleaned_query("&".join(f"{name}={value}" for name, value in _pairs(query, "query"))),
        headers=_headers(event),
        body=_body(event),
    )


def _resource(template: object, parameters: object) -> str | None:
    """The path below the API's root that was asked for; None: the event doesn't say.

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
    """The stage or the base path that stands before the resource; None: it isn't to be seen.

    Both are compared decoded: API Gateway decodes some, and some not.
    """
    if resource is None:
        return None
    whole, end = (unquote(one).rstrip("/") for one in (path, resource))
    prefix = whole[: len(whole) - len(end)]
    return prefix if whole == prefix + end and path.startswith(prefix) else None


def _stage(context: Mapping[str, Any], path: str) -> str:
    """The stage, if the path begins with it; never `$default`."""
    prefix = f"/{context.get('stage')}"
    return prefix if path == prefix or path.startswith(f"{prefix}/") else ""


def _without(prefix: str, path: str) -> str:
    is_below = path == prefix or path.startswith(f"{prefix}/")
    return (path.removeprefix(prefix) if is_below else path) or "/"


def _told(prefix: str) -> Pairs:
    return [(PREFIX_HEADER, prefix)] if PLAIN_PATH.fullmatch(prefix) else []


def _path(value: object) -> str:
    path = _text(value, "path") or "/"
    if not path.startswith("/"):
        raise BadRequestError("The event's path does not begin with a slash.")
    return path


def _encoded(path: str) -> str:
    """API Gateway hands some paths on decoded; what is encoded already stays as it is."""
    return quote(path, safe="/%:@!$&'()*+,;=~", errors="replace")


def _cleaned_query(query: str) -> str:
    """An encoded query, in which nothing stands that could not stand in a request's first line."""
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
    """Names and values of a map whose values are texts, or lists of texts."""
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
    """The body as text, or in base64 (True) if it is none."""
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
    """One text for each name; of cookies, which can't be joined (RFC 6265, section 3), the last."""
    return {
        name: values[-1] if name.lower() == "set-cookie" else ", ".join(values)
        for name, values in _gathered(headers).items()
    }
