"""Each request that the service sends to AWS fits the operation's shape.

The clients don't validate parameters. These tests have every adapter send all its requests to a
server that accepts anything; the fixture `requests` compares them with AWS's own descriptions.
"""

import ast
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore import xform_name
from botocore.session import Session

from orchestrator.adapters import dynamodb as _anchor
from orchestrator.adapters.aws import AWS
from orchestrator.adapters.codebuild.builder import CodeBuildBuilder
from orchestrator.adapters.codebuild.listings import BuildListings
from orchestrator.adapters.dynamodb.items import table_schema
from orchestrator.adapters.dynamodb.ledger import DynamoDBLedger
from orchestrator.adapters.dynamodb.tier_catalog import DynamoDBTierCatalog
from orchestrator.adapters.eventbridge.publisher import EventBridgePublisher
from orchestrator.adapters.parameter_store.secret_store import ParameterStore
from orchestrator.adapters.secrets_manager.secret_store import SecretsManagerStore
from orchestrator.adapters.sqs.inbox import SQSInbox
from orchestrator.adapters.step_functions.builder import StepFunctionsBuilder
from orchestrator.core.errors import PermanentError
from orchestrator.core.ledger.lifecycle import NO_STATE
from orchestrator.core.ledger.records import RunStatus
from orchestrator.core.queue.inbox import Message
from orchestrator.testing import ManualClock
from tests.aws import open_service_aws
from tests.contracts.samples import FULL, NOW, job
from tests.request_shapes import Requests

TABLE = "the-table"
QUEUE = "http://127.0.0.1:9/123456789012/events.fifo"
EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:machine:key"
MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:machine"
BUILD = {
    "id": "project:1",
    "projectName": "project",
    "buildStatus": "IN_PROGRESS",
    "startTime": 1.8e9,
}
INDEXLESS = {**table_schema(TABLE), "TableStatus": "ACTIVE", "GlobalSecondaryIndexes": []}

#: By operation: its answers, one after the other; the last one is repeated.
ANSWERS: dict[str, list[dict[str, Any]]] = {
    "StartBuild": [{"build": BUILD}],
    "ListBuilds": [{"ids": ["project:1"], "nextToken": "more"}, {"ids": []}],
    "ListBuildsForProject": [{"ids": ["project:1"], "nextToken": "more"}, {"ids": []}],
    "BatchGetBuilds": [{"builds": []}],
    "DescribeStateMachine": [{"type": "STANDARD"}],
    "DescribeExecution": [
        {"executionArn": EXECUTION, "stateMachineArn": MACHINE, "status": "RUNNING"}
    ],
    "GetParameter": [{"Parameter": {"Value": "hush"}}],
    "GetSecretValue": [{"SecretString": "hush"}],
    "PutEvents": [{"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}],
    "Query": [{"Items": [], "Count": 0}],
    "BatchGetItem": [{"Responses": {}}],
    "DescribeTimeToLive": [{"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}}],
    # For the waiter, for the comparison, and once each index has been added.
    "DescribeTable": [
        {"Table": INDEXLESS},
        {"Table": INDEXLESS},
        {
            "Table": table_schema(TABLE)
            | {
                "TableStatus": "ACTIVE",
                "GlobalSecondaryIndexes": [
                    {**index, "IndexStatus": "ACTIVE"}
                    for index in table_schema(TABLE)["GlobalSecondaryIndexes"]
                ],
            }
        },
    ],
}
ERRORS = {"CreateSecret": "ResourceExistsException", "GetQueueUrl": "QueueDoesNotExist"}


@attrs.define
class Anything:
    """An AWS that answers every request."""

    asked: dict[str, int] = attrs.field(factory=dict)
    user_agents: set[str] = attrs.field(factory=set)

    async def handle_request(self, request: web.Request) -> web.Response:
        action = request.headers["X-Amz-Target"].partition(".")[2]
        self.user_agents.add(request.headers["User-Agent"])
        number = self.asked[action] = self.asked.get(action, 0) + 1
        status, document = 200, {}
        if action in ERRORS:
            status, document = 400, {"__type": ERRORS[action]}
        elif listed := ANSWERS.get(action):
            document = listed[min(number, len(listed)) - 1]
        return web.json_response(document, status=status, content_type="application/x-amz-json-1.1")


@pytest.fixture
def anything() -> Anything:
    return Anything()


@pytest.fixture
async def aws(anything: Anything) -> AsyncIterator[AWS]:
    app = web.Application()
    app.router.add_post("/", anything.handle_request)
    async with (
        TestServer(app, host="127.0.0.1") as server,
        open_service_aws(str(server.make_url("/"))) as opened,
    ):
        yield opened


async def use_codebuild(aws: AWS, clock: ManualClock) -> None:
    listings = BuildListings(aws.codebuild, clock, name="MINE")
    options = {
        "buildspec": "",
        "computeType": "BUILD_GENERAL1_LARGE",
        "environmentType": "ARM_CONTAINER",
        "image": "aws/codebuild/standard:7.0",
        "serviceRole": "role",
        "sourceVersion": "main",
        "timeoutInMinutes": 90,
    }
    builder = CodeBuildBuilder(aws.codebuild, listings, name="MINE").configured(options)
    variables = {
        "TEXT": "x",
        "EMPTY": "",
        "NUMBER": 7,
        "NONE": None,
        "OBJECT": {"deep": [1.5, True]},
        "SECRET": {"type": "PARAMETER_STORE", "value": "/p/secret"},
    }
    since = clock.now() - timedelta(minutes=5)
    await builder.check()
    await builder.start_job("project", variables, start_key="key")
    await builder.find_job(start_key="key", job_identifier="project", started_after=since)
    await builder.find_job_anywhere(start_key="key", started_after=since)
    await builder.describe_jobs(job_ids=["project:1", "project:2"])
    await builder.stop_job(job_id="project:1")


async def use_ledger(aws: AWS, clock: ManualClock) -> None:
    async def go_on(_seconds: float) -> None:
        pass

    ledger = DynamoDBLedger(aws.dynamodb, clock, table=TABLE, retention_days=90, pause=go_on)
    await ledger.create()
    await ledger.check()
    await ledger.commit(FULL, unchanged={"RUN#new": 0, "RUN#old": 3})
    await ledger.load([job().key, ""])
    for cursor in (None, "0 2026-01-01T00:00:00.000000+00:00 RUN#1"):
        await ledger.find_due(before=clock.now(), limit=10, cursor=cursor)
    await ledger.list_runs()
    await ledger.list_runs(tenant_id="t-1", cursor="eA")
    await ledger.list_runs(status=RunStatus.FAILED)
    await ledger.list_runs(since=NOW, until=NOW, cursor="eA")
    await ledger.list_runs(since=NOW)
    await ledger.list_tenants()
    await ledger.list_tenants(state=NO_STATE, prefix="t", cursor="eA")
    await ledger.list_by_attention()
    await ledger.list_by_attention(cursor="MiB4")
    await ledger.list_operations(tenant_id="t-1")
    await ledger.summarize(most=1)


async def use_tiers(aws: AWS, clock: ManualClock) -> None:
    await DynamoDBTierCatalog(aws.dynamodb, table=TABLE).find_tier("BASIC")


async def use_step_functions(aws: AWS, clock: ManualClock) -> None:
    builder = StepFunctionsBuilder(aws.step_functions, name="MINE", state_machines={"job": MACHINE})
    await builder.start_job("job", {"A": 1}, start_key="key")
    await builder.describe_jobs(job_ids=[EXECUTION])
    await builder.stop_job(job_id=EXECUTION)


async def use_parameter_store(aws: AWS, clock: ManualClock) -> None:
    store = ParameterStore(aws.ssm, prefix="/p")
    await store.put(name="/p/a", value="hush")
    await store.read(name="/p/a")
    await store.remove(name="/p/a")


async def use_secrets_manager(aws: AWS, clock: ManualClock) -> None:
    store = SecretsManagerStore(aws.secrets_manager, prefix="/p")
    await store.put(name="/p/a", value="another")
    await store.remove(name="/p/a")


async def use_bus(aws: AWS, clock: ManualClock) -> None:
    publisher = EventBridgePublisher(aws.events, bus="bus", source="tests")
    await publisher.check()
    await publisher.publish(event_type="NEWS", detail={"a": 1}, source="another")


async def use_queue(aws: AWS, clock: ManualClock) -> None:
    inbox = SQSInbox(aws.sqs, aws.sqs_polling, url=QUEUE, visibility_s=60.4)
    message = Message(id="1", text="{}", receipt="receipt", group="g", receives=1, trace=None)
    await inbox.create()
    await inbox.check()
    await inbox.send(text="{}", group="g", deduplication_id="1")
    await inbox.receive(limit=20, wait_s=0.4)
    await inbox.hide(message, seconds=30.5)
    await inbox.delete(message)


Use = Callable[[AWS, ManualClock], Awaitable[None]]
USED: dict[str, tuple[Use, set[str]]] = {
    "codebuild": (
        use_codebuild,
        {"BatchGetBuilds", "ListBuilds", "ListBuildsForProject", "StartBuild", "StopBuild"},
    ),
    "dynamodb": (
        use_ledger,
        {
            "BatchGetItem",
            "CreateTable",
            "DescribeTable",
            "DescribeTimeToLive",
            "Query",
            "TransactWriteItems",
            "UpdateTable",
            "UpdateTimeToLive",
        },
    ),
    "events": (use_bus, {"DescribeEventBus", "PutEvents"}),
    "secretsmanager": (
        use_secrets_manager,
        {"CreateSecret", "DeleteSecret", "GetSecretValue", "PutSecretValue"},
    ),
    "sqs": (
        use_queue,
        {
            "ChangeMessageVisibility",
            "CreateQueue",
            "DeleteMessageBatch",
            "GetQueueAttributes",
            "GetQueueUrl",
            "ReceiveMessage",
            "SendMessage",
        },
    ),
    "ssm": (use_parameter_store, {"DeleteParameter", "GetParameter", "PutParameter"}),
    "stepfunctions": (
        use_step_functions,
        {"DescribeExecution", "DescribeStateMachine", "StartExecution", "StopExecution"},
    ),
}


@pytest.mark.parametrize("service", USED)
async def test_every_request_fits_its_shape(
    aws: AWS, clock: ManualClock, requests: Requests, service: str
) -> None:
    """All requests to a service are seen by the recorder, which fails a test for a wrong one."""
    use, operations = USED[service]
    await use(aws, clock)
    assert requests.seen == {(service, operation) for operation in operations}


async def test_all_requests_have_one_user_agent(
    aws: AWS, anything: Anything, clock: ManualClock
) -> None:
    """It names the service and its SDK, for AWS's logs, and isn't built anew for each request."""
    await use_codebuild(aws, clock)
    await use_tiers(aws, clock)
    (user_agent,) = anything.user_agents
    names = [part.partition("/")[0] for part in user_agent.split()]
    assert names[:2] == ["saas-orchestrator", "aiobotocore"]


async def test_the_requests_of_the_tier_catalog_fit(
    aws: AWS, clock: ManualClock, requests: Requests
) -> None:
    """The catalog reads another table than the ledger's."""
    await use_tiers(aws, clock)
    assert requests.seen == {("dynamodb", "Query")}


def test_the_requests_are_all_that_the_adapters_send() -> None:
    """An operation that an adapter calls, and no test above sends, is missing from the list."""
    root = Path(_anchor.__file__).parents[1]
    called = {name for path in root.rglob("*.py") for name in _called(ast.parse(path.read_text()))}
    session = Session()
    methods = {
        xform_name(operation)
        for service in USED
        for operation in session.get_service_model(service).operation_names
    }
    listed = {xform_name(operation) for _, operations in USED.values() for operation in operations}
    assert called & methods == listed


def _called(tree: ast.AST) -> Iterator[str]:
    """The attributes of variables named `client` in a module."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="client"), attr=name):
                yield name


@pytest.mark.parametrize("wrong", [{"ids": []}, {"ids": "a:1"}, {"ids": ["a:1", 7]}])
async def test_a_wrong_request_is_recorded(
    aws: AWS, requests: Requests, wrong: dict[str, Any]
) -> None:
    """The client sends it; the recorder says what is wrong with it."""
    client: Any = await aws.codebuild()
    await client.batch_get_builds(**wrong)
    reports, requests.wrong = requests.wrong, []
    (report,) = reports
    assert report.startswith("codebuild BatchGetBuilds: ")


START = ("project", {"A": 1})


@pytest.mark.parametrize(
    ("options", "start", "said"),
    [
        ({"image": ""}, START, "codebuild.image is empty: leave it out"),
        ({"serviceRole": ""}, START, "codebuild.serviceRole is empty: leave it out"),
        (
            {"timeoutInMinutes": 4},
            START,
            "codebuild.timeoutInMinutes is 4: it must be from 5 to 2160.",
        ),
        (
            {"timeoutInMinutes": 2161},
            START,
            "codebuild.timeoutInMinutes is 2161: it must be from 5 to 2160.",
        ),
        ({}, ("", {"A": 1}), "'' names no CodeBuild project"),
        ({}, (7, {"A": 1}), "7 names no CodeBuild project"),
        ({}, ("project", {"A": 1, "": 2}), "A variable of the job has an empty name"),
    ],
)
async def test_a_wrong_value_of_a_user_starts_no_build(
    aws: AWS,
    clock: ManualClock,
    requests: Requests,
    options: dict[str, Any],
    start: tuple[Any, dict[str, Any]],
    said: str,
) -> None:
    """A permanent error that names it; nothing is sent to CodeBuild."""
    listings = BuildListings(aws.codebuild, clock, name="MINE")
    builder = CodeBuildBuilder(aws.codebuild, listings, name="MINE")
    with pytest.raises(PermanentError) as refused:
        await builder.configured(options).start_job(*start, start_key="key")
    assert said in str(refused.value)
    assert not requests.seen


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"event_type": 7}, "The event type is 7: it must be text."),
        ({"event_type": None}, "The event type is None: it must be text."),
        ({"source": 7}, "The source is 7: it must be text."),
    ],
)
async def test_a_wrong_value_of_a_user_is_not_published(
    aws: AWS, requests: Requests, given: dict[str, Any], said: str
) -> None:
    """A permanent error that names it; nothing is sent to EventBridge."""
    publisher = EventBridgePublisher(aws.events, bus="bus", source="tests")
    with pytest.raises(PermanentError) as refused:
        await publisher.publish(**{"event_type": "NEWS", "detail": {}, **given})
    assert said in str(refused.value)
    assert not requests.seen


async def test_an_empty_secret_is_not_stored(aws: AWS, requests: Requests) -> None:
    """Secrets Manager stores no empty text: a permanent error that names the secret."""
    store = SecretsManagerStore(aws.secrets_manager, prefix="/p")
    with pytest.raises(PermanentError, match="can't store an empty secret: '/p/a'"):
        await store.put(name="/p/a", value="")
    assert not requests.seen


@pytest.mark.parametrize("tier", [7, None, True])
async def test_a_tier_has_a_name_in_text(aws: AWS, requests: Requests, tier: Any) -> None:
    """No other value names a tier of the table."""
    assert await DynamoDBTierCatalog(aws.dynamodb, table=TABLE).find_tier(tier) is None
    assert not requests.seen
