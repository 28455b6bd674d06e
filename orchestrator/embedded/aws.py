"""An embedded AWS on 127.0.0.1: moto for DynamoDB, SQS and EventBridge, `codebuild.py` for
CodeBuild.

It never modifies `os.environ`: its users get its variables from `environment()`. moto has one state
per process: opening an embedded AWS empties any other one.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import cache, partial
from http import HTTPStatus
from threading import Thread
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from aiohttp import web
from boto3.dynamodb.types import TypeSerializer

from orchestrator.embedded.codebuild import HOST, REGION, CodeBuildStandIn, open_codebuild

try:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.test import EnvironBuilder, run_wsgi_app
except ImportError as missing:
    raise ImportError(
        'The embedded AWS needs moto: pip install "saas-orchestrator[dev]".'
    ) from missing

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication, WSGIEnvironment

_KEY = "testing"
#: Ignores proxies of the environment.
_DIRECT = AioConfig(proxies={})
#: Beyond what any of the services accepts (DynamoDB developer guide, quotas: 16 MB).
_MAX_BODY = 2**25
#: In seconds. aiohttp takes 0 for no limit: closing would wait for a long poll of SQS.
_CLOSE_S = 0.05


def _sample_tier(tier: str, job_attribute: str) -> Mapping[str, object]:
    name = tier.lower()
    return {
        "tier": tier,
        job_attribute: f"{name}-tenant",
        "deprovisioningJobIdentifier": f"{name}-tenant-teardown",
        "cleanupJobIdentifier": f"{name}-tenant-cleanup",
        "EKS_CLUSTER_NAME": f"saas-{name}",
        "VPC_ID": "vpc-0a1b2c3d4e5f60718",
        "AWS_REGION": REGION,
        "DOMAIN_NAME": "saas.example",
        "CONTROL_PLANE_HOST": "https://control.saas.example",
        "ACCESS_TOKEN_EXPIRATION": 3600,
        "REFRESH_TOKEN_EXPIRATION": 86400,
        "AUTH_CODE_EXPIRATION": 180,
    }


SAMPLE_TIERS = (
    _sample_tier("BASIC", "jobName"),  # the attribute's name in arc-saas
    _sample_tier("STANDARD", "jobIdentifier"),
    _sample_tier("PREMIUM", "jobIdentifier"),
)


@cache
def _session() -> AioSession:
    """One session for the process, so that AWS's service models are parsed once."""
    return AioSession()


def _open_client(service: str, url: str) -> Any:
    # There is no TLS, and loading the certificate authorities would take longer than the requests.
    return _session().create_client(
        service,
        region_name=REGION,
        endpoint_url=url,
        config=_DIRECT,
        verify=False,
        aws_access_key_id=_KEY,
        aws_secret_access_key=_KEY,
    )


@attrs.frozen
class EmbeddedAWS:
    """An open embedded AWS: its endpoints, and methods to create resources."""

    endpoint_url: str
    codebuild: CodeBuildStandIn

    def environment(self) -> dict[str, str]:
        """The environment variables with which a child process or a session uses it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ENDPOINT_URL_CODEBUILD": self.codebuild.url,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            # Its servers are reached without a proxy (both spellings are read).
            "NO_PROXY": HOST,
            "no_proxy": HOST,
        }

    async def prepare(
        self,
        *,
        tier_table: str,
        tiers: Iterable[Mapping[str, object]],
        tables: Iterable[Mapping[str, Any]] = (),
        bus: str | None,
        projects: Iterable[str],
        queue: str | None = None,
    ) -> None:
        """Create the tier table with its items, other `tables` by their CreateTable parameters,
        the event bus and the queue if they are named, and the projects."""
        for project in projects:
            self.codebuild.add_project(project)
        async with _open_client("dynamodb", self.endpoint_url) as dynamodb:
            await dynamodb.create_table(
                TableName=tier_table,
                AttributeDefinitions=[{"AttributeName": "tier", "AttributeType": "S"}],
                KeySchema=[{"AttributeName": "tier", "KeyType": "HASH"}],
                BillingMode="PAY_PER_REQUEST",
            )
            serializer = TypeSerializer()
            for tier in tiers:
                item = {name: serializer.serialize(value) for name, value in tier.items()}
                await dynamodb.put_item(TableName=tier_table, Item=item)
            for parameters in tables:
                await dynamodb.create_table(**parameters)
        if bus and bus != "default":  # every account has the default bus
            async with _open_client("events", self.endpoint_url) as events:
                await events.create_event_bus(Name=bus)
        if queue:
            async with _open_client("sqs", self.endpoint_url) as sqs:
                await sqs.create_queue(QueueName=queue)

    def queue_url(self, queue: str) -> str:
        """The URL of a queue that was created."""
        return f"{self.endpoint_url}/123456789012/{queue}"


@attrs.frozen
class BusQueue:
    """The events of a bus in their order: a rule with a queue as its target."""

    _sqs: Any
    _url: str

    async def receive(self, *, wait_s: int = 5) -> list[dict[str, Any]]:
        """The envelopes that are in the queue or arrive within `wait_s`; each is received once."""
        answer = await self._sqs.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s
        )
        messages = answer.get("Messages", [])
        for message in messages:
            await self._sqs.delete_message(
                QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"]
            )
        return [json.loads(message["Body"]) for message in messages]


@asynccontextmanager
async def open_bus_queue(aws: EmbeddedAWS, bus: str) -> AsyncIterator[BusQueue]:
    """A queue that gets every event of the bus from now on."""
    async with (
        _open_client("events", aws.endpoint_url) as events,
        _open_client("sqs", aws.endpoint_url) as sqs,
    ):
        url = (await sqs.create_queue(QueueName=f"{bus}-events"))["QueueUrl"]
        described = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        arn = described["Attributes"]["QueueArn"]
        everything = json.dumps({"account": [{"exists": True}]})
        await events.put_rule(Name="everything", EventBusName=bus, EventPattern=everything)
        await events.put_targets(
            Rule="everything", EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}]
        )
        yield BusQueue(sqs, url)


@asynccontextmanager
async def open_embedded_aws(
    *, clock: Callable[[], float] = time.time, page_size: int = 100
) -> AsyncIterator[EmbeddedAWS]:
    """Serve an empty AWS; `clock` and `page_size` are those of its CodeBuild."""
    async with open_codebuild(clock=clock, page_size=page_size) as codebuild, _open_moto() as url:
        yield EmbeddedAWS(url, codebuild)


@asynccontextmanager
async def _open_moto() -> AsyncIterator[str]:
    # Not ThreadedMotoServer: it has a thread and a connection for each request.
    app = web.Application(client_max_size=_MAX_BODY)
    app.router.add_route("*", "/{path:.*}", _Moto().handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        url = f"http://{HOST}:{runner.addresses[0][1]}"
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.post(f"{url}/moto-api/reset"),
        ):
            pass
        yield url
    finally:
        await runner.cleanup()


@cache
def _moto() -> "WSGIApplication":
    """One application for the process, as moto's state is: building its routes is slow."""
    application: WSGIApplication = DomainDispatcherApplication(create_backend_app)
    return application


@cache
def _moto_dynamodb() -> "WSGIApplication":
    """moto's DynamoDB alone: finding out for each request which service it is meant for is slow."""
    application: WSGIApplication = create_backend_app("dynamodb")
    return application


@attrs.frozen
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class _Moto:
    """moto's services, with what its DynamoDB lacks.

    DynamoDB's requests are handled one at a time, since its conditional writes are not atomic. A
    transaction repeated with the same ClientRequestToken is answered as before (API reference,
    TransactWriteItems).
    """

    def __init__(self) -> None:
        self._answers: dict[str, _Answer] = {}

    async def handle(self, request: web.Request) -> web.Response:
        environ = EnvironBuilder(
            path=request.raw_path,
            method=request.method,
            headers=list(request.headers.items()),
            data=await request.read(),
        ).get_environ()
        target = request.headers.get("X-Amz-Target", "")
        if not target.startswith("DynamoDB_"):
            # In a thread: SQS waits in it for messages.
            answer = await _in_thread(partial(_ask, _moto(), environ))
        elif target.endswith(".TransactWriteItems"):
            answer = self._transact(environ, await request.json())
        else:
            answer = _ask(_moto_dynamodb(), environ)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    def _transact(self, environ: "WSGIEnvironment", parameters: Mapping[str, Any]) -> _Answer:
        token = parameters.get("ClientRequestToken")
        if token in self._answers:
            return self._answers[token]
        answer = _ask(_moto_dynamodb(), environ)
        if token is not None and answer.status == HTTPStatus.OK:
            self._answers[token] = answer
        return answer


def _ask(application: "WSGIApplication", environ: "WSGIEnvironment") -> _Answer:
    content, status, headers = run_wsgi_app(application, environ)
    return _Answer(int(status.split()[0]), dict(headers), b"".join(content))


async def _in_thread(work: Callable[[], _Answer]) -> _Answer:
    """The result of work in a thread of its own, which the end of the process doesn't wait for."""
    done: Future[_Answer] = Future()

    def run() -> None:
        try:
            answer = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the work is waited for
            done.set_exception(error)
        else:
            done.set_result(answer)

    done.set_running_or_notify_cancel()
    Thread(target=run, name="moto", daemon=True).start()
    return await asyncio.wrap_future(done)
