"""Slow handlers, too many events, and a shutdown while events are in progress."""

import asyncio
from typing import Any

import attrs
import pytest

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings
from orchestrator.core.errors import Overloaded
from orchestrator.core.identifiers import digest
from orchestrator.intake.app_keys import WORKLOAD
from orchestrator.intake.workload import Workload
from orchestrator.settings import ApiKey, Auth, Http, Intake, Key
from tests.acceptance.answers import read_problem, read_run, read_success
from tests.conftest import Client, StartService


@attrs.define
class Gate:
    """A handler of ORDER that waits until it is released."""

    entered: asyncio.Event = attrs.field(factory=asyncio.Event)
    release: asyncio.Event = attrs.field(factory=asyncio.Event)
    left: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def wait_until_left(self) -> None:
        async with asyncio.timeout(5):
            await self.left.wait()

    def extension(self) -> Extension:
        registry = HandlerRegistry()

        @registry.on("ORDER")
        async def order(event: Event[dict[str, Any]], run: Run) -> None:
            self.entered.set()
            await self.release.wait()
            self.left.set()

        return Extension(registry=registry)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def hasty(settings: Settings) -> Settings:
    """Settings with a short deadline and one event at a time."""
    return attrs.evolve(settings, intake=Intake(deadline_s=0.05), http=Http(max_concurrency=1))


async def order(service: Client) -> Any:
    return await service.post("/events/ORDER", json={}, headers={"Idempotency-Key": "order-1"})


async def test_at_the_deadline_the_run_continues(
    start_service: StartService, hasty: Settings, gate: Gate
) -> None:
    """At the deadline the answer is 503, the handler continues, and the redelivery is a
    duplicate."""
    service = await start_service(hasty, extension=gate.extension())
    problem = await read_problem(await order(service), 503)
    assert "still being handled after 0.05 s" in problem["detail"]
    gate.release.set()
    await gate.wait_until_left()
    async with asyncio.timeout(30):
        # The settle takes its time, and this deadline is short for a duplicate, too.
        while (answer := await order(service)).status in (429, 503):
            pass
    assert (answer.status, answer.headers["Idempotent-Replayed"]) == (200, "true")


async def test_on_lambda_the_run_is_handed_back_at_the_deadline(
    start_service: StartService, hasty: Settings, gate: Gate
) -> None:
    """On Lambda no task continues after the answer at the deadline, and the redelivery is a new
    attempt."""
    service = await start_service(hasty, extension=gate.extension(), hands_back=True)
    await read_problem(await order(service), 503)
    gate.release.set()
    run = await read_run(service, await read_success(await order(service)))
    assert (run["status"], run["attempt"]) == ("succeeded", 2)


async def test_a_sender_that_hangs_up_cancels_nothing(
    start_service: StartService, gate: Gate
) -> None:
    """The handler continues after its sender has disconnected."""
    service = await start_service(extension=gate.extension())
    sending = asyncio.create_task(order(service))
    await gate.entered.wait()
    sending.cancel()
    gate.release.set()
    await gate.wait_until_left()


async def test_too_many_events_are_429(
    start_service: StartService, hasty: Settings, gate: Gate
) -> None:
    """While as many events as the limit are in progress, after their deadline too, another one is
    429 with a pause."""
    service = await start_service(hasty, extension=gate.extension())
    await read_problem(await order(service), 503)
    answer = await service.post("/events/ORDER", json={"n": 2})
    problem = await read_problem(answer, 429)
    assert int(answer.headers["Retry-After"]) >= 1
    assert "http.max_concurrency events (1)" in problem["detail"]
    gate.release.set()
    await gate.wait_until_left()


async def test_a_draining_service_is_not_ready_and_finishes_its_work(
    start_service: StartService, gate: Gate
) -> None:
    """A draining service isn't ready and accepts no new work, and events in progress are
    answered."""
    service = await start_service(extension=gate.extension())
    sending = asyncio.create_task(order(service))
    await gate.entered.wait()
    draining = asyncio.create_task(service.app[WORKLOAD].drain(timeout_s=5))
    await asyncio.sleep(0)
    ready = await read_problem(await service.get("/readyz"), 503)
    assert "draining" in ready["detail"]
    await read_problem(await service.post("/events/ORDER", json={"n": 2}), 503)
    gate.release.set()
    await draining
    await read_success(await sending)


async def test_a_run_that_does_not_finish_before_shutdown_is_handed_back(
    start_service: StartService, gate: Gate
) -> None:
    """A run that doesn't finish in time is left in `retry`, and its sender gets a 503."""
    service = await start_service(extension=gate.extension())
    sending = asyncio.create_task(order(service))
    await gate.entered.wait()
    await service.app[WORKLOAD].drain(timeout_s=0)
    await read_problem(await sending, 503)
    run = await read_run(service, f"/runs/{digest('ORDER', '', 'order-1')}")
    assert run["status"] == "retry"


KEY, OTHER_KEY = {"x-api-key": "key-1"}, {"x-api-key": "key-2"}
NAMED = ApiKey(keys=(Key(key="key-1", name="noisy"), Key(key="key-2", name="quiet")))


async def test_one_sender_leaves_room_for_the_others(
    start_service: StartService, settings: Settings, gate: Gate
) -> None:
    """Beyond its share a sender's requests are 429 with a pause, after the deadline too, and
    replays and cancels count."""
    busy = attrs.evolve(
        settings,
        intake=Intake(deadline_s=0.05),
        http=Http(max_concurrency=4, sender_share=0.25),
        auth=Auth(methods=("api_key",), api_key=NAMED),
    )
    service = await start_service(busy, extension=gate.extension())
    await read_problem(await service.post("/events/ORDER", json={}, headers=KEY), 503)
    for path in ("/events/ORDER", "/runs/x/replay", "/tenants/t-1/cancel"):
        answer = await service.post(path, json={}, headers=KEY)
        problem = await read_problem(answer, 429)
        assert problem["detail"].startswith("1 events of the sender noisy,")
        assert "http.sender_share" in problem["detail"]
    assert (await service.get("/runs", headers=KEY)).status == 200
    done = {"tenantId": "t-1"}
    path = "/events/TENANT_PROVISIONING_SUCCESS"
    answer = await service.post(path, json=done, headers=OTHER_KEY)
    assert answer.status != 429
    gate.release.set()
    await gate.wait_until_left()


async def test_a_share_is_counted_for_each_sender() -> None:
    """A share counts the sender's own events in progress alone, and all senders together have a
    limit."""
    workload = Workload(max_concurrency=4, sender_share=0.5, deadline_s=60, hands_back=False)
    gate = asyncio.Event()
    shares = {"a": 2, "b": 1}
    held = [
        asyncio.create_task(workload.handle(gate.wait(), sender=name))
        for name, count in shares.items()
        for _ in range(count)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="2 events of the sender a"):
        await workload.handle(asyncio.sleep(0), sender="a")
    await workload.handle(asyncio.sleep(0), sender="b")
    held.append(asyncio.create_task(workload.handle(gate.wait(), sender=None)))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="max_concurrency events"):
        await workload.handle(asyncio.sleep(0), sender="b")
    gate.set()
    await asyncio.gather(*held)
    await workload.handle(asyncio.sleep(0), sender="a")


@pytest.mark.parametrize(("most", "share", "expected"), [(1, 0.1, 1), (3, 0.5, 1), (10, 1.0, 10)])
async def test_a_share_is_at_least_one_event(most: int, share: float, expected: int) -> None:
    """A share is rounded down to at least one event, and may be the whole."""
    workload = Workload(max_concurrency=most, sender_share=share, deadline_s=60, hands_back=False)
    gate = asyncio.Event()
    held = [asyncio.create_task(workload.handle(gate.wait(), sender="a")) for _ in range(expected)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await workload.handle(asyncio.sleep(0), sender="a")
    gate.set()
    await asyncio.gather(*held)
