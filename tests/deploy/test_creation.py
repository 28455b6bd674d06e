"""An emulator of CloudFormation creates the templates, as far as it supports the resources."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import attrs
import pytest
from aiohttp.test_utils import TestServer

from orchestrator import Settings
from orchestrator.adapters.dynamodb.items import table_schema
from orchestrator.app import create_worker_app
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import Intake, LedgerSettings
from orchestrator.testing import provisioning_event
from tests.acceptance.answers import only_build
from tests.aws import aws_session
from tests.deploy.conftest import STACKS
from tests.deploy.templates import Stack
from tests.integration.processes import until

#: Types that the emulator doesn't support; a record in a zone that it doesn't have; the mapping by
#: which it would pass messages to a function that it can't run.
_LEFT_OUT = {
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Route53::RecordSet",
}


@attrs.frozen
class Emulator:
    """Clients of the emulator, by service."""

    clients: Mapping[str, Any]

    async def create(self, name: str, stack: Stack) -> dict[str, str]:
        """Create the stack; the physical ids of its resources, by name."""
        formation = self.clients["cloudformation"]
        left = {
            resource: about
            for resource, about in stack.body["Resources"].items()
            if about["Type"] not in _LEFT_OUT
        }
        await formation.create_stack(
            StackName=name,
            TemplateBody=json.dumps({**stack.body, "Resources": left}),
            Parameters=[
                {"ParameterKey": name, "ParameterValue": value}
                for name, value in stack.parameters.items()
            ],
            Capabilities=["CAPABILITY_IAM"],
        )

        async def is_over() -> Any:
            (found,) = (await formation.describe_stacks(StackName=name))["Stacks"]
            return None if found["StackStatus"].endswith("_IN_PROGRESS") else found

        assert (await until(is_over))["StackStatus"] == "CREATE_COMPLETE"
        found = await formation.describe_stack_resources(StackName=name)
        return {
            one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found["StackResources"]
        }


@pytest.fixture
async def emulator(ministack: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack)
    session, names = aws_session(), ("cloudformation", "dynamodb", "events", "sqs")
    async with AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(session.client(name, endpoint_url=ministack))
            for name in names
        ]
        yield Emulator(dict(zip(names, clients, strict=True)))


@pytest.mark.parametrize("name", ["queue", "lambda"])
async def test_an_event_on_the_bus_of_a_stack_becomes_a_build(
    codebuild: CodeBuildStandIn, emulator: Emulator, settings: Settings, name: str
) -> None:
    """An event on the bus becomes a build by the stack's rule, queue and ledger, which is the one
    that `init` creates; the queue passes a message that no worker can handle on to the dead
    letters."""
    events = emulator.clients["events"]
    await events.create_event_bus(Name=f"bus-{name}")
    stack = Stack(STACKS[name].template, {"EventBusName": f"bus-{name}"})
    made = await emulator.create(name, stack)
    about = await emulator.clients["dynamodb"].describe_table(TableName=made["Ledger"])
    assert about["Table"]["KeySchema"] == table_schema("any")["KeySchema"]
    event = provisioning_event(tenant_id="t-1")
    entry = {
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "Detail": json.dumps(event["detail"]),
        "EventBusName": f"bus-{name}",
    }
    assert (await events.put_events(Entries=[entry]))["FailedEntryCount"] == 0
    patient = attrs.evolve(settings.aws, read_timeout_s=10.0)
    service = attrs.evolve(
        settings,
        intake=Intake(queue_url=made["Intake"]),
        ledger=LedgerSettings(table=made["Ledger"]),
        aws=patient,
    )

    async def has_build() -> bool:
        return bool(codebuild.builds)

    async with TestServer(create_worker_app(service), host="127.0.0.1"):
        await until(has_build)
    assert only_build(codebuild)
    queue = await emulator.clients["sqs"].get_queue_attributes(
        QueueUrl=made["Intake"], AttributeNames=["RedrivePolicy"]
    )
    redrive = json.loads(queue["Attributes"]["RedrivePolicy"])
    dead_letters = made["DeadLetters"].rpartition("/")[2]
    assert redrive["deadLetterTargetArn"].endswith(f":{dead_letters}")
