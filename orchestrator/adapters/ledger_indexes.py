"""The indexes by which lists find the ledger's items.

An index has keys only, in partitions, each sorted. An item is in an index if it has the index's two
attributes.

| index | partition, sort | for |
| --- | --- | --- |
| due | `due_shard`, `due_at` | the sweep: what is due. Tenants at rest, by their last change |
| list | `list`, `position` | all runs; all tenants; a tenant's operations |
| status | `status`, `position` | runs by status, tenants by state, open operations by kind |
| tenant | `tenant_id`, `position` | a tenant's runs |
| type | `event_type`, `position` | runs by event type |

The position of a run or tenant never changes, so no item is missed while pages are read; that of an
operation changes if it is opened again.
"""

import zlib
from collections.abc import Sequence

import attrs

from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.pages import sortable
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import (
    Due,
    OperationRecord,
    Record,
    RunRecord,
    SecretsRecord,
    TenantRecord,
)

#: An item in an index: its sort value and its key.
Place = tuple[str, str]
#: The due index is sharded, since a partition accepts 1000 writes a second.
SHARDS = tuple("0123")
#: The partitions of tenants without an operation in the due index. Each is written as often as a
#: tenant changes its state, so it isn't sharded.
FAILED_TENANTS, TENANTS_AT_REST = "tenant#failed", "tenant#rest"


@attrs.frozen
class Index:
    """An index: the attributes that name an item's partition, and its place there."""

    name: str
    partition: str
    sort: str


DUE = Index("due", "due_shard", "due_at")
LIST = Index("list", "list", "position")
STATUS = Index("status", "status", "position")
TENANT = Index("tenant", "tenant_id", "position")
TYPE = Index("type", "event_type", "position")
INDEXES = (DUE, LIST, STATUS, TENANT, TYPE)


def index_attributes(record: Record, *, shards: Sequence[str] = SHARDS) -> dict[str, str]:
    """The index attributes of a record in one of the shards; an index leaves out items that lack
    its attributes."""
    shard = shards[zlib.crc32(record.key.encode()) % len(shards)]
    match record:
        case RunRecord():
            known = {
                "list": f"run#{shard}",
                "status": f"run#{record.status}#{shard}",
                "event_type": f"{record.event_type}#{shard}",
                "position": record.position,
            }
            if record.tenant_id is not None:
                known["tenant_id"] = record.tenant_id
            return known | _when_due(record, shard)
        case OperationRecord():
            return _as_operation(record) | _when_due(record, shard)
        case SecretsRecord():
            return _when_due(record, shard)
        case TenantRecord():
            return _as_tenant(record)
    return {}


def open_partition(kind: Kind, *, has_job: bool) -> str:
    """The partition of the status index with the open operations of a kind, the oldest first."""
    return f"operation#{kind}#{'running' if has_job else 'waiting'}"


def _as_tenant(tenant: TenantRecord) -> dict[str, str]:
    known = {"status": f"tenant#{tenant.state_name}", "position": tenant.tenant_id}
    if tenant.state is not None:
        known["list"] = "tenant"
    if tenant.operation_id is None:
        known["due_shard"] = FAILED_TENANTS if tenant.has_failed else TENANTS_AT_REST
        known["due_at"] = f"{sortable(tenant.changed_at)} {tenant.tenant_id}"
    return known


def _as_operation(operation: OperationRecord) -> dict[str, str]:
    """The index attributes of an operation of a tenant; a run's own has none."""
    if operation.kind is None or operation.tenant_id is None:
        return {}
    known = {"list": operations_of(operation.tenant_id), "position": operation.position}
    if operation.state is OperationState.OPEN:
        known["status"] = open_partition(operation.kind, has_job=operation.job is not None)
    return known


def operations_of(tenant_id: str) -> str:
    """The partition of a tenant's operations in the index of lists."""
    return f"operation#{tenant_id}"


def _when_due(item: Due, shard: str) -> dict[str, str]:
    if item.due_at is None:
        return {}
    return {"due_shard": shard, "due_at": sortable(item.due_at)}
