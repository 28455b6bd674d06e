"""Helpers for tests of ledgers: short queries, and a ledger that counts."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.adapters.dynamodb.ledger import DynamoDBLedger
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.ledger.ledger import Ledger
from orchestrator.core.ledger.records import (
    OperationRecord,
    Record,
    RunRecord,
    TenantRecord,
    operation_key,
    run_key,
    tenant_key,
)
from orchestrator.settings import Intake, LedgerSettings

IN_MEMORY = LedgerSettings(backend="memory")
#: A deadline that a slow machine meets, too.
PATIENT = Intake(deadline_s=60)


async def fill(ledger: Ledger, records: Sequence[Record]) -> None:
    """Write new records into a ledger, as it writes them itself; to DynamoDB without transactions:
    for each item of one moto copies the whole table."""
    if not isinstance(ledger, DynamoDBLedger):
        for start in range(0, len(records), 100):
            await ledger.commit(records[start : start + 100], unchanged={})
        return
    client, puts = await ledger._client(), list(map(ledger._put, records))
    for start in range(0, len(puts), 25):
        batch: list[Any] = [
            {"PutRequest": {"Item": put["Item"]}} for put in puts[start : start + 25]
        ]
        answer = await client.batch_write_item(RequestItems={ledger._table: batch})
        assert not answer["UnprocessedItems"]


def share_items(replica: InMemoryLedger, ledger: InMemoryLedger) -> None:
    """Give one ledger the items of another, as each replica of the service has them."""
    replica._items, replica._indexes = ledger._items, ledger._indexes
    replica._unsorted = ledger._unsorted


async def find_run(ledger: Ledger, run_id: str) -> RunRecord | None:
    record = (await ledger.load([run_key(run_id)]))[run_key(run_id)]
    assert record is None or isinstance(record, RunRecord)
    return record


async def find_operation(ledger: Ledger, operation_id: str) -> OperationRecord | None:
    record = (await ledger.load([operation_key(operation_id)]))[operation_key(operation_id)]
    assert record is None or isinstance(record, OperationRecord)
    return record


async def find_tenant(ledger: Ledger, tenant_id: str) -> TenantRecord | None:
    record = (await ledger.load([tenant_key(tenant_id)]))[tenant_key(tenant_id)]
    assert record is None or isinstance(record, TenantRecord)
    return None if record is None or record.state is None else record


async def find_due(
    ledger: Ledger, *, before: datetime, limit: int = 50, start: int = 0
) -> list[str]:
    """The keys of all due items, page by page."""
    page = await ledger.find_due(before=before, limit=limit, start=start)
    keys = list(page.items)
    while page.cursor is not None:
        page = await ledger.find_due(before=before, limit=limit, start=start, cursor=page.cursor)
        keys += page.items
    return keys


class CountingLedger(InMemoryLedger):
    """Counts its commits: an invalid event must not cause one."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        self.commits += 1
        await super().commit(records, unchanged=unchanged)
