"""The lean transport sends and understands what the SDK does: each is compared with it."""

import asyncio
import json
import re
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from itertools import cycle, repeat
from typing import Any
from zlib import crc32

import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer, TestServer
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError, ProxyConnectionError
from botocore.parsers import create_parser
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.adapters.aws import open_aws
from orchestrator.adapters.lean_transport import _OPERATIONS, LeanClient, make_reader
from orchestrator.embedded.codebuild import REGION
from orchestrator.embedded.faults import hang_up
from orchestrator.testing import ManualClock
from tests.aws import open_service_aws
from tests.contracts.test_requests import Anything, use_codebuild, use_ledger, use_tiers

SERVICES = {name: Session().get_service_model(name) for name in _OPERATIONS}
EACH_OPERATION = pytest.mark.parametrize(
    ("service", "name"),
    [(service, name) for service in _OPERATIONS for name in _OPERATIONS[service]],
)
_TOKEN = re.compile(rb'"ClientRequestToken": "[0-9a-f-]{36}"')
ITEM = {"key": {"S": "RUN#1"}, "data": {"B": b64encode(b"\x00\xff").decode()}}

PUT = {"Put": {"TableName": "t", "Item": {"key": {"S": "RUN#1"}, "data": {"B": b"\x00\xff"}}}}

Answer = Callable[[web.Request], web.Response]


@attrs.define
class Recorder:
    """An AWS that gives listed answers, then `{}`, and keeps the requests."""

    answers: deque[Answer] = attrs.field(factory=deque)
    requests: list[tuple[dict[str, str], str, bytes]] = attrs.field(factory=list)

    async def handle_request(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((headers, request.path, await request.read()))
        return self.answers.popleft()(request) if self.answers else answer({})(request)


def answer(document: Any, status: int = 200, headers: Mapping[str, str] = {}) -> Answer:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    named = {"x-amzn-RequestId": "1", **headers}
    return lambda _: web.Response(body=body, status=status, headers=named)


def checked(document: Any, difference: int = 0) -> Answer:
    """An answer with DynamoDB's checksum."""
    body = json.dumps(document).encode()
    return answer(body, headers={"x-amz-crc32": str(crc32(body) + difference)})


def error(code: str, status: int = 400, fields: Mapping[str, Any] = {}) -> Answer:
    document = {"__type": f"com.amazonaws#{code}", "message": "It went wrong", **fields}
    return answer(document, status)


@asynccontextmanager
async def open_recorder(path: str = "/") -> AsyncIterator[tuple[Recorder, str]]:
    recorder, app = Recorder(), web.Application()
    app.router.add_post(path, recorder.handle_request)
    async with TestServer(app, host="127.0.0.1") as server:
        yield recorder, str(server.make_url(path))


async def bodies_of(transport: Any, clock: ManualClock) -> list[tuple[str, bytes]]:
    """Action and body of each request of the ledger, the tier catalog and CodeBuild."""
    anything, bodies = Anything(), list[tuple[str, bytes]]()

    async def handle(request: web.Request) -> web.Response:
        body = _TOKEN.sub(b"TOKEN", await request.read())
        bodies.append((request.headers["X-Amz-Target"] + request.content_type, body))
        return await anything.handle_request(request)

    app = web.Application()
    app.router.add_post("/", handle)
    async with (
        TestServer(app, host="127.0.0.1") as server,
        open_service_aws(str(server.make_url("/")), transport) as aws,
    ):
        for use in (use_codebuild, use_ledger, use_tiers):
            await use(aws, clock)
    return sorted(bodies)


async def test_requests_are_equal_byte_for_byte(clock: ManualClock) -> None:
    """Target, media type and body are the SDK's, besides tokens, which are random."""
    sent = await bodies_of("lean", clock)
    assert sent == await bodies_of("sdk", clock)
    assert sum(b"TOKEN" in body for _, body in sent) == 1


async def test_only_the_frequent_operations_take_the_short_way(clock: ManualClock) -> None:
    """All others, waiters and the exceptions are the SDK client's."""
    async with open_service_aws("http://127.0.0.1:9", "lean") as aws:
        dynamodb: Any = await aws.dynamodb()
        assert isinstance(dynamodb, LeanClient)
        assert isinstance(await aws.codebuild(), LeanClient)
        assert not isinstance(await aws.sqs(), LeanClient)
        assert dynamodb.create_table.__self__ is dynamodb._client
        assert dynamodb.exceptions is dynamodb._client.exceptions
    async with open_service_aws("http://127.0.0.1:9") as aws:
        assert not isinstance(await aws.dynamodb(), LeanClient)


@pytest.mark.parametrize(
    ("variable", "value", "host"),
    [
        ("AWS_DEFAULT_REGION", "cn-north-1", "dynamodb.cn-north-1.amazonaws.com.cn"),
        ("AWS_USE_FIPS_ENDPOINT", "true", "dynamodb-fips.us-east-1.amazonaws.com"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "true", "dynamodb.us-east-1.api.aws"),
    ],
)
async def test_the_endpoint_is_the_configured_one(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, host: str
) -> None:
    """It is the one that AWS's own variables name, reached by TLS, through a proxy here."""
    tunnels = list[str]()

    async def refuse(request: web.BaseRequest) -> web.Response:
        tunnels.append(f"{request.method} {request.headers['Host']}")
        return web.Response(status=502)

    async with RawTestServer(refuse, host="127.0.0.1") as proxy:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("HTTPS_PROXY", str(proxy.make_url("")))
        monkeypatch.setenv(variable, value)
        async with open_aws(
            dynamodb_region=None,
            events_region=None,
            connect_timeout_s=5,
            read_timeout_s=5,
            transport="lean",
        ) as aws:
            client = await aws.dynamodb()
            with pytest.raises(ProxyConnectionError):
                await client.query(TableName="t")
    assert tunnels == [f"CONNECT {host}"] * 2


@attrs.define
class Rotated:
    """Credentials that are others each time, as after a refresh."""

    given: Any = attrs.field(
        factory=lambda: cycle(
            [
                ReadOnlyCredentials("KEY1", "secret one", None, None),
                ReadOnlyCredentials("KEY2", "secret two", "session token/+=", None),
            ]
        )
    )
    used: list[Any] = attrs.field(factory=list)

    async def get_frozen_credentials(self) -> Any:
        self.used.append(next(self.given))
        return self.used[-1]


@pytest.mark.parametrize("path", ["/", "/behind/a-path/"])
async def test_requests_that_arrive_are_signed(path: str) -> None:
    """botocore's signer gives the same signature for the headers and the body that arrived; each
    request, and each try, is signed with the current credentials."""
    async with open_recorder(path) as (recorder, url), open_service_aws(url, "lean") as aws:
        opened: Any = await aws.dynamodb()
        credentials = Rotated()
        client: Any = LeanClient(opened._client, credentials, lambda _: nullcontext())
        recorder.answers.append(error("InternalServerError", 500))
        for text in ("é \ud800", "x"):
            await client.query(TableName=text)
    assert [headers.get("x-amz-security-token") for headers, _, _ in recorder.requests] == [
        None,
        "session token/+=",
        None,
    ]
    for (headers, _, body), used in zip(recorder.requests, credentials.used, strict=True):
        assert headers["authorization"] == sign(url, headers, body, used)


def sign(url: str, headers: dict[str, str], body: bytes, credentials: Any) -> str:
    (signed,) = re.findall("SignedHeaders=([^,]*)", headers["authorization"])
    names = signed.split(";")
    assert {"host", "content-type", "x-amz-date", "x-amz-target"} <= set(names)
    request = AWSRequest("POST", url, {name: headers[name] for name in names}, body)
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(credentials, "dynamodb", REGION)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={signed}, "
        f"Signature={signer.signature(text, request)}"
    )


REASONS = {
    "CancellationReasons": [
        {"Code": "None"},
        {"Code": "ConditionalCheckFailed", "Message": "The condition", "Item": ITEM},
    ]
}
ENDINGS: dict[str, list[Answer]] = {
    "an answer": [answer({"ConsumedCapacity": [{"TableName": "t", "CapacityUnits": 1.5}]})],
    "no content": [answer(b"")],
    "an answer at the second try": [error("InternalServerError", 500), answer({})],
    "a checksum": [checked({"ConsumedCapacity": []})],
    "a wrong checksum once": [checked({"ConsumedCapacity": []}, difference=1), checked({})],
    "throttled": [error("ThrottlingException")] * 2,
    "no capacity": [error("ProvisionedThroughputExceededException")] * 2,
    "in progress": [error("TransactionInProgressException"), answer({})],
    "broken": [error("InternalServerError", 500)] * 2,
    "broken proxy": [answer(b"<html><body>Bad gateway</body></html>", 502)] * 2,
    "unavailable, no body": [answer(b"", 503)] * 2,
    "unknown status": [answer(b"what", 418)],
    "redirected": [answer(b"", 307, {"Location": "http://127.0.0.1:9/"})],
    "denied": [error("AccessDeniedException")],
    "no type": [answer({"Message": "capital"}, 400)],
    "cancelled": [error("TransactionCanceledException", fields=REASONS)],
    "unknown error": [error("SomethingNew", fields={"Item": ITEM})],
    "query error": [answer({"__type": "a#B"}, 400, {"x-amzn-query-error": "C;Sender"})],
    "reset": [hang_up] * 2,
    "reset once": [hang_up, answer({})],
    "not JSON": [answer(b"no")],
}


async def outcome(transport: Any, answers: list[Answer]) -> tuple[Any, ...]:
    """What a transaction ends with, and the bodies of its tries."""
    async with open_recorder() as (recorder, url), open_service_aws(url, transport) as aws:
        recorder.answers.extend(answers)
        client: Any = await aws.dynamodb()
        try:
            result = await client.transact_write_items(TransactItems=[PUT])
        except (ClientError, BotoCoreError, ValueError) as caught:
            response = getattr(caught, "response", None) or {}
            ending: tuple[Any, ...] = (type(caught).__name__, type(caught).__mro__[1], str(caught))
        else:
            response, ending = result, ("done",)
    assert not recorder.answers
    first, *others = [body for _, _, body in recorder.requests]
    assert all(body == first for body in others), "a try has another token"
    ending = tuple(re.sub(r"127\.0\.0\.1:\d+|object at 0x\w+", "", str(one)) for one in ending)
    return (*ending, len(recorder.requests), comparable(response))


def comparable(response: dict[str, Any]) -> dict[str, Any]:
    metadata = dict(response.get("ResponseMetadata", {}))
    metadata.get("HTTPHeaders", {}).pop("date", None)
    # Notes of botocore's retry rules.
    metadata.pop("MaxAttemptsReached", None)
    return {**response, "ResponseMetadata": metadata}


@pytest.mark.parametrize("name", [name for name in ENDINGS if name != "not JSON"])
async def test_a_call_ends_as_with_the_sdk(name: str) -> None:
    """The same exception or result, with the same fields, after as many tries of the same bytes."""
    assert await outcome("lean", ENDINGS[name]) == await outcome("sdk", ENDINGS[name])


async def test_an_answer_that_is_not_json_is_an_error() -> None:
    """It is an error, while the SDK would take it for an empty answer."""
    kind, *_ = await outcome("lean", ENDINGS["not JSON"])
    assert kind == "JSONDecodeError"


async def test_an_answer_that_stays_corrupted_is_an_error() -> None:
    """It is an error after the last try, while the SDK would return it."""
    corrupted = [checked({"ConsumedCapacity": []}, difference=1)] * 2
    kind, _, _, tries, _ = await outcome("lean", corrupted)
    assert (kind, tries) == ("ChecksumError", 2)


@pytest.mark.parametrize("transport", ["sdk", "lean"])
async def test_a_client_that_fails_all_the_time_stops_trying_again(transport: Any) -> None:
    """The retry quota of 500 units is enough for 100 retries at 5 each; each success adds a unit
    (AWS SDKs and Tools reference guide, Retry behavior, standard mode)."""
    broken = error("InternalServerError", 500)
    async with open_recorder() as (recorder, url), open_service_aws(url, transport) as aws:
        client: Any = await aws.dynamodb()

        async def fail(calls: int) -> int:
            """How often so many calls are retried that fail each time."""
            recorder.requests.clear()
            recorder.answers.extend(repeat(broken, 2 * calls))
            asked = (client.query(TableName="t") for _ in range(calls))
            results = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(one, ClientError) for one in results)
            recorder.answers.clear()
            return len(recorder.requests) - calls

        assert await fail(120) == 100
        for _ in range(5):
            await client.query(TableName="t")
        assert await fail(3) == 1


def documents(shape: Any, depth: int = 3) -> st.SearchStrategy[Any]:
    """JSON as AWS may answer for a shape: members may be missing, null or unknown."""
    match shape.type_name:
        case "structure" if shape.is_tagged_union:
            scalars = ("string", "boolean", "blob")
            inner = {
                name: one
                for name, one in shape.members.items()
                if depth > 0 or one.type_name in scalars
            }
            return st.one_of(
                *(
                    st.fixed_dictionaries({name: documents(one, depth - 1)})
                    for name, one in inner.items()
                )
            )
        case "structure":
            members = {
                name: st.none() | documents(one, depth - 1) if depth > 0 else st.none()
                for name, one in shape.members.items()
            }
            return st.fixed_dictionaries({}, optional={**members, "Unknown": st.just({"a": 1})})
        case "list":
            return st.lists(documents(shape.member, depth - 1), max_size=2 if depth > 0 else 0)
        case "map":
            values = documents(shape.value, depth - 1)
            return st.dictionaries(st.text(max_size=2), values, max_size=2 if depth > 0 else 0)
        case "blob":
            return st.binary(max_size=3).map(lambda data: b64encode(data).decode())
        case "timestamp":
            return st.integers(0, 2**32) | st.floats(0, 2**32)
        case "boolean":
            return st.booleans()
        case "string":
            return st.text(max_size=2)
    return st.integers() | st.floats(allow_nan=False)


@EACH_OPERATION
@given(data=st.data())
def test_answers_are_read_as_by_the_sdk(service: str, name: str, data: st.DataObject) -> None:
    """Bytes and times are read, and nulls and unknown members left out, whatever an answer has."""
    shape: Any = SERVICES[service].operation_model(name).output_shape
    document = data.draw(documents(shape))
    body = json.dumps(document).encode()
    parsed = create_parser("json").parse({"status_code": 200, "headers": {}, "body": body}, shape)
    del parsed["ResponseMetadata"]
    assert make_reader(shape)(document) == parsed


async def test_a_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go through the proxy that AWS's SDK would use."""
    async with open_recorder() as (recorder, proxy):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        async with open_service_aws("http://dynamodb.invalid", "lean") as aws:
            client: Any = await aws.dynamodb()
            await client.query(TableName="t")
    ((headers, _, _),) = recorder.requests
    assert headers["host"] == "dynamodb.invalid"
