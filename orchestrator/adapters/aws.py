"""AWS: one session, each client opened once for the life of the app, errors turned into ours.

A client for each call would cost 60 to 90 ms of CPU. aioboto3 takes more than a second to
import, so it is imported when the first client is opened.
"""

import asyncio
import copy
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from orchestrator.core.errors import (
    NotPermitted,
    PermanentError,
    QuotaReached,
    TemporaryError,
    event_mismatch,
)

if TYPE_CHECKING:
    import aioboto3
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

#: API reference, ReceiveMessage, WaitTimeSeconds.
LONGEST_POLL_S = 20.0
_QUOTA_CODES = frozenset(
    {"AccountLimitExceededException", "LimitExceededException", "ExecutionLimitExceeded"}
)
_DENIALS = frozenset({"AccessDenied", "AccessDeniedException"})
_MISSING_CODES = frozenset({"ResourceNotFoundException", "StateMachineDoesNotExist"})
_REFUSED_FOR_GOOD = frozenset(
    {
        "InvalidArn",
        "InvalidExecutionInput",
        "InvalidInputException",
        "InvalidName",
        "ParamValidationError",
        "ValidationException",
    }
)
#: How CodeBuild says that its role, or ours, lacks a permission, by an InvalidInputException.
_NOT_AUTHORIZED = re.compile("not authorized to perform", re.IGNORECASE)
#: DynamoDB's sentences about keys and indexes that a table doesn't have, or has of another type
#: (observed; all are ValidationExceptions).
_OF_THE_SCHEMA = re.compile(
    "does not have the specified index|[Kk]ey schema|does not match the schema"
    "|Type mismatch for (?:[Ii]ndex )?[Kk]ey|conditions on the keys|required keys was not given"
    "|Missing the key|non-existent table|does not match schema type"
)


class AWS:
    """The clients, each opened when it is first asked for and closed with the app.

    An adapter holds the way to its client (`aws.codebuild`), so that an app which never
    uses AWS needs neither a region nor the second that importing the SDK takes.
    """

    def __init__(
        self,
        stack: AsyncExitStack,
        *,
        dynamodb_region: str | None,
        events_region: str | None,
        connect_timeout_s: float,
        read_timeout_s: float,
    ) -> None:
        self._stack = stack
        self._dynamodb_region = dynamodb_region
        self._events_region = events_region
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._session: aioboto3.Session | None = None
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
        """A client that waits for an answer for as long as a poll of the queue may last."""
        client: SQSClient = await self._open("sqs", None, patience_s=LONGEST_POLL_S)
        return client

    async def _open(self, service: str, region: str | None, *, patience_s: float = 0.0) -> Any:
        name, begun_before = (service, patience_s), self._openings
        if name in self._clients:
            return self._clients[name]
        async with self._opening:
            if name in self._clients:
                return self._clients[name]
            # To find no credentials takes seconds: a crowd that waits doesn't look one by one.
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
        """Raises TemporaryError: there can be no client now."""
        import aioboto3
        from aiobotocore.config import AioConfig
        from botocore.exceptions import NoCredentialsError

        config = AioConfig(
            connect_timeout=self._connect_timeout_s,
            read_timeout=self._read_timeout_s + patience_s,
            # Two tries fit into EventBridge's 5 s; more patience is the sweep's.
            retries={"mode": "standard", "total_max_attempts": 2},
            # More than `core.ledger.bulkheads` lets the ledger use, since tiers are read here, too.
            max_pool_connections=64,
            tcp_keepalive=True,
        )
        with aws_errors(f"Opening AWS {service}"):
            try:
                self._session = self._session or aioboto3.Session(botocore_session=_new_session())
                # A client that is opened without any never looks for them again, and those of a
                # role may come late (EC2 user guide, Retrieve security credentials).
                if await cast("Any", self._session.get_credentials()) is None:
                    raise NoCredentialsError
                return await self._stack.enter_async_context(
                    self._session.client(service, region_name=region, config=config)
                )
            except ValueError as error:  # so botocore says that an endpoint is none
                raise TemporaryError(f"Opening AWS {service}: {error}") from error


def _new_session() -> "AioSession":
    from aiobotocore.session import AioSession

    session = AioSession(event_hooks=copy.copy(_handlers()), include_builtin_handlers=False)
    session.register_component(
        "data_loader", _service_models(session.get_config_variable("data_path"))
    )
    return session


@cache
def _handlers() -> "AioHierarchicalEmitter":
    """botocore's handlers of a session's events, registered once a process: some 20 ms for each
    app else."""
    from aiobotocore.hooks import AioHierarchicalEmitter
    from aiobotocore.session import AioSession

    emitter = AioHierarchicalEmitter()
    AioSession(event_hooks=emitter)
    return emitter


@cache
def _service_models(search_path: str | None) -> "Loader":
    """The descriptions of AWS's services, parsed once a process: some 80 ms for each app else."""
    from botocore.loaders import create_loader

    return create_loader(search_path)


@asynccontextmanager
async def open_aws(
    *,
    dynamodb_region: str | None,
    events_region: str | None,
    connect_timeout_s: float,
    read_timeout_s: float,
) -> AsyncIterator[AWS]:
    """AWS for the life of the app. A region that is None is the standard chain's."""
    async with AsyncExitStack() as stack:
        yield AWS(
            stack,
            dynamodb_region=dynamodb_region,
            events_region=events_region,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
        )


@contextmanager
def aws_errors(call: str, *, missing: str | None = None) -> Iterator[None]:
    """Turn what botocore raises inside into our errors. `call` names it: "CodeBuild StartBuild".
    The answer is read inside, too, so that one which isn't what the API says is no bug of ours.

    `missing` is the sentence for a thing that the event asked for and AWS doesn't have.

    Only what AWS refuses for its content is permanent. Access denied, a missing table, a
    code nobody has heard of: somebody will mend them, and the event must survive. An answer
    that never came may belong to a call that had its effect; a refusal surely had none.
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
        said = f"{type(error).__name__}: {error}"
        raise TemporaryError(f"{call}: the answer doesn't match the API: {said}") from error


def is_about_schema(message: str) -> bool:
    """Whether DynamoDB refuses how a table or an index of ours is made, rather than an item."""
    return bool(_OF_THE_SCHEMA.search(message))


def _is_refusal(error: "ClientError") -> bool:
    """AWS said no to the only try: nothing was done. A try before it may have had its effect."""
    about = error.response.get("ResponseMetadata", {})
    is_first = about.get("RetryAttempts", 1) == 0
    return is_first and 400 <= about.get("HTTPStatusCode", 500) < 500
