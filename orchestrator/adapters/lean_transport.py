"""An opt-in transport for the frequent requests to DynamoDB and CodeBuild: `aws.transport` "lean".

For each request the SDK resolves endpoint rules, walks through the shapes of request and answer,
and calls some thirty event handlers. This transport signs the JSON (`aws_signature.py`), sends it
over the SDK client's own HTTP session (its connections, proxies, CA bundle and timeouts), and reads
the answer with functions that are made from AWS's service model. Credentials, retry rules and
errors are botocore's, so that callers see no difference.

It emits none of botocore's events: what listens to them doesn't see these requests, so that the
client's meter makes their metrics and spans. It doesn't use DynamoDB's account-based endpoints.
"""

import asyncio
import json
import uuid
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any, cast

import attrs
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ChecksumError, ClientError
from botocore.model import OperationModel
from botocore.parsers import create_parser
from botocore.retries.quota import RetryQuota
from botocore.retries.standard import (
    ExponentialBackoff,
    RetryEventAdapter,
    RetryHandler,
    RetryPolicy,
    RetryQuotaChecker,
    StandardRetryConditions,
)
from yarl import URL

from orchestrator.adapters.aws_signature import Signer

#: The operations that a run needs, by service. All others are left to the SDK's client.
_OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "codebuild": (
        "BatchGetBuilds",
        "ListBuilds",
        "ListBuildsForProject",
        "StartBuild",
        "StopBuild",
    ),
    "dynamodb": ("BatchGetItem", "GetItem", "Query", "TransactWriteItems"),
}
LEAN_SERVICES = frozenset(_OPERATIONS)

Reader = Callable[[Any], Any]
#: Entered with the name of an operation for each call of it.
Meter = Callable[[str], AbstractContextManager[None]]


@attrs.frozen
class _Operation:
    """What is the same in each call of an operation."""

    model: OperationModel
    headers: Mapping[str, str]
    read: Reader


@attrs.frozen
class _Request:
    """A request as aiobotocore's HTTP session uses it."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"
    stream_output: bool = False


@attrs.frozen
class _Answer:
    """A response as botocore's retry rules read it."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes


class LeanClient:
    """Takes the place of an SDK client: has its methods, `exceptions` and `meta`."""

    def __init__(self, client: Any, credentials: Any, metered: Meter) -> None:
        """`client` is an open aiobotocore client of one of `LEAN_SERVICES`, with a fixed user agent
        and the retry mode "standard"; `credentials` are its session's. `metered` sees each call,
        since botocore's hooks don't."""
        meta = client.meta
        self._client = client
        self._metered = metered
        self._credentials = credentials
        # It has all that is configured for connections.
        self._http = client._endpoint.http_session  # noqa: SLF001
        self._url = meta.endpoint_url.rstrip("/") + "/"
        self._signer = Signer(
            self._url, service=meta.service_model.signing_name, region=meta.region_name
        )
        self._parser = create_parser(meta.service_model.protocol)
        self._quota = cast("Any", RetryQuotaChecker(RetryQuota()))
        self._retries = RetryHandler(
            retry_policy=RetryPolicy(
                StandardRetryConditions(meta.config.retries["total_max_attempts"]),
                ExponentialBackoff(),
            ),
            retry_event_adapter=RetryEventAdapter(),
            retry_quota=self._quota,
        )
        headers = {
            "Host": URL(self._url).host_port_subcomponent,
            "User-Agent": meta.config.user_agent,
        }
        for name in _OPERATIONS[meta.service_model.service_name]:
            operation = _describe(meta.service_model.operation_model(name), headers)
            setattr(self, xform_name(name), partial(self._call, operation))

    def __getattr__(self, name: str) -> Any:
        """All that this transport doesn't do itself is the SDK client's."""
        return getattr(self._client, name)

    async def _call(self, operation: _Operation, **params: Any) -> dict[str, Any]:
        """Call an operation; each try sends the same bytes.

        Raises:
            ClientError: AWS answers with an error; it is one of the client's `exceptions`.
            BotoCoreError: there is no answer, or a corrupted one.
            ValueError, TypeError, AttributeError: the answer doesn't match the API.
        """
        with self._metered(operation.model.name):
            return await self._answer(operation, params)

    async def _answer(self, operation: _Operation, params: dict[str, Any]) -> dict[str, Any]:
        """The answer, after retries."""
        for name in operation.model.idempotent_members:
            params.setdefault(name, str(uuid.uuid4()))
        # The text is the same as of botocore's JSONSerializer.
        body = _to_json(params).encode()
        context: dict[str, Any] = {}
        for attempt in count(1):
            request = await self._sign(operation, body)
            answer: _Answer | None = None
            error: BotoCoreError | None = None
            refusal: dict[str, Any] = {}
            try:
                answer = await self._send(request)
                if answer.status_code < 300:
                    _compare_checksum(answer)
                    result: dict[str, Any] = operation.read(json.loads(answer.content or b"{}"))
                    self._quota.release_retry_quota(context, answer)
                    return result | {"ResponseMetadata": _metadata(answer, attempt)}
                refusal = self._parse_refusal(operation, answer, attempt)
            except BotoCoreError as caught:
                error = caught
            delay_s = self._retries.needs_retry(
                attempts=attempt,
                operation=operation.model,
                response=answer and (answer, refusal),
                caught_exception=error,
                request_dict={"context": context},
            )
            if delay_s is None:
                raise error or self._client_error(operation, refusal)
            await asyncio.sleep(delay_s)
        raise AssertionError  # count() doesn't end

    async def _sign(self, operation: _Operation, body: bytes) -> _Request:
        # These are refreshed when they are about to expire.
        credentials = await self._credentials.get_frozen_credentials()
        headers = self._signer.sign(operation.headers, body, credentials, datetime.now(UTC))
        return _Request(self._url, headers, body)

    async def _send(self, request: _Request) -> _Answer:
        """Raises BotoCoreError: there is no answer."""
        response = await self._http.send(request)
        return _Answer(response.status_code, response.headers, await response.content)

    def _parse_refusal(
        self, operation: _Operation, answer: _Answer, attempt: int
    ) -> dict[str, Any]:
        """What the SDK's client has as the `response` of a ClientError, with the fields of the
        error's own shape, such as `CancellationReasons`."""
        document = {
            "status_code": answer.status_code,
            "headers": answer.headers,
            "body": answer.content,
        }
        output: Any = operation.model.output_shape
        parsed: dict[str, Any] = self._parser.parse(document, output)
        shape = operation.model.service_model.shape_for_error_code(parsed["Error"]["Code"])
        if shape is not None:
            parsed.update(self._parser.parse(document, shape))
        parsed["ResponseMetadata"]["RetryAttempts"] = attempt - 1
        return parsed

    def _client_error(self, operation: _Operation, refusal: dict[str, Any]) -> ClientError:
        kind = self._client.exceptions.from_code(refusal["Error"]["Code"])
        error: ClientError = kind(refusal, operation.model.name)
        return error


def _describe(model: OperationModel, headers: Mapping[str, Any]) -> _Operation:
    """`headers` are those that all operations have."""
    metadata: Mapping[str, Any] = model.service_model.metadata
    own = {
        "X-Amz-Target": f"{metadata['targetPrefix']}.{model.name}",
        "Content-Type": f"application/x-amz-json-{metadata['jsonVersion']}",
    }
    return _Operation(model, {**headers, **own}, make_reader(model.output_shape))


def _compare_checksum(answer: _Answer) -> None:
    """Raises ChecksumError: DynamoDB's answer was corrupted on its way (developer guide, DynamoDB
    low-level API, Response format)."""
    expected = answer.headers.get("x-amz-crc32")
    if expected is not None and int(expected) != zlib.crc32(answer.content):
        raise ChecksumError(
            checksum_type="crc32",
            expected_checksum=expected,
            actual_checksum=str(zlib.crc32(answer.content)),
        )


def _metadata(answer: _Answer, attempt: int) -> dict[str, Any]:
    return {
        "RequestId": answer.headers.get("x-amzn-requestid"),
        "HTTPStatusCode": answer.status_code,
        "HTTPHeaders": answer.headers,
        "RetryAttempts": attempt - 1,
    }


def _encode_blob(value: Any) -> str:
    if not isinstance(value, bytes | bytearray):
        raise TypeError(f"{type(value).__name__} is no value of a request to AWS.")
    return b64encode(value).decode()


_to_json = json.JSONEncoder(default=_encode_blob).encode


def make_reader(shape: Any) -> Reader:
    """A function that reads answers of a shape from JSON like botocore's parser: bytes for blobs,
    datetimes for timestamps, without nulls and members that the shape doesn't have."""
    read = _make_reader(shape, {})
    assert read is not None  # noqa: S101 - an operation's output is a structure
    return read


def _make_reader(shape: Any, made: dict[str, Reader | None]) -> Reader | None:
    """The reader of a shape, None for values that stay as they are. `made` are readers by the name
    of their shape, since shapes can contain themselves."""
    if shape.name in made:
        return made[shape.name]
    match shape.type_name:
        case "structure":
            members: dict[str, Reader | None] = {}
            made[shape.name] = partial(_read_structure, members)
            members |= {name: _make_reader(one, made) for name, one in shape.members.items()}
        case "list":
            item = _make_reader(shape.member, made)
            made[shape.name] = item and partial(_read_list, item)
        case "map":
            item = _make_reader(shape.value, made)
            made[shape.name] = item and partial(_read_map, item)
        case _:
            made[shape.name] = _SCALARS.get(shape.type_name)
    return made[shape.name]


def _read_structure(members: Mapping[str, Reader | None], value: Any) -> dict[str, Any]:
    return {
        name: one if (read := members[name]) is None else read(one)
        for name, one in value.items()
        if one is not None and name in members
    }


def _read_list(read: Reader, value: Any) -> list[Any]:
    return [read(one) for one in value]


def _read_map(read: Reader, value: Any) -> dict[str, Any]:
    return {name: read(one) for name, one in value.items()}


def _read_timestamp(value: float) -> datetime:
    """AWS's JSON has seconds since 1970 (Smithy specification, AWS JSON 1.1 protocol)."""
    return datetime.fromtimestamp(value, UTC)


_SCALARS: Mapping[str, Reader] = {"blob": b64decode, "timestamp": _read_timestamp}
