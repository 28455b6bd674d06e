"""An in-memory ledger, lost when the process ends.

It passes the same contract suite as the durable one (`tests/contracts`). Its methods are atomic
because they never await.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import TypeVar

from orchestrator.core.checkable import Permission
from orchestrator.core.events.event_types import Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.ledger.ledger import Conflict, OpenOperations, Summary
from orchestrator.core.ledger.lifecycle import NO_STATE, StateName, TenantState
from orchestrator.core.ledger.pages import (
    Count,
    Page,
    Span,
    beginning_with,
    build_page,
    first_seen_between,
    most_candidates,
    section_of,
    sortable,
)
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import (
    Due,
    OperationRecord,
    Record,
    RunRecord,
    RunStatus,
    TenantRecord,
    tenant_key,
)

Item = TypeVar("Item", RunRecord, TenantRecord, OperationRecord)


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
            f"{sortable(record.due_at)} {record.key}"
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
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RunRecord]:
        span = Span.after(cursor, forward=False, **first_seen_between(since, until))
        # Like the indexes of the durable ledger: a tenant's runs, those in a status, or all.
        listed = [
            run
            for run in self._of(RunRecord)
            if tenant_id in (None, run.tenant_id)
            and (tenant_id is not None or status in (None, run.status))
            and span.covers(run.position)
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
        self,
        *,
        state: StateName | None = None,
        prefix: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[TenantRecord]:
        span = Span.after(cursor, forward=True, **beginning_with(prefix))
        listed = [
            (tenant.tenant_id, tenant)
            for tenant in self._of(TenantRecord)
            if (tenant.state is not None if state is None else tenant.state_name == state)
            and span.covers(tenant.tenant_id)
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

    async def list_by_attention(
        self, *, limit: int = 50, cursor: str | None = None
    ) -> Page[TenantRecord]:
        first, passed = section_of(cursor)
        at_rest = [tenant for tenant in self._of(TenantRecord) if tenant.operation_id is None]
        of_operations = [
            (operation.position, tenant)
            for operation in self._open()
            for tenant in (self._items.get(tenant_key(operation.tenant_id or "")),)
            if isinstance(tenant, TenantRecord)
        ]
        with_job = {operation.position for operation in self._open() if operation.job}
        sections = (
            (_latest([one for one in at_rest if one.has_failed]), False),
            (_oldest([pair for pair in of_operations if pair[0] not in with_job]), True),
            (_oldest([pair for pair in of_operations if pair[0] in with_job]), True),
            (_latest([one for one in at_rest if not one.has_failed]), False),
        )
        listed = [
            (f"{number} {place}", tenant)
            for number, (section, forward) in enumerate(sections)
            for place, tenant in section
            if number > first
            or (
                number == first
                and (passed is None or (place > passed if forward else place < passed))
            )
        ]
        return build_page(listed, limit=limit, end=None)

    async def list_operations(
        self, *, tenant_id: str, limit: int = 20, cursor: str | None = None
    ) -> Page[OperationRecord]:
        span = Span.after(cursor, forward=False)
        listed = [
            (operation.position, operation)
            for operation in self._of(OperationRecord)
            if operation.kind is not None
            and operation.tenant_id == tenant_id
            and span.covers(operation.position)
        ]
        listed.sort(key=itemgetter(0), reverse=True)
        return build_page(listed, limit=limit, end=None)

    async def summarize(self, *, most: int) -> Summary:
        states: tuple[StateName, ...] = (*TenantState, NO_STATE)
        tenants = Counter(tenant.state_name for tenant in self._of(TenantRecord))
        failed = sum(run.status is RunStatus.FAILED for run in self._of(RunRecord))
        return Summary(
            tenants={state: Count.of(tenants[state], most=most) for state in states},
            failed_runs=Count.of(failed, most=most),
            oldest=min(self._open(), key=lambda operation: operation.position, default=None),
        )

    async def check(self) -> None:
        return None

    def _open(self) -> list[OperationRecord]:
        """The open operations of tenants."""
        return [
            operation
            for operation in self._of(OperationRecord)
            if operation.state is OperationState.OPEN
            and operation.kind is not None
            and operation.tenant_id is not None
        ]

    def _of(self, kind: type[Item]) -> list[Item]:
        return [record for record in self._items.values() if isinstance(record, kind)]


def _latest(tenants: Sequence[TenantRecord]) -> list[tuple[str, TenantRecord]]:
    """The tenants with their positions, the latest change first."""
    placed = [(f"{sortable(one.changed_at)} {one.tenant_id}", one) for one in tenants]
    return sorted(placed, key=itemgetter(0), reverse=True)


def _oldest(placed: Sequence[tuple[str, TenantRecord]]) -> list[tuple[str, TenantRecord]]:
    return sorted(placed, key=itemgetter(0))
