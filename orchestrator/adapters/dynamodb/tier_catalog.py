"""Reads tiers from a DynamoDB table with the hash key `tier`."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, SupportsBytes, cast

import structlog

from orchestrator.adapters.aws import aws_errors
from orchestrator.core.checkable import Permission
from orchestrator.core.jobs.tier_catalog import Tier

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

log = structlog.get_logger("orchestrator.tiers")


class DynamoDBTierCatalog:
    def __init__(self, client: Callable[[], Awaitable["DynamoDBClient"]], *, table: str) -> None:
        """`client` returns the app's open client."""
        self._client = client
        self._table = table
        self.description = f"the DynamoDB table {table}"
        self.permissions = (Permission(("dynamodb:Query",), f"arn:aws:dynamodb:*:*:table/{table}"),)

    async def check(self) -> None:
        await self.find_tier("orchestrator-check")

    async def find_tier(self, tier: str) -> Tier | None:
        """The tier's item; numbers as int or float, sets as sorted lists, binary as bytes."""
        if not isinstance(cast("object", tier), str):  # a handler may look up anything
            return None
        from boto3.dynamodb.types import TypeDeserializer

        client = await self._client()
        with aws_errors(f"DynamoDB Query {self._table}"):
            answer = await client.query(
                TableName=self._table,
                KeyConditionExpression="#tier = :tier",
                ExpressionAttributeNames={"#tier": "tier"},
                ExpressionAttributeValues={":tier": {"S": tier}},
                Limit=1,
            )
            if not answer["Items"]:
                return None
            deserialize = TypeDeserializer().deserialize
            return {
                name: _plain(deserialize(value))
                for name, value in answer["Items"][0].items()
                if not _is_binary(name, value)
            }


def _is_binary(name: str, value: Any) -> bool:
    binary = "B" in value or "BS" in value
    if binary:
        log.warning("tier attribute left out", attribute=name, reason="is binary")
    return binary


def _plain(value: Any) -> Any:
    match value:
        case SupportsBytes():  # boto3's Binary, which can't be sorted
            return bytes(value)
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case set():
            return sorted(_plain(item) for item in value)
    return value
