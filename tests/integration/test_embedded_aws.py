"""The embedded AWS as a whole: sessions reach it by variables, it starts empty, and closes without
output."""

import asyncio
import importlib
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import aioboto3
import aiohttp
import pytest

from orchestrator.embedded import SAMPLE_TIERS, EmbeddedAWS, open_embedded_aws
from tests.aws import aws_session
from tests.integration.embedded import PROJECT, start


@pytest.fixture
async def aws(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EmbeddedAWS]:
    async with open_embedded_aws() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        await aws.prepare(
            tier_table="tiers", tiers=SAMPLE_TIERS, bus="saas-bus", projects=[PROJECT]
        )
        yield aws


@pytest.fixture
def eager_threads() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


async def test_the_environment_leads_a_session_here(aws: EmbeddedAWS) -> None:
    """A session made from the environment alone reaches DynamoDB, EventBridge, SQS and
    CodeBuild."""
    session = aioboto3.Session()
    async with session.client("dynamodb") as dynamodb:
        assert (await dynamodb.list_tables())["TableNames"] == ["tiers"]
    async with session.client("events") as events:
        buses = (await events.list_event_buses())["EventBuses"]
        assert sorted(bus["Name"] for bus in buses) == ["default", "saas-bus"]
    async with session.client("sqs") as sqs:
        queue = await sqs.create_queue(QueueName="events")
        assert queue["QueueUrl"].startswith(aws.endpoint_url)
    async with session.client("codebuild") as codebuild:
        assert await start(codebuild) in aws.codebuild.builds


async def test_the_sample_tiers_are_stored_as_deployed_ones_are(aws: EmbeddedAWS) -> None:
    """The sample tiers' expirations are numbers and the rest strings, and BASIC names its job as in
    arc-saas."""
    async with aioboto3.Session().client("dynamodb") as dynamodb:
        items = (await dynamodb.scan(TableName="tiers"))["Items"]
    tiers = {item["tier"]["S"]: item for item in items}
    assert tiers.keys() == {"BASIC", "STANDARD", "PREMIUM"}
    assert tiers["BASIC"]["jobName"] == {"S": "basic-tenant"}
    assert "jobIdentifier" not in tiers["BASIC"]
    for name in "STANDARD", "PREMIUM":
        assert tiers[name]["jobIdentifier"] == {"S": f"{name.lower()}-tenant"}
        assert "jobName" not in tiers[name]
    for item in items:
        numbers = {name: value for name, value in item.items() if "N" in value}
        assert numbers.keys() == {name for name in item if name.endswith("_EXPIRATION")}
        assert numbers["ACCESS_TOKEN_EXPIRATION"] == {"N": "3600"}
        assert {"EKS_CLUSTER_NAME", "VPC_ID", "AWS_REGION", "DOMAIN_NAME"} < item.keys()
        assert {"CONTROL_PLANE_HOST", "deprovisioningJobIdentifier"} < item.keys()


@pytest.mark.parametrize("bus", [None, "", "default"])
async def test_a_bus_is_made_only_when_needed(bus: str | None) -> None:
    """Without a bus of its own, the embedded AWS has the default one."""
    async with open_embedded_aws() as aws:
        await aws.prepare(tier_table="tiers", tiers=[], bus=bus, projects=[])
        session = aws_session()
        async with session.client("events", endpoint_url=aws.endpoint_url) as events:
            buses = (await events.list_event_buses())["EventBuses"]
    assert [bus["Name"] for bus in buses] == ["default"]


async def test_each_embedded_aws_starts_empty() -> None:
    """An embedded AWS has no data of an earlier one."""
    for _ in range(3):
        async with open_embedded_aws() as aws:
            assert not aws.codebuild.builds
            await aws.prepare(tier_table="tiers", tiers=SAMPLE_TIERS, bus="bus", projects=[])


async def test_closing_closes_both_servers() -> None:
    """After the end neither endpoint accepts a connection."""
    async with open_embedded_aws() as aws:
        pass
    async with aiohttp.ClientSession() as session:
        for url in aws.endpoint_url, aws.codebuild.url:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(url)


async def test_closing_ends_a_long_poll() -> None:
    """The embedded AWS doesn't wait for a message that a client waits for."""
    async with AsyncExitStack() as clients:
        async with asyncio.timeout(10), open_embedded_aws() as aws:
            session = aws_session()
            sqs = await clients.enter_async_context(
                session.client("sqs", endpoint_url=aws.endpoint_url)
            )
            url = (await sqs.create_queue(QueueName="events"))["QueueUrl"]
            before = set(threading.enumerate())
            poll = asyncio.ensure_future(sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20))
            while not any(one.name == "moto" for one in set(threading.enumerate()) - before):  # noqa: ASYNC110
                await asyncio.sleep(0)
        poll.cancel()


async def test_conditional_writes_have_one_winner(
    aws: EmbeddedAWS, clients: AsyncExitStack, eager_threads: None
) -> None:
    """Of several conditional writes of one key one succeeds, however moto's threads are
    switched."""
    dynamodb = await clients.enter_async_context(aioboto3.Session().client("dynamodb"))

    async def claim(key: str) -> bool:
        try:
            await dynamodb.put_item(
                TableName="tiers",
                Item={"tier": {"S": key}},
                ConditionExpression="attribute_not_exists(tier)",
            )
        except dynamodb.exceptions.ConditionalCheckFailedException:
            return False
        return True

    for n in range(60):
        assert sum(await asyncio.gather(*(claim(f"key-{n}") for _ in range(6)))) == 1


async def test_it_is_quiet(
    aws: EmbeddedAWS, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither server writes a line for its requests."""
    caplog.set_level("INFO", logger="werkzeug")
    caplog.set_level("INFO", logger="aiohttp")
    async with aioboto3.Session().client("dynamodb") as dynamodb:
        await dynamodb.list_tables()
    async with aioboto3.Session().client("codebuild") as codebuild:
        await start(codebuild)
    assert [record for record in caplog.records if record.name.startswith("werkzeug")] == []
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []
    assert capfd.readouterr() == ("", "")


def test_a_missing_moto_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the `dev` extra the import fails with the way to install it."""
    for module in ("orchestrator.embedded", "orchestrator.embedded.aws"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "moto.moto_server.werkzeug_app", None)
    with pytest.raises(ImportError, match=r'needs moto: pip install "saas-orchestrator\[dev\]"'):
        importlib.import_module("orchestrator.embedded")


async def test_a_repeated_transaction_has_one_effect() -> None:
    """A transaction that the SDK repeats with its token after a late answer has one effect; another
    one with that token is refused."""
    session = aws_session()
    async with open_embedded_aws() as aws:
        await aws.prepare(tier_table="tiers", tiers=[], bus=None, projects=[])
        async with session.client("dynamodb", endpoint_url=aws.endpoint_url) as dynamodb:
            put = {
                "TableName": "tiers",
                "Item": {"tier": {"S": "BASIC"}},
                "ConditionExpression": "attribute_not_exists(tier)",
            }
            for _ in range(2):
                await dynamodb.transact_write_items(
                    TransactItems=[{"Put": put}], ClientRequestToken="one"
                )
            with pytest.raises(dynamodb.exceptions.TransactionCanceledException):
                await dynamodb.transact_write_items(
                    TransactItems=[{"Put": put}], ClientRequestToken="another"
                )
