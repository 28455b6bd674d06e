"""A real EventBridge: events that are put on a bus reach the service and the worker through
rules."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import attrs
import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from orchestrator import Settings, create_app
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.app import create_worker_app
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import ApiKey, Auth, Builders, Intake, StepFunctions, Tiers
from orchestrator.testing import envelope, provisioning_event
from tests.acceptance.answers import only_build, variables
from tests.aws import aws_session
from tests.integration.processes import until

KEY = "key-1"
SOURCE = "TenantManagementService"
ROLE = "arn:aws:iam::000000000000:role/eventbridge"


@attrs.frozen
class Bus:
    """A test's own bus, with one rule for all that the control plane sends."""

    events: Any
    sqs: Any
    name: str

    async def lead_to_api(self, endpoint: str) -> None:
        """Add an API destination with an API key; its `*` is the event's type."""
        key = {"ApiKeyAuthParameters": {"ApiKeyName": "x-api-key", "ApiKeyValue": KEY}}
        connection = await self.events.create_connection(
            Name=self.name, AuthorizationType="API_KEY", AuthParameters=key
        )
        destination = await self.events.create_api_destination(
            Name=self.name,
            ConnectionArn=connection["ConnectionArn"],
            InvocationEndpoint=endpoint,
            HttpMethod="POST",
        )
        path = {"PathParameterValues": ["$.detail-type"]}
        await self._lead_to(Arn=destination["ApiDestinationArn"], RoleArn=ROLE, HttpParameters=path)

    async def lead_to_queue(self) -> str:
        """Add a queue; returns its URL."""
        url: str = (await self.sqs.create_queue(QueueName=self.name))["QueueUrl"]
        about = await self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        await self._lead_to(Arn=about["Attributes"]["QueueArn"])
        return url

    async def put(self, event: dict[str, Any]) -> None:
        entry = {
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": json.dumps(event["detail"]),
            "EventBusName": self.name,
        }
        assert (await self.events.put_events(Entries=[entry]))["FailedEntryCount"] == 0

    async def _lead_to(self, **target: Any) -> None:
        """Add a target for what the control plane sends, and for AWS's own events on the default
        bus."""
        for bus, source in ((self.name, SOURCE), ("default", "aws.states")):
            pattern = json.dumps({"source": [source]})
            await self.events.put_rule(Name=self.name, EventBusName=bus, EventPattern=pattern)
            answer = await self.events.put_targets(
                Rule=self.name, EventBusName=bus, Targets=[{"Id": "it", **target}]
            )
            assert answer["FailedEntryCount"] == 0


@pytest.fixture
async def bus(
    ministack: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bus]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack)
    session = aws_session()
    async with (
        session.client("events", endpoint_url=ministack) as events,
        session.client("sqs", endpoint_url=ministack) as sqs,
    ):
        name = request.node.name.replace("[", "-").replace("]", "")[:60]
        await events.create_event_bus(Name=name)
        yield Bus(events, sqs, name)


async def has_build(codebuild: CodeBuildStandIn) -> bool:
    return bool(codebuild.builds)


async def test_a_rule_and_an_api_destination_lead_into_the_service(
    codebuild: CodeBuildStandIn, bus: Bus, settings: Settings
) -> None:
    """An event reaches the service with the API key and its type in the path, and makes its
    build."""
    auth = Auth(methods=("api_key",), api_key=ApiKey(keys=(KEY,)))
    ledger = InMemoryLedger()
    app = create_app(attrs.evolve(settings, auth=auth), ledger=ledger)
    async with TestServer(app, host="127.0.0.1") as server:
        await bus.lead_to_api(f"{server.make_url('/events/')}*")
        await bus.put(provisioning_event(tenant_id="t-1", override={"SIZE": 5}))
        await until(lambda: has_build(codebuild))
    assert variables(only_build(codebuild))["SIZE"] == "5"
    assert "TENANT#t-1" in ledger._items


async def test_a_rule_leads_into_the_queue_and_the_worker(
    codebuild: CodeBuildStandIn, bus: Bus, settings: Settings
) -> None:
    """The envelope is put into the queue as it is, and deleted once it is handled."""
    url, ledger = await bus.lead_to_queue(), InMemoryLedger()
    await bus.put(provisioning_event(tenant_id="t-1"))

    async def is_empty() -> bool:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        about = await bus.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return all(about["Attributes"][name] == "0" for name in names)

    patient = attrs.evolve(settings.aws, read_timeout_s=10.0)
    queued = attrs.evolve(settings, intake=Intake(queue_url=url), aws=patient)
    async with AsyncExitStack() as stack:
        app = create_worker_app(queued, ledger=ledger)
        await stack.enter_async_context(TestServer(app, host="127.0.0.1"))
        await until(lambda: has_build(codebuild))
        await until(is_empty)
    assert only_build(codebuild)
    assert "TENANT#t-1" in ledger._items


async def test_an_executions_end_is_delivered_by_eventbridge(
    codebuild: CodeBuildStandIn, bus: Bus, settings: Settings
) -> None:
    """A state machine is started by an event, and its status change ends the tenant's operation,
    with error and cause where it failed; no sweep has to query it."""
    session = aws_session()
    async with session.client("stepfunctions", endpoint_url=os.environ["AWS_ENDPOINT_URL"]) as sfn:
        succeeds = {"Type": "Pass", "Parameters": {"APP_PLANE_URL": "https://x"}, "End": True}
        fails = {"Type": "Fail", "Error": "Terraform", "Cause": "No more addresses."}
        machines = {}
        for name, work in (("up", succeeds), ("down", fails)):
            definition = json.dumps({"StartAt": "Work", "States": {"Work": work}})
            made = await sfn.create_state_machine(name=name, definition=definition, roleArn=ROLE)
            machines[name] = made["stateMachineArn"]
    tier = {
        "jobIdentifier": "up",
        "deprovisioningJobIdentifier": "down",
        "builder": "STEP_FUNCTIONS",
    }
    configured = attrs.evolve(
        settings,
        builders=Builders(step_functions=StepFunctions(state_machines=machines)),
        tiers=Tiers(backend="static", static={"STANDARD": tier}),
        aws=attrs.evolve(settings.aws, read_timeout_s=10.0),
    )
    app = create_app(configured, ledger=InMemoryLedger())
    async with TestServer(app, host="127.0.0.1") as server, ClientSession() as http:
        await bus.lead_to_api(f"{server.make_url('/events')}")

        async def stands(state: str) -> Any:
            async with http.get(server.make_url("/tenants/t-1")) as answer:
                found = await answer.json()
            return found if found.get("state") == state else None

        request = {"tenantId": "t-1", "tier": "STANDARD"}
        await bus.put(envelope("TENANT_PROVISIONING", request))
        await until(lambda: stands("provisioned"))
        await bus.put(envelope("TENANT_DEPROVISIONING", request))
        found = await until(lambda: stands("deprovision_failed"))
    assert "failed: Terraform: No more addresses." in json.dumps(found)
