"""Items that this release can't read, after a rollback or beside a newer one, leave all else
working."""

import itertools
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import attrs
import pytest

from orchestrator import Settings
from orchestrator.adapters.ledger_indexes import SHARDS
from orchestrator.testing import ManualClock
from tests.acceptance.answers import read_problem, read_success
from tests.acceptance.stories import (
    DEPROVISION,
    PROVISION,
    list_runs,
    read_tenant,
    send,
    state_of,
    sweep,
)
from tests.conftest import Client, StartService
from tests.dynamodb_local.ledgers import open_client
from tests.faulty_aws import LEDGER, FaultyAWS

#: Values that a newer release may have written.
NEWER: Mapping[str, Mapping[str, str]] = {
    "OP": {"kind": "migration"},
    "RUN": {"status": "parked"},
    "TENANT": {"state": "migrating"},
}
LONG_DUE = {"due_shard": {"S": "0"}, "due_at": {"S": "2026-01-01T00:00:00.000000+00:00"}}


@attrs.frozen
class NewerRelease:
    """Another release over the same table."""

    url: str

    async def rewrite(self, kind: str, tenant_id: str) -> str:
        """Give the tenant's item of that kind a value that only the newer release knows, and make
        it due; returns its key."""
        async with open_client(self.url) as aws:
            client = await aws.dynamodb()
            for item in (await client.scan(TableName=LEDGER))["Items"]:
                key, data = item["key"]["S"], item["data"].get("S", "{}")
                known = json.loads(data)
                if key.startswith(f"{kind}#") and known["tenant_id"] == tenant_id:
                    newer = {"data": {"S": json.dumps({**known, **NEWER[kind]})}}
                    due = {} if kind == "TENANT" else LONG_DUE
                    await client.put_item(TableName=LEDGER, Item={**item, **newer, **due})
                    return key
        raise AssertionError(kind)

    async def add_unreadable(self, number: int) -> None:
        """Add due runs to each shard, the latest in the list, whose content this release can't
        read."""
        async with open_client(self.url) as aws:
            client = await aws.dynamodb()
            for shard, one in itertools.product(SHARDS, range(number)):
                item: dict[str, Any] = {
                    "key": {"S": f"RUN#odd-{shard}-{one}"},
                    "version": {"N": "1"},
                    "format": {"N": "999"},
                    "data": ({"S": "{"}, {"S": '{"status": "parked"}'}, {"N": "1"})[one % 3],
                    "list": {"S": f"run#{shard}"},
                    "position": {"S": f"2099-01-01 {one:03}"},
                }
                due = {"due_shard": {"S": shard}, "due_at": LONG_DUE["due_at"]}
                await client.put_item(TableName=LEDGER, Item={**item, **due})


@pytest.fixture
def newer(aws: FaultyAWS) -> NewerRelease:
    return NewerRelease(aws.aws.endpoint_url)


@pytest.fixture
async def replica(start_service: StartService, in_dynamodb: Settings, aws: FaultyAWS) -> Client:
    """The service over a ledger in DynamoDB, with two tenants that are being provisioned."""
    service = await start_service(in_dynamodb)
    for tenant_id in ("t-1", "t-2"):
        await read_success(await send(service, PROVISION, tenant_id, tenant_id=tenant_id))
    return service


@pytest.mark.parametrize("kind", ["OP", "RUN"])
async def test_a_sweep_sees_to_all_that_it_can_read(
    replica: Client, newer: NewerRelease, aws: FaultyAWS, clock: ManualClock, kind: str
) -> None:
    """The sweep is 200 and checks the other tenant's job, the next time too."""
    await newer.rewrite(kind, "t-1")
    clock.turn(61)
    await sweep(replica)
    codebuild = aws.aws.codebuild
    for build_id in list(codebuild.builds):
        codebuild.finish(build_id)
    clock.turn(61)
    await sweep(replica)
    assert await state_of(replica, "t-2") == "provisioned"


async def test_a_sweep_gets_past_many_that_it_can_not_read(
    replica: Client, newer: NewerRelease, aws: FaultyAWS, clock: ManualClock
) -> None:
    """A sweep reads past more than a page of unreadable items of each shard, due before all others,
    and ends the builds of the rest."""
    await newer.add_unreadable(60)
    codebuild = aws.aws.codebuild
    for build_id in list(codebuild.builds):
        codebuild.finish(build_id)
    clock.turn(61)
    await sweep(replica)
    assert [await state_of(replica, tenant_id) for tenant_id in ("t-1", "t-2")] == [
        "provisioned",
        "provisioned",
    ]


async def test_lists_get_past_many_that_they_can_not_read(
    replica: Client, newer: NewerRelease
) -> None:
    """The pages of a list have all runs that can be read."""
    await newer.add_unreadable(60)
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        more = f"&cursor={quote(cursor)}" if cursor else ""
        page = await (await replica.get(f"/runs?limit=10{more}")).json()
        found += [run["tenantId"] for run in page["items"]]
        cursor = page["cursor"]
    assert sorted(found) == ["t-1", "t-2"]


async def test_lists_show_the_rest(replica: Client, newer: NewerRelease) -> None:
    """Lists show the runs and tenants that can be read."""
    await newer.rewrite("RUN", "t-1")
    await newer.rewrite("TENANT", "t-1")
    assert [run["tenantId"] for run in await list_runs(replica)] == ["t-2"]
    answer = await replica.get("/tenants")
    assert answer.status == 200, await answer.text()
    assert [one["tenantId"] for one in (await answer.json())["items"]] == ["t-2"]


async def test_a_tenant_is_shown_without_what_can_not_be_read(
    replica: Client, newer: NewerRelease
) -> None:
    """A tenant with an unreadable operation or run is shown with its state and the rest of its
    timeline."""
    await newer.rewrite("OP", "t-1")
    tenant = await read_tenant(replica, "t-1")
    assert (tenant["state"], tenant["operation"]) == ("provisioning", None)
    assert [entry["eventType"] for entry in tenant["timeline"]] == [PROVISION]
    await newer.rewrite("RUN", "t-1")
    assert (await read_tenant(replica, "t-1"))["timeline"] == []


async def test_an_event_waits_for_a_release_that_can_read(
    replica: Client, newer: NewerRelease
) -> None:
    """An event that needs an unreadable item is a 503 that names it, so that nothing is decided
    without it and nothing lost."""
    key = await newer.rewrite("TENANT", "t-1")
    answer = await send(replica, DEPROVISION, "next", tenant_id="t-1")
    assert key in (await read_problem(answer, 503))["detail"]
