"""What Lambda is invoked with, as HTTP requests or messages, and the answers that it wants. Pure.

API Gateway's format 1.0 comes from REST APIs, 2.0 from HTTP APIs and function URLs
(https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html).
SQS gives batches (https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html).
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import attrs

from orchestrator.core.ports import Message
from orchestrator.intake.links import PREFIX_HEADER

#: They belong to one connection (RFC 9110, section 7.6.1); the length is counted anew.
_OF_THE_CONNECTION = {"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"}
#: The stage is the only prefix here, and nobody else's to say.
_NOT_FORWARDED = _OF_THE_CONNECTION | {PREFIX_HEADER.lower()}
_TEXT_TYPES = ("text/", "application/json", "application/problem+json", "application/javascript")


class NotAnHTTPEventError(Exception):
    """The function was invoked with something that isn't a request."""


@attrs.frozen(kw_only=True)
class HTTPRequest:
    """One request; `path` and `query` are percent-encoded."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes
    format: str


@attrs.frozen(kw_only=True)
class HTTPAnswer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


def read_request(event: Mapping[str, Any]) -> HTTPRequest:
    """The request in an API Gateway event of either format.

    Raises:
        NotAnHTTPEventError: it is of neither.
    """
    context = event.get("requestContext") or {}
    if "http" in context:
        return _read_v2(event, context)
    if event.get("httpMethod"):
        return _read_v1(event, context)
    raise NotAnHTTPEventError(
        "The event is no batch of SQS and no HTTP request of API Gateway or a function URL, in "
        "format 1.0 or 2.0 (EventBridge reaches a function by way of SQS): "
        f"its keys are {', '.join(sorted(event)) or 'none'}."
    )


def write_answer(answer: HTTPAnswer, request: HTTPRequest) -> dict[str, Any]:
    """The answer as API Gateway wants it for the request's format."""
    headers = _forwarded(answer.headers)
    media_type = {name.lower(): value for name, value in headers}.get("content-type", "")
    is_text = media_type.startswith(_TEXT_TYPES)
    body = answer.body.decode() if is_text else base64.b64encode(answer.body).decode()
    written = {"statusCode": answer.status, "body": body, "isBase64Encoded": not is_text}
    if request.format == "2.0":
        return {**written, "headers": dict(headers)}
    return {**written, "multiValueHeaders": _gathered(headers)}


def is_sqs_batch(event: Mapping[str, Any]) -> bool:
    """Whether the invocation brings messages of an SQS queue."""
    records = event.get("Records")
    return (
        isinstance(records, list)
        and bool(records)
        and all(record.get("eventSource") == "aws:sqs" for record in records)
    )


def read_messages(event: Mapping[str, Any]) -> list[Message]:
    """The messages of a batch; those of a FIFO queue have a group."""
    return [
        Message(
            id=record["messageId"],
            text=record["body"],
            receipt=record["receiptHandle"],
            group=record.get("attributes", {}).get("MessageGroupId"),
            receives=int(record.get("attributes", {}).get("ApproximateReceiveCount", 1)),
        )
        for record in event["Records"]
    ]


def write_failures(message_ids: Iterable[str]) -> dict[str, Any]:
    """The answer to a batch: these messages stay in the queue."""
    return {"batchItemFailures": [{"itemIdentifier": one} for one in message_ids]}


def _read_v2(event: Mapping[str, Any], context: Mapping[str, Any]) -> HTTPRequest:
    stage = _stage(context, event["rawPath"])
    cookies = event.get("cookies") or []
    headers = [*(event.get("headers") or {}).items()]
    if cookies:
        headers.append(("cookie", "; ".join(cookies)))
    return HTTPRequest(
        method=context["http"]["method"],
        path=_encoded(event["rawPath"].removeprefix(stage) or "/"),
        query=event.get("rawQueryString") or "",
        headers=[*_forwarded(headers), (PREFIX_HEADER, stage)],
        body=_body(event),
        format="2.0",
    )


def _read_v1(event: Mapping[str, Any], context: Mapping[str, Any]) -> HTTPRequest:
    # A REST API's path is without the stage, which requestContext's has. An HTTP API that
    # speaks format 1.0 leaves the stage in both.
    stage = _stage(context, context.get("path") or "")
    path = event["path"]
    if path == context.get("path"):
        path = path.removeprefix(stage) or "/"
    query = event.get("multiValueQueryStringParameters") or event.get("queryStringParameters") or {}
    headers = event.get("multiValueHeaders") or event.get("headers") or {}
    return HTTPRequest(
        method=event["httpMethod"],
        path=_encoded(path),
        query=urlencode(_flat(query)),
        headers=[*_forwarded(_flat(headers)), (PREFIX_HEADER, stage)],
        body=_body(event),
        format="1.0",
    )


def _stage(context: Mapping[str, Any], path: str) -> str:
    """The stage as a path prefix; empty for `$default` and behind a domain of one's own."""
    prefix = f"/{context.get('stage', '')}"
    return prefix if path == prefix or path.startswith(f"{prefix}/") else ""


def _encoded(path: str) -> str:
    """API Gateway hands some paths on decoded; what is encoded already stays as it is."""
    return quote(path, safe="/%:@!$&'()*+,;=~")


def _body(event: Mapping[str, Any]) -> bytes:
    body: str = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()


def _flat(multi: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, values in multi.items()
        for value in (values if isinstance(values, list) else [values])
    ]


def _forwarded(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in _NOT_FORWARDED]


def _gathered(headers: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    gathered: dict[str, list[str]] = {}
    for name, value in headers:
        gathered.setdefault(name, []).append(value)
    return gathered
