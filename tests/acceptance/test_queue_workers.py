"""The workers of the queue: what they measure, wait for, finish and hand back."""

import asyncio
from typing import Any

import attrs
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from orchestrator import Event, HandlerRegistry, Run, Settings
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.app import create_worker_app
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.intake.app_keys import DRAINS
from orchestrator.settings import ApiKey, Auth, Intake
from orchestrator.testing import ManualClock, provisioning_event
from tests.acceptance.answers import only_build, read_run
from tests.acceptance.queue_desk import URL, AttemptRunner, StartDesk, accepted, until


async def test_one_bad_message_stops_nothing(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """A bad message stays for the dead-letter queue, and all others are handled."""
    desk = await start_desk()
    for number, text in enumerate(["", "nonsense", "[]", '{"saas-orchestrator": {}}', "{}"]):
        await desk.inbox.send(text=text, group=f"bad-{number}", deduplication_id=text)
    await accepted(desk, provisioning_event())
    async with desk.worker():
        await until(lambda: len(codebuild.builds) == 1 and len(desk.inbox) == 5)
    assert only_build(codebuild)


async def metrics_of(worker: AttemptRunner) -> dict[str, float]:
    """A worker's metrics, by their names after `orchestrator_queue_`."""
    answer = await worker.get("/metrics")
    assert answer.content_type == "text/plain"
    families = text_string_to_metric_families(await answer.text())
    samples = [sample for family in families for sample in family.samples]
    return {one.name.removeprefix("orchestrator_queue_"): one.value for one in samples}


async def test_a_worker_counts_what_it_does(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """A worker's metrics are the messages handled, kept and in progress, and their durations,
    without any secret."""
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
    assert counted["messages_in_progress"] == 0
    assert counted["message_duration_seconds_count"] == 2


async def test_a_workers_metrics_need_a_key(start_desk: StartDesk) -> None:
    """A worker's metrics need a key, and its health checks don't."""
    desk = await start_desk()
    auth = Auth(methods=("api_key",), api_key=ApiKey(keys=("key-1",)))
    desk.settings = attrs.evolve(desk.settings, auth=auth)
    async with desk.worker() as worker:
        assert (await worker.get("/metrics")).status == 401
        assert (await worker.get("/metrics", headers={"x-api-key": "key-1"})).status == 200
        assert (await worker.get("/healthz")).status == 200


async def test_a_worker_measures_how_long_messages_wait(
    start_desk: StartDesk, clock: ManualClock
) -> None:
    """A worker measures the time from a message's sending to its first receive, which shows that
    more workers are needed."""
    desk = await start_desk()
    await accepted(desk, provisioning_event())
    clock.turn(90)
    async with desk.worker() as worker:
        await until(lambda: len(desk.inbox) == 0)
        counted = await metrics_of(worker)
    assert counted["lag_seconds_count"] == 1
    assert counted["lag_seconds_sum"] == 90


async def test_a_message_that_can_not_be_deleted_is_redelivered(
    start_desk: StartDesk, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A message that could not be deleted is redelivered, and its run is a duplicate: one build."""
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
    """While the ledger is down messages are not received again and again, since the queue counts
    receives."""
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
        await desk.work_over_time()
    assert len(codebuild.builds) == 3


async def test_a_message_in_progress_stays_invisible(
    start_desk: StartDesk, clock: ManualClock
) -> None:
    """A message whose handler takes longer than the visibility timeout isn't received twice."""
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


async def test_a_worker_that_is_stopped_finishes_its_messages(start_desk: StartDesk) -> None:
    """A worker that is stopped receives no more messages, is not ready, and finishes the ones in
    progress."""
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


async def test_a_worker_that_is_stopped_hands_its_runs_back(
    start_desk: StartDesk, clock: ManualClock
) -> None:
    """A worker that is stopped hands its unfinished runs back, and the next one resumes them."""
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


async def test_the_number_of_messages_in_progress_is_limited(start_desk: StartDesk) -> None:
    """At most `intake.concurrency` messages, ten by default, are in progress."""
    in_progress, most, release = 0, 0, asyncio.Event()
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        nonlocal in_progress, most
        in_progress += 1
        most = max(most, in_progress)
        await release.wait()
        in_progress -= 1

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


def test_a_web_app_is_what_a_worker_is() -> None:
    """A worker is a web app with health checks and metrics only."""
    settings = Settings(intake=Intake(queue_url=URL))
    app = create_worker_app(settings, ledger=InMemoryLedger())
    assert isinstance(app, web.Application)
    paths = {route.resource.canonical for route in app.router.routes() if route.resource}
    assert paths == {"/healthz", "/readyz", "/metrics"}
