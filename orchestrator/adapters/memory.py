"""The ledger in memory: for tests and for trying things out. A process that ends forgets it.

It passes the same contract suite as the durable one (`tests/contracts`); each method is
atomic because it never awaits.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import attrs

from orchestrator.core.lifecycle import TenantState
from orchestrator.core.pages import Page, decode_cursor, encode_cursor
from orchestrator.core.ports import Conflict, Permission
from orchestrator.core.records import (
    OperationRecord,
    Record,
    RunRecord,
    RunStatus,
    TenantRecord,
)

Item = TypeVar("Item", RunRecord, TenantRecord)


class InMemoryLedger:
    description = "memory: forgotten when the process ends"
    permissions: tuple[Permission, ...] = ()
    max_payload_bytes: int | None = None

    def __init__(self) -> None:
        self._items: dict[str, Record] = {}

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        expected = {**unchanged, **{record.key: record.version for record in records}}
        standing = {key: self._items.get(key) for key in expected}
        otherwise = {
            key: record
            for key, record in standing.items()
            if (record.version if record else 0) != expected[key]
        }
        if otherwise:
            raise Conflict(otherwise)
        for record in records:
            self._items[record.key] = attrs.evolve(record, version=record.version + 1)

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        return {key: self._items.get(key) for key in keys}

    async def find_due(self, *, before: datetime, limit: int) -> Sequence[str]:
        due = [
            (record.due_at, record.key)
            for record in self._items.values()
            if isinstance(record, RunRecord | OperationRecord)
            and record.due_at is not None
            and record.due_at <= before
        ]
        return [key for _, key in sorted(due)[:limit]]

    async def list_runs(
        self,
        *,
        tenant_id: str | None = None,
        event_type: str | None = None,
        status: RunStatus | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RunRecord]:
        before = None if cursor is None else decode_cursor(cursor)
        matching = [
            run
            for run in self._of(RunRecord)
            if tenant_id in (None, run.tenant_id)
            and event_type in (None, run.event_type)
            and status in (None, run.status)
            and (before is None or run.position < before)
        ]
        matching.sort(key=lambda run: run.position, reverse=True)
        return _page(matching, limit, lambda run: run.position)

    async def list_tenants(
        self, *, state: TenantState | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[TenantRecord]:
        after = "" if cursor is None else decode_cursor(cursor)
        matching = [
            tenant
            for tenant in self._of(TenantRecord)
            if tenant.state is not None
            and state in (None, tenant.state)
            and tenant.tenant_id > after
        ]
        matching.sort(key=lambda tenant: tenant.tenant_id)
        return _page(matching, limit, lambda tenant: tenant.tenant_id)

    async def check(self) -> None:
        return None

    def _of(self, kind: type[Item]) -> list[Item]:
        return [record for record in self._items.values() if isinstance(record, kind)]


def _page(items: list[Item], limit: int, position: Callable[[Item], str]) -> Page[Item]:
    shown = items[:limit]
    more = len(items) > limit
    return Page(shown, encode_cursor(position(shown[-1])) if more else None)
