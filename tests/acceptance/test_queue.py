"""Queue mode: accepted with 202 and handled by a worker, with the same guarantees."""

import asyncio
import contextlib
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    PermanentError,
    Run,
    Settings,
    TemporaryError,
)
from orchestrator.adapters.memory.inbox import InMemoryInbox
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.app import create_worker_app
from orchestrator.core.ledger.records import Record, RunRecord
from orchestrator.core.queue.inbox import Message
from orchestrator.core.queue.message_codec import QueuedEvent, read_message
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.intake.app_keys import DRAINS
from orchestrator.settings import Intake
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.answers import only_build, read_problem, read_run, variables
from tests.conftest import Client, StartService

PROVISION = "/events/TENANT_PROVISIONING"
URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"
AttemptRunner = Client


class DownLedger(InMemoryLedger):
    """Can't be reached when it is told so."""

    is_down = False

    async def commit(self, records: Any, *, unchanged: Any) -> None:
        self._check()
        await super().commit(records, unchanged=unchanged)

    async def load(self, keys: Any) -> dict[str, Record | None]:
        self._check()
        return dict(await super().load(keys))

    async def check(self) -> None:
        self._check()

    def _check(self) -> None:
        if self.is_down:
            raise TemporaryError("no ledger")


class BusyInbox(InMemoryInbox):
    """Has no time for deletions when it is told so."""

    is_busy = False

    async def delete(self, message: Message) -> None:
        if self.is_busy:
            raise TemporaryError("no time")
        await super().delete(message)


@attrs.define
class Desk:
    """A service in queue mode, and workers that come when they are called."""

    service: Client
    inbox: BusyInbox
    ledger: DownLedger
    clock: ManualClock
    settings: Settings
    extension: Extension

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[AttemptRunner]:
        app = create_worker_app(
            self.settings,
            extension=self.extension,
            clock=self.clock,
            ledger=self.ledger,
            inbox=self.inbox,
        )
        async with TestClient(TestServer(app, host="127.0.0.1")) as client:
            yield client

    async def work(self) -> None:
        """A worker comes, does all that lies there, and goes."""
        async with self.worker():
            await until(lambda: len(self.inbox) == 0)


def statuses(desk: Desk) -> set[str]:
    """Those of all runs."""
    kept = desk.ledger._items.values()
    return {one.status.value for one in kept if isinstance(one, RunRecord)}


async def until(holds: Callable[[], bool]) -> None:
    """Let the others work until it holds."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what it waits for tells nobody
            await asyncio.sleep(0.001)


@pytest.fixture(params=[False, True], ids=["standard", "FIFO"])
def in_groups(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def start_desk(
    start_service: StartService, settings: Settings, clock: ManualClock, in_groups: bool
) -> Callable[..., Awaitable[Desk]]:
    async def start(registry: HandlerRegistry | None = None) -> Desk:
        intake = Intake(mode="queue", queue_url=URL, deadline_s=60)
        queued = attrs.evolve(settings, intake=intake)
        inbox, ledger = BusyInbox(clock, in_groups=in_groups), DownLedger()
        extension = Extension(registry=registry or HandlerRegistry())
        service = await start_service(queued, extension=extension, inbox=inbox, ledger=ledger)
        return Desk(service, inbox, ledger, clock, queued, extension)

    return start


StartDesk = Callable[..., Awaitable[Desk]]


async def accepted(desk: Desk, event: dict[str, Any], path: str = "/events") -> str:
    """The address of the run of an event that lies in the queue."""
    answer = await desk.service.post(path, json=event)
    assert answer.status == 202, await answer.text()
    assert await answer.json() == {"success": True}
    return answer.headers["Location"]


async def test_an_event_is_accepted_and_handled_later(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """Its run shows as queued, and then as what it came to."""
    desk = await start_desk()
    address = await accepted(desk, provisioning_event(), PROVISION)
    run = await read_run(desk.service, address)
    assert (run["status"], run["attempt"], run["tenantId"]) == ("queued", 0, "tenant-1")
    assert not codebuild.builds
    await desk.work()
    run = await read_run(desk.service, address)
    assert (run["status"], run["attempt"]) == ("succeeded", 1)
    assert run["job"]["id"] == only_build(codebuild).id


async def test_what_a_sender_calls_its_event_goes_through_the_queue(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """A bare body that its path names: its build has the variables of the toolkit's."""
    desk = await start_desk()
    detail = {"tenantId": "t-1", "tenantName": "Harbour", "tier": "STANDARD"}
    await accepted(desk, detail, "/events/sbt_aws_onboardingRequest")
    await desk.work()
    assert variables(only_build(codebuild))["tenantName"] == "Harbour"


async def test_a_queued_event_that_comes_again_is_sent_again(
    start_desk: StartDesk, codebuild: CodeBuildStandIn, in_groups: bool
) -> None:
    """202 again; one job comes of it, and once it is handled it is a duplicate."""
    desk = await start_desk()
    event = provisioning_event()
    first = await accepted(desk, event)
    assert await accepted(desk, event) == first
    assert len(desk.inbox) == (1 if in_groups else 2)
    await desk.work()
    assert only_build(codebuild)
    answer = await desk.service.post("/events", json=event)
    assert (answer.status, answer.headers["Idempotent-Replayed"]) == (200, "true")
    await desk.work()
    assert only_build(codebuild)


async def test_a_failed_event_that_comes_again_is_a_new_attempt(
    start_desk: StartDesk, clock: ManualClock
) -> None:
    """A queue of groups doesn't take it for the last one, minutes ago."""
    registry, causes = HandlerRegistry(), [PermanentError("no such tier")]

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        if causes:
            raise causes.pop()

    desk = await start_desk(registry)
    event = envelope("ORDER", {"a": 1})
    address = await accepted(desk, event)
    await desk.work()
    assert (await read_run(desk.service, address))["status"] == "failed"
    clock.turn(60)
    assert await accepted(desk, event) == address
    await desk.work()
    run = await read_run(desk.service, address)
    assert (run["status"], run["attempt"]) == ("succeeded", 2)


async def test_a_forced_replay_that_must_wait_stays_in_the_queue(
    start_desk: StartDesk, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """Its run is as it was, so that nobody else knows of the wish."""
    desk = await start_desk()
    address = await accepted(desk, provisioning_event(tenant_id="t-1", event_id="up"))
    await desk.work()
    codebuild.finish(only_build(codebuild).id, "FAILED")
    clock.turn(61)
    assert (await desk.service.post("/events/RECONCILE", json={})).status == 200
    down = {"tenantId": "t-1", "tier": "STANDARD"}
    await accepted(desk, envelope("TENANT_DEPROVISIONING", down, event_id="down"))
    await desk.work()
    assert (await desk.service.post(f"{address}/replay", json={"force": True})).status == 202
    async with desk.worker():
        await until(lambda: [one.message.receives for one in desk.inbox._waiting] == [1])
    codebuild.finish(next(reversed(codebuild.builds)))
    clock.turn(desk.inbox.visibility_s + 1)
    assert (await desk.service.post("/events/RECONCILE", json={})).status == 200
    await desk.work()
    assert len(codebuild.builds) == 3


async def test_a_worker_that_is_quicker_than_the_service(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """The event is done before its run could be shown as queued: 200."""
    desk = await start_desk()
    sent = desk.inbox.send

    async def send_and_work(**message: Any) -> None:
        await sent(**message)
        await desk.work()

    desk.inbox.send = send_and_work  # type: ignore[method-assign]
    answer = await desk.service.post("/events", json=provisioning_event())
    assert answer.status == 200
    assert (await read_run(desk.service, answer.headers["Location"]))["status"] == "succeeded"
    assert only_build(codebuild)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/events", b"{", 400),
        ("/events", b"[]", 400),
        ("/events/TENANT_PARTY", b"{}", 400),
        (PROVISION, b'{"tenant": 7}', 422),
    ],
)
async def test_what_cannot_be_handled_is_said_at_once(
    start_desk: StartDesk, path: str, body: bytes, status: int
) -> None:
    """And lies in no queue."""
    desk = await start_desk()
    headers = {"Content-Type": "application/json"}
    await read_problem(await desk.service.post(path, data=body, headers=headers), status)
    assert len(desk.inbox) == 0


async def test_another_body_under_the_same_id_is_refused(start_desk: StartDesk) -> None:
    """The first one is handled, the second never."""
    desk = await start_desk()
    await accepted(desk, provisioning_event(tier="STANDARD"))
    other = provisioning_event(tier="BASIC")
    await read_problem(await desk.service.post("/events", json=other), 422)
    await desk.work()
    (run,) = (await (await desk.service.get("/runs")).json())["items"]
    assert run["status"] == "succeeded"


async def test_equal_content_is_one_event(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """A body without any id keeps its identity on its way through the queue."""
    desk = await start_desk()
    body = {"tenantId": "t-1", "tier": "STANDARD"}
    first = await accepted(desk, body, PROVISION)
    await desk.work()
    answer = await desk.service.post(PROVISION, json=body)
    assert (answer.status, answer.headers["Location"]) == (200, first)
    assert only_build(codebuild)


async def test_equal_content_is_another_event_once_something_else_was_asked_for(
    start_desk: StartDesk, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """Provision, deprovision, the same provision again within minutes: three jobs. A message of
    the first that the queue delivers once more is no fourth."""
    desk = await start_desk()
    body = {"tenantId": "t-1", "tier": "STANDARD"}
    await accepted(desk, body, PROVISION)
    (first,) = await desk.inbox.receive(limit=1, wait_s=0)
    await desk.inbox.hide(first, seconds=0)

    async def has_ended() -> None:
        await desk.work()
        codebuild.finish(list(codebuild.builds)[-1], "SUCCEEDED")
        clock.turn(60)
        assert (await desk.service.post("/events/RECONCILE", json={})).status == 200

    await has_ended()
    for path in ("/events/TENANT_DEPROVISIONING", PROVISION):
        await accepted(desk, body, path)
        await has_ended()
    assert len(codebuild.builds) == 3

    clock.turn(5)
    await accepted(desk, body, "/events/TENANT_DEPROVISIONING")
    await desk.work()
    assert len(codebuild.builds) == 4
    await desk.inbox.send(text=first.text, group="again", deduplication_id="again")
    await desk.work()
    assert len(codebuild.builds) == 4
    tenant = await (await desk.service.get("/tenants/t-1")).json()
    assert tenant["state"] == "deprovisioning"


async def test_equal_content_that_is_accepted_in_a_row_is_three_pieces_of_work(
    start_desk: StartDesk, clock: ManualClock
) -> None:
    """Provision, deprovision, provision without ids, each answered 202 before a worker comes. One
    that meets its like at work stays in the queue until it is known whether they are the same."""
    desk = await start_desk()
    body = {"tenantId": "t-1", "tier": "STANDARD"}
    for path in (PROVISION, "/events/TENANT_DEPROVISIONING", PROVISION):
        await accepted(desk, body, path)
        clock.turn(1)
    assert len(desk.inbox) == 3
    async with desk.worker():
        await until(lambda: {"succeeded", "retry"} <= statuses(desk) and len(desk.inbox) <= 1)
        clock.turn(desk.inbox.visibility_s + 1)
        await until(lambda: len(desk.inbox) == 0)
    tenant = await (await desk.service.get("/tenants/t-1")).json()
    assert len(tenant["waiting"]) == 2


async def test_a_header_names_the_event(start_desk: StartDesk) -> None:
    """The worker finds the run that the service has shown."""
    desk = await start_desk()
    headers = {"Idempotency-Key": "mine"}
    body = {"tenantId": "t-1", "tier": "STANDARD"}
    answer = await desk.service.post(PROVISION, json=body, headers=headers)
    await desk.work()
    run = await read_run(desk.service, answer.headers["Location"])
    assert run["status"] == "succeeded"


async def test_eventbridge_may_fill_the_queue_itself(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """A message is an envelope as it stands; the event is known by the envelope's id."""
    desk = await start_desk()
    for number in range(2):
        text = json.dumps(provisioning_event())
        await desk.inbox.send(text=text, group="g", deduplication_id=str(number))
    await desk.work()
    assert only_build(codebuild)
    (run,) = (await (await desk.service.get("/runs")).json())["items"]
    assert run["status"] == "succeeded"


async def test_the_sweep_takes_up_what_the_queue_has_lost(
    start_desk: StartDesk, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A message that went to the dead-letter queue, or expired: its event is handled, too."""
    desk = await start_desk()
    address = await accepted(desk, provisioning_event())
    (lost,) = await desk.inbox.receive(limit=1, wait_s=0)
    await desk.inbox.delete(lost)
    clock.turn(899)
    await desk.service.post("/events/RECONCILE", json={})
    assert not codebuild.builds
    clock.turn(1)
    assert (await desk.service.post("/events/RECONCILE", json={})).status == 200
    assert (await read_run(desk.service, address))["status"] == "succeeded"


async def test_a_replay_goes_through_the_queue(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """Each is a wish of its own, even where equal messages count as one."""
    desk = await start_desk()
    codebuild.inject("StartBuild", Fault.error("InvalidInputException"))
    address = await accepted(desk, provisioning_event())
    await desk.work()
    assert (await read_run(desk.service, address))["status"] == "failed"
    for _ in range(2):
        answer = await desk.service.post(f"{address}/replay", json={})
        assert (answer.status, answer.headers["Location"]) == (202, address)
    assert len(desk.inbox) == 2
    await desk.work()
    assert (await read_run(desk.service, address))["status"] == "succeeded"
    await read_problem(await desk.service.post("/runs/nowhere/replay", json={}), 404)


@pytest.mark.parametrize(
    "error", [TemporaryError("later"), PermanentError("no"), ValueError("bug")]
)
async def test_what_the_ledger_has_is_deleted_from_the_queue(
    start_desk: StartDesk, error: Exception
) -> None:
    """Whatever came of it: the ledger counts attempts, the queue doesn't."""
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        raise error

    desk = await start_desk(registry)
    address = await accepted(desk, {"a": 1}, "/events/ORDER")
    await desk.work()
    expected = "failed" if isinstance(error, PermanentError) else "retry"
    assert (await read_run(desk.service, address))["status"] == expected


async def test_one_bad_message_stops_nothing(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """It stays, for the dead-letter queue; all others are handled."""
    desk = await start_desk()
    for number, text in enumerate(["", "nonsense", "[]", '{"saas-orchestrator": {}}', "{}"]):
        await desk.inbox.send(text=text, group=f"bad-{number}", deduplication_id=text)
    await accepted(desk, provisioning_event())
    async with desk.worker():
        await until(lambda: len(codebuild.builds) == 1 and len(desk.inbox) == 5)
    assert only_build(codebuild)


async def metrics_of(worker: AttemptRunner) -> dict[str, float]:
    """What a worker counts, by the names after `orchestrator_queue_`."""
    answer = await worker.get("/metrics")
    assert answer.content_type == "text/plain"
    families = text_string_to_metric_families(await answer.text())
    samples = [sample for family in families for sample in family.samples]
    return {one.name.removeprefix("orchestrator_queue_"): one.value for one in samples}


async def test_a_worker_counts_what_it_does(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """Handled, kept, in hand, for how long: Prometheus may ask for it, and learns no more."""
    desk = await start_desk()
    await accepted(desk, provisioning_event(override={"secret": "hush-hush"}))
    async with desk.worker() as worker:
        await until(lambda: len(codebuild.builds) == 1 and len(desk.inbox) == 0)
        await desk.inbox.send(text="nonsense", group="g", deduplication_id="n")
        async with asyncio.timeout(30):
            while (counted := await metrics_of(worker))["messages_kept_total"] == 0:
                pass
        assert "hush-hush" not in await (await worker.get("/metrics")).text()
    assert counted["messages_handled_total"] == 1
    assert counted["messages_not_deleted_total"] == 0
    assert counted["messages_in_hand"] == 0
    assert counted["message_seconds_count"] == 2


async def test_a_message_that_can_not_be_deleted_comes_again(
    start_desk: StartDesk, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """And is found handled: one build."""
    desk = await start_desk()
    await accepted(desk, provisioning_event())
    desk.inbox.is_busy = True
    async with desk.worker() as worker:
        async with asyncio.timeout(30):
            while (await metrics_of(worker))["messages_not_deleted_total"] == 0:
                pass
        desk.inbox.is_busy = False
        clock.turn(desk.inbox.visibility_s + 1)
        await until(lambda: len(desk.inbox) == 0)
        assert (await metrics_of(worker))["messages_handled_total"] == 2
    assert only_build(codebuild)


async def test_messages_wait_while_the_ledger_is_down(
    start_desk: StartDesk, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """They are not received again and again in vain: that would be counted."""
    desk = await start_desk()
    for number in range(3):
        event = provisioning_event(tenant_id=f"t-{number}", event_id=f"e-{number}")
        await accepted(desk, event)
    desk.ledger.is_down = True
    async with desk.worker() as worker:
        await until(lambda: all(one.message.receives == 1 for one in desk.inbox._waiting))
        assert (await worker.get("/readyz")).status == 503
        for _ in range(120):
            clock.turn(10)
            for _ in range(20):
                await asyncio.sleep(0)
        assert [one.message.receives for one in desk.inbox._waiting] == [1, 1, 1]
        desk.ledger.is_down = False
        for _ in range(12):
            clock.turn(10)
            for _ in range(20):
                await asyncio.sleep(0.001)
        await until(lambda: len(desk.inbox) == 0)
    assert len(codebuild.builds) == 3


async def test_a_message_in_hand_stays_hidden(start_desk: StartDesk, clock: ManualClock) -> None:
    """A handler that takes longer than the visibility timeout isn't given its event twice."""
    entered, release, attempts = asyncio.Event(), asyncio.Event(), []
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        attempts.append(run.attempt)
        entered.set()
        await release.wait()

    desk = await start_desk(registry)
    await accepted(desk, {"a": 1}, "/events/ORDER")
    async with desk.worker():
        await entered.wait()
        for _ in range(30):
            clock.turn(15)
            for _ in range(20):
                await asyncio.sleep(0)
        assert [one.message.receives for one in desk.inbox._waiting] == [1]
        release.set()
        await until(lambda: len(desk.inbox) == 0)
    assert attempts == [1]


async def test_a_worker_that_is_asked_to_go_finishes_what_it_has(start_desk: StartDesk) -> None:
    """It takes no more, and says so."""
    entered, release = asyncio.Event(), asyncio.Event()
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        entered.set()
        await release.wait()

    desk = await start_desk(registry)
    address = await accepted(desk, {"a": 1}, "/events/ORDER")
    async with desk.worker() as worker:
        await entered.wait()
        draining = asyncio.create_task(worker.app[DRAINS].drain(timeout_s=30))
        await asyncio.sleep(0)
        assert (await worker.get("/readyz")).status == 503
        assert (await worker.get("/healthz")).status == 200
        later = await accepted(desk, {"a": 2}, "/events/ORDER")
        release.set()
        await draining
        assert (await read_run(desk.service, address))["status"] == "succeeded"
        assert (await read_run(desk.service, later))["status"] == "queued"


async def test_a_worker_that_must_go_hands_back(start_desk: StartDesk, clock: ManualClock) -> None:
    """What isn't finished is taken up by whoever comes next."""
    entered, attempts = asyncio.Event(), []
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        attempts.append(run.attempt)
        entered.set()
        if run.attempt == 1:
            await asyncio.get_running_loop().create_future()

    desk = await start_desk(registry)
    address = await accepted(desk, {"a": 1}, "/events/ORDER")
    async with desk.worker():
        await entered.wait()
    assert (await read_run(desk.service, address))["status"] == "retry"
    clock.turn(61)
    await desk.work()
    assert (await read_run(desk.service, address))["status"] == "succeeded"
    assert attempts == [1, 2]


async def test_no_more_messages_are_in_hand_than_may_be(start_desk: StartDesk) -> None:
    """`intake.concurrency`, ten of them."""
    in_hand, most, release = 0, 0, asyncio.Event()
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        nonlocal in_hand, most
        in_hand += 1
        most = max(most, in_hand)
        await release.wait()
        in_hand -= 1

    desk = await start_desk(registry)
    for number in range(25):
        await accepted(desk, {"a": number}, "/events/ORDER")
    async with desk.worker():
        await until(lambda: most == 10)
        for _ in range(50):
            await asyncio.sleep(0)
        release.set()
        await until(lambda: len(desk.inbox) == 0)
    assert most == 10


async def test_an_outcome_does_not_wait_behind_the_request_that_waits_for_it(
    start_desk: StartDesk, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """The deployment waits for the provisioning; the provisioning's outcome comes behind it."""
    desk = await start_desk()
    await accepted(desk, provisioning_event(tenant_id="t-1", event_id="p"))
    await desk.work()
    deployment = {"tenantId": "t-1", "tier": "PREMIUM"}
    waits = await accepted(desk, envelope("TENANT_DEPLOYMENT", deployment, event_id="d"))
    codebuild.finish(only_build(codebuild).id, "SUCCEEDED")
    told = {"tenantId": "t-1", "CODEBUILD_BUILD_ID": only_build(codebuild).id}
    await accepted(desk, envelope("TENANT_PROVISIONING_SUCCESS", told, event_id="o"))
    await desk.work()
    clock.turn(15)
    assert (await desk.service.post("/events/RECONCILE", json={})).status == 200
    assert (await read_run(desk.service, waits))["status"] == "succeeded"


async def test_requests_follow_each_other_and_outcomes_nobody(
    start_desk: StartDesk, in_groups: bool
) -> None:
    """In a queue of groups a tenant's requests are one, and each outcome is one by itself."""
    desk = await start_desk()
    named = {"tenantId": "t-1", "tier": "STANDARD"}
    for event_type in (
        "TENANT_PROVISIONING",
        "TENANT_DEPLOYMENT",
        "TENANT_PROVISIONING_SUCCESS",
        "TENANT_DEPLOYMENT_SUCCESS",
    ):
        await accepted(desk, envelope(event_type, named, event_id=event_type))
    await accepted(desk, envelope("TENANT_PROVISIONING", {**named, "tenantId": "t-2"}))
    received = await desk.inbox.receive(limit=10, wait_s=0)
    types = []
    for message in received:
        queued = read_message(message.text, message_id=message.id)
        assert isinstance(queued, QueuedEvent)
        types.append(queued.event_type)
    assert ("TENANT_DEPLOYMENT" in types) is not in_groups
    assert len(types) == (4 if in_groups else 5)


async def test_a_secret_that_a_build_told_is_not_kept(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """Neither while it is queued nor after; and the worker finds the very same event."""
    desk = await start_desk()
    await accepted(desk, provisioning_event(tenant_id="t-1", event_id="p"))
    await desk.work()
    told = {
        "tenantId": "t-1",
        "CODEBUILD_BUILD_ID": only_build(codebuild).id,
        "DB_PASSWORD": "hush-hush",
    }
    address = await accepted(desk, envelope("TENANT_PROVISIONING_SUCCESS", told, event_id="o"))
    await desk.work()
    assert (await read_run(desk.service, address))["status"] == "succeeded"
    kept = [getattr(item, "data", b"") for item in desk.ledger._items.values()]
    assert "hush-hush" not in "".join(zlib.decompress(one).decode() for one in kept if one)


async def test_a_message_is_read_as_it_was_written(start_desk: StartDesk) -> None:
    """What the service has worked out of an event's identity comes along."""
    desk = await start_desk()
    await accepted(desk, {"tenantId": "t-1", "tier": "STANDARD"}, PROVISION)
    (message,) = await desk.inbox.receive(limit=1, wait_s=0)
    queued = read_message(message.text, message_id=message.id)
    assert isinstance(queued, QueuedEvent)
    assert queued.event_type == "TENANT_PROVISIONING"
    assert queued.delivery.same_content_same_event
    assert queued.delivery.event_id is None
    assert isinstance(message, Message)


async def test_production_needs_a_queue_for_queue_mode() -> None:
    """The setting says what is missing."""
    with pytest.raises(ValueError, match=r"intake\.queue_url"):
        Intake(mode="queue")


def test_a_web_app_is_what_a_worker_is() -> None:
    """It has health to be asked for, and nothing else."""
    settings = Settings(intake=Intake(queue_url=URL))
    app = create_worker_app(settings, ledger=InMemoryLedger())
    assert isinstance(app, web.Application)
    paths = {route.resource.canonical for route in app.router.routes() if route.resource}
    assert paths == {"/healthz", "/readyz", "/metrics"}


async def test_a_report_with_what_only_we_may_say_is_handled(start_desk: StartDesk) -> None:
    """It is queued without its `endedJob`, and is the same event to the worker."""
    desk = await start_desk()
    ended = {"id": "b", "builder": "B", "jobIdentifier": "j", "status": "SUCCEEDED"}
    detail = {"tenantId": "t-1", "endedJob": ended}
    address = await accepted(desk, envelope("TENANT_PROVISIONING_SUCCESS", detail))
    await desk.work()
    assert (await read_run(desk.service, address))["status"] == "succeeded"
