"""A read is answered by the deadline of events, however slow the ledger is."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import attrs
import pytest

from orchestrator import Settings
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.ledger.records import Record
from orchestrator.intake.app_keys import WORKLOAD
from orchestrator.settings import Intake
from tests.acceptance.answers import read_problem
from tests.conftest import Client, StartService

#: Paths of the routes that read the ledger.
READS = ("/runs", "/runs/a", "/tenants", "/tenants/t-1", "/readyz")
PATIENCE_S = 20


class StuckLedger(InMemoryLedger):
    """A ledger that never answers; `left` are the reads that were cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[str] = []

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        await self._hang("load")
        return {}

    async def list_runs(self, **filters: Any) -> Any:
        return await self._hang("list_runs")

    async def list_tenants(self, **filters: Any) -> Any:
        return await self._hang("list_tenants")

    async def check(self) -> None:
        await self._hang("check")

    async def _hang(self, question: str) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            self.left.append(question)


@pytest.fixture
def ledger() -> StuckLedger:
    return StuckLedger()


@pytest.fixture
def hasty(settings: Settings) -> Settings:
    """Settings with a short deadline."""
    return attrs.evolve(settings, intake=Intake(deadline_s=0.05))


async def get(service: Client, path: str, **options: Any) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        return await service.get(path, **options)


@pytest.mark.parametrize("path", READS)
async def test_a_slow_ledger_is_a_503_in_time(
    start_service: StartService, hasty: Settings, ledger: StuckLedger, path: str
) -> None:
    """A read over a slow ledger is a 503 that says so, and its reads are cancelled."""
    service = await start_service(hasty, ledger=ledger)
    answer = await get(service, path)
    problem = await read_problem(answer, 503)
    assert "0.05 s" in problem["detail"]
    assert int(answer.headers["Retry-After"]) >= 1
    # The parts of a tenant are read concurrently.
    assert len(ledger.left) == (2 if path == "/tenants/t-1" else 1)


async def test_every_get_route_has_a_deadline(
    start_service: StartService, hasty: Settings, ledger: StuckLedger
) -> None:
    """Each GET route is answered, and those that read the ledger are 503."""
    service = await start_service(hasty, ledger=ledger)
    routes = [route for route in service.app.router.routes() if route.method == "GET"]
    late = set()
    for route in routes:
        assert route.resource is not None
        path = route.resource.canonical.replace("{runId}", "a").replace("{tenantId}", "t-1")
        if (await get(service, path, allow_redirects=False)).status == 503:
            late.add(path)
    assert late >= set(READS)


async def test_readiness_names_what_is_slow(
    start_service: StartService, hasty: Settings, ledger: StuckLedger
) -> None:
    """`/readyz` names the check that timed out, like one that failed."""
    service = await start_service(hasty, ledger=ledger)
    problem = await read_problem(await get(service, "/readyz"), 503)
    assert "'ledger'" in problem["detail"]


async def test_a_head_is_a_get_without_a_body(
    start_service: StartService, hasty: Settings, ledger: StuckLedger
) -> None:
    """A HEAD request has the same deadline as GET."""
    service = await start_service(hasty, ledger=ledger)
    async with asyncio.timeout(PATIENCE_S):
        assert (await service.head("/runs")).status == 503


async def test_the_deadline_is_earlier_if_less_time_is_left(
    start_service: StartService, settings: Settings, ledger: StuckLedger
) -> None:
    """The deadline is the remaining time, such as a Lambda invocation's, if that is less."""
    service = await start_service(settings, ledger=ledger)
    service.app[WORKLOAD].shorten(0.05)
    problem = await read_problem(await get(service, "/runs"), 503)
    assert "0.05 s" in problem["detail"]
