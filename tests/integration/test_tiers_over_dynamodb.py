"""Tiers in DynamoDB, from the table to the build, over HTTP."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import attrs
import pytest
from boto3.dynamodb.types import TypeSerializer

from orchestrator import Settings, create_app
from orchestrator.cli.explain import explain_event
from orchestrator.embedded import Build, EmbeddedAWS, open_embedded_aws
from orchestrator.settings import Tiers
from orchestrator.testing import ManualClock, provisioning_event
from tests.aws import aws_session
from tests.conftest import Client

TABLE = "the-tiers"
BASIC = {
    "tier": "BASIC",
    "jobName": "basic-tenant",
    "ACCESS_TOKEN_EXPIRATION": 3600,
    "VPC_ID": "vpc-1",
}
GOLD = {"tier": "GOLD", "jobIdentifier": "gold-tenant"}


@pytest.fixture
async def aws(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EmbeddedAWS]:
    """An embedded AWS that AWS's own variables lead to, still empty."""
    async with open_embedded_aws() as aws:
        for variable, value in aws.environment().items():
            monkeypatch.setenv(variable, value)
        yield aws


@pytest.fixture
async def service(
    aiohttp_client: Any, settings: Settings, clock: ManualClock, aws: EmbeddedAWS
) -> Client:
    """The service with its tiers in DynamoDB, and timeouts that moto meets."""
    over_dynamodb = attrs.evolve(
        settings,
        tiers=Tiers(backend="dynamodb", table=TABLE),
        aws=attrs.evolve(settings.aws, read_timeout_s=5.0),
    )
    client: Client = await aiohttp_client(create_app(over_dynamodb, clock=clock))
    return client


async def prepare(aws: EmbeddedAWS, *tiers: Mapping[str, Any]) -> None:
    """Create the table with one tier and others, and the projects of two."""
    await aws.prepare(
        tier_table=TABLE, tiers=[BASIC, *tiers], bus=None, projects=["basic-tenant", "gold-tenant"]
    )


async def deliver(service: Client, event: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    async with service.post("/events", json=event) as answer:
        return answer.status, await answer.json(content_type=None)


def only_build(aws: EmbeddedAWS) -> Build:
    (build,) = aws.codebuild.builds.values()
    return build


async def test_an_item_of_the_table_reaches_the_build(aws: EmbeddedAWS, service: Client) -> None:
    """The build's job is the item's `jobName`, and the item's numbers are passed as text."""
    await prepare(aws)
    status, _ = await deliver(service, provisioning_event(tier="BASIC"))
    assert status == 200
    build = only_build(aws)
    assert build.project == "basic-tenant"
    values = {variable["name"]: variable["value"] for variable in build.overrides}
    assert values["ACCESS_TOKEN_EXPIRATION"] == "3600"
    assert values["VPC_ID"] == "vpc-1"


@pytest.mark.parametrize(
    "network",
    [{"key": b"\x00"}, {"keys": {b"\x00", b"\x01"}}, [{"deep": [b"\x00"]}]],
    ids=["binary", "set of binaries", "deep"],
)
async def test_binary_within_an_attribute_is_refused_by_name(
    aws: EmbeddedAWS, settings: Settings, service: Client, network: Any
) -> None:
    """Binary in an attribute, which no variable can hold, is a 422 that names the attribute, and
    `explain` says so too."""
    await prepare(aws, {**GOLD, "NETWORK": network})
    event = provisioning_event(tier="GOLD")
    status, problem = await deliver(service, event)
    assert status == 422
    assert "The tier's attribute NETWORK can't be passed to a job" in problem["detail"]
    (error,) = problem["errors"]
    assert error["path"] == "$.planConfig.tier"
    assert "attribute NETWORK" in error["message"]
    assert not aws.codebuild.builds
    in_table = attrs.evolve(settings, tiers=Tiers(backend="dynamodb", table=TABLE))
    explained = await explain_event(in_table, None, json.dumps(event).encode())
    assert explained.trouble == problem["detail"]


async def test_a_set_within_an_attribute_is_a_list(aws: EmbeddedAWS, service: Client) -> None:
    """A set in an attribute, at any depth, is passed as a sorted list."""
    await prepare(aws, {**GOLD, "NETWORK": {"zones": {"b", "a"}, "ports": {443, 80}}})
    status, _ = await deliver(service, provisioning_event(tier="GOLD"))
    assert status == 200
    values = {variable["name"]: variable["value"] for variable in only_build(aws).overrides}
    assert json.loads(values["NETWORK"]) == {"zones": ["a", "b"], "ports": [80, 443]}


async def test_an_event_succeeds_once_its_tier_is_added(aws: EmbeddedAWS, service: Client) -> None:
    """An unknown tier is 422 and isn't cached, so that the redelivery finds it once it is added."""
    await prepare(aws)
    event = provisioning_event(tier="GOLD")
    status, problem = await deliver(service, event)
    assert (status, problem["status"]) == (422, 422)
    assert "GOLD" in problem["detail"]

    item = {name: TypeSerializer().serialize(value) for name, value in GOLD.items()}
    async with aws_session().client("dynamodb", endpoint_url=aws.endpoint_url) as dynamodb:
        await dynamodb.put_item(TableName=TABLE, Item=item)
    assert await deliver(service, event) == (200, {"success": True})
    assert only_build(aws).project == "gold-tenant"


async def test_a_missing_table_is_not_the_events_fault(aws: EmbeddedAWS, service: Client) -> None:
    """A missing table is 503; the redelivery succeeds once the table exists."""
    event = provisioning_event(tier="BASIC")
    async with service.post("/events", json=event) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert TABLE in (await answer.json(content_type=None))["detail"]
    assert not aws.codebuild.builds

    await prepare(aws)
    assert await deliver(service, event) == (200, {"success": True})
    assert only_build(aws).project == "basic-tenant"
