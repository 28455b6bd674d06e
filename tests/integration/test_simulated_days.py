"""Simulated days of a busy control plane: duplicates, disorder, outages of up to hours, crashes.

Two replicas share a ledger; from time to time one of them dies in the middle of its work. At the
end each event is handled, a duplicate, or a failed run with a permanent cause.
"""

import asyncio
import math
import os
import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest
from aiohttp.test_utils import TestClient, TestServer

from orchestrator import Extension, JobDescription, JobStatus, Settings, TemporaryError, create_app
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.jobs.tier_catalog import Tier
from orchestrator.core.ledger.pages import Page
from orchestrator.core.ledger.record_parts import Job, OperationState
from orchestrator.core.ledger.records import OperationRecord, Record, RunRecord
from orchestrator.settings import Intake, LedgerSettings, Operations
from orchestrator.testing import (
    SHORT_LIVED_BUS,
    STANDARD_BUS,
    EventBridgeSimulator,
    InMemoryBuilder,
    ManualClock,
    RetryPolicy,
    envelope,
    provisioning_event,
)
from tests.ledgers import share_items

#: `make soak` has more.
TENANTS = int(os.environ.get("SOAK_TENANTS", "60"))
TIER = {
    "jobIdentifier": "up",
    "deploymentJobIdentifier": "deploy",
    "deprovisioningJobIdentifier": "down",
}


class ForgetfulBuilder(InMemoryBuilder):
    """A builder that remembers a start key for 5 minutes, as CodeBuild does, and lists a job after
    a minute."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__("CODE_BUILD")
        self._clock = clock
        self._started_at: dict[str, datetime] = {}

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        now, everything = self._clock.now(), self.started
        self.started = [one for one in everything if self._age_s(one.job.id, now) < 300]
        known = {one.job.id for one in self.started}
        job = await super().start_job(job_identifier, params, start_key=start_key)
        if job.id not in known:
            (made,) = (one for one in self.started if one.job.id == job.id)
            job = attrs.evolve(job, id=f"{job_identifier}:{len(everything) + 1}")
            everything.append(attrs.evolve(made, job=job))
            self._started_at[job.id] = now
        self.started = everything
        return job

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        now = self._clock.now()
        listed = (one.job for one in self.started if one.start_key == start_key)
        return next((job for job in listed if self._age_s(job.id, now) >= 60), None)

    def _age_s(self, job_id: str, now: datetime) -> float:
        return (now - self._started_at[job_id]).total_seconds()


class World:
    """The ledger, the builder and the tiers that the replicas share; each of them may be down."""

    def __init__(self, clock: ManualClock, seed: int) -> None:
        self.clock, self.chance = clock, random.Random(seed)  # noqa: S311
        self.ledger, self.builder = InMemoryLedger(), ForgetfulBuilder(clock)
        self.ends: dict[str, datetime] = {}
        self.seen = 0
        self.now = clock.now()
        self.over = asyncio.Event()
        self.until = {"ledger": clock.now(), "builder": clock.now(), "tiers": clock.now()}

    def check(self, what: str) -> None:
        if self.clock.now() < self.until[what]:
            raise TemporaryError(f"{what} is out of order", nothing_done=True)

    def happens(self, *, every_s: float) -> bool:
        """Whether a fault happens that occurs so often on average, since the clock was turned
        last."""
        elapsed_s = (self.clock.now() - self.now).total_seconds()
        return self.chance.random() > math.exp(-elapsed_s / every_s)

    async def go_on(self) -> None:
        """Begin outages, and end builds, most of them as succeeded."""
        now = self.clock.now()
        if self.happens(every_s=2400):
            lasts_s = self.chance.choice([60, 300, 1800, 7200])
            what = self.chance.choice(list(self.until))
            self.until[what] = now + timedelta(seconds=lasts_s)
        for started in self.builder.started[self.seen :]:
            lasts = timedelta(minutes=self.chance.uniform(5, 40))
            self.ends[started.job.id] = now + lasts
        self.seen = len(self.builder.started)
        for job_id in [one for one, end in self.ends.items() if end <= now]:
            is_well = self.chance.random() < 0.9
            self.builder.finish(job_id, JobStatus.SUCCEEDED if is_well else JobStatus.FAILED)
            del self.ends[job_id]
        self.now = now

    async def find_tier(self, tier: str) -> Tier | None:
        self.check("tiers")
        return {"tier": tier, **TIER} if tier == "STANDARD" else None


@attrs.define
class Builder:
    """The shared builder, which may be down."""

    world: World

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        self.world.check("builder")
        job = await self.world.builder.start_job(job_identifier, params, start_key=start_key)
        if self.world.chance.random() < 0.05:
            # It fails during the call, for a moment or for longer than it remembers a start key.
            # The latter isn't more frequent the more tenants start jobs: they'd wait for days.
            down_s = 600 if self.world.chance.random() < 30 / TENANTS else 0
            self.world.until["builder"] = self.world.clock.now() + timedelta(seconds=down_s)
            raise TemporaryError("the answer was lost")
        return job

    async def find_job(self, **asked: Any) -> Job | None:
        self.world.check("builder")
        return await self.world.builder.find_job(**asked)

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        self.world.check("builder")
        return await self.world.builder.describe_jobs(job_ids=job_ids)

    async def stop_job(self, *, job_id: str) -> None:
        await self.world.builder.stop_job(job_id=job_id)


class ReplicaLedger(InMemoryLedger):
    """The shared ledger as one replica reaches it, until that replica dies."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        share_items(self, world.ledger)
        self.is_dead = False

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        await self._pass()
        await super().commit(records, unchanged=unchanged)
        if self._world.chance.random() < 0.01:
            raise TemporaryError("the answer was lost")

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        await self._pass()
        return await super().load(keys)

    async def find_due(self, **asked: Any) -> Page[str]:
        await self._pass()
        return await super().find_due(**asked)

    async def _pass(self) -> None:
        await asyncio.sleep(0)
        if self.is_dead:
            await self._world.over.wait()
            raise TemporaryError("the replica is dead")
        self._world.check("ledger")


class Replicas:
    """Two replicas, used in turn; a dead one is replaced, and never answers again."""

    def __init__(self, world: World, settings: Settings, stack: AsyncExitStack) -> None:
        self._world, self._settings, self._stack = world, settings, stack
        self._alive: list[tuple[Any, ReplicaLedger]] = []
        self._turn = 0

    async def start(self) -> None:
        ledger = ReplicaLedger(self._world)
        extension = Extension(
            builders={"CODE_BUILD": Builder(self._world)}, tiers=self._world.find_tier
        )
        app = create_app(
            self._settings, extension=extension, clock=self._world.clock, ledger=ledger
        )
        client = TestClient(TestServer(app, host="127.0.0.1"))
        await client.start_server()
        self._stack.push_async_callback(self._close, client)
        self._alive.append((client, ledger))

    async def _close(self, client: Any) -> None:
        # A dead replica would drain for as long as it may: its requests to the ledger never end.
        self._world.over.set()
        await client.close()

    async def crash_one(self) -> None:
        _, ledger = self._alive.pop(0)
        ledger.is_dead = True
        await self.start()

    def post(self, path: str, /, **options: Any) -> Any:
        self._turn += 1
        client, _ = self._alive[self._turn % len(self._alive)]
        return client.post(path, **options)

    async def sweep(self) -> None:
        await self.post("/events/RECONCILE", json={})


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def life(number: int) -> list[dict[str, Any]]:
    """The events that the control plane sends for one tenant, some of them wrong."""
    tenant = f"t-{number}"
    tier = "GOLD" if number % 20 == 7 else "STANDARD"
    named = {"tenantId": tenant, "tier": tier}
    events = [provisioning_event(tenant_id=tenant, tier=tier, event_id=f"{tenant}-up")]
    if number % 3 == 0:
        events.append(envelope("TENANT_DEPLOYMENT", named, event_id=f"{tenant}-deploy"))
    if number % 4 == 0:
        events.append(envelope("TENANT_DEPROVISIONING", named, event_id=f"{tenant}-down"))
    return events


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("target", "policy", "seed"),
    [
        ("api_destination", STANDARD_BUS, 1),
        ("api_gateway", STANDARD_BUS, 2),
        ("api_destination", SHORT_LIVED_BUS, 3),
    ],
)
async def test_nothing_is_lost_and_nothing_is_doubled(
    settings: Settings,
    clock: ManualClock,
    stack: AsyncExitStack,
    target: Any,
    policy: RetryPolicy,
    seed: int,
) -> None:
    """After all faults each start has one job, and the only dead letters are events that are
    refused permanently."""
    world = World(clock, seed)
    configured = attrs.evolve(
        settings,
        intake=Intake(deadline_s=0.2),
        ledger=LedgerSettings(backend="memory", lease_s=60),
        operations=Operations(reconcile_every_s=0),
    )
    replicas = Replicas(world, configured, stack)
    for _ in range(2):
        await replicas.start()
    swept_at = clock.now()

    async def meanwhile(now: datetime) -> None:
        nonlocal swept_at
        if world.happens(every_s=1800):
            await replicas.crash_one()
        await world.go_on()
        if now - swept_at >= timedelta(minutes=1):
            swept_at = now
            await replicas.sweep()

    simulator = EventBridgeSimulator(
        replicas,
        clock,
        target=target,
        policy=policy,
        duplicates=0.3,
        disorder_s=4 * 3600,
        seed=seed,
        meanwhile=meanwhile,
        timeout_s=1.0,
    )
    events = [event for number in range(TENANTS) for event in life(number)]
    deliveries = await simulator.deliver(events)
    world.until = dict.fromkeys(world.until, clock.now())
    # A sweep takes a fraction of a second, so many tenants need many sweeps.
    for _ in range(60 + TENANTS):
        clock.turn(301)
        await world.go_on()
        world.until = dict.fromkeys(world.until, clock.now())
        await replicas.sweep()
        items = list(world.ledger._items.values())
        if not any(one.due_at for one in items if isinstance(one, RunRecord | OperationRecord)):
            break

    runs = {run.event_id: run for run in items if isinstance(run, RunRecord)}
    for event in events:
        run = runs.get(event["id"])
        if run is None:
            # An event that arrived only while the ledger was down can't have a run.
            (lost, *_) = [one for one in deliveries.all if one.event is event]
            assert policy is SHORT_LIVED_BUS
            assert lost.dead_letter_reason is not None
            continue
        assert run.status in ("succeeded", "duplicate", "failed"), (run.status, run.note)
        if run.status == "failed":
            assert run.error is not None
            assert run.error.type in ("PermanentError", "NotAllowed"), run.error
    assert not [run for run in runs.values() if run.due_at]
    # A dead letter was refused in its tenant's state, or its bus gave up before the outage ended.
    dead = {one.status for one in deliveries.dead_letters}
    assert dead <= ({422} if policy is STANDARD_BUS else {422, 503, None})
    operations = [one for one in items if isinstance(one, OperationRecord)]
    assert not [one for one in operations if one.state is OperationState.OPEN and one.job]
    starts = [one.start_key for one in world.builder.started]
    assert len(starts) == len(set(starts))
    known = {one.job.id for one in operations if one.job}
    assert {one.job.id for one in world.builder.started} == known
