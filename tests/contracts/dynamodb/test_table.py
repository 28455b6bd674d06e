"""The ledger's table in DynamoDB: made once, completed where it was there, and refused."""

import asyncio
from typing import Any

import pytest

from orchestrator.adapters.aws import AWS
from orchestrator.adapters.dynamodb.items import table_schema
from orchestrator.adapters.ledger_indexes import INDEXES
from orchestrator.core.errors import PermanentError
from orchestrator.testing import ManualClock
from tests.contracts.dynamodb.table import Table
from tests.contracts.samples import kept, run, tenant
from tests.dynamodb_local.ledgers import build_ledger
from tests.dynamodb_local.proxy import Proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_table_is_made_once(table: Table) -> None:
    """A second time says that it was there, and leaves what it holds."""
    await table.ledger.commit([run()], unchanged={})
    assert not await table.ledger.create()
    assert await table.ledger.load([run().key]) == {run().key: kept(run())}


async def test_the_table_is_what_the_ledger_needs(table: Table) -> None:
    """It is on demand, its indexes hold keys alone, and items are deleted by `expires_at`."""
    client = await table.aws.dynamodb()
    made: Any = (await client.describe_table(TableName=table.name))["Table"]
    wanted = table_schema(table.name)
    assert made["KeySchema"] == wanted["KeySchema"]
    assert made["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    indexes = {index["IndexName"]: index for index in made["GlobalSecondaryIndexes"]}
    assert set(indexes) == {index.name for index in INDEXES}
    assert all(index["Projection"]["ProjectionType"] == "KEYS_ONLY" for index in indexes.values())
    expiry = await client.describe_time_to_live(TableName=table.name)
    assert expiry["TimeToLiveDescription"] == {
        "TimeToLiveStatus": "ENABLED",
        "AttributeName": "expires_at",
    }


@pytest.mark.parametrize(
    ("way", "kept"),
    [
        pytest.param("moto", (), id="moto-no index"),
        pytest.param("moto", ("due", "list"), id="moto-some indexes"),
        # It takes half a minute to build one.
        pytest.param(
            "DynamoDB Local",
            ("due", "list", "status", "tenant"),
            id="DynamoDB Local-most indexes",
            marks=pytest.mark.timeout(600),
        ),
    ],
    indirect=["way"],
)
async def test_a_table_that_was_there_is_completed(
    way: tuple[Proxy, AWS], clock: ManualClock, kept: tuple[str, ...]
) -> None:
    """Made by hand or for an older release: the indexes and the expiry that it lacks are added."""
    ledger, name = build_ledger(way[1], clock, pause=asyncio.sleep)
    client = await way[1].dynamodb()
    wanted = table_schema(name)
    indexes = [one for one in wanted["GlobalSecondaryIndexes"] if one["IndexName"] in kept]
    keys = [key for one in (wanted, *indexes) for key in one["KeySchema"]]
    names = {key["AttributeName"] for key in keys}
    given: Any = {
        **wanted,
        "AttributeDefinitions": [
            one for one in wanted["AttributeDefinitions"] if one["AttributeName"] in names
        ],
        "GlobalSecondaryIndexes": indexes,
    }
    if not indexes:
        del given["GlobalSecondaryIndexes"]
    await client.create_table(**given)
    await ledger.commit([run(), tenant()], unchanged={})
    missing = [f"index {one.name}" for one in INDEXES if one.name not in kept]
    assert await ledger.create() == [*missing, "expiry"]
    made: Any = (await client.describe_table(TableName=name))["Table"]
    by_name = {one["IndexName"]: one for one in made["GlobalSecondaryIndexes"]}
    for index in wanted["GlobalSecondaryIndexes"]:
        found = by_name[index["IndexName"]]
        assert {key: found[key] for key in index} == index
    # What was there before the indexes is in them.
    assert [one.run_id for one in (await ledger.list_runs()).items] == [run().run_id]
    assert len((await ledger.list_tenants()).items) == 1
    assert await ledger.create() == []


async def test_expiry_that_was_disabled_is_enabled(table: Table) -> None:
    """The expiry of a table of the ledger's is enabled again."""
    client = await table.aws.dynamodb()
    await client.update_time_to_live(
        TableName=table.name,
        TimeToLiveSpecification={"Enabled": False, "AttributeName": "expires_at"},
    )
    assert await table.ledger.create() == ["expiry"]
    expiry = await client.describe_time_to_live(TableName=table.name)
    assert expiry["TimeToLiveDescription"]["TimeToLiveStatus"] == "ENABLED"
    assert await table.ledger.create() == []


async def test_a_table_that_cannot_be_the_ledgers_is_named(
    way: tuple[Proxy, AWS], clock: ManualClock
) -> None:
    """Other keys, or an expiry of its own: nothing of it is changed."""
    client = await way[1].dynamodb()
    ledger, name = build_ledger(way[1], clock)
    await client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "tier", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "tier", "AttributeType": "S"}],
    )
    with pytest.raises(PermanentError, match=f"The table {name} has other keys"):
        await ledger.create()
    made: Any = (await client.describe_table(TableName=name))["Table"]
    assert not made.get("GlobalSecondaryIndexes")

    ledger, name = build_ledger(way[1], clock)
    await client.create_table(**table_schema(name))
    await client.update_time_to_live(
        TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"}
    )
    with pytest.raises(PermanentError, match="'ttl', the ledger by 'expires_at'"):
        await ledger.create()
