"""DynamoDB: tables of items under one string key, with indexes of keys; transactions that are
atomic, since each request is answered before the next one is read."""

import bisect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from benchmarks.standin.conditions import holds, key_conditions
from benchmarks.standin.refusal import Refused

Document = Mapping[str, Any]
#: Index name: its partition's and its sort key's attribute.
Indexes = Mapping[str, tuple[str, str]]


@attrs.define
class Table:
    key: str
    indexes: Indexes
    items: dict[str, Document] = attrs.field(factory=dict)
    #: (index, partition): sort value and key of each item, sorted.
    _sorted: dict[tuple[str, str], list[tuple[str, str]]] = attrs.field(
        factory=lambda: defaultdict(list)
    )

    def key_of(self, document: Document) -> str:
        key: str = document[self.key]["S"]
        return key

    def put(self, item: Document) -> None:
        key = self.key_of(item)
        before = self.items.get(key, {})
        self.items[key] = item
        for index, (partition, sort) in self.indexes.items():
            old, new = _entry(before, partition, sort), _entry(item, partition, sort)
            if old == new:
                continue
            if old is not None:
                entries = self._sorted[index, old[0]]
                del entries[bisect.bisect_left(entries, (old[1], key))]
            if new is not None:
                bisect.insort(self._sorted[index, new[0]], (new[1], key))

    def query(self, request: Document) -> list[Document]:
        (_, _, partition), *bounds = key_conditions(request)
        index = request.get("IndexName")
        if index is None:
            found = self.items.get(partition)
            return [] if found is None else [found]
        partition_name, sort_name = self.indexes[index]
        entries = self._sorted.get((index, partition), [])
        low, high = 0, len(entries)
        for _, comparison, value in bounds:
            at = bisect.bisect_left(entries, (value, ""))
            after = bisect.bisect_left(entries, (f"{value}\0", ""))
            low, high = {
                "<": (low, min(high, at)),
                "<=": (low, min(high, after)),
                ">": (max(low, after), high),
                ">=": (max(low, at), high),
                "=": (max(low, at), min(high, after)),
            }[comparison]
        is_forward = request.get("ScanIndexForward", True)
        if start := request.get("ExclusiveStartKey"):
            place = (start[sort_name]["S"], start[self.key]["S"])
            if is_forward:
                low = max(low, bisect.bisect_right(entries, place))
            else:
                high = min(high, bisect.bisect_left(entries, place))
        limit = request.get("Limit", high)
        chosen = entries[low : min(high, low + limit)]
        if not is_forward:
            chosen = entries[max(low, high - limit) : high][::-1]
        return [
            {partition_name: {"S": partition}, sort_name: {"S": sort}, self.key: {"S": key}}
            for sort, key in chosen
        ]


def _entry(item: Document, partition: str, sort: str) -> tuple[str, str] | None:
    if partition not in item or sort not in item:
        return None
    return item[partition]["S"], item[sort]["S"]


class DynamoDB:
    def __init__(self, tables: dict[str, Table]) -> None:
        self.tables = tables
        #: Transactions by their ClientRequestToken.
        self._transactions: dict[str, Sequence[Document]] = {}

    def perform(self, operation: str, request: Document) -> Document:
        match operation:
            case "TransactWriteItems":
                return self._transact(request)
            case "BatchGetItem":
                return self._batch_get(request)
            case "Query":
                items = self._table(request).query(request)
                return {"Items": items, "Count": len(items), "ScannedCount": len(items)}
            case "GetItem":
                table = self._table(request)
                found = table.items.get(table.key_of(request["Key"]))
                return {} if found is None else {"Item": found}
        raise Refused("UnknownOperationException", f"the benchmark knows no {operation}")

    def _table(self, request: Document) -> Table:
        table = self.tables.get(request["TableName"])
        if table is None:
            raise Refused("ResourceNotFoundException", "Requested resource not found")
        return table

    def _transact(self, request: Document) -> Document:
        actions: Sequence[Document] = request["TransactItems"]
        token = request.get("ClientRequestToken")
        if token in self._transactions:
            if self._transactions[token] != actions:
                raise Refused("IdempotentParameterMismatchException", "another request's token")
            return {}
        chosen = [next(iter(action.items())) for action in actions]
        found = [self._found(kind, one) for kind, one in chosen]
        reasons = [
            {"Code": "None"} if holds(one, item) else _failed(one, item)
            for (_, one), item in zip(chosen, found, strict=True)
        ]
        if any(reason["Code"] != "None" for reason in reasons):
            codes = ", ".join(reason["Code"] for reason in reasons)
            raise Refused(
                "TransactionCanceledException",
                "Transaction cancelled, please refer cancellation reasons for specific reasons "
                f"[{codes}]",
                CancellationReasons=reasons,
            )
        for kind, one in chosen:
            if kind == "Put":
                self._table(one).put(one["Item"])
        if token:
            self._transactions[token] = actions
        return {}

    def _found(self, kind: str, one: Document) -> Document | None:
        if kind not in ("Put", "ConditionCheck"):
            raise Refused("ValidationException", f"the benchmark knows no {kind}")
        table = self._table(one)
        return table.items.get(table.key_of(one["Item" if kind == "Put" else "Key"]))

    def _batch_get(self, request: Document) -> Document:
        found: dict[str, list[Document]] = {}
        for name, asked in request["RequestItems"].items():
            table = self._table({"TableName": name})
            keys = [table.key_of(key) for key in asked["Keys"]]
            if len(keys) > 100 or len(set(keys)) < len(keys):
                raise Refused("ValidationException", "at most 100 keys, each of them once")
            found[name] = [table.items[key] for key in keys if key in table.items]
        return {"Responses": found, "UnprocessedKeys": {}}


def _failed(one: Document, item: Document | None) -> dict[str, Any]:
    reason: dict[str, Any] = {
        "Code": "ConditionalCheckFailed",
        "Message": "The conditional request failed",
    }
    if item is not None and one.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD":
        reason["Item"] = item
    return reason
