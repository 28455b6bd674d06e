"""Creates the ledger's table, or adds missing indexes and expiry to an existing one.

Called by `orchestrator init`. It never deletes or changes anything that exists.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.adapters.aws import aws_errors
from orchestrator.adapters.dynamodb.items import EXPIRY, index_schema, table_schema
from orchestrator.adapters.ledger_indexes import INDEXES, Index
from orchestrator.core.errors import PermanentError, TemporaryError

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

#: How often an index that is being built is checked, a second apart.
_LOOKS = 300


async def complete_table(
    client: "DynamoDBClient", table: str, pause: Callable[[float], Awaitable[None]]
) -> Sequence[str]:
    """Create the table ("table"), or its missing indexes and expiry; returns what was created.

    Raises:
        TemporaryError: DynamoDB can't be reached, or an index is still being built.
        PermanentError: the existing table can't be the ledger's.
    """
    is_new = await _create(client, table)
    made = []
    there = await _describe(client, table)
    wanted = table_schema(table)
    _check_keys(f"The table {table}", there["KeySchema"], wanted["KeySchema"])
    for index in INDEXES:
        found = _find_index(there, index)
        if found is None:
            await _add_index(client, table, index)
            made.append(f"index {index.name}")
        else:
            named = f"The index {index.name} of the table {table}"
            _check_keys(named, found["KeySchema"], index_schema(index)["KeySchema"])
        # DynamoDB builds one index at a time (developer guide, Managing Global Secondary Indexes).
        await _wait_for(client, table, index, pause)
    if await _enable_expiry(client, table):
        made.append("expiry")
    return ["table"] if is_new else made


async def _create(client: "DynamoDBClient", table: str) -> bool:
    """Create the table; False if it exists."""
    is_new = True
    with aws_errors(f"DynamoDB CreateTable {table}"):
        try:
            await client.create_table(**table_schema(table))
        except client.exceptions.ResourceInUseException:
            is_new = False
        await client.get_waiter("table_exists").wait(
            TableName=table, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
        )
    return is_new


async def _describe(client: "DynamoDBClient", table: str) -> Mapping[str, Any]:
    with aws_errors(f"DynamoDB DescribeTable {table}"):
        return (await client.describe_table(TableName=table))["Table"]


def _find_index(there: Mapping[str, Any], index: Index) -> Mapping[str, Any] | None:
    indexes: Sequence[Mapping[str, Any]] = there.get("GlobalSecondaryIndexes", ())
    return next((one for one in indexes if one["IndexName"] == index.name), None)


def _check_keys(named: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        keys = ", ".join(key["AttributeName"] for key in wanted)
        raise PermanentError(
            f"{named} has other keys than the ledger's, which are {keys}: choose another "
            "ledger.table, or delete it."
        )


async def _add_index(client: "DynamoDBClient", table: str, index: Index) -> None:
    schema: Any = index_schema(index)
    with aws_errors(f"DynamoDB UpdateTable {table}"):
        await client.update_table(
            TableName=table,
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"}
                for name in (index.partition, index.sort)
            ],
            GlobalSecondaryIndexUpdates=[{"Create": schema}],
        )


async def _wait_for(
    client: "DynamoDBClient", table: str, index: Index, pause: Callable[[float], Awaitable[None]]
) -> None:
    for _ in range(_LOOKS):
        found = _find_index(await _describe(client, table), index)
        if found is not None and found["IndexStatus"] == "ACTIVE":
            return
        await pause(1.0)
    raise TemporaryError(
        f"The index {index.name} of the table {table} is still being built: try again later."
    )


async def _enable_expiry(client: "DynamoDBClient", table: str) -> bool:
    """Enable DynamoDB's time to live; False if it was enabled before."""
    with aws_errors(f"DynamoDB DescribeTimeToLive {table}"):
        answer = await client.describe_time_to_live(TableName=table)
    expiry = answer["TimeToLiveDescription"]
    if expiry["TimeToLiveStatus"] in ("ENABLED", "ENABLING"):
        attribute = expiry["AttributeName"]
        if attribute != EXPIRY:
            raise PermanentError(
                f"The table {table} expires its items by {attribute!r}, the ledger by {EXPIRY!r}: "
                "disable its time to live, and try again."
            )
        return False
    with aws_errors(f"DynamoDB UpdateTimeToLive {table}"):
        await client.update_time_to_live(
            TableName=table,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": EXPIRY},
        )
    return True
