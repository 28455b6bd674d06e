"""The entry points: the same request over HTTP, and through the Lambda handler in each format.

The events are built after AWS's documentation: REST APIs send format 1.0, HTTP APIs and
function URLs 2.0, Application Load Balancers one of their own. `LambdaService` owns its event
loop, so here it runs in a thread of its own.
"""

import asyncio
import base64
import io
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote

import attrs
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDict

from orchestrator.lambda_handler import LambdaService

Document = dict[str, Any]

#: A custom domain, and API Gateway's, whose addresses have the stage.
_DOMAIN = "api.saas.example"
_EXECUTE_API = "70ixmpl4fl.execute-api.us-east-2.amazonaws.com"
#: The fields of a function's answer, by format; API Gateway answers 502 to any other field.
_KEYS = {
    "1.0": {"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"},
    "2.0": {"statusCode", "headers", "cookies", "body", "isBase64Encoded"},
    "ALB": {"statusCode", "statusDescription", "headers", "body", "isBase64Encoded"},
    "ALB, multi-value headers": {
        "statusCode",
        "statusDescription",
        "multiValueHeaders",
        "body",
        "isBase64Encoded",
    },
}


@attrs.frozen(kw_only=True)
class Answer:
    """The answer, whichever the entry point."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0]

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Way(ABC):
    """One entry point; each test sends the same requests to all."""

    @abstractmethod
    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Answer: ...

    async def post(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        return await self.send("POST", path, headers, body)

    async def get(self, path: str) -> Answer:
        return await self.send("GET", path, {}, b"")


class HTTPWay(Way):
    """A client of the served app."""

    def __init__(self, client: TestClient[web.Request, web.Application]) -> None:
        self._client = client

    async def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        async with self._client.request(
            method,
            path,
            headers=headers,
            data=io.BytesIO(body) if body else None,
            skip_auto_headers=["Content-Type"],
        ) as answer:
            return Answer(
                status=answer.status,
                headers=CIMultiDict(answer.headers),
                body=await answer.read(),
            )


MakeEvent = Callable[..., Document]


class LambdaWay(Way):
    """A function behind API Gateway, whose kind `make_event` chooses."""

    def __init__(
        self, service: LambdaService, thread: ThreadPoolExecutor, make_event: MakeEvent
    ) -> None:
        self._service = service
        self._thread = thread
        self._make_event = make_event

    async def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        event = self._make_event(method, path, headers=headers, body=body)
        loop = asyncio.get_running_loop()
        handle = partial(self._service.handle, event, remaining_s=30)
        answer = await loop.run_in_executor(self._thread, handle)
        return read_lambda_answer(answer, event)


@asynccontextmanager
async def open_http(app: web.Application) -> AsyncIterator[Way]:
    """The app, served."""
    async with TestClient(TestServer(app)) as client:
        yield HTTPWay(client)


@asynccontextmanager
async def open_lambda(app: web.Application, make_event: MakeEvent) -> AsyncIterator[Way]:
    """The app as a Lambda function that gets such events."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="lambda") as thread:
        service = await loop.run_in_executor(thread, LambdaService, app)
        try:
            yield LambdaWay(service, thread, make_event)
        finally:
            await loop.run_in_executor(thread, service.close)


def read_lambda_answer(answer: Document, event: Document) -> Answer:
    """The HTTP answer that a gateway makes of a function's answer, which must have its form."""
    kind = event.get("version", "1.0")
    if "elb" in event["requestContext"]:
        kind = "ALB, multi-value headers" if "multiValueHeaders" in event else "ALB"
        assert answer.keys() == _KEYS[kind], answer
        assert answer["statusDescription"].startswith(f"{answer['statusCode']} ")
    assert answer.keys() <= _KEYS[kind], answer
    assert isinstance(answer["body"], str)
    headers: CIMultiDict[str] = CIMultiDict(answer.get("headers", {}))
    for name, values in answer.get("multiValueHeaders", {}).items():
        headers.extend((name, value) for value in values)
    assert all(isinstance(value, str) for value in headers.values()), headers
    raw = answer["body"].encode()
    return Answer(
        status=answer["statusCode"],
        headers=headers,
        body=base64.b64decode(raw, validate=True) if answer["isBase64Encoded"] else raw,
    )


def rest_api_event(
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    stage: str | None = None,
) -> Document:
    """Format 1.0, from a REST API with the route ANY /{proxy+}.

    Without a `stage` it is called through a custom domain. The path is given without the stage,
    which only the request context has.
    """
    path, _, query = path.partition("?")
    domain = _EXECUTE_API if stage else _DOMAIN
    sent = {"Host": domain, "X-Forwarded-Proto": "https", **(headers or {})}
    queries = parse_qs(query, keep_blank_values=True)
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": sent,
        "multiValueHeaders": {name: [value] for name, value in sent.items()},
        "queryStringParameters": {name: values[-1] for name, values in queries.items()} or None,
        "multiValueQueryStringParameters": queries or None,
        "pathParameters": {"proxy": path.removeprefix("/")},
        "stageVariables": None,
        "requestContext": {
            "resourceId": "2gxmpl",
            "resourcePath": "/{proxy+}",
            "httpMethod": method,
            "extendedRequestId": "JJbxmplHYosFVYQ=",
            "requestTime": "20/Nov/2026:09:14:03 +0000",
            "path": f"/{stage}{path}" if stage else path,
            "accountId": "123456789012",
            "protocol": "HTTP/1.1",
            "stage": stage or "prod",
            "domainPrefix": domain.partition(".")[0],
            "requestTimeEpoch": 1795166043000,
            "requestId": "77375676-xmpl-4b79-853a-f982474efe18",
            "identity": {"sourceIp": "203.0.113.7", "userAgent": "Amazon/EventBridge"},
            "domainName": domain,
            "apiId": "70ixmpl4fl",
        },
        **_encoded(body, absent={"body": None, "isBase64Encoded": False}),
    }


def http_api_event(
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    stage: str = "$default",
    cookies: list[str] | None = None,
) -> Document:
    """Format 2.0, from an HTTP API; a named stage is in the raw path as well."""
    path, _, query = path.partition("?")
    raw_path = path if stage == "$default" else f"/{stage}{path}"
    queries = parse_qs(query, keep_blank_values=True)
    domain = _DOMAIN if stage == "$default" else _EXECUTE_API
    sent = {"Host": domain, "X-Forwarded-Proto": "https", **(headers or {})}
    return {
        "version": "2.0",
        "routeKey": "ANY /{proxy+}",
        "rawPath": raw_path,
        "rawQueryString": query,
        **({"cookies": cookies} if cookies else {}),
        "headers": {name.lower(): value for name, value in sent.items()},
        **(
            {"queryStringParameters": {name: ",".join(values) for name, values in queries.items()}}
            if queries
            else {}
        ),
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "70ixmpl4fl",
            "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "http": {
                "method": method,
                "path": raw_path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "Amazon/EventBridge",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "ANY /{proxy+}",
            "stage": stage,
            "time": "20/Nov/2026:09:14:03 +0000",
            "timeEpoch": 1795166043000,
        },
        "pathParameters": {"proxy": unquote(path.removeprefix("/"))},
        **_encoded(body, absent={"isBase64Encoded": False}),
    }


def function_url_event(
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Document:
    """Format 2.0, from a function URL, which has no stages and no routes."""
    event = http_api_event(method, path, headers=headers, body=body)
    domain = "abcdefg.lambda-url.us-east-1.on.aws"
    event["headers"] |= {"host": domain}
    event["requestContext"] |= {
        "accountId": "anonymous",
        "apiId": "abcdefg",
        "domainName": domain,
        "domainPrefix": "abcdefg",
        "routeKey": "$default",
    }
    del event["pathParameters"]
    return event | {"routeKey": "$default"}


def alb_event(
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    multi_value: bool = False,
) -> Document:
    """From an Application Load Balancer, which passes a query on as it was sent: encoded.

    `multi_value` says whether the target group has multi-value headers on.
    """
    path, _, query = path.partition("?")
    sent = {"host": _DOMAIN, "x-forwarded-proto": "https", **(headers or {})}
    sent = {name.lower(): value for name, value in sent.items()}
    queries: dict[str, list[str]] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        queries.setdefault(name, []).append(value)
    arn = (
        "arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/orchestrator/6d0ecf831eec"
    )
    parts: Document = {
        "headers": sent,
        "queryStringParameters": {name: values[-1] for name, values in queries.items()},
    }
    if multi_value:
        parts = {
            "multiValueHeaders": {name: [value] for name, value in sent.items()},
            "multiValueQueryStringParameters": queries,
        }
    return {
        "requestContext": {"elb": {"targetGroupArn": arn}},
        "httpMethod": method,
        "path": path,
        **parts,
        **_encoded(body, absent={"body": "", "isBase64Encoded": False}),
    }


def _encoded(body: bytes, *, absent: Document) -> Document:
    """A body that is text as text, else in base64."""
    if not body:
        return absent
    try:
        return {"body": body.decode(), "isBase64Encoded": False}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
