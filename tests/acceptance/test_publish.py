"""Events that a handler publishes, as a rule of EventBridge delivers them."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aioboto3
import attrs
import pytest

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    Run,
    Settings,
    TemporaryError,
    create_app,
)
from orchestrator.embedded import open_embedded_aws
from orchestrator.settings import Aws, Events
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import read_problem, read_run, read_success
from tests.conftest import Client, StartService
from tests.ledgers import IN_MEMORY, PATIENT

BUS = "saas-bus"
ACCOUNT = "123456789012"
Act = Callable[[Event[dict[str, Any]], Run], Awaitable[None]]


@attrs.frozen
class Queue:
    """The queue of a rule for each event of the bus."""

    sqs: Any
    url: str

    async def received(self) -> list[dict[str, Any]]:
        answer = await self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in answer.get("Messages", [])]


@pytest.fixture
async def queue(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Queue]:
    async with open_embedded_aws() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        await aws.prepare(tier_table="tiers", tiers=[], bus=BUS, projects=[])
        session = aioboto3.Session()
        async with session.client("sqs") as sqs, session.client("events") as events:
            url = (await sqs.create_queue(QueueName="seen"))["QueueUrl"]
            named = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
            pattern = json.dumps({"account": [ACCOUNT]})
            await events.put_rule(Name="all", EventBusName=BUS, EventPattern=pattern)
            target = {"Id": "seen", "Arn": named["Attributes"]["QueueArn"]}
            await events.put_targets(Rule="all", EventBusName=BUS, Targets=[target])
            yield Queue(sqs, url)


@pytest.fixture
def start(aiohttp_client: Any, clock: ManualClock) -> StartService:
    """Start the service over the embedded bus, with the test's handler of ORDER."""

    async def start(act: Act, bus: str | None = BUS) -> Client:
        registry = HandlerRegistry()

        @registry.on("ORDER")
        async def order(event: Event[dict[str, Any]], run: Run) -> None:
            await act(event, run)

        settings = Settings(
            ledger=IN_MEMORY,
            intake=PATIENT,
            events=Events(bus=bus, source="orchestrator.tests"),
            aws=Aws(connect_timeout_s=2.0, read_timeout_s=5.0),
        )
        app = create_app(settings, extension=Extension(registry=registry), clock=clock)
        client: Client = await aiohttp_client(app)
        return client

    return start


async def test_a_published_event_arrives(queue: Queue, start: StartService) -> None:
    """A published event has type, source and detail, and the detail also has its tenant, operation
    and run."""

    async def act(event: Event[dict[str, Any]], run: Run) -> None:
        await run.publish("ORDERED", {"goods": ["bread"], "price": 9.5, "name": "Bjørn"})

    service = await start(act)
    answer = await service.post("/events/ORDER", json={"tenantId": "t-1"})
    run = await read_run(service, await read_success(answer))
    (arrived,) = await queue.received()
    assert (arrived["detail-type"], arrived["source"]) == ("ORDERED", "orchestrator.tests")
    detail = arrived["detail"]
    assert detail.pop("operationId")
    assert detail == {
        "goods": ["bread"],
        "price": 9.5,
        "name": "Bjørn",
        "tenantId": "t-1",
        "runId": run["runId"],
    }
    assert [step["name"] for step in run["steps"]] == ["publish ORDERED"]


async def test_a_handlers_own_values_win(queue: Queue, start: StartService) -> None:
    """A handler's own tenant, operation and run replace the service's; without a tenant the detail
    names none."""

    async def act(event: Event[dict[str, Any]], run: Run) -> None:
        own = {"tenantId": "mine", "operationId": "o-1", "runId": "r-1"}
        await run.publish("OWN", own)
        await run.publish("NONE", {})

    service = await start(act)
    await read_success(await service.post("/events/ORDER", json={}))
    details = {arrived["detail-type"]: arrived["detail"] for arrived in await queue.received()}
    assert details["OWN"] == {"tenantId": "mine", "operationId": "o-1", "runId": "r-1"}
    assert details["NONE"].keys() == {"operationId", "runId"}


async def test_an_event_is_published_once(queue: Queue, start: StartService) -> None:
    """A later attempt, which finds the step recorded, doesn't publish again."""

    async def act(event: Event[dict[str, Any]], run: Run) -> None:
        await run.publish("ORDERED", {"attempt": run.attempt})
        if run.attempt == 1:
            raise TemporaryError("later")

    service = await start(act)
    event = envelope("ORDER", {"tenantId": "t-1"})
    await read_problem(await service.post("/events", json=event), 503)
    await read_success(await service.post("/events", json=event))
    await read_success(await service.post("/events", json=event))
    (arrived,) = await queue.received()
    assert arrived["detail"]["attempt"] == 1


async def test_two_of_one_type_need_names(queue: Queue, start: StartService) -> None:
    """Two events of one type are published under names of their own; without, the second is an
    error that names the step."""
    refused = []

    async def act(event: Event[dict[str, Any]], run: Run) -> None:
        await run.publish("ORDERED", {"number": 1}, name="first")
        await run.publish("ORDERED", {"number": 2}, name="second")
        await run.publish("ORDERED", {"number": 3})
        try:
            await run.publish("ORDERED", {"number": 4})
        except ValueError as error:
            refused.append(str(error))

    service = await start(act)
    answer = await service.post("/events/ORDER", json={})
    run = await read_run(service, await read_success(answer))
    arrived = sorted(event["detail"]["number"] for event in await queue.received())
    assert arrived == [1, 2, 3]
    assert [step["name"] for step in run["steps"]] == ["first", "second", "publish ORDERED"]
    (sentence,) = refused
    assert "'publish ORDERED'" in sentence


@pytest.mark.parametrize("bus", [None, ""])
async def test_without_a_bus_publishing_waits_for_one(start: StartService, bus: str | None) -> None:
    """Without a bus publishing is a 503 that names the setting, and the run is in `retry`."""

    async def act(event: Event[dict[str, Any]], run: Run) -> None:
        await run.publish("ORDERED", {})

    service = await start(act, bus=bus)
    problem = await read_problem(await service.post("/events/ORDER", json={}), 503)
    assert "events.bus" in problem["detail"]
    assert "ORDERED" in problem["detail"]
    run = await read_run(service, problem["instance"])
    assert (run["status"], run["steps"]) == ("retry", [])
