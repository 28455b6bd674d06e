"""Sweeps of several replicas over a slow ledger, counted in requests, by a manual clock.

`SOAK=1` does so with as many runs, and at every interval, as a busy day has.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any, TypeVar

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator import Extension, Settings, TemporaryError
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.dispatch.sweep import SweepResult
from orchestrator.core.ledger.bulkheads import Bulkheads
from orchestrator.core.ledger.pages import Page
from orchestrator.core.ledger.record_parts import Job, OperationState
from orchestrator.core.ledger.records import OperationRecord, Record, RunRecord
from orchestrator.parts import OpenService, Parts, open_parts
from orchestrator.settings import LedgerSettings, Operations, Tiers
from orchestrator.testing import InMemoryBuilder, ManualClock, envelope
from tests.ledgers import share_items

IS_SOAK = "SOAK" in os.environ
RUNS, REPLICAS = (600 if IS_SOAK else 150), 3
#: Intervals of the timer, and how much longer a request to the ledger takes, in seconds.
LOADS = [(2, 0.4), (60, 0.2)]
if IS_SOAK:
    LOADS += [(2, 0.2), (5, 0.2), (5, 0.4), (15, 0.2), (60, 0.4), (300, 0.2)]
#: How long (seconds) a sender waits for an answer.
DEADLINE_S = 4.0

Result = TypeVar("Result")


class ChanceDice:
    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311

    def pick(self, count: int) -> int:
        return self._random.randrange(count)


@attrs.define
class World:
    """The shared clock, ledger and builder of the replicas, and the number of requests."""

    latency_s: float
    clock: ManualClock = attrs.field(factory=ManualClock)
    ledger: InMemoryLedger = attrs.field(factory=InMemoryLedger)
    builder: "Builder" = attrs.field(factory=lambda: Builder())
    requests: int = 0
    is_down: bool = False

    async def pass_time(self, seconds: float) -> None:
        """Let other tasks continue, then let time pass."""
        for _ in range(20):
            await asyncio.sleep(0)
        self.clock.turn(seconds)

    async def until_done(self, work: Awaitable[Result]) -> Result:
        task = asyncio.ensure_future(work)
        while not task.done():
            await self.pass_time(self.latency_s / 2)
        return task.result()

    def records(self, kind: type[Result]) -> list[Result]:
        return [one for one in self.ledger._items.values() if isinstance(one, kind)]


class Builder(InMemoryBuilder):
    """A builder that may be down."""

    is_down = False

    async def start_job(self, *args: Any, **asked: Any) -> Job:
        if self.is_down:
            raise TemporaryError("down", nothing_done=True)
        return await super().start_job(*args, **asked)


class ReplicaLedger(InMemoryLedger):
    """The shared ledger as one replica reaches it: slow, counted, and with DynamoDB's limit of
    concurrency."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        share_items(self, world.ledger)
        self._bulkheads = Bulkheads()

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        await self._pass()
        await super().commit(records, unchanged=unchanged)

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        await self._pass()
        return await super().load(keys)

    async def find_due(self, **asked: Any) -> Page[str]:
        await self._pass()
        return await super().find_due(**asked)

    async def _pass(self) -> None:
        async with self._bulkheads.room():
            self._world.requests += 1
            if self._world.latency_s:
                await self._world.clock.sleep(self._world.latency_s)
        if self._world.is_down:
            raise TemporaryError("the ledger is down")


@asynccontextmanager
async def replicas(world: World, count: int, *, every_s: float) -> AsyncIterator[list[OpenService]]:
    settings = Settings(
        ledger=LedgerSettings(backend="memory"),
        operations=Operations(reconcile_every_s=every_s),
        tiers=Tiers(backend="static", static={"BASIC": {"jobIdentifier": "up"}}),
    )
    async with AsyncExitStack() as stack:
        opened = []
        for number in range(count):
            parts = Parts.choose(
                settings,
                Extension(builders={"CODE_BUILD": world.builder}),
                clock=world.clock,
                ledger=ReplicaLedger(world),
                dice=ChanceDice(number),
            )
            opened.append(await stack.enter_async_context(open_parts(parts)))
        yield opened


async def provision(replica: OpenService, name: str) -> None:
    body = envelope("TENANT_PROVISIONING", {"tenantId": name, "tier": "BASIC"}, event_id=name)
    await replica.chosen.handle_event("TENANT_PROVISIONING", body)


async def fill(world: World, replica: OpenService, count: int, *, is_down: bool) -> None:
    """So many provisionings are requested; with `is_down` the builder refuses them for now."""
    latency_s, world.latency_s = world.latency_s, 0.0
    world.builder.is_down = is_down
    asked = (provision(replica, f"t-{number}") for number in range(count))
    await asyncio.gather(*asked, return_exceptions=True)
    world.builder.is_down, world.latency_s = False, latency_s
    world.requests = 0


@attrs.define
class Intake:
    """Events that arrive, one a second at each replica, and how long each took by the clock."""

    world: World
    took_s: list[float] = attrs.field(factory=list)
    _tasks: list[asyncio.Task[None]] = attrs.field(factory=list)

    def take_in(self, replicas: Sequence[OpenService]) -> None:
        for replica in replicas:
            name = f"new-{len(self._tasks)}"
            self._tasks.append(asyncio.create_task(self._one(replica, name)))

    async def _one(self, replica: OpenService, name: str) -> None:
        began = self.world.clock.now()
        await provision(replica, name)
        self.took_s.append((self.world.clock.now() - began).total_seconds())

    @property
    def count(self) -> int:
        return len(self._tasks)


def unfinished(world: World) -> int:
    return sum(not run.status.is_finished for run in world.records(RunRecord))


@pytest.mark.parametrize(("every_s", "latency_s"), LOADS)
async def test_a_crowd_of_runs_costs_few_requests_at_any_interval(
    every_s: float, latency_s: float
) -> None:
    """Runs that are all due at once, for each replica, cost at most 12 requests each, and new
    events are answered meanwhile."""
    world = World(latency_s)
    with capture_logs():
        async with replicas(world, REPLICAS, every_s=every_s) as opened:
            await fill(world, opened[0], RUNS, is_down=True)
            assert unfinished(world) == RUNS
            intake = Intake(world)
            began = next_intake = world.clock.now().timestamp()
            while unfinished(world) or len(intake.took_s) < intake.count:
                await world.pass_time(latency_s / 2)
                now = world.clock.now().timestamp()
                if now >= next_intake and now - began < every_s + 20:
                    intake.take_in(opened)
                    next_intake = now + 1
                assert now - began < 2 * every_s + 300
            assert len(world.builder.started) == RUNS + intake.count
            # A new event costs three requests of its own.
            a_run = (world.requests - 3 * intake.count) / RUNS
            assert a_run <= 12
            assert max(intake.took_s) < DEADLINE_S


async def test_an_outage_leaves_no_crowd_behind() -> None:
    """After an outage of the ledger all runs are done for as few requests as without one."""
    world = World(0.4)
    with capture_logs():
        async with replicas(world, REPLICAS, every_s=2) as opened:
            await fill(world, opened[0], RUNS, is_down=True)
            world.is_down = True
            for _ in range(300):
                await world.pass_time(0.2)
            during, world.requests, world.is_down = world.requests, 0, False
            while unfinished(world):
                await world.pass_time(0.2)
            assert len(world.builder.started) == RUNS
            assert during / RUNS <= 12
            assert world.requests / RUNS <= 12


async def test_each_short_sweep_makes_progress() -> None:
    """Of 300 ended jobs each sweep of 3 s, as on Lambda, ends at least 25, the first one too."""
    world = World(0.005)
    with capture_logs():
        async with replicas(world, 1, every_s=60) as opened:
            await fill(world, opened[0], 300, is_down=False)
            for started in world.builder.started:
                world.builder.finish(started.job.id)
            world.clock.turn(60)
            own = opened[0].own
            ended = 0
            while ended < 300:
                swept: SweepResult = await world.until_done(own.reconcile(timeout_s=0.8 * 3))
                open_ones = [
                    one
                    for one in world.records(OperationRecord)
                    if one.state is OperationState.OPEN
                ]
                before, ended = ended, 300 - len(open_ones)
                assert ended - before >= min(25, 300 - before), swept
