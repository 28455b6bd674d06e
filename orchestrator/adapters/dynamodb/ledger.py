"""The ledger as one DynamoDB table, on demand, with string keys.

Every write is a transaction on the condition that each item still has the version that the decision
was made on; if not, the answer contains the current items (ReturnValuesOnConditionCheckFailure,
DynamoDB API reference, TransactWriteItems). `lists.py` queries the indexes.

The core checks expiry by comparing times; `expires_at` only lets DynamoDB delete old items, with a
delay (its TTL lags by up to two days).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.adapters.aws import aws_errors, is_about_schema
from orchestrator.adapters.dynamodb.items import Item, build_item, may_be_a_key, read_item
from orchestrator.adapters.dynamodb.lists import DynamoDBLists
from orchestrator.adapters.dynamodb.table import complete_table
from orchestrator.adapters.ledger_lists import BATCH_LIMIT
from orchestrator.core.checkable import Permission
from orchestrator.core.clock import Clock
from orchestrator.core.errors import PermanentError, TemporaryError
from orchestrator.core.ledger.ledger import Conflict, UnreadableItems
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import (
    JobRecord,
    OperationRecord,
    PayloadRecord,
    Record,
    RunRecord,
    SecretsRecord,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from types_aiobotocore_dynamodb import DynamoDBClient

#: An item has at most 400 KB, including its keys and attribute names.
_MAX_PAYLOAD_BYTES = 390_000
#: The pauses before retries of a transaction that conflicted with another one.
_CONFLICT_PAUSES_S = (0.02, 0.05, 0.1, 0.2)
_TRANSIENT = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})


class DynamoDBLedger(DynamoDBLists):
    max_payload_bytes: int | None = _MAX_PAYLOAD_BYTES

    def __init__(
        self,
        client: Callable[[], Awaitable["DynamoDBClient"]],
        clock: Clock,
        *,
        table: str,
        retention_days: float,
        pause: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        """`client` returns the app's open client; `pause` waits, with jitter. The number of
        concurrent requests is limited by `core.ledger.bulkheads`."""
        super().__init__(client, table)
        self._clock = clock
        self._retention = timedelta(days=retention_days)
        self._pause = pause or _pause
        self.description = f"the DynamoDB table {table}"
        arn = f"arn:aws:dynamodb:*:*:table/{table}"
        self.permissions = (
            Permission(
                (
                    "dynamodb:BatchGetItem",
                    "dynamodb:ConditionCheckItem",
                    "dynamodb:PutItem",
                ),
                arn,
            ),
            Permission(("dynamodb:Query",), f"{arn}/index/*"),
        )

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        keys = [*(record.key for record in records), *unchanged]
        items: list[Any] = [{"Put": self._put(record)} for record in records]
        items += [
            {"ConditionCheck": {**self._at(key), **_stands_at(version)}}
            for key, version in unchanged.items()
        ]
        for pause_s in (*_CONFLICT_PAUSES_S, None):
            cancelled = await self._transact(items)
            if cancelled is None:
                return
            with aws_errors(f"DynamoDB TransactWriteItems {self._table}"):
                reasons = cancelled.response.get("CancellationReasons", [])
                standing: dict[str, Any] = {
                    key: reason.get("Item")
                    for key, reason in zip(keys, reasons, strict=True)
                    if reason["Code"] == "ConditionalCheckFailed"
                }
                codes = {reason["Code"] for reason in reasons} - {"None"}
                said = "; ".join(reason.get("Message") or "" for reason in reasons).strip("; ")
            if standing:
                raise Conflict(_read_items(standing))
            if "ValidationError" in codes:
                kind = TemporaryError if is_about_schema(said) else PermanentError
                raise kind(f"DynamoDB TransactWriteItems {self._table}: {said}")
            if pause_s is None or not codes <= _TRANSIENT:
                with aws_errors(f"DynamoDB TransactWriteItems {self._table}"):
                    raise cancelled
            await self._pause(pause_s)

    async def _transact(self, items: list[Any]) -> "ClientError | None":
        """Write the items; returns the error if DynamoDB cancelled the transaction."""
        client = await self._client()
        with aws_errors(f"DynamoDB TransactWriteItems {self._table}"):
            try:
                async with self._bulkheads.room():
                    # The SDK adds a ClientRequestToken: a retry after a lost answer is idempotent.
                    await client.transact_write_items(TransactItems=items)
            except client.exceptions.TransactionCanceledException as error:
                return error
        return None

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        client = await self._client()
        found: dict[str, Item | None] = dict.fromkeys(keys)
        waiting = [{"key": {"S": key}} for key in found if may_be_a_key(key)]
        pauses = iter(_CONFLICT_PAUSES_S)
        while waiting:
            batch, waiting = waiting[:BATCH_LIMIT], waiting[BATCH_LIMIT:]
            request: Any = {"Keys": batch, "ConsistentRead": True}
            with aws_errors(f"DynamoDB BatchGetItem {self._table}"):
                async with self._bulkheads.room():
                    answer = await client.batch_get_item(RequestItems={self._table: request})
                items = {
                    item["key"]["S"]: dict(item)
                    for item in answer["Responses"].get(self._table, [])
                }
                unprocessed: Any = answer.get("UnprocessedKeys", {})
                left = unprocessed.get(self._table, {}).get("Keys")
            found |= items
            if left:
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise TemporaryError(f"DynamoDB BatchGetItem {self._table}: keys are left.")
                await self._pause(pause_s)
                waiting += left
        return _read_items(found)

    async def create(self) -> Sequence[str]:
        """Create the table or its missing parts; raises the errors of `complete_table`."""
        return await complete_table(await self._client(), self._table, self._pause)

    def _at(self, key: str) -> Item:
        return {"TableName": self._table, "Key": {"key": {"S": key}}}

    def _put(self, record: Record) -> Item:
        return {
            "TableName": self._table,
            "Item": build_item(record, expires_at=self._expires_at(record)),
            **_stands_at(record.version),
        }

    def _expires_at(self, record: Record) -> datetime | None:
        """When DynamoDB may delete the record; None while it is still in use."""
        match record:
            case RunRecord(ended_at=datetime() as ended) if record.status.is_finished:
                return ended + self._retention
            case OperationRecord(ended_at=datetime() as ended, due_at=None):
                return None if record.state is OperationState.OPEN else ended + self._retention
            case SecretsRecord(due_at=None):
                return self._clock.now() + self._retention
            case PayloadRecord() | JobRecord():
                # Written only once, so it must outlive its run or operation.
                return self._clock.now() + 2 * self._retention
        return None


async def _pause(seconds: float) -> None:
    """Wait with jitter, so that conflicting transactions don't conflict again."""
    await asyncio.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311 - no secret


def _stands_at(version: int) -> Item:
    """The condition that the item has this version, or doesn't exist (0)."""
    if version == 0:
        condition: Item = {
            "ConditionExpression": "attribute_not_exists(#key)",
            "ExpressionAttributeNames": {"#key": "key"},
        }
    else:
        condition = {
            "ConditionExpression": "#version = :version",
            "ExpressionAttributeNames": {"#version": "version"},
            "ExpressionAttributeValues": {":version": {"N": str(version)}},
        }
    return condition | {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def _read_items(items: Mapping[str, Item | None]) -> Mapping[str, Record | None]:
    """The records of items, by key.

    Raises:
        UnreadableItems: some can't be parsed by this release.
    """
    found: dict[str, Record | None] = {}
    reasons: dict[str, str] = {}
    for key, item in items.items():
        try:
            found[key] = read_item(item) if item else None
        except ValueError as error:
            reasons[key] = str(error)
    if reasons:
        raise UnreadableItems(reasons, found=found)
    return found
