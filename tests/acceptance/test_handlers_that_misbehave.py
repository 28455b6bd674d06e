"""Users' handlers that misbehave: their tenants are neither lost nor held without end."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import attrs
import pytest

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    Job,
    JobStatus,
    PermanentError,
    Run,
    Settings,
    TemporaryError,
    payloads,
)
from orchestrator.core.errors import QuotaReached
from orchestrator.settings import Runs, Tiers
from orchestrator.testing import InMemoryBuilder, ManualClock
from tests.acceptance.answers import read_problem, read_success
from tests.acceptance.stories import (
    TENANT,
    list_runs,
    open_ledger_table,
    over_dynamodb,
    state_of,
    sweep,
)
from tests.conftest import Client, StartService

PROVISION = "/events/TENANT_PROVISIONING"
BODY = {"tenantId": TENANT, "tier": "FULL"}
TIER = {"jobIdentifier": "make", "cleanupJobIdentifier": "clean", "builder": "B"}
Body = Event[dict[str, Any]]
Start = Callable[[], Awaitable[Client]]


@attrs.define
class SlowBuilder(InMemoryBuilder):
    """A builder whose starts wait for the gate; while `is_full` they are refused for now."""

    gate: asyncio.Event = attrs.field(factory=asyncio.Event)
    is_full: bool = False

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        if self.is_full:
            raise QuotaReached("full", nothing_done=True)
        await self.gate.wait()
        return await super().start_job(job_identifier, params, start_key=start_key)


@pytest.fixture
def registry() -> HandlerRegistry:
    return HandlerRegistry()


@pytest.fixture
def builder() -> SlowBuilder:
    builder = SlowBuilder("B")
    builder.gate.set()
    return builder


@pytest.fixture
def tiered(settings: Settings) -> Settings:
    return attrs.evolve(settings, tiers=Tiers(backend="static", static={"FULL": TIER}))


@pytest.fixture
def start(
    start_service: StartService, tiered: Settings, registry: HandlerRegistry, builder: SlowBuilder
) -> Start:
    """Start the service with the handlers that the test has registered."""
    extension = Extension(registry=registry, builders={"B": builder})
    return lambda: start_service(tiered, extension=extension)


@pytest.fixture
async def start_in_dynamodb(
    start_service: StartService,
    tiered: Settings,
    registry: HandlerRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Start]:
    """The same over DynamoDB, whose items have a maximum size."""
    settings = over_dynamodb(attrs.evolve(tiered, runs=Runs(max_attempts=2)))
    async with open_ledger_table(monkeypatch):
        yield lambda: start_service(settings, extension=Extension(registry=registry))


async def test_a_start_that_is_under_way_lets_no_tenant_go(
    start: Start, registry: HandlerRegistry, builder: SlowBuilder, clock: ManualClock
) -> None:
    """A start that `gather` leaves running when a step beside it is refused still holds its tenant,
    and its job is the operation's."""

    async def bill() -> None:
        raise PermanentError("No such customer.")

    @registry.on("TENANT_PROVISIONING")
    async def provision(event: Body, run: Run) -> None:
        await asyncio.gather(run.start_job("make", {}, builder="B"), run.step("bill", bill))

    builder.gate.clear()
    service = await start()
    await read_problem(await service.post(PROVISION, json=BODY), 503)
    builder.gate.set()
    for _ in range(10):  # as many turns as the start needs to continue
        await asyncio.sleep(0)
    for _ in range(4):
        clock.turn(70)
        await sweep(service)
    (one,) = builder.started
    assert await state_of(service) == "provisioning"
    builder.finish(one.job.id)
    clock.turn(70)
    await sweep(service)
    assert await state_of(service) == "provisioned"


async def test_an_exception_group_counts_as_its_exceptions(
    start: Start, registry: HandlerRegistry, builder: SlowBuilder, clock: ManualClock
) -> None:
    """A quota in an exception group is no bug, however often a task meets it."""

    @registry.on("TENANT_PROVISIONING")
    async def provision(event: Body, run: Run) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run.start_job("make", {}, builder="B"))

    builder.is_full = True
    service = await start()
    await read_problem(await service.post(PROVISION, json=BODY), 503)
    for _ in range(8):
        clock.turn(301)
        await sweep(service)
    builder.is_full = False
    clock.turn(301)
    await sweep(service)
    assert len(builder.started) == 1


@pytest.mark.parametrize("body", [None, {"tier": "FULL", "context": "c-1"}])
async def test_a_clean_up_of_any_body_is_made(
    start: Start,
    registry: HandlerRegistry,
    builder: SlowBuilder,
    clock: ManualClock,
    body: dict[str, Any] | None,
) -> None:
    """A handler's clean-up is started with any body; None is the failure's own, which names the
    failed start."""

    @registry.on("TENANT_PROVISIONING_FAILURE")
    async def failed(event: Event[payloads.TenantOutcome], run: Run) -> None:
        run.clean_up(event.body if body is None else body)

    service = await start()
    await read_success(await service.post(PROVISION, json=BODY))
    builder.finish(builder.started[0].job.id, JobStatus.FAILED)
    for _ in range(4):
        clock.turn(61)
        await sweep(service)
    assert [one.job.job_identifier for one in builder.started] == ["make", "clean"]


@pytest.mark.parametrize("pause_s", [1.8e12, 1e300])
async def test_a_very_long_pause_is_limited(
    start: Start, registry: HandlerRegistry, pause_s: float
) -> None:
    """A very long pause, such as milliseconds since 1970, is limited, and the run is in `retry`."""

    @registry.on("ORDER")
    async def order(event: Body, run: Run) -> None:
        raise TemporaryError("later", retry_after_s=pause_s)

    service = await start()
    await read_problem(await service.post("/events/ORDER", json={"a": 1}), 503)
    (run,) = await list_runs(service)
    assert run["status"] == "retry"


@pytest.mark.parametrize("between_attempts", [False, True])
async def test_the_end_of_a_job_is_shown_whenever_it_comes(
    start: Start,
    registry: HandlerRegistry,
    builder: SlowBuilder,
    clock: ManualClock,
    between_attempts: bool,
) -> None:
    """The end of a job is shown even if it is detected while the handler works, or waits for
    another attempt."""

    @registry.on("ORDER")
    async def order(event: Body, run: Run) -> None:
        job = await run.start_job("make", {}, builder="B")
        if run.attempt > 1:
            return
        if between_attempts:
            raise TemporaryError("later", retry_after_s=200)
        await run.step("note", job_is_recorded)
        builder.finish(job.id, JobStatus.FAILED, message="No space left")
        clock.turn(61)
        await sweep(service)

    async def job_is_recorded() -> None:
        """A step's action begins once all before it is recorded."""

    service = await start()
    await service.post("/events/ORDER", json={"a": 1})
    if between_attempts:
        builder.finish(builder.started[0].job.id, JobStatus.FAILED, message="No space left")
    for _ in range(5):
        clock.turn(61)
        await sweep(service)
    (run,) = await list_runs(service)
    assert run["status"] == "succeeded"
    assert "No space left" in run["note"]


async def test_a_very_long_reason_ends_the_operation(
    start_in_dynamodb: Start, registry: HandlerRegistry
) -> None:
    """A very long reason, such as a program's whole output, is cut, and the operation ends."""

    @registry.on("TENANT_PROVISIONING")
    async def provision(event: Body, run: Run) -> None:
        run.fail(os.urandom(450_000).hex())

    service = await start_in_dynamodb()
    await read_success(await service.post(PROVISION, json={"tenantId": TENANT}))
    assert await state_of(service) == "provision_failed"


async def test_steps_that_leave_no_room_for_a_failure_leave_it_failed(
    start_in_dynamodb: Start, registry: HandlerRegistry, clock: ManualClock
) -> None:
    """A run whose recorded steps leave no room for the error has failed, without the error's
    text."""
    attempts: list[int] = []

    async def big() -> str:
        return "x" * 395_000

    async def breaks() -> None:
        raise ExceptionGroup("many", [ValueError("y" * 3000) for _ in range(20)])

    @registry.on("ORDER")
    async def order(event: Body, run: Run) -> None:
        attempts.append(run.attempt)
        await run.step("big", big)
        await run.step("breaks", breaks)

    service = await start_in_dynamodb()
    await service.post("/events/ORDER", json={"a": 1})
    for _ in range(6):
        clock.turn(130)
        await sweep(service)
    (run,) = await list_runs(service)
    assert (run["status"], len(attempts)) == ("failed", attempts[-1])
    assert attempts[-1] <= 2
