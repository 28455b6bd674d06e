"""Opens AWS clients, once each for the life of the app, and translates botocore's errors.

A client for each call would cost 60 to 90 ms of CPU. The SDK takes more than a second to import,
so it is imported when the first client is opened.
"""

import asyncio
import copy
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, cast

import structlog

from orchestrator.adapters.request_meter import RequestMeter
from orchestrator.core.errors import (
    NotPermitted,
    PermanentError,
    QuotaReached,
    TemporaryError,
    event_mismatch,
)
from orchestrator.core.metrics import NO_METRICS, Metrics
from orchestrator.core.tracing import NO_TRACING, Tracing

if TYPE_CHECKING:
    from aiobotocore.hooks import AioHierarchicalEmitter
    from aiobotocore.session import AioSession
    from botocore.exceptions import ClientError
    from botocore.loaders import Loader
    from types_aiobotocore_codebuild import CodeBuildClient
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_events import EventBridgeClient
    from types_aiobotocore_secretsmanager import SecretsManagerClient
    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_ssm import SSMClient
    from types_aiobotocore_stepfunctions import SFNClient

Transport = Literal["sdk", "lean"]

#: API reference, ReceiveMessage, WaitTimeSeconds.
LONGEST_POLL_S = 20.0
_QUOTA_CODES = frozenset(
    {"AccountLimitExceededException", "LimitExceededException", "ExecutionLimitExceeded"}
)
log = structlog.get_logger("orchestrator.aws")

_DENIALS = frozenset({"AccessDenied", "AccessDeniedException"})
_MISSING_CODES = frozenset({"ResourceNotFoundException", "StateMachineDoesNotExist"})
_REFUSED_FOR_GOOD = frozenset(
    {
        "InvalidArn",
        "InvalidExecutionInput",
        "InvalidInputException",
        "InvalidName",
        "ValidationException",
    }
)
#: In CodeBuild's InvalidInputException: its role, or the service's, lacks a permission.
_NOT_AUTHORIZED = re.compile("not authorized to perform", re.IGNORECASE)
#: DynamoDB's messages about keys and indexes that a table lacks, or that have another type
#: (observed; all are ValidationExceptions).
_OF_THE_SCHEMA = re.compile(
    "does not have the specified index|[Kk]ey schema|does not match the schema"
    "|Type mismatch for (?:[Ii]ndex )?[Kk]ey|conditions on the keys|required keys was not given"
    "|Missing the key|non-existent table|does not match schema type"
)


class AWS:
    """The clients, each opened on first use and closed with the app.

    An adapter holds the method that opens its client (`aws.codebuild`), so that an app which never
    uses AWS needs no region and doesn't import the SDK.
    """

    def __init__(
        self,
        stack: AsyncExitStack,
        *,
        dynamodb_region: str | None,
        events_region: str | None,
        connect_timeout_s: float,
        read_timeout_s: float,
        transport: Transport = "sdk",
        metrics: Metrics = NO_METRICS,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._stack = stack
        self._metrics = metrics
        self._tracing = tracing
        self._transport = transport
        self._dynamodb_region = dynamodb_region
        self._events_region = events_region
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._session: AioSession | None = None
        self._clients: dict[tuple[str, float], Any] = {}
        self._opening = asyncio.Lock()
        self._openings = 0
        self._troubles: dict[tuple[str, float], tuple[int, TemporaryError]] = {}

    async def codebuild(self) -> "CodeBuildClient":
        client: CodeBuildClient = await self._open("codebuild", None)
        return client

    async def dynamodb(self) -> "DynamoDBClient":
        client: DynamoDBClient = await self._open("dynamodb", self._dynamodb_region)
        return client

    async def events(self) -> "EventBridgeClient":
        client: EventBridgeClient = await self._open("events", self._events_region)
        return client

    async def secrets_manager(self) -> "SecretsManagerClient":
        client: SecretsManagerClient = await self._open("secretsmanager", None)
        return client

    async def ssm(self) -> "SSMClient":
        client: SSMClient = await self._open("ssm", None)
        return client

    async def sqs(self) -> "SQSClient":
        client: SQSClient = await self._open("sqs", None)
        return client

    async def step_functions(self) -> "SFNClient":
        client: SFNClient = await self._open("stepfunctions", None)
        return client

    async def sqs_polling(self) -> "SQSClient":
        """A client whose read timeout is long enough for long polling of the queue."""
        client: SQSClient = await self._open("sqs", None, patience_s=LONGEST_POLL_S)
        return client

    async def _open(self, service: str, region: str | None, *, patience_s: float = 0.0) -> Any:
        name, begun_before = (service, patience_s), self._openings
        if name in self._clients:
            return self._clients[name]
        async with self._opening:
            if name in self._clients:
                return self._clients[name]
            # A failed search for credentials takes seconds: all waiting callers get its error.
            failed, trouble = self._troubles.get(name, (0, None))
            if trouble is not None and failed > begun_before:
                raise copy.copy(trouble)
            self._openings += 1
            number = self._openings
            try:
                self._clients[name] = await self._enter(service, region, patience_s)
            except TemporaryError as error:
                error.nothing_done = True
                self._troubles[name] = (number, error)
                raise copy.copy(error) from error
            return self._clients[name]

    async def _enter(self, service: str, region: str | None, patience_s: float) -> Any:
        """Open a client. Raises TemporaryError: it can't be opened now."""
        from aiobotocore.config import AioConfig
        from botocore.exceptions import NoCredentialsError

        config = AioConfig(
            connect_timeout=self._connect_timeout_s,
            read_timeout=self._read_timeout_s + patience_s,
            # Two tries fit into EventBridge's 5 s; the sweep does further retries.
            retries={"mode": "standard", "total_max_attempts": 2},
            # More than `core.ledger.bulkheads` lets the ledger use, since tiers are read here, too.
            max_pool_connections=64,
            tcp_keepalive=True,
            # Validation and botocore's own user agent cost some 100 µs a call each. The tests
            # compare all requests with AWS's shapes instead (`tests/request_shapes.py`).
            parameter_validation=False,
            user_agent=_user_agent(),
        )
        with aws_errors(f"Opening AWS {service}"):
            try:
                self._session = self._session or new_session()
                # A client opened without credentials never looks for them again, and a role's
                # may come late (EC2 user guide, Retrieve security credentials).
                credentials = await cast("Any", self._session.get_credentials())
                if credentials is None:
                    raise NoCredentialsError
                client = await self._stack.enter_async_context(
                    clients_of(self._session)(service, region_name=region, config=config)
                )
            except ValueError as error:  # botocore's error for an invalid endpoint
                raise TemporaryError(f"Opening AWS {service}: {error}") from error
        meter = RequestMeter(service, self._metrics, self._tracing)
        meter.watch(client.meta.events)
        if self._transport == "lean":
            from orchestrator.adapters.lean_transport import LEAN_SERVICES, LeanClient

            if service in LEAN_SERVICES:
                return LeanClient(client, credentials, meter.call)
        return client


@cache
def _user_agent() -> str:
    """The `User-Agent` of all requests, to which the SDK adds botocore's version. botocore's own
    is built anew for each request."""
    names = ("saas-orchestrator", "aiobotocore")
    return " ".join(f"{name}/{version(name)}" for name in names)


def clients_of(session: "AioSession") -> Callable[..., AbstractAsyncContextManager[Any]]:
    """The function that opens clients: of aioboto3 or, where that isn't installed, of aiobotocore.

    aioboto3 15.5 requires an aiobotocore of 2025-10: an app that needs a later one leaves it out.
    """
    try:
        import aioboto3
    except ModuleNotFoundError:
        return session.create_client
    return aioboto3.Session(botocore_session=session).client


def new_session() -> "AioSession":
    """A session with the process's handlers and service models."""
    from aiobotocore.session import AioSession

    session = AioSession(event_hooks=copy.copy(_handlers()), include_builtin_handlers=False)
    session.register_component(
        "data_loader", _service_models(session.get_config_variable("data_path"))
    )
    return session


@cache
def _handlers() -> "AioHierarchicalEmitter":
    """botocore's handlers of a session's events, registered once a process, which saves some 20 ms
    for each app."""
    from aiobotocore.hooks import AioHierarchicalEmitter
    from aiobotocore.session import AioSession

    emitter = AioHierarchicalEmitter()
    AioSession(event_hooks=emitter)
    return emitter


@cache
def _service_models(search_path: str | None) -> "Loader":
    """AWS's service models, parsed once a process, which saves some 80 ms for each app."""
    from botocore.loaders import create_loader

    return create_loader(search_path)


@asynccontextmanager
async def open_aws(
    *,
    dynamodb_region: str | None,
    events_region: str | None,
    connect_timeout_s: float,
    read_timeout_s: float,
    transport: Transport = "sdk",
    metrics: Metrics = NO_METRICS,
    tracing: Tracing = NO_TRACING,
) -> AsyncIterator[AWS]:
    """AWS clients for the life of the app. A region of None uses AWS's own configuration chain.
    "lean" is described in `orchestrator.adapters.lean_transport`."""
    async with AsyncExitStack() as stack:
        yield AWS(
            stack,
            dynamodb_region=dynamodb_region,
            events_region=events_region,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            transport=transport,
            metrics=metrics,
            tracing=tracing,
        )


@contextmanager
def aws_errors(call: str, *, missing: str | None = None) -> Iterator[None]:
    """Translate botocore's errors into the core's. `call` is the request: "CodeBuild StartBuild".
    The answer is parsed inside, too, so that one which doesn't match the API is a TemporaryError.

    `missing` is the message if a resource that the event names doesn't exist in AWS.

    Only a request that AWS refuses for its content is permanent. Access denied, a missing table, an
    unknown error code: an operator can fix them, and the event must survive. A call whose answer
    was lost may have had its effect; a refused one certainly had none.
    """
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        message = error.response.get("Error", {}).get("Message", "")
        sentence = f"{call}: {code}: {message}"
        if missing and code in _MISSING_CODES:
            raise event_mismatch(missing) from error
        is_denied = code in _DENIALS or bool(_NOT_AUTHORIZED.search(message))
        if code in _REFUSED_FOR_GOOD and not is_denied and not is_about_schema(message):
            raise PermanentError(sentence) from error
        kind: type[TemporaryError] = TemporaryError
        if code in _QUOTA_CODES:
            kind = QuotaReached
        elif is_denied:
            kind = NotPermitted
        raise kind(sentence, nothing_done=_is_refusal(error)) from error
    except ParamValidationError as error:
        raise PermanentError(f"{call}: {error}") from error
    except (BotoCoreError, TimeoutError) as error:
        raise TemporaryError(f"{call}: {error}") from error
    except (ResponseParserError, LookupError, TypeError, ValueError, AttributeError) as error:
        if not isinstance(error, ResponseParserError):
            # It may be a bug of the adapter as well: the event survives it, and the log shows it.
            log.error("an answer of AWS can't be read", call=call, exc_info=error)
        said = f"{type(error).__name__}: {error}"
        raise TemporaryError(f"{call}: the answer doesn't match the API: {said}") from error


def is_about_schema(message: str) -> bool:
    """Whether DynamoDB's error is about the schema of a table or index, rather than an item."""
    return bool(_OF_THE_SCHEMA.search(message))


def _is_refusal(error: "ClientError") -> bool:
    """Whether AWS refused the only try, so that nothing was done: an earlier try may have had its
    effect."""
    about = error.response.get("ResponseMetadata", {})
    is_first = about.get("RetryAttempts", 1) == 0
    return is_first and 400 <= about.get("HTTPStatusCode", 500) < 500
