"""Lists of runs, over HTTP."""

from typing import Any

import pytest

from orchestrator.testing import provisioning_event
from tests.acceptance.answers import read_problem
from tests.conftest import Client


async def provision(service: Client, number: int, tier: str = "STANDARD") -> None:
    event = provisioning_event(tenant_id=f"t-{number}", event_id=f"event-{number}", tier=tier)
    await service.post("/events", json=event)


async def list_runs(service: Client, **query: str) -> dict[str, Any]:
    answer = await service.get("/runs", params=query)
    assert answer.status == 200, await answer.text()
    page: dict[str, Any] = await answer.json()
    return page


async def test_a_service_without_events_has_no_runs(service: Client) -> None:
    """Without events the page is empty and the last one."""
    assert await list_runs(service) == {"items": [], "cursor": None}


async def test_a_run_in_a_list_is_a_run_without_its_history(service: Client) -> None:
    """A run in a list has all fields of the run except its history."""
    await provision(service, 1)
    (listed,) = (await list_runs(service))["items"]
    run = await (await service.get(f"/runs/{listed['runId']}")).json()
    assert (run.pop("steps"), run.pop("waits"), len(run.pop("attempts"))) == ([], [], 1)
    assert listed == run
    assert listed["job"]["jobIdentifier"] == "standard-tenant"


async def test_the_list_is_narrowed_by_the_query(service: Client) -> None:
    """The list is filtered by tenant, type and status."""
    await provision(service, 1)
    await provision(service, 2, tier="GOLD")
    for query, tenants in (
        ({"tenantId": "t-1"}, ["t-1"]),
        ({"status": "failed"}, ["t-2"]),
        ({"eventType": "TENANT_PROVISIONING"}, ["t-1", "t-2"]),
        ({"eventType": "ORDER"}, []),
    ):
        items = (await list_runs(service, **query))["items"]
        assert sorted(run["tenantId"] for run in items) == tenants


async def test_the_cursor_leads_to_the_next_page(service: Client) -> None:
    """The pages, of 50 runs by default, have each run once."""
    for number in range(51):
        await provision(service, number, tier="GOLD")
    first = await list_runs(service)
    assert len(first["items"]) == 50
    second = await list_runs(service, cursor=first["cursor"])
    assert (len(second["items"]), second["cursor"]) == (1, None)
    seen = {run["runId"] for page in (first, second) for run in page["items"]}
    assert len(seen) == 51


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"status": "lost"}, "'lost'"),
        ({"status": "null"}, "'null'"),
        ([("limit", "1"), ("limit", "2")], "'limit' is given more than once"),
        ({"cursor": "nobody's"}, "cursor"),
        ({"tenant": "t-1"}, "tenantId, eventType, status, since, until, limit, cursor"),
    ],
)
async def test_a_wrong_query_is_400(service: Client, query: Any, said: str) -> None:
    """A wrong query is a 400 that names the parameter or the possible values."""
    problem = await read_problem(await service.get("/runs", params=query), 400)
    assert said in problem["detail"]
