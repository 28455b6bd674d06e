"""An in-memory ledger, lost when the process ends.

It passes the same contract suite as the durable one (`tests/contracts`). Its methods are atomic
because they never await.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import TypeVar

from orchestrator.core.checkable import Permission
from orchestrator.core.events.event_types import Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.ledger.ledger import Conflict, OpenOperations
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.pages import Page, build_page, decode_cursor, most_candidates
from orchestrator.core.ledger.records import (
    Due,
    OperationRecord,
    OperationState,
    Record,
    RunRecord,
    RunStatus,
    TenantRecord,
)

Item = TypeVar("Item", RunRecord, OperationRecord, TenantRecord)


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
            self._items[record.key] = evolve(record, version=record.version + 1)

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        return {key: self._items.get(key) for key in keys}

    async def find_due(
        self,
        *,
        before: datetime,
        limit: int,
        start: int = 0,  # noqa: ARG002 - it has one shard
        cursor: str | None = None,
    ) -> Page[str]:
        due = sorted(
            (f"{record.due_at.astimezone(UTC).isoformat(timespec='microseconds')} {record.key}")
            for record in self._items.values()
            if isinstance(record, Due) and record.due_at is not None and record.due_at <= before
        )
        left = [place for place in due if cursor is None or place > cursor]
        keys = [place.partition(" ")[2] for place in left[:limit]]
        return Page(keys, left[limit - 1] if len(left) > limit else None)

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
        # Like the indexes of the durable ledger: a tenant's runs, those in a status, or all.
        listed = [
            run
            for run in self._of(RunRecord)
            if tenant_id in (None, run.tenant_id)
            and (tenant_id is not None or status in (None, run.status))
            and (before is None or run.position < before)
        ]
        listed.sort(key=lambda run: run.position, reverse=True)
        narrowed = event_type is not None or None not in (tenant_id, status)
        most = most_candidates(limit, narrowed=narrowed)
        found = [
            (run.position, run)
            for run in listed[:most]
            if event_type in (None, run.event_type) and status in (None, run.status)
        ]
        end = listed[most - 1].position if len(listed) >= most else None
        return build_page(found, limit=limit, end=end)

    async def list_tenants(
        self, *, state: TenantState | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[TenantRecord]:
        after = "" if cursor is None else decode_cursor(cursor)
        listed = [
            (tenant.tenant_id, tenant)
            for tenant in self._of(TenantRecord)
            if tenant.state is not None
            and state in (None, tenant.state)
            and tenant.tenant_id > after
        ]
        listed.sort(key=itemgetter(0))
        return build_page(listed, limit=limit, end=None)

    async def count_open(self, kind: Kind, *, most: int) -> OpenOperations:
        opened = sorted(
            operation.opened_at
            for operation in self._of(OperationRecord)
            if operation.state is OperationState.OPEN and operation.kind is kind
        )
        return OpenOperations(min(len(opened), most), opened[0] if opened else None)

    async def check(self) -> None:
        return None

    def _of(self, kind: type[Item]) -> list[Item]:
        return [record for record in self._items.values() if isinstance(record, kind)]
