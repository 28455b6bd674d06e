"""Queries of the ledger's indexes in DynamoDB."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from orchestrator.adapters.aws import aws_errors
from orchestrator.adapters.dynamodb.items import may_be_a_key
from orchestrator.adapters.ledger_indexes import Index, Place
from orchestrator.adapters.ledger_lists import Bound, LedgerLists
from orchestrator.core.ledger.bulkheads import Bulkheads
from orchestrator.core.ledger.pages import Count

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

#: The limit of a sort key (developer guide, Constraints).
_LONGEST_SORT_KEY_BYTES = 1024


class DynamoDBLists(LedgerLists):
    def __init__(self, client: Callable[[], Awaitable["DynamoDBClient"]], table: str) -> None:
        """`client` returns the app's open client."""
        self._client = client
        self._table = table
        self._bulkheads = Bulkheads()

    async def query(
        self,
        index: Index,
        partition: str,
        bound: Bound | None,
        limit: int,
        *,
        forward: bool,
        after: Place | None = None,
    ) -> list[Place]:
        _, *bounds = bound or ("",)
        if not may_be_a_key(partition) or not all(map(_may_be_a_sort_key, bounds)):
            return []
        further: Any = {}
        if after is not None:
            # Whether its item still exists or not (API reference, Query, ExclusiveStartKey).
            sort, key = after
            start = {index.partition: partition, index.sort: sort, "key": key}
            further["ExclusiveStartKey"] = {name: {"S": value} for name, value in start.items()}
        condition, names = "#partition = :partition", {"#partition": index.partition}
        values = {":partition": {"S": partition}}
        if bound is not None:
            named = {f":bound{n}": {"S": value} for n, value in enumerate(bounds)}
            condition += f" AND #sort {bound[0]} {' AND '.join(named)}"
            names["#sort"], values = index.sort, {**values, **named}
        client = await self._client()
        with aws_errors(f"DynamoDB Query {self._table} {index.name}"):
            async with self._bulkheads.room():
                answer = await client.query(
                    TableName=self._table,
                    IndexName=index.name,
                    KeyConditionExpression=condition,
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues=values,
                    ScanIndexForward=forward,
                    Limit=limit,
                    **further,
                )
            return [(item[index.sort]["S"], item["key"]["S"]) for item in answer["Items"]]

    async def count(self, index: Index, partition: str, most: int) -> Count:
        """A query reads at most 1 MB (API reference, Query)."""
        client = await self._client()
        with aws_errors(f"DynamoDB Query {self._table} {index.name}"):
            async with self._bulkheads.room():
                answer = await client.query(
                    TableName=self._table,
                    IndexName=index.name,
                    KeyConditionExpression="#partition = :partition",
                    ExpressionAttributeNames={"#partition": index.partition},
                    ExpressionAttributeValues={":partition": {"S": partition}},
                    Select="COUNT",
                    Limit=most + 1,
                )
            found = answer["Count"]
            return Count(min(found, most), found > most or "LastEvaluatedKey" in answer)


def _may_be_a_sort_key(text: str) -> bool:
    return len(text.encode(errors="replace")) <= _LONGEST_SORT_KEY_BYTES
