"""Tenants' lives at random: each tenant has one job at a time, and in the end none is held."""

import random
from typing import Any

import attrs
import pytest

from orchestrator import Extension, JobStatus, Settings
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import OperationRecord, RunRecord, TenantRecord
from orchestrator.settings import Tiers
from orchestrator.testing import InMemoryBuilder, ManualClock, envelope
from tests.acceptance.stories import list_runs
from tests.conftest import Client, StartService

TIER = {
    "jobIdentifier": "make",
    "cleanupJobIdentifier": "clean",
    "deploymentJobIdentifier": "deploy",
    "deprovisioningJobIdentifier": "drop",
    "builder": "B",
}
OPENING = ("TENANT_PROVISIONING", "TENANT_DEPLOYMENT", "TENANT_DEPROVISIONING")
TYPES = [*OPENING, *(f"{name}_{how}" for name in OPENING for how in ("SUCCESS", "FAILURE"))]


@attrs.frozen
class Life:
    chance: random.Random
    service: Client
    builder: InMemoryBuilder
    ledger: InMemoryLedger
    clock: ManualClock

    def kept(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.ledger._items.values() if isinstance(one, kind)]

    @property
    def running(self) -> dict[str, str]:
        """Start keys by the ids of the running jobs."""
        started = self.builder.started
        return {
            one.job.id: one.start_key for one in started if one.job.id not in self.builder._ended
        }

    async def send(self, tenant: str) -> int:
        body = {"tenantId": tenant, "tier": "FULL"}
        if self.chance.random() < 0.4:
            body["context"] = f"c-{self.chance.randrange(4)}"
        event_id = f"{self.chance.randrange(250)}-{tenant}"
        event = envelope(self.chance.choice(TYPES), body, event_id=event_id)
        return (await self.service.post("/events", json=event)).status

    async def replay(self, tenant: str) -> int:
        runs = await list_runs(self.service, tenantId=tenant)
        if not runs:
            return 200
        address = f"/runs/{self.chance.choice(runs)['runId']}/replay"
        force = self.chance.random() < 0.5
        return (await self.service.post(address, json={"force": force})).status

    async def cancel(self, tenant: str) -> int:
        return (await self.service.post(f"/tenants/{tenant}/cancel", json={})).status

    async def sweep(self, _: str = "") -> int:
        self.clock.turn(self.chance.choice([5, 20, 65]))
        return (await self.service.post("/events/RECONCILE", json={})).status

    async def end(self, _: str) -> int:
        if running := list(self.running):
            status = self.chance.choice([JobStatus.SUCCEEDED, JobStatus.FAILED])
            self.builder.finish(self.chance.choice(running), status)
        return 200


@pytest.mark.parametrize("seed", range(8))
async def test_nothing_is_doubled_or_held(
    start_service: StartService, settings: Settings, clock: ManualClock, seed: int
) -> None:
    """Events of all types in any order, replays, cancels, sweeps and jobs that end double no job
    and leave no tenant held."""
    builder, ledger = InMemoryBuilder("B"), InMemoryLedger()
    service = await start_service(
        attrs.evolve(settings, tiers=Tiers(backend="static", static={"FULL": TIER})),
        extension=Extension(builders={"B": builder}),
        ledger=ledger,
    )
    life = Life(random.Random(seed), service, builder, ledger, clock)  # noqa: S311 - no secret
    acts = [life.send] * 12 + [life.replay] * 3 + [life.end] * 2 + [life.sweep] * 2 + [life.cancel]
    for number in range(300):
        act = life.chance.choice(acts)
        status = await act(f"t-{life.chance.randrange(6)}")
        assert status in (200, 202, 404, 422, 503), (number, act)
        held = [one for one in life.kept(OperationRecord) if one.state is OperationState.OPEN]
        known = {one.start_key for one in held if one.job is not None}
        assert set(life.running.values()) <= known, (number, act)
    for _ in range(60):
        for job_id in life.running:
            builder.finish(job_id)
        clock.turn(65)
        assert (await service.post("/events/RECONCILE", json={})).status == 200
    assert [one for one in life.kept(RunRecord) if not one.status.is_finished] == []
    assert [one for one in life.kept(TenantRecord) if one.operation_id] == []
