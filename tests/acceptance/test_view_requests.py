"""The requests to DynamoDB that a view costs, in a small ledger and in one with 10,000 tenants and
100,000 runs (docs/console.md)."""

from collections.abc import AsyncIterator

import attrs
import pytest

from benchmarks.standin.dynamodb import Table
from orchestrator import Settings
from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.pages import encode_cursor
from orchestrator.settings import LedgerSettings
from tests.conftest import Client, StartService
from tests.faulty_aws import LEDGER
from tests.large_ledger import BUSY, CountedDynamoDB, build_table, open_dynamodb

READ = "BatchGetItem"
ALL, OF_TENANT, BY_STATUS, BY_TYPE, BY_DUE = (
    f"Query {index}" for index in ("list", "tenant", "status", "type", "due")
)
#: Partitions that the overview counts: the states of tenants, and the shards of failed runs.
STATES, SHARDS, KINDS = len(TenantState) + 1, 4, len(Kind)

#: Each view, and its requests to a ledger that has more than a page for it.
VIEWS = {
    "/overview": [*[BY_STATUS] * (STATES + SHARDS + 2 * KINDS), READ, READ],
    "/tenants": [ALL, *[READ] * 2],
    "/tenants?limit=100": [ALL, *[READ] * 3],
    "/tenants?state=deploying": [BY_STATUS, *[READ] * 3],
    "/tenants?state=none": [BY_STATUS, READ],
    "/tenants?prefix=waits": [ALL, *[READ] * 3],
    "/tenants?sort=attention": [BY_DUE, *[BY_STATUS] * 2 * KINDS, BY_DUE, READ, READ],
    "/tenants?sort=attention&limit=100": [BY_DUE, *[BY_STATUS] * 2 * KINDS, BY_DUE, READ, READ],
    f"/tenants?sort=attention&cursor={encode_cursor('0 0')}": [
        BY_DUE,
        *[BY_STATUS] * 2 * KINDS,
        BY_DUE,
        *[READ] * 3,
    ],
    f"/tenants/{BUSY}": [OF_TENANT, ALL, *[READ] * 5],
    "/operations/0000000000-held": [READ, READ],
    "/runs": [*[ALL] * SHARDS, READ],
    "/runs?limit=100": [*[ALL] * SHARDS, READ, READ],
    "/runs?since=2026-11-20T00:00:00Z&until=2027-01-01T00:00:00Z": [*[ALL] * SHARDS, READ],
    "/runs?status=failed": [*[BY_STATUS] * SHARDS, READ],
    "/runs?status=queued": [BY_STATUS] * SHARDS,
    "/runs?eventType=REFUND": [*[BY_TYPE] * SHARDS, READ],
    "/runs?eventType=NONE": [BY_TYPE] * SHARDS,
    "/runs?eventType=REFUND&status=failed": [*[BY_STATUS] * SHARDS, READ],
    f"/runs?tenantId={BUSY}": [OF_TENANT, READ],
    f"/runs?tenantId={BUSY}&status=failed": [OF_TENANT, *[READ] * 4],
    "/runs/0000000000-held": [READ],
    "/me": [],
}


@pytest.fixture(scope="module")
def ledgers() -> list[Table]:
    """A ledger with more than a page for each view, and a large one."""
    return [
        build_table(tenants=480, runs=1_000, operations=50),
        build_table(tenants=10_000, runs=100_000, operations=500),
    ]


@pytest.fixture
async def dynamodb(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CountedDynamoDB]:
    async with open_dynamodb() as opened:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", opened.url)
        yield opened


@pytest.fixture
async def service(
    start_service: StartService, settings: Settings, dynamodb: CountedDynamoDB
) -> Client:
    ledger = LedgerSettings(backend="dynamodb", table=LEDGER)
    return await start_service(attrs.evolve(settings, ledger=ledger))


async def test_a_view_costs_the_same_however_large_the_ledger_is(
    service: Client, dynamodb: CountedDynamoDB, ledgers: list[Table]
) -> None:
    """Each page costs a fixed number of requests, and is full."""
    for table in ledgers:
        dynamodb.tables[LEDGER] = table
        for path, calls in VIEWS.items():
            dynamodb.calls.clear()
            answer = await service.get(path)
            assert answer.status == 200, await answer.text()
            assert sorted(dynamodb.calls) == sorted(calls), path
            shown = await answer.json()
            if "items" in shown and not path.endswith(("NONE", "queued", "&status=failed")):
                assert len(shown["items"]) == (100 if "limit=100" in path else 50), path
                assert shown["cursor"] is not None, path


@pytest.mark.parametrize(
    ("filters", "wanted", "most"),
    [
        ({"eventType": "REFUND"}, 120, SHARDS + 1),
        ({"eventType": "REFUND", "status": "failed"}, 120, SHARDS + 1),
        ({"eventType": "REFUND", "tenantId": f"failed-{7:010}"}, 1, 2),
        ({"status": "failed", "tenantId": BUSY}, 0, 5),
    ],
)
async def test_a_filter_that_few_runs_match_goes_on_by_its_cursor(
    service: Client,
    dynamodb: CountedDynamoDB,
    ledgers: list[Table],
    filters: dict[str, str],
    wanted: int,
    most: int,
) -> None:
    """A page of a filter reads a limited number of runs, and may be short or empty; its cursor
    leads to the rest."""
    dynamodb.tables[LEDGER] = ledgers[0]
    costs, found, cursor = list[int](), 0, ""
    while not costs or cursor:
        dynamodb.calls.clear()
        query = {**filters, **({"cursor": cursor} if cursor else {})}
        page = await (await service.get("/runs", params=query)).json()
        costs.append(len(dynamodb.calls))
        found, cursor = found + len(page["items"]), page["cursor"]
    assert (found, max(costs)) == (wanted, most)


async def test_the_figures_of_the_overview_are_right(
    service: Client, dynamodb: CountedDynamoDB, ledgers: list[Table]
) -> None:
    """Each figure of the overview is right, and counted up to a thousand."""
    of_ledgers = []
    for table in ledgers:
        dynamodb.tables[LEDGER] = table
        of_ledgers.append(await (await service.get("/overview")).json())
    small, large = of_ledgers
    states = {"deploying", "deployment_failed", "none", "active"}
    assert {name for name, one in small["states"].items() if one["count"]} == states
    for one in (small["failedRuns"], *(small["states"][name] for name in states)):
        assert one == {"count": 120, "capped": False}
    for one in (large["failedRuns"], *(large["states"][name] for name in states)):
        assert one == {"count": 1000, "capped": True}
    assert large["oldestOperation"]["tenantId"] == BUSY
