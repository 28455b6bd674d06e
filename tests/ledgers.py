"""Ledgers for tests: short ways to look into one, and one that counts."""

from collections.abc import Mapping, Sequence
from datetime import datetime

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
#: The deadline is no slow machine's business.
PATIENT = Intake(deadline_s=60)


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
    """The keys of all that is due, page by page."""
    page = await ledger.find_due(before=before, limit=limit, start=start)
    keys = list(page.items)
    while page.cursor is not None:
        page = await ledger.find_due(before=before, limit=limit, start=start, cursor=page.cursor)
        keys += page.items
    return keys


class CountingLedger(InMemoryLedger):
    """Counts the writes that it was asked for: an event that is none must not cause one."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        self.commits += 1
        await super().commit(records, unchanged=unchanged)
