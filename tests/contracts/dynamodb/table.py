"""A ledger in DynamoDB, as its tests look at it."""

from typing import Any

import attrs

from orchestrator.adapters.aws import AWS
from orchestrator.adapters.dynamodb.ledger import DynamoDBLedger
from tests.dynamodb_local.proxy import Proxy


@attrs.frozen
class Table:
    """A ledger with an empty table behind a proxy; `pauses` are those that it made."""

    ledger: DynamoDBLedger
    name: str
    proxy: Proxy
    aws: AWS
    pauses: list[float]

    def requests(self, action: str) -> list[Any]:
        """The parameters of an action's requests to this table."""
        return [asked for name, asked in self.proxy.calls if name == action]

    async def item(self, key: str) -> dict[str, Any]:
        """An item as DynamoDB has it."""
        client = await self.aws.dynamodb()
        answer = await client.get_item(TableName=self.name, Key={"key": {"S": key}})
        return dict(answer["Item"])
