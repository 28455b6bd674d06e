"""Records as items of the ledger's table, and what its indexes know of them.

Each is an item: its `key`, its `version`, itself as JSON in `data`, and whatever the indexes need
of it.

| index | partition, sort | for |
| --- | --- | --- |
| due | `due_shard`, `due_at` | the sweep: runs, jobs, reports and secrets to look after |
| list | `list`, `position` | all runs; all tenants. An item never moves in it, so none is missed |
| status | `status`, `position` | runs by status, tenants by state |
| tenant | `tenant_id`, `position` | a tenant's runs |
"""

import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec

from orchestrator.core.lifecycle import TenantState
from orchestrator.core.records import (
    Due,
    JobRecord,
    OperationRecord,
    PayloadRecord,
    Record,
    RegistrationRecord,
    RunRecord,
    SecretsRecord,
    TenantRecord,
)

Item = dict[str, Any]

#: The attribute that DynamoDB's time to live goes by.
EXPIRY = "expires_at"
#: Partitions of an index take 1000 writes a second each.
SHARDS = tuple("0123")

_MODELS: Mapping[str, type[Record]] = {
    "RUN": RunRecord,
    "OP": OperationRecord,
    "TENANT": TenantRecord,
    "JOB": JobRecord,
    "REGISTRATION": RegistrationRecord,
    "SECRETS": SecretsRecord,
}


@attrs.frozen
class Index:
    name: str
    partition: str
    sort: str

    @property
    def schema(self) -> dict[str, Any]:
        return {
            "IndexName": self.name,
            "KeySchema": [
                {"AttributeName": self.partition, "KeyType": "HASH"},
                {"AttributeName": self.sort, "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }


DUE = Index("due", "due_shard", "due_at")
LIST = Index("list", "list", "position")
STATUS = Index("status", "status", "position")
TENANT = Index("tenant", "tenant_id", "position")
INDEXES = (DUE, LIST, STATUS, TENANT)


def table_schema(table: str) -> dict[str, Any]:
    """The parameters of CreateTable."""
    names = {"key"} | {name for index in INDEXES for name in (index.partition, index.sort)}
    return {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": "key", "KeyType": "HASH"}],
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": "S"} for name in sorted(names)
        ],
        "GlobalSecondaryIndexes": [index.schema for index in INDEXES],
    }


def build_item(record: Record, *, expires_at: datetime | None) -> Item:
    """The record at its next version; `expires_at` is when it may be cleared away."""
    kept = attrs.evolve(record, version=record.version + 1)
    item: Item = {"key": {"S": kept.key}, "version": {"N": str(kept.version)}}
    if isinstance(kept, PayloadRecord):
        item["data"] = {"B": kept.data}
    else:
        # Half a character, which a message may have, is no UTF-8; escaped it is ASCII.
        item["data"] = {"S": json.dumps(msgspec.to_builtins(kept), separators=(",", ":"))}
    item |= {name: {"S": value} for name, value in _indexed(kept).items()}
    if expires_at is not None:
        item[EXPIRY] = {"N": str(int(expires_at.timestamp()))}
    return item


def _indexed(record: Record) -> dict[str, str]:
    """What the indexes know of a record; what isn't there keeps it out of them."""
    shard = SHARDS[zlib.crc32(record.key.encode()) % len(SHARDS)]
    match record:
        case RunRecord():
            known = {
                "list": f"run#{shard}",
                "status": f"run#{record.status}#{shard}",
                "position": record.position,
            }
            if record.tenant_id is not None:
                known["tenant_id"] = record.tenant_id
            return known | _when_due(record, shard)
        case OperationRecord() | SecretsRecord():
            return _when_due(record, shard)
        case TenantRecord(state=TenantState() as state):
            position = record.tenant_id
            return {"list": "tenant", "status": f"tenant#{state}", "position": position}
    return {}


def _when_due(item: Due, shard: str) -> dict[str, str]:
    if item.due_at is None:
        return {}
    return {"due_shard": shard, "due_at": sortable(item.due_at)}


def sortable(moment: datetime) -> str:
    """A time as text that sorts like it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def read_item(item: Mapping[str, Any]) -> Record:
    """The record that an item holds.

    Raises:
        ValueError: it holds none that this release knows; the message says where it differs.
    """
    try:
        return _read(item)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no record: {type(error).__name__} {error}") from error


def _read(item: Mapping[str, Any]) -> Record:
    kind, _, name = item["key"]["S"].partition("#")
    version = int(item["version"]["N"])
    if kind == "PAYLOAD":
        return PayloadRecord(run_id=name, data=bytes(item["data"]["B"]), version=version)
    record: Record = msgspec.convert(json.loads(item["data"]["S"]), type=_MODELS[kind])
    return record
